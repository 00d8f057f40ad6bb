/* See irbin_simd.h. */
#include "irbin_simd.h"

const irbin_kernels irbin_portable = IRBIN_KERNELS_HERE;

const irbin_kernels *irbin_best_kernels(void)
{
#if defined(IRBIN_ONLY)
    return &IRBIN_ONLY;
#elif defined(IRBIN_HAS_X86)
    /* The compiler's own library asks the processor, and whether the system keeps these registers,
     * once, before main. */
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &irbin_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &irbin_avx2;
    return &irbin_portable;
#elif defined(IRBIN_HAS_NEON)
    return &irbin_neon;
#else
    return &irbin_portable;
#endif
}
