// AVX-512 VNNI: products of pairs of 16 bits and their sum in one instruction, for convolutions of
// bytes. The same integers as a product and a sum give, so whoever has AVX-512 takes it.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#include "contract.h"
#include "target.h"

IRBIN_TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")

namespace irbin {
namespace {

#include "avx512_lanes.inl"
#include "avx512_tile.inl"

struct Vnni {
  [[gnu::always_inline]] static inline void add_pairs(__m512i& total, __m512i weights,
                                                      __m512i pairs) {
    total = _mm512_dpwssd_epi32(total, weights, pairs);
  }
};

#undef EACH_PIXEL
#undef EACH_BLOCK

}  // namespace

FinishedPairs* const avx512_vnni = finished_sums_of_pairs<Vnni>;

}  // namespace irbin

IRBIN_TARGET_END

#endif  // __x86_64__
