// IRBIN_TARGET_BEGIN("avx2,fma") … IRBIN_TARGET_END: functions between the two may use these
// instructions, whatever the rest of the build may use. Clang knows no `GCC target`, and ignores it.
// Headers of others stand before it, or their inline functions would be compiled for the target too.
#pragma once

#define IRBIN_PRAGMA(words) _Pragma(#words)

// IRBIN_EMULATED: AVX-512 stands in functions of SIMDe, not in instructions (.ci/emulated), and its
// registers in memory.
#if defined(IRBIN_EMULATED)
#define IRBIN_VECTOR "m"
#else
#define IRBIN_VECTOR "v"
#endif

#if defined(IRBIN_EMULATED)
#define IRBIN_TARGET_BEGIN(set)
#define IRBIN_TARGET_END
#elif defined(__clang__)
#define IRBIN_TARGET_BEGIN(set) \
  IRBIN_PRAGMA(clang attribute push(__attribute__((target(set))), apply_to = function))
#define IRBIN_TARGET_END IRBIN_PRAGMA(clang attribute pop)
#elif defined(__GNUC__)
#define IRBIN_TARGET_BEGIN(set) IRBIN_PRAGMA(GCC push_options) IRBIN_PRAGMA(GCC target(set))
#define IRBIN_TARGET_END IRBIN_PRAGMA(GCC pop_options)
#else
#error "expected GCC or Clang (on Windows clang-cl): others cannot compile a function for a target"
#endif
