// AVX-512 with VPOPCNTDQ: a popcount per 32-bit lane in one instruction (Ice Lake, Zen 4 and later).
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#include "contract.h"
#include "target.h"

IRBIN_TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq")

namespace irbin {
namespace {

#include "avx512_lanes.inl"
#include "finish.inl"
#include "avx512_tile.inl"

// A pixel's word is broadcast once for B blocks of weights.
template <int P, int B>
inline void count(const Patches& patches, const uint32_t* weights, int64_t block_stride,
                  __m512i (&total)[P][B]) {
  EACH_PIXEL EACH_BLOCK total[p][b] = _mm512_setzero_si512();
  const int64_t stride = patches.pixel_stride, n_words = patches.segment_words;
  const uint32_t* segment = patches.first;
  for (int64_t s = 0; s < patches.n_segments; ++s, segment += patches.segment_stride)
    for (int64_t j = 0; j < n_words; ++j, weights += kLanes) {
      __m512i weight[B];
      EACH_BLOCK weight[b] = _mm512_loadu_si512(weights + b * block_stride);
      EACH_PIXEL {
        const __m512i word = _mm512_set1_epi32(static_cast<int>(segment[p * stride + j]));
        EACH_BLOCK total[p][b] =
            _mm512_add_epi32(total[p][b], _mm512_popcnt_epi32(_mm512_xor_si512(word, weight[b])));
      }
    }
}

struct Counting {
  const Patches& patches;
  const uint32_t* weights;
  int64_t block_stride;
  int32_t* counts;

  template <int P, int B>
  void run() const {
    CountTile<P, B> tile;
    count(patches, weights, block_stride, tile.total);
    tile.store(counts);
  }
};

struct Finishing {
  const Patches& patches;
  const uint32_t* weights;
  int64_t block_stride;
  const int32_t* const* correction;
  int64_t channel;
  const TileSteps* steps;
  const Thresholds* thresholds;
  const Output& out;

  template <int P, int B>
  void run() const {
    CountTile<P, B> tile;
    count(patches, weights, block_stride, tile.total);
    tile.finish(correction, channel, steps, thresholds, out);
  }
};

void disagreements(const Patches& patches, int n_pixels, const uint32_t* weights,
                   int64_t block_stride, int n_blocks, int32_t* counts) {
  run_tile(n_pixels, n_blocks, Counting{patches, weights, block_stride, counts});
}

void finished_tile(const Patches& patches, int n_pixels, const uint32_t* weights,
                   int64_t block_stride, int n_blocks, const int32_t* const* correction,
                   int64_t channel, const TileSteps* steps, const Thresholds* thresholds,
                   const Output& out) {
  run_tile(n_pixels, n_blocks,
           Finishing{patches, weights, block_stride, correction, channel, steps, thresholds, out});
}

int64_t register_loop(int64_t n_rounds) {
  constexpr int n_totals = 14;
  __m512i total[n_totals], words = _mm512_set1_epi32(0x1234567), weights = _mm512_set1_epi32(0x89);
  for (auto& t : total) t = _mm512_setzero_si512();
  for (int64_t i = 0; i < n_rounds; ++i) {
    asm volatile(""
                 : "+" IRBIN_VECTOR(words),
                   "+" IRBIN_VECTOR(weights));  // or the loop would be computed once
    for (auto& t : total) {
      __m512i word = words;
      asm volatile("" : "+" IRBIN_VECTOR(word));
      t = _mm512_add_epi32(t, _mm512_popcnt_epi32(_mm512_xor_si512(word, weights)));
    }
  }
  for (auto& t : total) asm volatile("" : : IRBIN_VECTOR(t));
  return n_rounds * n_totals * 512;
}

#undef EACH_PIXEL
#undef EACH_BLOCK

}  // namespace

const Implementation avx512_vpopcntdq{"avx512_vpopcntdq",
                                      "xor and popcount of 512 bits an instruction each",
                                      kAvx512 | kVpopcntdq,
                                      disagreements,
                                      finish_counts,
                                      finish_thresholds,
                                      finished_tile,
                                      products,
                                      finished_products,
                                      finish_floats,
                                      maximum,
                                      average,
                                      depthwise,
                                      normalize,
                                      soften,
                                      pack_planes,
                                      register_loop,
                                      float_register_loop,
                                      pair_products,
                                      finished_sums_of_pairs<V>,
                                      make_tables,
                                      look_up,
                                      finished_lookups};

}  // namespace irbin

IRBIN_TARGET_END

#endif  // __x86_64__
