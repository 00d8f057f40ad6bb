/* NEON: a block's sixteen numbers are four registers. */
#if defined(__ARM_NEON) && defined(__GNUC__)
#define IRBIN_SET "simd/neon.inl"
#include <arm_neon.h>

#include "irbin_simd.h"

#include "../irbin_nn.c"

const irbin_kernels irbin_neon = IRBIN_KERNELS_HERE;
#else
#include "irbin_simd.h"
#endif
