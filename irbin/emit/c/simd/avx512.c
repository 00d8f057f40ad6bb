/* AVX-512 with VPOPCNTDQ: a block's sixteen numbers are a register. */
#if defined(__x86_64__) && defined(__GNUC__)
#define IRBIN_SET "simd/avx512.inl"
#include <float.h>
#include <immintrin.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx2,fma,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx2,fma,popcnt,prefer-vector-width=512")
#endif
#include "irbin_simd.h"

#include "../irbin_nn.c"

const irbin_kernels irbin_avx512 = IRBIN_KERNELS_HERE;

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
#include "irbin_simd.h"
#endif
