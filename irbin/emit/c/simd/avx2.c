/* AVX2 with FMA: a block's sixteen numbers are two registers. */
#if defined(__x86_64__) && defined(__GNUC__)
#define IRBIN_SET "simd/avx2.inl"
#include <float.h>
#include <immintrin.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,popcnt")
#endif
#include "irbin_simd.h"

#include "../irbin_nn.c"

const irbin_kernels irbin_avx2 = IRBIN_KERNELS_HERE;

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
#include "irbin_simd.h"
#endif
