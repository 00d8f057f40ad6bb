// Stands before the compiler's own header (.ci/emulated): AVX-512 as functions of SIMDe, which computes
// it with AVX2. Below is what SIMDe 0.7 lacks or has wrong.
#pragma once

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulated {

inline simde__m512 to_floats(simde__m512i v) {
  int32_t from[16];
  float to[16];
  std::memcpy(from, &v, sizeof(from));
  for (int i = 0; i < 16; ++i) to[i] = static_cast<float>(from[i]);
  return simde_mm512_loadu_ps(to);
}

inline uint16_t less(simde__m512i a, simde__m512i b) { return simde_mm512_cmpgt_epi32_mask(b, a); }

// Masked lanes are not touched: they may lie beyond what there is.
template <class T, class Vector>
void store(T* to, uint32_t mask, Vector v) {
  T from[sizeof(v) / sizeof(T)];
  std::memcpy(from, &v, sizeof(from));
  for (size_t i = 0; i < sizeof(v) / sizeof(T); ++i)
    if (mask >> i & 1) to[i] = from[i];
}

inline simde__m512 load(uint16_t mask, const float* x) {
  float to[16] = {};
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) to[i] = x[i];
  return simde_mm512_loadu_ps(to);
}

// v·2ⁿ, rounded once: SIMDe multiplies by 2ⁿ, which may be beyond floats where the product is not.
inline simde__m512 scaled(simde__m512 v, simde__m512 by) {
  float from[16], n[16];
  std::memcpy(from, &v, sizeof(from));
  std::memcpy(n, &by, sizeof(n));
  for (int i = 0; i < 16; ++i)
    from[i] = std::isnan(n[i]) ? n[i]
                               : std::scalbn(from[i], static_cast<int>(std::floor(std::fmin(
                                                          std::fmax(n[i], -1000.0f), 1000.0f))));
  return simde_mm512_loadu_ps(from);
}

// Rounded to even; NaN keeps its upper bits and becomes quiet; what is denormal is zero.
inline simde__m256i narrow(simde__m512 v) {
  uint32_t from[16];
  uint16_t to[16];
  std::memcpy(from, &v, sizeof(from));
  for (int i = 0; i < 16; ++i) {
    const uint32_t size = from[i] & 0x7fffffffu, upper = from[i] >> 16;
    if (size > 0x7f800000u)
      to[i] = static_cast<uint16_t>(upper | 0x40u);
    else if (size < 0x00800000u)
      to[i] = static_cast<uint16_t>(upper & 0x8000u);
    else
      to[i] = static_cast<uint16_t>((from[i] + 0x7fffu + (upper & 1u)) >> 16);
  }
  return simde_mm256_loadu_si256(reinterpret_cast<const simde__m256i*>(to));
}

}  // namespace emulated

#undef _mm512_madd_epi16  // asks for four arguments there
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(v) emulated::to_floats(v)
#undef _mm512_cmplt_epi32_mask
#define _mm512_cmplt_epi32_mask(a, b) emulated::less(a, b)
#undef _mm512_maskz_loadu_ps
#define _mm512_maskz_loadu_ps(mask, x) emulated::load(mask, x)
#undef _mm512_mask_storeu_ps
#define _mm512_mask_storeu_ps(to, mask, v) emulated::store<float>(to, mask, v)
#undef _mm256_mask_storeu_epi16
#define _mm256_mask_storeu_epi16(to, mask, v) emulated::store<uint16_t>(to, mask, v)
#undef _mm512_scalef_ps
#define _mm512_scalef_ps(v, n) emulated::scaled(v, n)
#undef _mm512_cvtneps_pbh
#define _mm512_cvtneps_pbh(v) emulated::narrow(v)
