// AVX-512 BF16: products of pairs of bfloat16, summed in float32, twice as many an instruction as
// float32 has. Inputs and weights lose 16 of their 24 bits, so this is used only where it was asked for.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#include "contract.h"
#include "target.h"

IRBIN_TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")

namespace irbin {
namespace {

#include "avx512_lanes.inl"
#include "avx512_tile.inl"

template <int P, int B>
struct PairTile : FloatTile<P, B> {
  inline void sum_pairs(const Patches& patches, const uint32_t* weights, int64_t block_stride) {
    auto& at = this->at;
    EACH_PIXEL EACH_BLOCK at[p][b] = _mm512_setzero_ps();
    const int64_t stride = patches.pixel_stride, n_words = patches.segment_words;
    const uint32_t* segment = patches.first;
    for (int64_t s = 0; s < patches.n_segments; ++s, segment += patches.segment_stride)
      for (int64_t j = 0; j < n_words; ++j, weights += kLanes) {
        __m512i weight[B];
        EACH_BLOCK weight[b] = _mm512_loadu_si512(weights + b * block_stride);
        EACH_PIXEL {
          const __m512i word = _mm512_set1_epi32(static_cast<int>(segment[p * stride + j]));
          EACH_BLOCK at[p][b] = _mm512_dpbf16_ps(at[p][b], reinterpret_cast<__m512bh>(word),
                                                 reinterpret_cast<__m512bh>(weight[b]));
        }
      }
  }
};

struct MultiplyingBfloats {
  const Patches& patches;
  const uint32_t* weights;
  int64_t block_stride, channel;
  const TileSteps& steps;
  const Output& out;

  template <int P, int B>
  void run() const {
    PairTile<P, B> tile;
    tile.sum_pairs(patches, weights, block_stride);
    tile.finish(steps, channel, out);
  }
};

void finished(const Patches& patches, int n_pixels, const uint32_t* weights, int64_t block_stride,
              int n_blocks, int64_t channel, const TileSteps& steps, const Output& out) {
  run_tile(n_pixels, n_blocks,
           MultiplyingBfloats{patches, weights, block_stride, channel, steps, out});
}

void narrow(const float* x, int64_t n, uint16_t* to) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const auto y = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(x + i)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), y);
  }
  if (i < n) {
    const __mmask16 left = V::first(static_cast<int>(n - i));
    const auto y =
        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(left, x + i)));
    _mm256_mask_storeu_epi16(to + i, left, y);
  }
}

#undef EACH_PIXEL
#undef EACH_BLOCK

}  // namespace

const BfloatKernels avx512_bf16{finished, narrow};

}  // namespace irbin

IRBIN_TARGET_END

#endif  // __x86_64__
