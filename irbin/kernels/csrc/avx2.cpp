// AVX2: popcount by byte shuffle, 32 bytes at once; 16 lanes are two registers (Haswell and later).
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#include "contract.h"
#include "target.h"

IRBIN_TARGET_BEGIN("avx2,fma")

namespace irbin {
namespace {

constexpr int kHalf = 8;  // lanes of a register

struct V {
  static constexpr int kRegisters = 2;  // of 16 floats
  struct Floats {
    __m256 low, high;
  };
  struct Ints {
    __m256i low, high;
  };
  static __m256i first(int n) {  // all ones in lanes below n
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
  }
  static __m256i load_half(const int32_t* x) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  }
  static Floats load(const float* x) { return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + kHalf)}; }
  static Floats load_part(const float* x, int n) {
    if (n == kLanes) return load(x);
    if (n <= kHalf) return {_mm256_maskload_ps(x, first(n)), _mm256_setzero_ps()};
    return {_mm256_loadu_ps(x), _mm256_maskload_ps(x + kHalf, first(n - kHalf))};
  }
  static void store(float* to, const Floats& v) {
    _mm256_storeu_ps(to, v.low);
    _mm256_storeu_ps(to + kHalf, v.high);
  }
  static void store_part(float* to, const Floats& v, int n) {
    if (n < kHalf) return _mm256_maskstore_ps(to, first(n), v.low);
    if (n == kLanes) return store(to, v);
    _mm256_storeu_ps(to, v.low);
    if (n > kHalf) _mm256_maskstore_ps(to + kHalf, first(n - kHalf), v.high);
  }
  static Floats all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Floats multiply(const Floats& a, const Floats& b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  static Floats add(const Floats& a, const Floats& b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  static Floats subtract(const Floats& a, const Floats& b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  static Floats divide(const Floats& a, const Floats& b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
  }
  static Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  // min and max give their second operand where one is NaN, so a NaN passes
  static Floats clamp(const Floats& v, const Floats& low, const Floats& high) {
    return {_mm256_min_ps(high.low, _mm256_max_ps(low.low, v.low)),
            _mm256_min_ps(high.high, _mm256_max_ps(low.high, v.high))};
  }
  static __m256 where_half(__m256 v, __m256 then, __m256 other) {
    return _mm256_blendv_ps(other, then, _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GT_OQ));
  }
  static Floats where_positive(const Floats& v, const Floats& then, const Floats& other) {
    return {where_half(v.low, then.low, other.low), where_half(v.high, then.high, other.high)};
  }
  static Floats prelu(const Floats& v, const Floats& slope) {
    return where_positive(v, v, multiply(v, slope));
  }
  // v·2ⁿ, rounded once: half of n is a power that leaves v normal
  static __m256 power(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
  static __m256 scaled_half(__m256 v, __m256 exponent) {
    const __m256i n = _mm256_cvtps_epi32(exponent), half = _mm256_srai_epi32(n, 1);
    return _mm256_mul_ps(_mm256_mul_ps(v, power(half)), power(_mm256_sub_epi32(n, half)));
  }
  static Floats scaled(const Floats& v, const Floats& n) {
    return {scaled_half(v.low, n.low), scaled_half(v.high, n.high)};
  }
  static Floats with_sign(const Floats& v, const Floats& of) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_or_ps(v.low, _mm256_and_ps(of.low, sign)),
            _mm256_or_ps(v.high, _mm256_and_ps(of.high, sign))};
  }
  static __m256 maximum_half(__m256 a, __m256 b) {
    return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  }
  static Floats maximum(const Floats& a, const Floats& b) {
    return {maximum_half(a.low, b.low), maximum_half(a.high, b.high)};
  }
  static uint32_t negative_half(__m256 v) {
    return static_cast<uint32_t>(
        _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ)));
  }
  static uint32_t negative(const Floats& v) {
    return negative_half(v.low) | negative_half(v.high) << kHalf;
  }
  static Ints load_ints(const int32_t* x) { return {load_half(x), load_half(x + kHalf)}; }
  static Ints dots(const int32_t* counts, const Ints& correction) {
    const Ints all = load_ints(counts);
    return {_mm256_sub_epi32(correction.low, _mm256_slli_epi32(all.low, 1)),
            _mm256_sub_epi32(correction.high, _mm256_slli_epi32(all.high, 1))};
  }
  static __m256i all_pairs(const int16_t* from) {
    int32_t pair;
    __builtin_memcpy(&pair, from, sizeof(pair));
    return _mm256_set1_epi32(pair);
  }
  static void add_pairs(Ints& total, const Ints& weights, __m256i pairs) {
    total.low = _mm256_add_epi32(total.low, _mm256_madd_epi16(weights.low, pairs));
    total.high = _mm256_add_epi32(total.high, _mm256_madd_epi16(weights.high, pairs));
  }
  using Codes = Ints;
  static Codes codes(const uint32_t* w) { return load_ints(reinterpret_cast<const int32_t*>(w)); }
  static void next(Codes& codes) {
    codes = {_mm256_srli_epi32(codes.low, 4), _mm256_srli_epi32(codes.high, 4)};
  }
  static __m256 entries_half(__m256 table, __m256i codes) {
    const __m256i sign =
        _mm256_and_si256(_mm256_slli_epi32(codes, 28), _mm256_set1_epi32(INT32_MIN));
    return _mm256_xor_ps(_mm256_permutevar8x32_ps(table, codes),  // which reads 3 bits of each
                         _mm256_castsi256_ps(sign));
  }
  static Floats entries(const float* table, const Codes& codes) {
    const __m256 half = _mm256_loadu_ps(table);
    return {entries_half(half, codes.low), entries_half(half, codes.high)};
  }
  static Floats to_floats(const Ints& v) {
    return {_mm256_cvtepi32_ps(v.low), _mm256_cvtepi32_ps(v.high)};
  }
  static uint32_t less_half(__m256i v, __m256i than) {
    return static_cast<uint32_t>(
        _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(than, v))));
  }
  static uint32_t less(const Ints& v, const Ints& than) {
    return less_half(v.low, than.low) | less_half(v.high, than.high) << kHalf;
  }
  static void gather_signs(const float* x, int64_t plane, int n_bits, int n, uint32_t* words) {
    __m256i low = _mm256_setzero_si256(), high = low;
    for (int k = 0; k < n_bits; ++k) {
      const Floats v = load_part(x + k * plane, n);
      const __m256i bit = _mm256_set1_epi32(static_cast<int>(1u << k));
      const __m256 zero = _mm256_setzero_ps();
      const __m256 l = _mm256_cmp_ps(v.low, zero, _CMP_LT_OQ);
      const __m256 h = _mm256_cmp_ps(v.high, zero, _CMP_LT_OQ);
      low = _mm256_or_si256(low, _mm256_and_si256(bit, _mm256_castps_si256(l)));
      high = _mm256_or_si256(high, _mm256_and_si256(bit, _mm256_castps_si256(h)));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + kHalf), high);
  }
};

#include "activations.inl"

#include "finish.inl"

struct N {
  static constexpr int kPixels = 4;
  struct Bytes {
    __m256i low, high;
  };
  struct Setting {
    __m256i table, nibble;
  };
  static Setting set() {
    return {
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4)),
        _mm256_set1_epi8(15)};
  }
  static Bytes zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static void store(int32_t* to, __m256i v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v);
  }
  static void clear(int32_t* counts) {
    store(counts, _mm256_setzero_si256());
    store(counts + kHalf, _mm256_setzero_si256());
  }
  static Bytes load(const uint32_t* w) {
    const auto* from = reinterpret_cast<const int32_t*>(w);
    return {V::load_half(from), V::load_half(from + kHalf)};
  }
  static __m256i bytes(__m256i x, const Setting& set) {
    const __m256i low = _mm256_and_si256(x, set.nibble);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(x, 4), set.nibble);
    return _mm256_add_epi8(_mm256_shuffle_epi8(set.table, low),
                           _mm256_shuffle_epi8(set.table, high));
  }
  static void count(Bytes& total, const Bytes& weight, uint32_t word, const Setting& set) {
    const __m256i words = _mm256_set1_epi32(static_cast<int>(word));
    total.low = _mm256_add_epi8(total.low, bytes(_mm256_xor_si256(weight.low, words), set));
    total.high = _mm256_add_epi8(total.high, bytes(_mm256_xor_si256(weight.high, words), set));
  }
  static void widen_half(__m256i total, int32_t* counts) {
    const __m256i pairs = _mm256_maddubs_epi16(total, _mm256_set1_epi8(1));
    const __m256i sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    store(counts, _mm256_add_epi32(V::load_half(counts), sums));
  }
  static void widen(const Bytes& total, int32_t* counts) {
    widen_half(total.low, counts);
    widen_half(total.high, counts + kHalf);
  }
};

#include "byte_tile.inl"

#include "nibbles.inl"

struct A {
  static constexpr int kPixels = 4, kLoopPixels = 1, kWidth = kHalf;
  using Bits = __m256i;
  using Bytes = __m256i;
  static void hide(Bits& v) { asm volatile("" : "+x"(v)); }
  static Bits zero() { return _mm256_setzero_si256(); }
  static Bits load(const uint32_t* w) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
  }
  static Bits differ(Bits weight, const uint32_t* word) {
    return _mm256_xor_si256(weight, _mm256_set1_epi32(static_cast<int>(*word)));
  }
  static Bits full_add(Bits& sum, Bits a, Bits b) {
    const Bits one = _mm256_xor_si256(sum, a), both = _mm256_and_si256(sum, a);
    sum = _mm256_xor_si256(one, b);
    return _mm256_or_si256(both, _mm256_and_si256(one, b));
  }
  static Bits half_add(Bits& sum, Bits a) {
    const Bits carry = _mm256_and_si256(sum, a);
    sum = _mm256_xor_si256(sum, a);
    return carry;
  }
  static Bytes add(Bytes a, Bytes b) { return _mm256_add_epi8(a, b); }
  static Bytes count(Bits plane, int power) {
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i low = _mm256_and_si256(plane, nibble);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(plane, 4), nibble);
    const __m256i table = _mm256_broadcastsi128_si256(
        _mm_load_si128(reinterpret_cast<const __m128i*>(kNibbleCounts[power])));
    return add(_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high));
  }
  static void store(Bytes total, int times, int32_t* counts, bool is_first) {
    const __m256i pairs = _mm256_maddubs_epi16(total, _mm256_set1_epi8(1));
    __m256i sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(static_cast<int16_t>(times)));
    if (!is_first) sums = _mm256_add_epi32(sums, V::load_half(counts));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(counts), sums);
  }
};

#include "adders.inl"

// Five operations an adder and not two: what is saved a word pays for the end of a sum only from so
// many words on, 96 channels of 3×3, say.
constexpr int64_t kLeastAdded = 25;

void disagreements(const Patches& patches, int n_pixels, const uint32_t* weights,
                   int64_t block_stride, int n_blocks, int32_t* counts) {
  const bool is_long = patches.n_segments * patches.segment_words >= kLeastAdded;
  (is_long ? adder_disagreements : byte_disagreements)(patches, n_pixels, weights, block_stride,
                                                       n_blocks, counts);
}

}  // namespace

const Implementation avx2{"avx2",
                          "carry-save adders or byte shuffles, 256 bits at once",
                          kAvx2,
                          disagreements,
                          finish_counts,
                          finish_thresholds,
                          nullptr,
                          products,
                          nullptr,
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
                          nullptr,
                          make_tables,
                          look_up,
                          nullptr};

}  // namespace irbin

IRBIN_TARGET_END

#endif  // __x86_64__
