/* The kernels of irbin_nn.h for several instruction sets: the same bits, in less time.
 *
 * Every set is irbin_nn.c compiled once more, with what a compiler does not find by itself written
 * out. All sets of a processor are in the program; which one runs is found out when it does.
 */
#ifndef IRBIN_SIMD_H
#define IRBIN_SIMD_H

#include "../irbin_nn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Kernels of one set. See irbin_nn.h. */
typedef struct irbin_kernels {
    void (*bconv2d)(const irbin_conv *, const uint8_t *, const irbin_out *);
    void (*conv2d)(const irbin_conv *, const float *, int32_t, int32_t, int32_t, const irbin_out *);
    void (*sign_conv2d)(const irbin_conv *, const float *, int32_t, int32_t, int32_t,
                        const irbin_out *);
    void (*conv2d_bytes)(const irbin_byte_conv *, const uint8_t *, const irbin_out *);
    void (*depthwise)(const irbin_window *, int32_t, const float *, const float *,
                      const irbin_out *);
    void (*max_pool)(const irbin_window *, int32_t, const float *, const irbin_out *);
    void (*max_pool_bconv2d)(const irbin_window *, const irbin_conv *, const irbin_out *,
                             const uint8_t *, float *, const irbin_out *);
    void (*max_pool_conv2d)(const irbin_window *, const irbin_conv *, const irbin_out *,
                            const float *, int32_t, int32_t, int32_t, float *, const irbin_out *);
    void (*max_pool_sign_conv2d)(const irbin_window *, const irbin_conv *, const irbin_out *,
                                 const float *, int32_t, int32_t, int32_t, float *,
                                 const irbin_out *);
    void (*max_pool_conv2d_bytes)(const irbin_window *, const irbin_byte_conv *, const irbin_out *,
                                  const uint8_t *, float *, const irbin_out *);
    void (*max_pool_steps)(const irbin_window *, int32_t, const irbin_out *, const float *, float *,
                           const irbin_out *);
    void (*average)(int32_t, int32_t, const irbin_span *, int32_t, const irbin_span *, int32_t,
                    const float *, const irbin_out *);
    void (*resize)(int32_t, int32_t, const irbin_between *, int32_t, const irbin_between *, int32_t,
                   const float *, const irbin_out *);
    void (*layer_norm)(int32_t, int32_t, float, const float *, const irbin_out *);
    void (*rms_norm)(int32_t, int32_t, float, const float *, const irbin_out *);
    void (*group_norm)(int32_t, int32_t, int32_t, int32_t, float, const float *, float *,
                       const irbin_out *);
    void (*attention)(const irbin_heads *, const float *, const float *, const float *, float *,
                      const irbin_out *);
    void (*crop)(const irbin_box *, const irbin_box *, const irbin_box *, float, const float *,
                 const irbin_out *);
    void (*join)(int32_t, const float *const *, const int32_t *, int32_t, const irbin_out *);
    void (*channel_mean)(int32_t, int32_t, int32_t, const float *, const irbin_out *);
    void (*gate)(int32_t, int32_t, irbin_meeting, const float *, const float *, const irbin_out *);
    void (*pair)(int32_t, int32_t, irbin_meeting, const float *, const float *, const irbin_out *);
    void (*rows)(int32_t, int32_t, const float *, const irbin_out *);
    void (*bitpack)(int32_t, int32_t, int32_t, const float *, uint8_t *);
    void (*copy)(const irbin_walk *, const float *, float *);
    void (*meet)(const irbin_walk *, irbin_operation, float, const float *, const float *, float *);
    void (*fold)(const irbin_walk *, const irbin_walk *, irbin_folding, float, const float *,
                 float *);
    void (*matmul)(const irbin_product *, const float *, const float *, float *);
    void (*softmax)(const irbin_walk *, int32_t, int32_t, int32_t, const float *, float *);
} irbin_kernels;

/* All of them, where they have the names of irbin_nn.h. */
#define IRBIN_KERNELS_HERE                                                                        \
    {                                                                                             \
        irbin_bconv2d, irbin_conv2d, irbin_sign_conv2d, irbin_conv2d_bytes, irbin_depthwise,      \
            irbin_max_pool, irbin_max_pool_bconv2d, irbin_max_pool_conv2d,                        \
            irbin_max_pool_sign_conv2d, irbin_max_pool_conv2d_bytes, irbin_max_pool_steps,        \
            irbin_average, irbin_resize, irbin_layer_norm, irbin_rms_norm, irbin_group_norm,      \
            irbin_attention, irbin_crop, irbin_join, irbin_channel_mean, irbin_gate, irbin_pair,  \
            irbin_rows, irbin_bitpack, irbin_copy, irbin_meet, irbin_fold, irbin_matmul,          \
            irbin_softmax                                                                         \
    }

/* Sets that this compiler makes for this kind of processor. */
#if defined(__x86_64__) && defined(__GNUC__)
#define IRBIN_HAS_X86 1
extern const irbin_kernels irbin_avx512; /* AVX-512 with VPOPCNTDQ */
extern const irbin_kernels irbin_avx2;   /* AVX2 with FMA */
#elif defined(__ARM_NEON) && defined(__GNUC__)
#define IRBIN_HAS_NEON 1
extern const irbin_kernels irbin_neon;
#endif
extern const irbin_kernels irbin_portable;

/* Those that run fastest on this processor, found out without anything that is written. A compiler
 * that is given -DIRBIN_ONLY=irbin_avx2, say, takes that set. */
const irbin_kernels *irbin_best_kernels(void);

#ifdef __cplusplus
}
#endif
#endif
