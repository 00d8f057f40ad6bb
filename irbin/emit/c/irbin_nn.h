/* The kernels of a packed network in portable C11: no allocation, no globals, no output.
 *
 * An image is channels-last, (height, width, channels); signs are bits, 1 for what is below zero,
 * lowest bit first, every pixel (of every group) on a byte of its own, unused bits zero.
 * Every sum has one order and every operation is rounded to float by itself, so that each compiler
 * and processor gives the same bits.
 */
#ifndef IRBIN_NN_H
#define IRBIN_NN_H

#include <stddef.h>
#include <stdint.h>

#if defined(IRBIN_SET) /* a set of simd/ has its own, behind a table */
#define IRBIN_KERNEL static
#else
#define IRBIN_KERNEL
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifndef IRBIN_STATUS_DEFINED
#define IRBIN_STATUS_DEFINED
typedef enum irbin_status {
    IRBIN_OK = 0,
    IRBIN_NULL_POINTER = 1,     /* an argument is NULL */
    IRBIN_SMALL_ARENA = 2,      /* fewer bytes than the header says */
    IRBIN_MISALIGNED_ARENA = 3, /* its address is no multiple of what the header says */
    IRBIN_DAMAGED_WEIGHTS = 4,  /* their checksum is another than at export */
    IRBIN_WRONG_ANSWER = 5      /* the self-test's numbers are others than at export */
} irbin_status;
#endif

/* What a status means, in words. */
const char *irbin_status_text(irbin_status status);

/* What happens to a value on its way out. */
typedef enum irbin_step_kind {
    IRBIN_MULTIPLY, /* by a number per channel */
    IRBIN_ADD,      /* a number per channel */
    IRBIN_RESIDUAL, /* plus another image */
    IRBIN_CLAMP,    /* to [low, high]; NaN passes */
    IRBIN_PRELU,    /* what is not positive times a slope per channel */
    IRBIN_WRITE,    /* the result is what stands here; later steps are for its signs alone */
    IRBIN_ELU,      /* what is not positive: e^x - 1 times a factor per channel */
    IRBIN_SIGMOID,
    IRBIN_SILU,
    IRBIN_HARDSIGMOID,
    IRBIN_HARDSWISH,
    IRBIN_GELU,
    IRBIN_GELU_TANH,
    IRBIN_TANH,
    IRBIN_MISH,
    IRBIN_HOLD, /* keeps in mind what stands here */
    IRBIN_KEEP  /* at most -2^-126 where what was held is below 0, else at least +0; NaN passes */
} irbin_step_kind;

typedef struct irbin_step {
    irbin_step_kind kind;
    int32_t residual;    /* which one */
    float low, high;     /* of a clamp */
    const float *values; /* one a channel */
    int32_t before;      /* of a residual with fewer channels: those in front of its first, */
    int32_t channels;    /* how many it has, 0 for all */
} irbin_step;

/* Where results go. */
typedef struct irbin_out {
    const irbin_step *steps;
    int32_t n_steps;
    const float *residuals[4]; /* images like the result */
    float *y;                  /* NULL if nobody reads it */
    uint8_t *bits;             /* NULL if nobody reads them */
    const int32_t *lower;      /* with thresholds, in place of steps: bit = (dot < lower) xor flip */
    const uint8_t *flips;      /* a bit a channel */
} irbin_out;

/* How a window walks over an image. */
typedef struct irbin_window {
    int32_t height, width;         /* of the image */
    int32_t out_height, out_width; /* of the result */
    int32_t kernel_height, kernel_width;
    int32_t stride_y, stride_x;
    int32_t dilation_y, dilation_x;
    int32_t top, left; /* padding: zeros; of a maximum nothing */
} irbin_window;

/* A convolution; a linear layer is one of 1x1 on an image of one row. */
typedef struct irbin_conv {
    irbin_window window;
    int32_t groups;
    int32_t in_channels, out_channels; /* of a group */
    /* products of signs: bits (kernel_height, kernel_width, bytes of in_channels) of every filter as
     * words of four bytes; of every group, blocks of 16 filters and of what is left, (words, filters);
     * of signs and floats: bits (out_channels, kernel_height, kernel_width, bytes of in_channels);
     * of floats: (groups, kernel_height, kernel_width, in_channels, out_channels) */
    const void *weight;
} irbin_conv;

/* A convolution of bytes in integers; a tap inside the image adds a constant too. */
typedef struct irbin_byte_conv {
    irbin_window window;
    int32_t in_channels, out_channels;
    const int16_t *weight;    /* (kernel_height, kernel_width, in_channels, out_channels) */
    const int32_t *constants; /* (kernel_height, kernel_width, out_channels) */
} irbin_byte_conv;

/* Part of an axis that is copied, in front of it and behind it something else. */
typedef struct irbin_box {
    int32_t source, before, length, start, step, size;
} irbin_box;

/* How several tensors are walked over together: sizes of axes, outermost first, and how many floats
 * lie between neighbors along each. */
enum { IRBIN_AXES = 8 };
typedef struct irbin_walk {
    int32_t axes;
    int32_t size[IRBIN_AXES];
    int32_t from[IRBIN_AXES], other[IRBIN_AXES]; /* of what is read */
    int32_t to[IRBIN_AXES];                      /* of the result */
} irbin_walk;

/* What one result averages along an axis: from begin to before end. */
typedef struct irbin_span {
    int32_t begin, end, divisor;
} irbin_span;

/* Products of signs. */
IRBIN_KERNEL void irbin_bconv2d(const irbin_conv *conv, const uint8_t *x, const irbin_out *out);

/* Products of floats, added in the order (row, column, channel) by fused multiply-adds. The numbers
 * of x lie row_step, column_step and channel_step apart. */
IRBIN_KERNEL void irbin_conv2d(const irbin_conv *conv, const float *x, int32_t row_step, int32_t column_step,
                  int32_t channel_step, const irbin_out *out);

/* Products of floats and signs, in one group: sums (+-x0 +- x1) + (+-x2 +- x3) of four channels, added
 * in the order (row, column, channels). */
IRBIN_KERNEL void irbin_sign_conv2d(const irbin_conv *conv, const float *x, int32_t row_step,
                       int32_t column_step, int32_t channel_step, const irbin_out *out);

/* Products of bytes, channels last; no sum leaves 32 bits. */
IRBIN_KERNEL void irbin_conv2d_bytes(const irbin_byte_conv *conv, const uint8_t *x, const irbin_out *out);

/* A convolution of floats of every channel by itself; weight (kernel_height, kernel_width,
 * channels). */
IRBIN_KERNEL void irbin_depthwise(const irbin_window *window, int32_t channels, const float *weight,
                     const float *x, const irbin_out *out);

/* Maximum of windows of x; of a convolution's result, of which `lines` holds as many rows as a
 * window reaches over; and of what steps make of x, likewise. */
IRBIN_KERNEL void irbin_max_pool(const irbin_window *window, int32_t channels, const float *x,
                    const irbin_out *out);
IRBIN_KERNEL void irbin_max_pool_bconv2d(const irbin_window *window, const irbin_conv *conv,
                            const irbin_out *made, const uint8_t *x, float *lines,
                            const irbin_out *out);
IRBIN_KERNEL void irbin_max_pool_conv2d(const irbin_window *window, const irbin_conv *conv,
                           const irbin_out *made, const float *x, int32_t row_step,
                           int32_t column_step, int32_t channel_step, float *lines,
                           const irbin_out *out);
IRBIN_KERNEL void irbin_max_pool_sign_conv2d(const irbin_window *window, const irbin_conv *conv,
                                const irbin_out *made, const float *x, int32_t row_step,
                                int32_t column_step, int32_t channel_step, float *lines,
                                const irbin_out *out);
IRBIN_KERNEL void irbin_max_pool_conv2d_bytes(const irbin_window *window, const irbin_byte_conv *conv,
                                 const irbin_out *made, const uint8_t *x, float *lines,
                                 const irbin_out *out);
IRBIN_KERNEL void irbin_max_pool_steps(const irbin_window *window, int32_t channels, const irbin_out *made,
                          const float *x, float *lines, const irbin_out *out);

/* Means of rectangles of an image of that width. */
IRBIN_KERNEL void irbin_average(int32_t width, int32_t channels, const irbin_span *rows, int32_t n_rows,
                   const irbin_span *columns, int32_t n_columns, const float *x,
                   const irbin_out *out);

/* Between which two rows or columns a result lies, and what of each it has. */
typedef struct irbin_between {
    int32_t first, second;
    float of_first, of_second;
} irbin_between;

/* An image of that width in another size: every number between four, two of a row, then two rows. */
IRBIN_KERNEL void irbin_resize(int32_t width, int32_t channels, const irbin_between *rows, int32_t n_rows,
                  const irbin_between *columns, int32_t n_columns, const float *x,
                  const irbin_out *out);

/* (x - mean) / sqrt(variance + epsilon) of every row; sums as 16 that are then added in halves. */
IRBIN_KERNEL void irbin_layer_norm(int32_t rows, int32_t channels, float epsilon, const float *x,
                      const irbin_out *out);

/* x / sqrt(mean of squares + epsilon) of every row, likewise. */
IRBIN_KERNEL void irbin_rms_norm(int32_t rows, int32_t channels, float epsilon, const float *x,
                    const irbin_out *out);

/* A layer norm over all pixels and the channels of a group; `work` holds two floats a group. */
IRBIN_KERNEL void irbin_group_norm(int32_t height, int32_t width, int32_t channels, int32_t groups,
                      float epsilon, const float *x, float *work, const irbin_out *out);

/* Where rows lie in what is read of an image: from the first, to the next head, to the next row. */
typedef struct irbin_look {
    int32_t offset, head, row;
} irbin_look;

/* Means of values, weighed by e to the power of the scaled products of queries and keys. */
typedef struct irbin_heads {
    int32_t heads, queries, keys, depth, width; /* of a head: rows, numbers of a key and of a value */
    irbin_look query, key, value;
    float scale;
    const float *mask;  /* added to the scaled products: (mask_heads, queries, keys); or NULL */
    int32_t mask_heads; /* 1, or as many as heads */
} irbin_heads;

/* Attention: (queries, heads * width). `work` holds a row of that and, behind it, a product a key. */
IRBIN_KERNEL void irbin_attention(const irbin_heads *heads, const float *queries, const float *keys,
                     const float *values, float *work, const irbin_out *out);

/* A box of the image, `value` where it reaches beyond. */
IRBIN_KERNEL void irbin_crop(const irbin_box *y, const irbin_box *x, const irbin_box *channels, float value,
                const float *image, const irbin_out *out);

/* Images behind each other along their channels. */
IRBIN_KERNEL void irbin_join(int32_t pixels, const float *const *images, const int32_t *channels, int32_t n,
                const irbin_out *out);

/* Means of every `count` neighboring channels; `channels` of them. */
IRBIN_KERNEL void irbin_channel_mean(int32_t pixels, int32_t channels, int32_t count, const float *x,
                        const irbin_out *out);

/* Every pixel times, plus or minus another one. */
typedef enum irbin_meeting { IRBIN_TIMES, IRBIN_PLUS, IRBIN_MINUS } irbin_meeting;
IRBIN_KERNEL void irbin_gate(int32_t pixels, int32_t channels, irbin_meeting meeting, const float *x,
                const float *pixel, const irbin_out *out);

/* Every pixel and its own other one. */
IRBIN_KERNEL void irbin_pair(int32_t pixels, int32_t channels, irbin_meeting meeting, const float *x,
                const float *other, const irbin_out *out);

/* Steps alone. */
IRBIN_KERNEL void irbin_rows(int32_t rows, int32_t channels, const float *x, const irbin_out *out);

/* Signs of groups of channels. */
IRBIN_KERNEL void irbin_bitpack(int32_t pixels, int32_t groups, int32_t channels, const float *x, uint8_t *bits);

/* Numbers moved. */
IRBIN_KERNEL void irbin_copy(const irbin_walk *walk, const float *x, float *y);

/* One operation on every pair of numbers, the second times `factor`; some read the first alone. */
typedef enum irbin_operation {
    IRBIN_OF_PLUS,
    IRBIN_OF_MINUS,
    IRBIN_OF_TIMES,
    IRBIN_OF_OVER,
    IRBIN_OF_MAXIMUM, /* NaN if one is */
    IRBIN_OF_MINIMUM,
    IRBIN_OF_NEGATIVE,
    IRBIN_OF_ABSOLUTE,
    IRBIN_OF_SQUARE,
    IRBIN_OF_RECIPROCAL,
    IRBIN_OF_ROOT,
    IRBIN_OF_INVERSE_ROOT,
    IRBIN_OF_POWER, /* e to it */
    IRBIN_OF_LESS,  /* 1 or 0 */
    IRBIN_OF_LESS_OR_EQUAL,
    IRBIN_OF_GREATER,
    IRBIN_OF_GREATER_OR_EQUAL,
    IRBIN_OF_EQUAL,
    IRBIN_OF_NOT_EQUAL,
    IRBIN_OF_WHERE /* the second where the first is not 0; elsewhere nothing is written */
} irbin_operation;
IRBIN_KERNEL void irbin_meet(const irbin_walk *walk, irbin_operation operation, float factor, const float *a,
                const float *b, float *y);

/* What becomes of several numbers; sums begin with the first and are rounded in order. */
typedef enum irbin_folding {
    IRBIN_FOLD_SUM,
    IRBIN_FOLD_MEAN,
    IRBIN_FOLD_NORM,      /* the root of the sum of their squares */
    IRBIN_FOLD_VARIANCE,  /* of the squares of what they have beside their mean */
    IRBIN_FOLD_DEVIATION, /* the root of that */
    IRBIN_FOLD_LARGEST,   /* NaN if one is */
    IRBIN_FOLD_SMALLEST
} irbin_folding;

/* The walk goes over the firsts, `terms` over those that make one result; `divisor` is that of a mean
 * or a variance. */
IRBIN_KERNEL void irbin_fold(const irbin_walk *walk, const irbin_walk *terms, irbin_folding folding,
                float divisor, const float *x, float *y);

/* How matrices are multiplied; the walk goes over pairs of them. Floats between neighbors. */
typedef struct irbin_product {
    irbin_walk walk;
    int32_t rows, depth, columns;
    int32_t a_row, a_depth, b_depth, b_column, to_row, to_column;
} irbin_product;

/* Products of matrices, added along the depth by fused multiply-adds. */
IRBIN_KERNEL void irbin_matmul(const irbin_product *product, const float *a, const float *b, float *y);

/* Softmax of n numbers that lie x_step apart, of the result y_step; the walk goes over their firsts. */
IRBIN_KERNEL void irbin_softmax(const irbin_walk *walk, int32_t n, int32_t x_step, int32_t y_step,
                   const float *x, float *y);

/* CRC-32 (ISO 3309) of more bytes; begins with 0. */
uint32_t irbin_crc32(uint32_t crc, const void *bytes, size_t n_bytes);

/* Numbers between -2 and 2, or bytes, that are the same everywhere, to test with. */
void irbin_test_image(float *x, size_t n);
void irbin_test_bytes(uint8_t *x, size_t n);

#ifdef __cplusplus
}
#endif
#endif
