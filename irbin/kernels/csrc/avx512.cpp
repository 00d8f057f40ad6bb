// AVX-512 without VPOPCNTDQ: popcount by byte shuffle, 64 bytes at once (Skylake-X and later).
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

struct N {
  static constexpr int kPixels = 8;
  using Bytes = __m512i;
  struct Setting {
    __m512i table, nibble;
  };
  static Setting set() {
    return {_mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4)),
            _mm512_set1_epi8(15)};
  }
  static Bytes zero() { return _mm512_setzero_si512(); }
  static void clear(int32_t* counts) { _mm512_storeu_si512(counts, zero()); }
  static Bytes load(const uint32_t* w) { return _mm512_loadu_si512(w); }
  static void count(Bytes& total, Bytes weight, uint32_t word, const Setting& set) {
    const __m512i x = _mm512_xor_si512(weight, _mm512_set1_epi32(static_cast<int>(word)));
    const __m512i low = _mm512_and_si512(x, set.nibble);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(x, 4), set.nibble);
    total = _mm512_add_epi8(total, _mm512_shuffle_epi8(set.table, low));
    total = _mm512_add_epi8(total, _mm512_shuffle_epi8(set.table, high));
  }
  static void widen(Bytes total, int32_t* counts) {
    const __m512i pairs = _mm512_maddubs_epi16(total, _mm512_set1_epi8(1));
    const __m512i sums = _mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
    _mm512_storeu_si512(counts, _mm512_add_epi32(_mm512_loadu_si512(counts), sums));
  }
};

#include "byte_tile.inl"

int64_t register_loop(int64_t n_rounds) {
  constexpr int n_totals = 8;
  const N::Setting setting = N::set();
  __m512i total[n_totals], weights = _mm512_set1_epi32(0x89);
  for (auto& t : total) t = N::zero();
  __m512i words = _mm512_set1_epi32(0x1234567);
  for (int64_t i = 0; i < n_rounds; ++i) {
    asm volatile("" : "+v"(words), "+v"(weights));
    for (auto& t : total) {
      __m512i word = words;
      asm volatile("" : "+v"(word));
      const __m512i x = _mm512_xor_si512(weights, word);
      const __m512i low = _mm512_and_si512(x, setting.nibble);
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(x, 4), setting.nibble);
      t = _mm512_add_epi8(t, _mm512_shuffle_epi8(setting.table, low));
      t = _mm512_add_epi8(t, _mm512_shuffle_epi8(setting.table, high));
    }
  }
  for (auto& t : total) asm volatile("" : : "v"(t));
  return n_rounds * n_totals * 512;
}

#undef EACH_PIXEL
#undef EACH_BLOCK

}  // namespace

const Implementation avx512{"avx512",          "popcount by byte shuffle, 512 bits at once",
                            kAvx512,           disagreements,
                            finish_counts,     finish_thresholds,
                            nullptr,           products,
                            finished_products, finish_floats,
                            maximum,           average, depthwise, pack_planes,
                            register_loop,     float_register_loop,
                            pair_products,     finished_sums_of_pairs<V>};

}  // namespace irbin

IRBIN_TARGET_END

#endif  // __x86_64__
