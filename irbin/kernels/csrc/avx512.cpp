// AVX-512 without VPOPCNTDQ: carry-save adders count, 64 bytes at once (Skylake-X and later).
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#include "contract.h"
#include "target.h"

IRBIN_TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl")

namespace irbin {
namespace {

#include "avx512_lanes.inl"
#include "finish.inl"
#include "avx512_tile.inl"

#include "nibbles.inl"

struct A {
  static constexpr int kPixels = 4, kLoopPixels = 4, kWidth = kLanes;
  using Bits = __m512i;
  using Bytes = __m512i;
  static void hide(Bits& v) { asm volatile("" : "+" IRBIN_VECTOR(v)); }
  static Bits zero() { return _mm512_setzero_si512(); }
  static Bits load(const uint32_t* w) { return _mm512_loadu_si512(w); }
  static Bits differ(Bits weight, const uint32_t* word) {
    return _mm512_xor_si512(weight, _mm512_set1_epi32(static_cast<int>(*word)));
  }
  static Bits full_add(Bits& sum, Bits a, Bits b) {
    const Bits carry = _mm512_ternarylogic_epi32(sum, a, b, 0xe8);
    sum = _mm512_ternarylogic_epi32(sum, a, b, 0x96);
    return carry;
  }
  static Bits half_add(Bits& sum, Bits a) {
    const Bits carry = _mm512_and_si512(sum, a);
    sum = _mm512_xor_si512(sum, a);
    return carry;
  }
  static Bytes add(Bytes a, Bytes b) { return _mm512_add_epi8(a, b); }
  static Bytes count(Bits plane, int power) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i low = _mm512_and_si512(plane, nibble);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(plane, 4), nibble);
    const __m512i table = _mm512_broadcast_i32x4(
        _mm_load_si128(reinterpret_cast<const __m128i*>(kNibbleCounts[power])));
    return add(_mm512_shuffle_epi8(table, low), _mm512_shuffle_epi8(table, high));
  }
  static void store(Bytes total, int times, int32_t* counts, bool is_first) {
    const __m512i pairs = _mm512_maddubs_epi16(total, _mm512_set1_epi8(1));
    __m512i sums = _mm512_madd_epi16(pairs, _mm512_set1_epi16(static_cast<int16_t>(times)));
    if (!is_first) sums = _mm512_add_epi32(sums, _mm512_loadu_si512(counts));
    _mm512_storeu_si512(counts, sums);
  }
};

#include "adders.inl"

struct Finishing {
  const int32_t* counts;
  const int32_t* const* correction;
  int64_t channel;
  const TileSteps* steps;
  const Thresholds* thresholds;
  const Output& out;

  template <int P, int B>
  void run() const {
    CountTile<P, B> tile;
    tile.load(counts);
    tile.finish(correction, channel, steps, thresholds, out);
  }
};

void finished_tile(const Patches& patches, int n_pixels, const uint32_t* weights,
                   int64_t block_stride, int n_blocks, const int32_t* const* correction,
                   int64_t channel, const TileSteps* steps, const Thresholds* thresholds,
                   const Output& out) {
  int32_t counts[kMaxPixels * kMaxBlocks * kLanes];
  adder_disagreements(patches, n_pixels, weights, block_stride, n_blocks, counts);
  run_tile(n_pixels, n_blocks, Finishing{counts, correction, channel, steps, thresholds, out});
}

#undef EACH_PIXEL
#undef EACH_BLOCK

}  // namespace

const Implementation avx512{"avx512",
                            "carry-save adders, 512 bits at once",
                            kAvx512,
                            adder_disagreements,
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
                            adder_register_loop,
                            float_register_loop,
                            pair_products,
                            finished_sums_of_pairs<V>,
                            make_tables,
                            look_up,
                            finished_lookups};

}  // namespace irbin

IRBIN_TARGET_END

#endif  // __x86_64__
