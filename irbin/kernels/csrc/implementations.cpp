#include "implementations.h"

#if defined(__x86_64__)
#include <cpuid.h>
#define IRBIN_X86 1
#endif

namespace irbin {

const std::vector<const Implementation*>& implementations() {
  static const std::vector<const Implementation*> all{
#if defined(IRBIN_X86)
      &avx512_vpopcntdq,
      &avx512,
      &avx2,
#elif defined(__aarch64__)
      &neon,
#endif
      &portable,
  };
  return all;
}

const BfloatKernels* bfloat_kernels() {
#if defined(IRBIN_X86)
  if (features() & kBf16) return &avx512_bf16;
#endif
  return nullptr;
}

FinishedPairs* finished_pairs(const Implementation& one) {
#if defined(IRBIN_X86)
  if ((one.needs & kAvx512) && (features() & kVnni)) return avx512_vnni;
#endif
  return one.finished_pairs;
}

#if defined(IRBIN_X86)

namespace {

// Which register states the operating system saves, XCR0: without it an instruction set that CPUID
// reports would lose its registers at the next task switch.
uint64_t saved_states() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

uint32_t detect() {
  constexpr uint32_t osxsave = 1u << 27, fma = 1u << 12;                       // leaf 1, ECX
  constexpr uint32_t avx2_bit = 1u << 5;                                       // leaf 7, EBX
  constexpr uint32_t avx512_bits = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
  constexpr uint32_t vpopcntdq_bit = 1u << 14;                                 // leaf 7, ECX
  constexpr uint32_t vnni_bit = 1u << 11;                                      // leaf 7, ECX
  constexpr uint32_t bf16_bit = 1u << 5;                                       // leaf 7.1, EAX
  constexpr uint64_t ymm = 0x6, zmm = 0xe6;  // SSE and AVX; opmask and both halves of ZMM too
  uint32_t a = 0, b = 0, c = 0, d = 0, found = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & osxsave)) return 0;
  const uint64_t saved = saved_states();
  const bool has_fma = (c & fma) != 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  if ((saved & ymm) == ymm && (b & avx2_bit) && has_fma) found |= kAvx2;
  if ((saved & zmm) == zmm && (b & avx512_bits) == avx512_bits) {
    found |= kAvx512;
    if (c & vpopcntdq_bit) found |= kVpopcntdq;
    if (c & vnni_bit) found |= kVnni;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & bf16_bit)) found |= kBf16;
  }
  return found;
}

}  // namespace

#else

namespace {

uint32_t detect() {
#if defined(__aarch64__)
  return kNeon;  // part of the architecture
#else
  return 0;
#endif
}

}  // namespace

#endif

uint32_t features() {
#if defined(IRBIN_EMULATED)
  return detect() | kAvx512 | kVpopcntdq | kVnni | kBf16;
#else
  static const uint32_t found = detect();
  return found;
#endif
}

}  // namespace irbin
