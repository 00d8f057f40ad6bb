// 16 lanes as AVX-512 has them; included by both AVX-512 implementations, inside their own region.

struct V {
  static constexpr int kRegisters = 1;  // of 16 floats
  using Floats = __m512;
  using Ints = __m512i;
  static __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1); }
  static Floats load(const float* x) { return _mm512_loadu_ps(x); }
  static Floats load_part(const float* x, int n) {
    return n == kLanes ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(first(n), x);
  }
  static void store(float* to, Floats v) { _mm512_storeu_ps(to, v); }
  static void store_part(float* to, Floats v, int n) {
    n == kLanes ? _mm512_storeu_ps(to, v) : _mm512_mask_storeu_ps(to, first(n), v);
  }
  static Floats all(float x) { return _mm512_set1_ps(x); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
  static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  // min and max give their second operand where one is NaN, so a NaN passes
  static Floats clamp(Floats v, Floats low, Floats high) {
    return _mm512_min_ps(high, _mm512_max_ps(low, v));
  }
  static Floats where_positive(Floats v, Floats then, Floats other) {
    const __mmask16 positive = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_mask_mov_ps(other, positive, then);
  }
  static Floats prelu(Floats v, Floats slope) {
    return where_positive(v, v, _mm512_mul_ps(v, slope));
  }
  // v·2ⁿ, rounded once
  static Floats scaled(Floats v, Floats n) { return _mm512_scalef_ps(v, n); }
  static Floats with_sign(Floats v, Floats of) {
    return _mm512_or_ps(v, _mm512_and_ps(of, _mm512_set1_ps(-0.0f)));
  }
  static Floats maximum(Floats a, Floats b) {
    return _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
  }
  static uint32_t negative(Floats v) {
    return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LT_OQ);
  }
  static Ints load_ints(const int32_t* x) { return _mm512_loadu_si512(x); }
  static Ints dots(const int32_t* counts, Ints correction) {
    return _mm512_sub_epi32(correction, _mm512_slli_epi32(_mm512_loadu_si512(counts), 1));
  }
  static Ints all_pairs(const int16_t* from) {
    int32_t pair;
    __builtin_memcpy(&pair, from, sizeof(pair));
    return _mm512_set1_epi32(pair);
  }
  static void add_pairs(Ints& total, Ints weights, Ints pairs) {
    total = _mm512_add_epi32(total, _mm512_madd_epi16(weights, pairs));
  }
  using Codes = __m512i;
  static Codes codes(const uint32_t* w) { return _mm512_loadu_si512(w); }
  static void next(Codes& codes) { codes = _mm512_srli_epi32(codes, 4); }
  static Floats entries(const float* table, Codes codes) {
    return _mm512_permutexvar_ps(codes, _mm512_loadu_ps(table));  // which reads 4 bits of each
  }
  static Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
  static uint32_t less(Ints v, Ints than) { return _mm512_cmplt_epi32_mask(v, than); }
  static void gather_signs(const float* x, int64_t plane, int n_bits, int n, uint32_t* words) {
    __m512i all = _mm512_setzero_si512();
    for (int k = 0; k < n_bits; ++k) {
      const __mmask16 signs = static_cast<__mmask16>(negative(load_part(x + k * plane, n)));
      all = _mm512_mask_or_epi32(all, signs, all, _mm512_set1_epi32(static_cast<int>(1u << k)));
    }
    _mm512_storeu_si512(words, all);
  }
};

#include "activations.inl"
