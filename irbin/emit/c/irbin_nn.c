/* See irbin_nn.h. */
#include "irbin_nn.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#if defined(__FAST_MATH__) || defined(_M_FP_FAST) || defined(__ASSOCIATIVE_MATH__) || \
    defined(__RECIPROCAL_MATH__) || defined(__NO_SIGNED_ZEROS__) ||                   \
    (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "compile without -ffast-math, -Ofast and their parts: signs near zero would change"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "expected a little-endian processor: the weights are laid out for one"
#endif
#if !defined(FLT_EVAL_METHOD) || (FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16)
#error "expected float arithmetic in float: on 32-bit x86 compile with -msse2 -mfpmath=sse"
#endif
_Static_assert(CHAR_BIT == 8 && sizeof(float) == 4, "expected bytes of 8 bits, floats of 32");
_Static_assert(FLT_RADIX == 2 && FLT_MANT_DIG == 24 && FLT_MAX_EXP == 128, "expected IEEE 754");

/* A product and a sum are two roundings, whatever the compiler is called with. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#elif defined(_MSC_VER)
#pragma fp_contract(off)
#endif

enum { BLOCK = 16 }; /* channels that are worked on at once; a multiple of 8 */
/* Windows that are looked at together, and words of each that are counted at once. */
#if defined(IRBIN_SET)
#include IRBIN_SET
#else
enum { TILE = 1, WORDS = 28 };
#endif

#if !defined(IRBIN_SET)
const char *irbin_status_text(irbin_status status)
{
    switch (status) {
    case IRBIN_OK: return "well";
    case IRBIN_NULL_POINTER: return "an argument is NULL";
    case IRBIN_SMALL_ARENA: return "the arena has fewer bytes than the header says";
    case IRBIN_MISALIGNED_ARENA: return "the arena is not aligned as the header says";
    case IRBIN_DAMAGED_WEIGHTS: return "the weights are not those that were exported";
    case IRBIN_WRONG_ANSWER: return "the answer is not the one at export: check the compiler's flags";
    }
    return "no status of irbin's";
}
#endif

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline)) /* also where code is to be small */
#define APART static __attribute__((noinline))
#else
#define INLINE static inline
#define APART static
#endif

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* ---- arithmetic ---- */

/* a * b + c, rounded once. Where no instruction does it: the product is exact in double, the sum is
 * rounded to odd there, so that rounding it to float cannot be misled (Boldo and Melquiond, IEEE
 * Trans. Computers 57(4), 2008); libraries' fmaf are not all exact. */
static float multiply_add(float a, float b, float c)
{
#if defined(HAS_FMA) || defined(__FP_FAST_FMAF) || defined(__FMA__) || defined(__aarch64__) || \
    (defined(__ARM_FEATURE_FMA) && defined(__ARM_FP) && (__ARM_FP & 4))
    return fmaf(a, b, c);
#else
    const double product = (double)a * (double)b, addend = (double)c, total = product + addend;
    const double back = total - product;
    const double lost = (product - (total - back)) + (addend - back);
    uint64_t bits;
    memcpy(&bits, &total, sizeof bits);
    if (lost != 0.0 && total - total == 0.0 && (bits & 1) == 0)
        bits = (lost > 0.0) == (total > 0.0) ? bits + 1 : bits - 1;
    double odd;
    memcpy(&odd, &bits, sizeof odd);
    return (float)odd;
#endif
}

/* The square root, rounded to nearest, bit by bit: libraries and processors need not agree on how
 * they say that a number has none. */
static float root(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (!(x > 0.0f) || bits == UINT32_C(0x7f800000)) return x < 0.0f ? NAN : x;
    int32_t exponent = (int32_t)(bits >> 23);
    uint64_t mantissa = bits & UINT32_C(0x7fffff);
    if (exponent > 0) {
        mantissa |= UINT32_C(0x800000);
    } else {
        for (exponent = 1; mantissa < UINT32_C(0x800000); --exponent) mantissa <<= 1;
    }
    exponent -= 150; /* x = mantissa * 2^exponent */
    mantissa <<= exponent % 2 != 0 ? 25 : 26;
    exponent -= exponent % 2 != 0 ? 25 : 26;
    uint64_t found = 0;
    for (uint64_t bit = UINT64_C(1) << 24; bit != 0; bit >>= 1)
        if ((found | bit) * (found | bit) <= mantissa) found |= bit;
    found = (found + 1) >> 1; /* of 25 bits; one half is never hit */
    const int32_t shift = exponent / 2 + 1; /* the root is found * 2^shift */
    const uint32_t made = (uint32_t)(found >> 24 != 0 ? found >> 1 : found) & UINT32_C(0x7fffff);
    const uint32_t power = (uint32_t)(shift + 150 + (found >> 24 != 0 ? 1 : 0));
    const uint32_t result = power << 23 | made;
    memcpy(&x, &result, sizeof x);
    return x;
}

/* ---- activations: irbin/kernels/activations.py in its order, every operation rounded ---- */

static float within(float x, float low, float high) /* NaN passes */
{
    const float raised = low > x ? low : x;
    return high < raised ? high : raised;
}

/* Horner's rule, from the last coefficient. */
static float polynomial(const float *coefficients, int32_t n, float x)
{
    float y = coefficients[n - 1];
    for (int32_t i = n - 2; i >= 0; --i) y = y * x + coefficients[i];
    return y;
}

static float power_of_two(int32_t exponent)
{
    const uint32_t bits = (uint32_t)(exponent + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* x times two to the power of n, rounded once. */
static float scaled(float x, float n)
{
    const int32_t whole = n == n ? (int32_t)n : 0, half = (whole - (whole & 1)) / 2;
    return (x * power_of_two(half)) * power_of_two(whole - half);
}

/* n, and e to the power of r, minus 1, of x = n * ln 2 + r. */
static float exponent_and_rest(float x, float *rest)
{
    static const float exp_terms[] = {0.4999999701976776f, 0.16666536033153534f,
                                      0.04166722297668457f, 0.008366581052541733f,
                                      0.001388250500895083f};
    const float n = (x * 1.4426950408889634f + 12582912.0f) - 12582912.0f;
    const float r = (x - n * 0.693115234375f) - n * 3.194618329871446e-05f;
    *rest = r * (r * polynomial(exp_terms, 5, r) + 1.0f);
    return n;
}

static float exp_of(float x)
{
    float rest;
    const float n = exponent_and_rest(within(x, -104.0f, 89.0f), &rest);
    return scaled(rest + 1.0f, n);
}

static float expm1_of(float x)
{
    float rest;
    const float n = exponent_and_rest(within(x, -30.0f, 30.0f), &rest), power = scaled(1.0f, n);
    float y = power * rest + (power - 1.0f);
    uint32_t bits, sign; /* of a y that is nowhere of the other sign, or 0 */
    memcpy(&bits, &y, sizeof bits);
    memcpy(&sign, &x, sizeof sign);
    bits |= sign & UINT32_C(0x80000000);
    memcpy(&y, &bits, sizeof y);
    return y;
}

static float erf_of(float x)
{
    static const float above[] = {1.1283791065216064f, 0.19976265728473663f, 0.050551362335681915f,
                                  0.0036945692263543606f, 0.00014167343033477664f,
                                  -1.957062067958759e-06f, 1.9926684302618014e-08f};
    static const float below[] = {1.0f, 0.5103667378425598f, 0.11493100970983505f,
                                  0.01433904841542244f, 0.0009543046471662819f};
    x = within(x, -3.9192061f, 3.9192061f);
    const float square = x * x;
    return within((x * polynomial(above, 7, square)) / polynomial(below, 5, square), -1.0f, 1.0f);
}

static float activated(irbin_step_kind kind, float x)
{
    switch (kind) {
    case IRBIN_SIGMOID: return 1.0f / (exp_of(-x) + 1.0f);
    case IRBIN_SILU: return x / (exp_of(-x) + 1.0f);
    case IRBIN_HARDSIGMOID: return within(x + 3.0f, 0.0f, 6.0f) / 6.0f;
    case IRBIN_HARDSWISH: return (x * within(x + 3.0f, 0.0f, 6.0f)) / 6.0f;
    case IRBIN_GELU: return (x * 0.5f) * (erf_of(x * 0.7071067811865476f) + 1.0f);
    case IRBIN_GELU_TANH: {
        const float minus_2z = x * ((x * x) * -0.07135481282052268f + -1.5957691216057308f);
        return x / (exp_of(minus_2z) + 1.0f);
    }
    case IRBIN_TANH: {
        const float t = expm1_of(x + x);
        return t / (t + 2.0f);
    }
    case IRBIN_MISH: {
        const float e = exp_of(within(x, -104.0f, 30.0f)), n = e * (e + 2.0f);
        return x * (n / (n + 2.0f));
    }
    default: return x;
    }
}

static float kept(float y, float held)
{
    return held < 0.0f ? within(y, -INFINITY, -FLT_MIN)
                       : within(y, 0.0f, INFINITY) + 0.0f; /* -0 becomes +0 */
}

/* ---- results ---- */

/* Bits begin on a byte: blocks are multiples of 8 but for the last one. */
static void write_bits(uint32_t mask, int32_t n, uint8_t *to)
{
    to[0] = (uint8_t)mask;
    if (n > 8) to[1] = (uint8_t)(mask >> 8);
}

#if !defined(HAS_MASKS)
static uint32_t negative(const float *v, int32_t n)
{
    uint32_t mask = 0;
    for (int32_t i = 0; i < n; ++i) mask |= (uint32_t)(v[i] < 0.0f) << i;
    return mask;
}
#endif

/* Statements for every number of a tile: v[i] of a pixel, channel + i. */
#define EACH(statement)                             \
    for (int32_t p = 0; p < pixels; ++p) {          \
        float *const v = tile + p * BLOCK;          \
        for (int32_t i = 0; i < n; ++i) statement;  \
    }                                               \
    break

/* A residual that has fewer channels; the others get +0. */
static void add_part(const irbin_step *step, float *tile, int32_t pixels, int32_t n, size_t pixel,
                     int32_t channel, const irbin_out *out)
{
    const float *part = out->residuals[step->residual] + pixel * (size_t)step->channels;
    for (int32_t p = 0; p < pixels; ++p, part += step->channels)
        for (int32_t i = 0; i < n; ++i) {
            const int32_t c = channel + i - step->before;
            tile[p * BLOCK + i] += c >= 0 && c < step->channels ? part[c] : 0.0f;
        }
}

static inline void apply(const irbin_step *step, float *tile, float *held, int32_t pixels, int32_t n,
                         size_t at, int32_t channel, int32_t channels, const irbin_out *out)
{
    const float *const values = step->values == NULL ? NULL : step->values + channel;
    switch (step->kind) {
    case IRBIN_MULTIPLY: EACH(v[i] *= values[i]);
    case IRBIN_ADD: EACH(v[i] += values[i]);
    case IRBIN_RESIDUAL: {
        if (step->channels > 0) {
            add_part(step, tile, pixels, n, at / (size_t)channels, channel, out);
            break;
        }
        const float *residual = out->residuals[step->residual] + at;
        EACH(v[i] += residual[p * channels + i]);
    }
    case IRBIN_CLAMP: EACH(v[i] = within(v[i], step->low, step->high));
    case IRBIN_PRELU: EACH(v[i] = v[i] > 0.0f ? v[i] : v[i] * values[i]);
    case IRBIN_WRITE:
        if (out->y == NULL) break;
        EACH(out->y[at + (size_t)(p * channels + i)] = v[i]);
    case IRBIN_HOLD: EACH(held[p * BLOCK + i] = v[i]);
    case IRBIN_KEEP: EACH(v[i] = kept(v[i], held[p * BLOCK + i]));
    case IRBIN_ELU: EACH(v[i] = v[i] > 0.0f ? v[i] : expm1_of(v[i]) * values[i]);
    default: EACH(v[i] = activated(step->kind, v[i]));
    }
}

static void finish_numbers(float *v, int32_t pixels, int32_t n, size_t pixel, int32_t channel,
                           int32_t channels, const irbin_out *out)
{
    static const irbin_step written = {.kind = IRBIN_WRITE};
    const size_t at = pixel * (size_t)channels + (size_t)channel;
    bool is_written = false;
    float held[TILE * BLOCK]; /* written before it is read */
    for (int32_t s = 0; s < out->n_steps; ++s) {
        apply(&out->steps[s], v, held, pixels, n, at, channel, channels, out);
        is_written |= out->steps[s].kind == IRBIN_WRITE;
    }
    if (!is_written) apply(&written, v, held, pixels, n, at, channel, channels, out);
    if (out->bits == NULL) return;
    const size_t bytes = ((size_t)channels + 7) / 8;
    uint8_t *to = out->bits + pixel * bytes + (size_t)channel / 8;
    for (int32_t p = 0; p < pixels; ++p, to += bytes) write_bits(negative(v + p * BLOCK, n), n, to);
}

#if defined(VECTOR_BYTES)
/* Whole blocks stay in registers through all steps. Loops over `pixels`, a number that the compiler
 * knows, and over the parts of a block are unrolled, or the registers would go through memory. */
typedef float vector __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef int32_t choice __attribute__((vector_size(VECTOR_BYTES))); /* never in others' memory */
enum { PARTS = BLOCK * 4 / VECTOR_BYTES };
#define UNROLLED(n, i) _Pragma("GCC unroll 8") for (int32_t i = 0; i < (n); ++i)
#define EACH_PART UNROLLED(pixels, p) UNROLLED(PARTS, k)
#define PART v[p * PARTS + k]

INLINE vector all_of(float x)
{
    return (vector){0} + x;
}

INLINE vector chosen(choice which, vector yes, vector no)
{
    return (vector)(((choice)yes & which) | ((choice)no & ~which));
}

INLINE vector within_vectors(vector x, vector low, vector high)
{
    const vector raised = chosen((choice)(low > x), low, x);
    return chosen((choice)(high < raised), high, raised);
}

INLINE vector kept_vector(vector y, vector held)
{
    const vector below = within_vectors(y, all_of(-INFINITY), all_of(-FLT_MIN));
    const vector above = within_vectors(y, all_of(0.0f), all_of(INFINITY)) + all_of(0.0f);
    return chosen((choice)(held < all_of(0.0f)), below, above);
}

INLINE const vector *vectors_at(const float *from)
{
    return (const vector *)(const void *)from;
}

INLINE void write_vectors(const vector *v, int32_t pixels, size_t at, int32_t channels,
                          const irbin_out *out)
{
    if (out->y == NULL) return;
    EACH_PART ((vector *)(void *)(out->y + at + (size_t)(p * channels)))[k] = PART;
}

/* Steps that are not written out for vectors. */
APART void apply_apart(const irbin_step *step, vector *v, vector *held, int32_t pixels, size_t at,
                       int32_t channel, int32_t channels, const irbin_out *out)
{
    apply(step, (float *)(void *)v, (float *)(void *)held, pixels, BLOCK, at, channel, channels, out);
}

INLINE void finish_vectors(vector *v, int32_t pixels, size_t pixel, int32_t channel,
                           int32_t channels, const irbin_out *out)
{
    const size_t at = pixel * (size_t)channels + (size_t)channel;
    bool is_written = false;
    vector held[AT_ONCE * PARTS], apart[AT_ONCE * PARTS]; /* in memory */
    for (const irbin_step *step = out->steps, *end = step + out->n_steps; step < end; ++step)
        switch (step->kind) {
        case IRBIN_MULTIPLY: EACH_PART PART *= vectors_at(step->values + channel)[k]; break;
        case IRBIN_ADD: EACH_PART PART += vectors_at(step->values + channel)[k]; break;
        case IRBIN_CLAMP:
            EACH_PART PART = within_vectors(PART, all_of(step->low), all_of(step->high));
            break;
        case IRBIN_PRELU:
            EACH_PART PART = chosen((choice)(PART > all_of(0.0f)), PART,
                                    PART * vectors_at(step->values + channel)[k]);
            break;
        case IRBIN_WRITE:
            write_vectors(v, pixels, at, channels, out);
            is_written = true;
            break;
        case IRBIN_HOLD: EACH_PART held[p * PARTS + k] = PART; break;
        case IRBIN_KEEP: EACH_PART PART = kept_vector(PART, held[p * PARTS + k]); break;
        case IRBIN_RESIDUAL:
            if (step->channels == 0) {
                const float *from = out->residuals[step->residual] + at;
                EACH_PART PART += vectors_at(from + (size_t)(p * channels))[k];
                break;
            }
            /* fall through */
        default:
            EACH_PART apart[p * PARTS + k] = PART;
            apply_apart(step, apart, held, pixels, at, channel, channels, out);
            EACH_PART PART = apart[p * PARTS + k];
        }
    if (!is_written) write_vectors(v, pixels, at, channels, out);
    if (out->bits == NULL) return;
    const size_t bytes = ((size_t)channels + 7) / 8;
    uint8_t *to = out->bits + pixel * bytes + (size_t)channel / 8;
    UNROLLED(pixels, p) write_bits(NEGATIVE(v + p * PARTS), BLOCK, to + (size_t)p * bytes);
}

/* Of so many pixels of a tile, (pixels, BLOCK). */
INLINE void finish_part(const float *tile, int32_t pixels, size_t pixel, int32_t channel,
                        int32_t channels, const irbin_out *out)
{
    vector v[AT_ONCE * PARTS];
    EACH_PART PART = vectors_at(tile + p * BLOCK)[k];
    finish_vectors(v, pixels, pixel, channel, channels, out);
}

APART void finish_blocks(const float *tile, int32_t pixels, size_t pixel, int32_t channel,
                         int32_t channels, const irbin_out *out)
{
    int32_t p = 0;
    for (; p + AT_ONCE <= pixels; p += AT_ONCE)
        finish_part(tile + p * BLOCK, AT_ONCE, pixel + (size_t)p, channel, channels, out);
    for (; p < pixels; ++p)
        finish_part(tile + p * BLOCK, 1, pixel + (size_t)p, channel, channels, out);
}
#endif

/* n values of every pixel of a tile, (pixels, BLOCK), from a channel on: steps, then y and bits where
 * they are wanted. */
static void finish_tile(float *v, int32_t pixels, int32_t n, size_t pixel, int32_t channel,
                        int32_t channels, const irbin_out *out)
{
#if defined(VECTOR_BYTES)
    if (n == BLOCK) {
        finish_blocks(v, pixels, pixel, channel, channels, out);
        return;
    }
#endif
    finish_numbers(v, pixels, n, pixel, channel, channels, out);
}

static void finish(float *v, int32_t n, size_t pixel, int32_t channel, int32_t channels,
                   const irbin_out *out)
{
    finish_tile(v, 1, n, pixel, channel, channels, out);
}

/* ---- windows ---- */

/* Taps of a window that lie inside the image, along one axis: from first to before last. */
typedef struct taps {
    int32_t first, last;
} taps;

static taps inside(int32_t begin, int32_t dilation, int32_t n, int32_t size)
{
    taps t;
    if (dilation == 1) { /* without a division */
        t.first = begin < 0 ? least(-begin, n) : 0;
        t.last = begin < size ? least(size - begin, n) : 0;
        if (t.last < t.first) t.last = t.first;
        return t;
    }
    t.first = begin < 0 ? least((dilation - 1 - begin) / dilation, n) : 0;
    t.last = begin < size ? least((size - begin + dilation - 1) / dilation, n) : 0;
    if (t.last < t.first) t.last = t.first;
    return t;
}

/* ---- products of signs ---- */

/* The k-th word of a window where it differs from a filter's; where there is a mask, within it. */
INLINE uint32_t differing(const uint32_t *x, const uint32_t *mask, const uint32_t *w, int32_t k,
                          int32_t n)
{
    const uint32_t bits = x[k] ^ w[k * n];
    return mask == NULL ? bits : bits & mask[k];
}

#if defined(HAS_POPCOUNT) || defined(__AVX512VPOPCNTDQ__) || defined(__wasm__) || defined(__riscv_zbb)
/* There is an instruction for it, which compilers put into vectors if it has any. */
static inline void add_words(const uint32_t *x, const uint32_t *mask, const uint32_t *w,
                             int32_t words, int32_t n, int32_t *differ)
{
    int32_t counts[BLOCK] = {0};
    for (int32_t k = 0; k < words; ++k)
        for (int32_t i = 0; i < n; ++i)
            counts[i] += (int32_t)__builtin_popcount(differing(x, mask, w + i, k, n));
    for (int32_t i = 0; i < n; ++i) differ[i] += counts[i];
}
#else
/* Counts of bits in every byte: sums of neighboring bits, then pairs, then nibbles (Warren, Hacker's
 * Delight, 5-1). Plain integers in loops over filters, so that compilers use vectors. */
INLINE uint32_t byte_counts(uint32_t v)
{
    v -= v >> 1 & UINT32_C(0x55555555);
    v = (v & UINT32_C(0x33333333)) + (v >> 2 & UINT32_C(0x33333333));
    return (v + (v >> 4)) & UINT32_C(0x0f0f0f0f);
}

/* The same of 4 * fours + 2 * twos + ones. */
INLINE uint32_t weighted_counts(uint32_t ones, uint32_t twos, uint32_t fours)
{
    ones -= ones >> 1 & UINT32_C(0x55555555);
    twos -= twos >> 1 & UINT32_C(0x55555555);
    ones = (ones & UINT32_C(0x33333333)) + (ones >> 2 & UINT32_C(0x33333333));
    twos = (twos & UINT32_C(0x33333333)) + (twos >> 2 & UINT32_C(0x33333333));
    ones += twos << 1; /* at most 12 a nibble */
    return (ones & UINT32_C(0x0f0f0f0f)) + (ones >> 4 & UINT32_C(0x0f0f0f0f)) +
           (byte_counts(fours) << 2);
}

/* Of three bits: their sum's upper one. */
INLINE uint32_t carry(uint32_t a, uint32_t b, uint32_t c)
{
    return (a & b) | ((a ^ b) & c);
}

/* Seven words at once: carry-save adders leave three, of ones, twos and fours. */
INLINE void add_seven(const uint32_t *x, const uint32_t *mask, const uint32_t *w, int32_t n,
                      uint32_t *counts)
{
    for (int32_t i = 0; i < n; ++i, ++w) {
        const uint32_t a = differing(x, mask, w, 0, n), b = differing(x, mask, w, 1, n);
        const uint32_t c = differing(x, mask, w, 2, n), d = differing(x, mask, w, 3, n);
        const uint32_t e = differing(x, mask, w, 4, n), f = differing(x, mask, w, 5, n);
        const uint32_t g = differing(x, mask, w, 6, n);
        const uint32_t one = a ^ b ^ c, two = carry(a, b, c);
        const uint32_t other = one ^ d ^ e, more = carry(one, d, e);
        const uint32_t ones = other ^ f ^ g, last = carry(other, f, g);
        counts[i] += weighted_counts(ones, two ^ more ^ last, carry(two, more, last));
    }
}

INLINE void add_three(const uint32_t *x, const uint32_t *mask, const uint32_t *w, int32_t n,
                      uint32_t *counts)
{
    for (int32_t i = 0; i < n; ++i, ++w) {
        const uint32_t a = differing(x, mask, w, 0, n), b = differing(x, mask, w, 1, n);
        const uint32_t c = differing(x, mask, w, 2, n);
        counts[i] += byte_counts(a ^ b ^ c) + (byte_counts(carry(a, b, c)) << 1);
    }
}

INLINE void add_one(const uint32_t *x, const uint32_t *mask, const uint32_t *w, int32_t n,
                    uint32_t *counts)
{
    for (int32_t i = 0; i < n; ++i, ++w) counts[i] += byte_counts(differing(x, mask, w, 0, n));
}

enum { COUNTED = 28 }; /* words whose bits a byte counts: 4 times 7, of 56 bits a byte at most */

/* Adds in how many bits words of a window differ from those of n filters, (words, n). */
static inline void add_words(const uint32_t *x, const uint32_t *mask, const uint32_t *w,
                             int32_t words, int32_t n, int32_t *differ)
{
    for (int32_t begin = 0; begin < words; begin += COUNTED) {
        uint32_t counts[BLOCK] = {0};
        const int32_t end = least(begin + COUNTED, words);
        int32_t k = begin;
        for (; k + 7 <= end; k += 7)
            add_seven(x + k, mask == NULL ? NULL : mask + k, w + k * n, n, counts);
        for (; k + 3 <= end; k += 3)
            add_three(x + k, mask == NULL ? NULL : mask + k, w + k * n, n, counts);
        for (; k < end; ++k) add_one(x + k, mask == NULL ? NULL : mask + k, w + k * n, n, counts);
        for (int32_t i = 0; i < n; ++i) {
            const uint32_t pairs =
                (counts[i] & UINT32_C(0x00ff00ff)) + (counts[i] >> 8 & UINT32_C(0x00ff00ff));
            differ[i] += (int32_t)((pairs + (pairs >> 16)) & 0xffff);
        }
    }
}
#endif

#if !defined(HAS_COUNT_BLOCK)
/* Of a whole block of filters, for several windows that lie WORDS apart. By itself, so that what its
 * registers hold is not also on the stack while results are finished. */
APART void count_block(const uint32_t *x, const uint32_t *mask, const uint32_t *w, int32_t words,
                        int32_t pixels, int32_t *differ)
{
    for (int32_t p = 0; p < pixels; ++p, x += WORDS, differ += BLOCK) {
        if (mask == NULL)
            add_words(x, NULL, w, words, BLOCK, differ);
        else
            add_words(x, mask + p * WORDS, w, words, BLOCK, differ);
    }
}
#endif

#if !defined(HAS_MASKS)
/* A bit for each of at most a block's numbers. */
static uint32_t below(const int32_t *dots, const int32_t *lower, int32_t n)
{
    uint32_t mask = 0;
    for (int32_t i = 0; i < n; ++i) mask |= (uint32_t)(dots[i] < lower[i]) << i;
    return mask;
}
#endif

static void finish_dots(const int32_t *dots, int32_t pixels, int32_t n, size_t pixel,
                        int32_t channel, int32_t channels, const irbin_out *out)
{
    if (out->lower != NULL) {
        const size_t bytes = ((size_t)channels + 7) / 8;
        const uint8_t *flips = out->flips + channel / 8;
        const uint32_t flip =
            (flips[0] | (n > 8 ? (uint32_t)flips[1] << 8 : 0)) & ((1u << n) - 1u);
        uint8_t *to = out->bits + pixel * bytes + (size_t)channel / 8;
        for (int32_t p = 0; p < pixels; ++p, to += bytes)
            write_bits(below(dots + p * BLOCK, out->lower + channel, n) ^ flip, n, to);
        return;
    }
    float v[TILE * BLOCK];
    for (int32_t p = 0; p < pixels; ++p)
        for (int32_t i = 0; i < BLOCK; ++i) v[p * BLOCK + i] = (float)dots[p * BLOCK + i];
    finish_tile(v, pixels, n, pixel, channel, channels, out);
}

/* Pixels beside each other whose windows are looked at together. */
typedef struct tile {
    int32_t row, column, pixels; /* of the result */
    int32_t y0;                  /* where windows begin */
    taps down;
    int32_t first, last; /* words that have taps inside the image */
    bool is_masked;      /* some also have others */
    bool at_first, at_last; /* those of the first and the last pixel alone */
    taps right[TILE];
    int32_t depth[TILE]; /* signs that are multiplied */
} tile;

static void look(const irbin_conv *conv, int32_t bytes, tile *t)
{
    const irbin_window *w = &conv->window;
    const int32_t line = w->kernel_width * bytes, whole = line * w->kernel_height;
    t->y0 = t->row * w->stride_y - w->top;
    t->down = inside(t->y0, w->dilation_y, w->kernel_height, w->height);
    t->first = t->down.first * line / 4;
    t->last = (t->down.last * line + 3) / 4;
    t->is_masked = t->first * 4 != t->down.first * line ||
                   least(t->last * 4, whole) != t->down.last * line;
    t->at_first = t->at_last = false;
    bool is_within = !t->is_masked;
    for (int32_t p = 0; p < t->pixels; ++p) {
        const taps right = inside((t->column + p) * w->stride_x - w->left, w->dilation_x,
                                  w->kernel_width, w->width);
        t->right[p] = right;
        t->depth[p] =
            (t->down.last - t->down.first) * (right.last - right.first) * conv->in_channels;
        if (right.last - right.first == w->kernel_width) continue;
        t->is_masked = true;
        t->at_first |= p == 0;
        t->at_last |= p != 0 && p == t->pixels - 1;
        is_within &= p == 0 || p == t->pixels - 1;
    }
    t->at_first &= is_within;
    t->at_last &= is_within;
}

/* Few bytes, without a call. */
static inline void copy_bytes(uint8_t *to, const uint8_t *from, int32_t n)
{
    if (n >= 8) {
        for (int32_t i = 0; i + 8 < n; i += 8) memcpy(to + i, from + i, 8);
        memcpy(to + n - 8, from + n - 8, 8);
    } else if (n >= 4) {
        memcpy(to, from, 4);
        memcpy(to + n - 4, from + n - 4, 4);
    } else {
        for (int32_t i = 0; i < n; ++i) to[i] = from[i];
    }
}

/* All bits of few bytes. */
static inline void fill_bytes(uint8_t *to, int32_t n)
{
    const uint64_t ones = ~UINT64_C(0);
    if (n >= 8) {
        for (int32_t i = 0; i + 8 < n; i += 8) memcpy(to + i, &ones, 8);
        memcpy(to + n - 8, &ones, 8);
    } else if (n >= 4) {
        memcpy(to, &ones, 4);
        memcpy(to + n - 4, &ones, 4);
    } else {
        for (int32_t i = 0; i < n; ++i) to[i] = 0xff;
    }
}

static inline void clear_words(uint32_t *words, int32_t n)
{
    if (n <= BLOCK) /* of so many there is always room, and no call is needed */
        memset(words, 0, BLOCK * sizeof *words);
    else
        memset(words, 0, (size_t)n * sizeof *words);
}

/* Words of a window from one on; zeros, also in the mask, for what is outside. */
static void gather(const irbin_conv *conv, const uint8_t *image, int32_t group, const tile *t,
                   int32_t p, int32_t begin, int32_t words, uint32_t *x, uint32_t *mask)
{
    const irbin_window *w = &conv->window;
    const int32_t bytes = (conv->in_channels + 7) / 8;
    const taps right = t->right[p];
    const int32_t x0 = (t->column + p) * w->stride_x - w->left + right.first * w->dilation_x;
    const bool is_run = conv->groups == 1 && w->dilation_x == 1;
    const int32_t runs = is_run ? 1 : right.last - right.first;
    const int32_t length = is_run ? (right.last - right.first) * bytes : bytes;
    if (t->is_masked) {
        clear_words(x, words);
        clear_words(mask, words);
    } else {
        x[words - 1] = 0;
    }
    if (length == 0) return;
    for (int32_t r = t->down.first; r < t->down.last; ++r)
        for (int32_t s = 0; s < runs; ++s) {
            const size_t pixel = (size_t)(t->y0 + r * w->dilation_y) * (size_t)w->width +
                                 (size_t)(x0 + s * w->dilation_x);
            const uint8_t *from =
                image + (pixel * (size_t)conv->groups + (size_t)group) * (size_t)bytes;
            const int32_t at = (r * w->kernel_width + right.first + s) * bytes - begin * 4;
            const int32_t skipped = at < 0 ? -at : 0, n = least(length, words * 4 - at) - skipped;
            if (n <= 0) continue;
            copy_bytes((uint8_t *)x + at + skipped, from + skipped, n);
            if (t->is_masked) fill_bytes((uint8_t *)mask + at + skipped, n);
        }
}

/* A row of n windows beside each other. */
INLINE void copy_lines(uint8_t *to, const uint8_t *from, ptrdiff_t step, int32_t n, int32_t length)
{
    for (int32_t k = 0; k < n; ++k, to += WORDS * 4, from += step) copy_bytes(to, from, length);
}

/* Windows of pixels p to before end, all of whose columns are inside and lie behind each other. */
static void gather_rows(const irbin_conv *conv, const uint8_t *image, const tile *t, int32_t p,
                        int32_t end, uint32_t *x, uint32_t *mask)
{
    const irbin_window *w = &conv->window;
    const int32_t bytes = (conv->in_channels + 7) / 8, line = w->kernel_width * bytes;
    const int32_t at = t->down.first * line - t->first * 4, words = t->last - t->first;
    const ptrdiff_t x0 = ((ptrdiff_t)(t->column + p) * w->stride_x - w->left) * bytes;
    for (int32_t k = p; k < end; ++k) {
        x[k * WORDS + words - 1] = 0;
        if (!t->is_masked || t->at_first || t->at_last) continue;
        clear_words(mask + k * WORDS, words);
        fill_bytes((uint8_t *)(mask + k * WORDS) + at, (t->down.last - t->down.first) * line);
    }
    uint8_t *to = (uint8_t *)(x + p * WORDS) + at;
    for (int32_t r = t->down.first; r < t->down.last; ++r, to += line) {
        const uint8_t *from =
            image + (ptrdiff_t)(t->y0 + r * w->dilation_y) * w->width * bytes + x0;
        const ptrdiff_t step = (ptrdiff_t)w->stride_x * bytes;
        switch (line) { /* lengths that the compiler knows, of usual windows */
        case 6: copy_lines(to, from, step, end - p, 6); break;
        case 12: copy_lines(to, from, step, end - p, 12); break;
        case 24: copy_lines(to, from, step, end - p, 24); break;
        case 48: copy_lines(to, from, step, end - p, 48); break;
        default: copy_lines(to, from, step, end - p, line);
        }
    }
}

static void gather_tile(const irbin_conv *conv, const uint8_t *image, int32_t group, const tile *t,
                        int32_t begin, int32_t words, uint32_t *x, uint32_t *mask)
{
    const int32_t width = conv->window.kernel_width;
    int32_t p = 0;
    if (conv->groups == 1 && conv->window.dilation_x == 1 && words == t->last - t->first) {
        int32_t last = t->pixels;
        for (; p < last && t->right[p].last - t->right[p].first != width; ++p)
            gather(conv, image, group, t, p, begin, words, x + p * WORDS, mask + p * WORDS);
        while (last > p && t->right[last - 1].last - t->right[last - 1].first != width) --last;
        gather_rows(conv, image, t, p, last, x, mask);
        p = last;
    }
    for (; p < t->pixels; ++p)
        gather(conv, image, group, t, p, begin, words, x + p * WORDS, mask + p * WORDS);
}

/* The first word of a block's filters. */
static const uint32_t *filters_of(const irbin_conv *conv, int32_t group, int32_t o)
{
    const irbin_window *w = &conv->window;
    const int32_t bytes = (conv->in_channels + 7) / 8;
    const int32_t all = (w->kernel_height * w->kernel_width * bytes + 3) / 4;
    return (const uint32_t *)conv->weight +
           (size_t)all * ((size_t)group * (size_t)conv->out_channels + (size_t)o);
}

#if defined(HAS_COUNT_VECTORS)
/* Dots of pixels whose windows lie WORDS apart with a block of filters, and what becomes of them,
 * without a way through memory. */
INLINE void count_and_finish(const uint32_t *x, const uint32_t *mask, bool at_first, bool at_last,
                             const uint32_t *filters, int32_t words, const int32_t *depth,
                             int32_t pixels, size_t pixel, int32_t channel, int32_t channels,
                             const irbin_out *out)
{
    choice dots[AT_ONCE];
    if (mask == NULL || at_first || at_last)
        count_vectors(x, NULL, filters, words, pixels, dots);
    else
        count_vectors(x, mask, filters, words, pixels, dots);
    /* outside the image bits are 0: what differs there are the filters' own */
    if (at_first) dots[0] -= count_outside(mask, filters, words);
    if (at_last) dots[pixels - 1] -= count_outside(mask + (pixels - 1) * WORDS, filters, words);
    UNROLLED(pixels, p) dots[p] = ((choice){0} + depth[p]) - (dots[p] << 1);
    if (out->lower == NULL) {
        vector v[AT_ONCE];
        UNROLLED(pixels, p) v[p] = __builtin_convertvector(dots[p], vector);
        finish_vectors(v, pixels, pixel, channel, channels, out);
        return;
    }
    const size_t bytes = ((size_t)channels + 7) / 8;
    choice lower;
    memcpy(&lower, out->lower + channel, sizeof lower);
    const uint32_t flip = out->flips[channel / 8] | (uint32_t)out->flips[channel / 8 + 1] << 8;
    uint8_t *to = out->bits + pixel * bytes + (size_t)channel / 8;
    UNROLLED(pixels, p)
        write_bits(LESS(dots[p], lower) ^ flip, BLOCK, to + (size_t)p * bytes);
}

/* Whether none of n pixels from p on has a mask, in a tile where the first or the last one has. */
static bool is_inner(const tile *t, int32_t p, int32_t n)
{
    if (!t->at_first && !t->at_last) return false;
    return !(t->at_first && p == 0) && !(t->at_last && p + n == t->pixels);
}

static void count_and_finish_tile(const uint32_t *x, const uint32_t *mask, const uint32_t *filters,
                                  int32_t words, const tile *t, size_t pixel, int32_t channel,
                                  int32_t channels, const irbin_out *out)
{
    const int32_t *depth = t->depth;
    int32_t p = 0;
#define PIXELS(n)                                                                                  \
    for (; p + (n) <= t->pixels; p += (n))                                                         \
    count_and_finish(x + p * WORDS, mask == NULL || is_inner(t, p, n) ? NULL : mask + p * WORDS,   \
                     t->at_first && p == 0, t->at_last && p + (n) == t->pixels, filters, words,    \
                     depth + p, n, pixel + (size_t)p, channel, channels, out)
    PIXELS(8);
    PIXELS(4);
    PIXELS(2);
    PIXELS(1);
#undef PIXELS
}
#endif

/* Dots of a tile with n filters of a group from o on. What is gathered stays for the next filters. */
static void tile_dots(const irbin_conv *conv, const uint8_t *image, int32_t group, const tile *t,
                      int32_t o, int32_t n, uint32_t *x, uint32_t *mask, int32_t *dots)
{
    const uint32_t *weight = filters_of(conv, group, o);
    for (int32_t p = 0; p < t->pixels; ++p) memset(dots + p * BLOCK, 0, BLOCK * sizeof *dots);
    for (int32_t k = t->first; k < t->last; k += WORDS) {
        const int32_t words = least(WORDS, t->last - k);
        if (o == 0 || t->last - t->first > WORDS)
            gather_tile(conv, image, group, t, k, words, x, mask);
        const uint32_t *filters = weight + (size_t)k * (size_t)n;
        if (n == BLOCK)
            count_block(x, t->is_masked ? mask : NULL, filters, words, t->pixels, dots);
        else
            for (int32_t p = 0; p < t->pixels; ++p)
                add_words(x + p * WORDS, t->is_masked ? mask + p * WORDS : NULL, filters, words, n,
                          dots + p * BLOCK);
    }
    for (int32_t p = 0; p < t->pixels; ++p) {
        const int32_t depth = t->depth[p];
        for (int32_t i = 0; i < BLOCK; ++i) dots[p * BLOCK + i] = depth - 2 * dots[p * BLOCK + i];
    }
}

static void bconv2d_row(const irbin_conv *conv, const uint8_t *x, int32_t row, size_t pixel,
                        const irbin_out *out)
{
    const irbin_window *w = &conv->window;
    uint32_t words[TILE * WORDS], mask[TILE * WORDS];
    int32_t dots[TILE * BLOCK];
    tile t = {.row = row};
    for (; t.column < w->out_width; t.column += t.pixels, pixel += (size_t)t.pixels) {
        t.pixels = least(TILE, w->out_width - t.column);
        look(conv, (conv->in_channels + 7) / 8, &t);
#if defined(HAS_COUNT_VECTORS)
        const bool is_whole = conv->out_channels % BLOCK == 0 && t.last - t.first <= WORDS;
        if (!is_whole)
#endif
            t.at_first = t.at_last = false; /* then all have a mask */
        for (int32_t g = 0; g < conv->groups; ++g)
            for (int32_t o = 0; o < conv->out_channels; o += BLOCK) {
                const int32_t n = least(BLOCK, conv->out_channels - o);
#if defined(HAS_COUNT_VECTORS)
                if (is_whole) {
                    if (o == 0) gather_tile(conv, x, g, &t, t.first, t.last - t.first, words, mask);
                    count_and_finish_tile(words, t.is_masked ? mask : NULL,
                                          filters_of(conv, g, o) + (size_t)t.first * BLOCK,
                                          t.last - t.first, &t, pixel, g * conv->out_channels + o,
                                          conv->groups * conv->out_channels, out);
                    continue;
                }
#endif
                tile_dots(conv, x, g, &t, o, n, words, mask, dots);
                finish_dots(dots, t.pixels, n, pixel, g * conv->out_channels + o,
                            conv->groups * conv->out_channels, out);
            }
    }
}

void irbin_bconv2d(const irbin_conv *conv, const uint8_t *x, const irbin_out *out)
{
    const irbin_window *w = &conv->window;
    for (int32_t row = 0; row < w->out_height; ++row)
        bconv2d_row(conv, x, row, (size_t)row * (size_t)w->out_width, out);
}

/* ---- products of floats ---- */

/* An image whose numbers lie anyhow. */
typedef struct strided {
    const float *x;
    ptrdiff_t row, column, channel;
} strided;

/* Sums of n filters for one pixel; what lies outside is 0, and is multiplied too: its product may be
 * NaN, and a sum of -0 becomes 0 by it. */
static void products(const irbin_conv *conv, const strided *image, int32_t y0, int32_t x0,
                     const float *weight, ptrdiff_t first_channel, int32_t n, float *v)
{
    const irbin_window *w = &conv->window;
    for (int32_t i = 0; i < n; ++i) v[i] = 0.0f;
    for (int32_t r = 0; r < w->kernel_height; ++r) {
        const int32_t y = y0 + r * w->dilation_y;
        for (int32_t s = 0; s < w->kernel_width; ++s) {
            const int32_t x = x0 + s * w->dilation_x;
            const bool is_inside = y >= 0 && y < w->height && x >= 0 && x < w->width;
            const float *from = image->x;
            if (is_inside)
                from += y * image->row + x * image->column + first_channel * image->channel;
            for (int32_t c = 0; c < conv->in_channels; ++c, weight += conv->out_channels) {
                const float factor = is_inside ? from[c * image->channel] : 0.0f;
                if (n == BLOCK)
                    for (int32_t i = 0; i < BLOCK; ++i) v[i] = multiply_add(factor, weight[i], v[i]);
                else
                    for (int32_t i = 0; i < n; ++i) v[i] = multiply_add(factor, weight[i], v[i]);
            }
        }
    }
}

#if defined(HAS_LANES)
/* Numbers of a channel under one tap, for pixels beside each other; 0 where they lie outside. */
INLINE const float *factors_of(const float *row, ptrdiff_t step, int32_t first, int32_t last,
                               int32_t pixels, float *copied)
{
    if (first == 0 && last == pixels && step == 1) return row;
    for (int32_t p = 0; p < pixels; ++p) copied[p] = p >= first && p < last ? row[p * step] : 0.0f;
    return copied;
}

/* Of a whole block of filters for pixels beside each other, whose number the compiler knows. */
INLINE void products_of_lanes(const irbin_conv *conv, const strided *image, int32_t y0, int32_t x0,
                              const float *weight, ptrdiff_t first_channel, int32_t pixels, float *v)
{
    const irbin_window *w = &conv->window;
    lanes sums[LANES_AT_ONCE];
    _Pragma("GCC unroll 8") for (int32_t p = 0; p < pixels; ++p) sums[p] = lanes_zero();
    for (int32_t r = 0; r < w->kernel_height; ++r)
        for (int32_t s = 0; s < w->kernel_width; ++s) {
            const int32_t y = y0 + r * w->dilation_y, x = x0 + s * w->dilation_x;
            const bool is_there = y >= 0 && y < w->height; /* pixels first to before last too */
            const taps along = inside(x, w->stride_x, pixels, is_there ? w->width : INT32_MIN);
            const float *row = image->x + (is_there ? y * image->row : 0) + x * image->column +
                               first_channel * image->channel;
            for (int32_t c = 0; c < conv->in_channels; ++c, weight += conv->out_channels) {
                float copied[LANES_AT_ONCE];
                const float *factors =
                    factors_of(row + c * image->channel, w->stride_x * image->column, along.first,
                               along.last, pixels, copied);
                const lanes filters = lanes_of(weight);
                _Pragma("GCC unroll 8") for (int32_t p = 0; p < pixels; ++p)
                    sums[p] = lanes_multiply_add(factors[p], filters, sums[p]);
            }
        }
    _Pragma("GCC unroll 8") for (int32_t p = 0; p < pixels; ++p) lanes_to(v + p * BLOCK, sums[p]);
}
#endif

/* Sums of n filters for pixels beside each other, (pixels, BLOCK). */
static void tile_products(const irbin_conv *conv, const strided *image, int32_t y0, int32_t x0,
                          const float *weight, ptrdiff_t first_channel, int32_t pixels, int32_t n,
                          float *v)
{
    const int32_t stride = conv->window.stride_x;
    int32_t p = 0;
#if defined(HAS_LANES)
    if (n == BLOCK) {
        for (; p + LANES_AT_ONCE <= pixels; p += LANES_AT_ONCE)
            products_of_lanes(conv, image, y0, x0 + p * stride, weight, first_channel,
                              LANES_AT_ONCE, v + p * BLOCK);
        for (; p < pixels; ++p)
            products_of_lanes(conv, image, y0, x0 + p * stride, weight, first_channel, 1,
                              v + p * BLOCK);
    }
#endif
    for (; p < pixels; ++p)
        products(conv, image, y0, x0 + p * stride, weight, first_channel, n, v + p * BLOCK);
}

static void conv2d_row(const irbin_conv *conv, const strided *image, int32_t row, size_t pixel,
                       const irbin_out *out)
{
    const irbin_window *w = &conv->window;
    const size_t group = (size_t)w->kernel_height * (size_t)w->kernel_width *
                         (size_t)conv->in_channels * (size_t)conv->out_channels;
    const int32_t y0 = row * w->stride_y - w->top;
    int32_t pixels;
    for (int32_t column = 0; column < w->out_width; column += pixels, pixel += (size_t)pixels) {
        pixels = least(TILE, w->out_width - column);
        for (int32_t g = 0; g < conv->groups; ++g)
            for (int32_t o = 0; o < conv->out_channels; o += BLOCK) {
                const int32_t n = least(BLOCK, conv->out_channels - o);
                float v[TILE * BLOCK];
                tile_products(conv, image, y0, column * w->stride_x - w->left,
                              (const float *)conv->weight + (size_t)g * group + o,
                              (ptrdiff_t)g * conv->in_channels, pixels, n, v);
                finish_tile(v, pixels, n, pixel, g * conv->out_channels + o,
                            conv->groups * conv->out_channels, out);
            }
    }
}

void irbin_conv2d(const irbin_conv *conv, const float *x, int32_t row_step, int32_t column_step,
                  int32_t channel_step, const irbin_out *out)
{
    const irbin_window *w = &conv->window;
    const strided image = {x, row_step, column_step, channel_step};
    for (int32_t row = 0; row < w->out_height; ++row)
        conv2d_row(conv, &image, row, (size_t)row * (size_t)w->out_width, out);
}

/* What four numbers of a pixel can give: bit k of an entry's number says that x[k] is subtracted. */
static void sums_of_four(const float *x, float *table)
{
    float last[4];
    for (int32_t i = 0; i < 4; ++i) last[i] = (i & 1 ? -x[2] : x[2]) + (i & 2 ? -x[3] : x[3]);
    for (int32_t i = 0; i < 16; ++i)
        table[i] = ((i & 1 ? -x[0] : x[0]) + (i & 2 ? -x[1] : x[1])) + last[i >> 2];
}

/* Sums of n filters of signs for one pixel; what lies outside is 0, which changes no sum. */
static void sign_products(const irbin_conv *conv, const strided *image, int32_t y0, int32_t x0,
                          const uint8_t *filters, int32_t n, float *v)
{
    const irbin_window *w = &conv->window;
    const int32_t bytes = (conv->in_channels + 7) / 8;
    const int32_t filter = w->kernel_height * w->kernel_width * bytes;
    const taps down = inside(y0, w->dilation_y, w->kernel_height, w->height);
    const taps right = inside(x0, w->dilation_x, w->kernel_width, w->width);
    for (int32_t i = 0; i < n; ++i) v[i] = 0.0f;
    for (int32_t r = down.first; r < down.last; ++r)
        for (int32_t s = right.first; s < right.last; ++s) {
            const float *from = image->x + (y0 + r * w->dilation_y) * image->row +
                                (x0 + s * w->dilation_x) * image->column;
            const uint8_t *tap = filters + (r * w->kernel_width + s) * bytes;
            for (int32_t c = 0; c < conv->in_channels; c += 4) {
                float x[4] = {0.0f, 0.0f, 0.0f, 0.0f}, table[16];
                for (int32_t i = 0; i < least(4, conv->in_channels - c); ++i)
                    x[i] = from[(c + i) * image->channel];
                sums_of_four(x, table);
                for (int32_t i = 0; i < n; ++i)
                    v[i] += table[tap[(size_t)i * (size_t)filter + (size_t)(c / 8)] >> (c & 4) & 15];
            }
        }
}

static void sign_conv2d_row(const irbin_conv *conv, const strided *image, int32_t row, size_t pixel,
                            const irbin_out *out)
{
    const irbin_window *w = &conv->window;
    const size_t filter = (size_t)w->kernel_height * (size_t)w->kernel_width *
                          (size_t)((conv->in_channels + 7) / 8);
    const int32_t y0 = row * w->stride_y - w->top;
    for (int32_t column = 0; column < w->out_width; ++column, ++pixel)
        for (int32_t o = 0; o < conv->out_channels; o += BLOCK) {
            const int32_t n = least(BLOCK, conv->out_channels - o);
            float v[BLOCK];
            sign_products(conv, image, y0, column * w->stride_x - w->left,
                          (const uint8_t *)conv->weight + (size_t)o * filter, n, v);
            finish(v, n, pixel, o, conv->out_channels, out);
        }
}

void irbin_sign_conv2d(const irbin_conv *conv, const float *x, int32_t row_step,
                       int32_t column_step, int32_t channel_step, const irbin_out *out)
{
    const irbin_window *w = &conv->window;
    const strided image = {x, row_step, column_step, channel_step};
    for (int32_t row = 0; row < w->out_height; ++row)
        sign_conv2d_row(conv, &image, row, (size_t)row * (size_t)w->out_width, out);
}

/* Sums of n filters for one pixel of bytes; modulo 2^32 on the way, as the whole stays within. */
INLINE void byte_products_of(const irbin_byte_conv *conv, const uint8_t *image, int32_t y0,
                             int32_t x0, int32_t first, int32_t n, float *v)
{
    const irbin_window *w = &conv->window;
    const taps down = inside(y0, w->dilation_y, w->kernel_height, w->height);
    const taps right = inside(x0, w->dilation_x, w->kernel_width, w->width);
    uint32_t sums[BLOCK] = {0};
    for (int32_t r = down.first; r < down.last; ++r)
        for (int32_t s = right.first; s < right.last; ++s) {
            const size_t tap = (size_t)r * (size_t)w->kernel_width + (size_t)s;
            const size_t pixel = (size_t)(y0 + r * w->dilation_y) * (size_t)w->width +
                                 (size_t)(x0 + s * w->dilation_x);
            const uint8_t *from = image + pixel * (size_t)conv->in_channels;
            const int32_t *constants =
                conv->constants + tap * (size_t)conv->out_channels + first;
            const int16_t *weight = conv->weight + first +
                tap * (size_t)conv->in_channels * (size_t)conv->out_channels;
            for (int32_t i = 0; i < n; ++i) sums[i] += (uint32_t)constants[i];
            for (int32_t c = 0; c < conv->in_channels; ++c, weight += conv->out_channels)
                for (int32_t i = 0; i < n; ++i) sums[i] += (uint32_t)(from[c] * weight[i]);
        }
    for (int32_t i = 0; i < n; ++i) {
        const uint32_t size = sums[i] >> 31 ? 0u - sums[i] : sums[i];
        v[i] = sums[i] >> 31 ? -(float)(int32_t)size : (float)(int32_t)size;
    }
}

static void byte_products(const irbin_byte_conv *conv, const uint8_t *image, int32_t y0, int32_t x0,
                          int32_t first, int32_t n, float *v)
{
#if defined(IRBIN_SET)
    if (n == BLOCK) {
        byte_products_of(conv, image, y0, x0, first, BLOCK, v);
        return;
    }
#endif
    byte_products_of(conv, image, y0, x0, first, n, v);
}

static void byte_conv2d_row(const irbin_byte_conv *conv, const uint8_t *image, int32_t row,
                            size_t pixel, const irbin_out *out)
{
    const irbin_window *w = &conv->window;
    for (int32_t column = 0; column < w->out_width; ++column, ++pixel)
        for (int32_t o = 0; o < conv->out_channels; o += BLOCK) {
            const int32_t n = least(BLOCK, conv->out_channels - o);
            float v[BLOCK];
            byte_products(conv, image, row * w->stride_y - w->top, column * w->stride_x - w->left,
                          o, n, v);
            finish(v, n, pixel, o, conv->out_channels, out);
        }
}

void irbin_conv2d_bytes(const irbin_byte_conv *conv, const uint8_t *x, const irbin_out *out)
{
    const irbin_window *w = &conv->window;
    for (int32_t row = 0; row < w->out_height; ++row)
        byte_conv2d_row(conv, x, row, (size_t)row * (size_t)w->out_width, out);
}

static void depthwise_pixel(const irbin_window *w, int32_t channels, const float *weight,
                            const float *x, int32_t y0, int32_t x0, int32_t n, float *v)
{
    for (int32_t i = 0; i < n; ++i) v[i] = 0.0f;
    for (int32_t r = 0; r < w->kernel_height; ++r)
        for (int32_t s = 0; s < w->kernel_width; ++s, weight += channels) {
            const int32_t py = y0 + r * w->dilation_y, px = x0 + s * w->dilation_x;
            if (py >= 0 && py < w->height && px >= 0 && px < w->width) {
                const float *from =
                    x + ((size_t)py * (size_t)w->width + (size_t)px) * (size_t)channels;
                for (int32_t i = 0; i < n; ++i) v[i] = multiply_add(from[i], weight[i], v[i]);
            } else {
                for (int32_t i = 0; i < n; ++i) v[i] = multiply_add(0.0f, weight[i], v[i]);
            }
        }
}

void irbin_depthwise(const irbin_window *window, int32_t channels, const float *weight,
                     const float *x, const irbin_out *out)
{
    size_t pixel = 0;
    for (int32_t row = 0; row < window->out_height; ++row)
        for (int32_t column = 0; column < window->out_width; ++column, ++pixel)
            for (int32_t c = 0; c < channels; c += BLOCK) {
                const int32_t n = least(BLOCK, channels - c);
                float v[BLOCK];
                depthwise_pixel(window, channels, weight + c, x + c,
                                row * window->stride_y - window->top,
                                column * window->stride_x - window->left, n, v);
                finish(v, n, pixel, c, channels, out);
            }
}

/* ---- maximum ---- */

static void raise_to(float *v, const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; ++i) v[i] = v[i] > x[i] || v[i] != v[i] ? v[i] : x[i];
}

/* One row of results, from rows of an image of which row y lies at y % n_lines. */
static void pool_row(const irbin_window *w, int32_t channels, int32_t row, const float *lines,
                     int32_t n_lines, const irbin_out *out)
{
    const int32_t y0 = row * w->stride_y - w->top;
    const taps down = inside(y0, w->dilation_y, w->kernel_height, w->height);
    for (int32_t column = 0; column < w->out_width; ++column) {
        const int32_t x0 = column * w->stride_x - w->left;
        const taps right = inside(x0, w->dilation_x, w->kernel_width, w->width);
        for (int32_t c = 0; c < channels; c += BLOCK) {
            const int32_t n = least(BLOCK, channels - c);
            float v[BLOCK];
            for (int32_t i = 0; i < n; ++i) v[i] = -INFINITY;
            for (int32_t r = down.first; r < down.last; ++r) {
                const size_t line = (size_t)((y0 + r * w->dilation_y) % n_lines);
                for (int32_t s = right.first; s < right.last; ++s) {
                    const size_t at = line * (size_t)w->width + (size_t)(x0 + s * w->dilation_x);
                    raise_to(v, lines + at * (size_t)channels + c, n);
                }
            }
            finish(v, n, (size_t)row * (size_t)w->out_width + (size_t)column, c, channels, out);
        }
    }
}

void irbin_max_pool(const irbin_window *window, int32_t channels, const float *x,
                    const irbin_out *out)
{
    for (int32_t row = 0; row < window->out_height; ++row)
        pool_row(window, channels, row, x, window->height, out);
}

/* What makes the rows that are pooled. */
typedef struct maker {
    const irbin_conv *conv;           /* NULL: steps alone, or of bytes */
    const irbin_byte_conv *byte_conv; /* NULL: not of bytes */
    const uint8_t *bits;              /* or bytes; NULL: of floats */
    strided image;
    int32_t channels;
    bool has_signs; /* for weights, of floats */
} maker;

static void make_row(const maker *m, int32_t width, int32_t row, size_t pixel,
                     const irbin_out *made)
{
    if (m->byte_conv != NULL) {
        byte_conv2d_row(m->byte_conv, m->bits, row, pixel, made);
    } else if (m->conv != NULL && m->bits != NULL) {
        bconv2d_row(m->conv, m->bits, row, pixel, made);
    } else if (m->conv != NULL && m->has_signs) {
        sign_conv2d_row(m->conv, &m->image, row, pixel, made);
    } else if (m->conv != NULL) {
        conv2d_row(m->conv, &m->image, row, pixel, made);
    } else {
        const float *x = m->image.x + (size_t)row * (size_t)width * (size_t)m->channels;
        for (int32_t column = 0; column < width; ++column, ++pixel, x += m->channels)
            for (int32_t c = 0; c < m->channels; c += BLOCK) {
                const int32_t n = least(BLOCK, m->channels - c);
                float v[BLOCK];
                memcpy(v, x + c, (size_t)n * sizeof(float));
                finish(v, n, pixel, c, m->channels, made);
            }
    }
}

static void pool_made(const irbin_window *w, const maker *m, const irbin_out *made, float *lines,
                      const irbin_out *out)
{
    const int32_t n_lines = least((w->kernel_height - 1) * w->dilation_y + 1, w->height);
    irbin_out into = *made;
    into.y = lines;
    int32_t next = 0;
    for (int32_t row = 0; row < w->out_height; ++row) {
        const int32_t y0 = row * w->stride_y - w->top;
        const int32_t last = least(y0 + (w->kernel_height - 1) * w->dilation_y + 1, w->height);
        if (next < y0) next = y0; /* rows between windows */
        for (; next < last; ++next)
            make_row(m, w->width, next, (size_t)(next % n_lines) * (size_t)w->width, &into);
        pool_row(w, m->channels, row, lines, n_lines, out);
    }
}

void irbin_max_pool_bconv2d(const irbin_window *window, const irbin_conv *conv,
                            const irbin_out *made, const uint8_t *x, float *lines,
                            const irbin_out *out)
{
    const maker m = {conv, NULL, x, {NULL, 0, 0, 0}, conv->groups * conv->out_channels, false};
    pool_made(window, &m, made, lines, out);
}

void irbin_max_pool_conv2d(const irbin_window *window, const irbin_conv *conv,
                           const irbin_out *made, const float *x, int32_t row_step,
                           int32_t column_step, int32_t channel_step, float *lines,
                           const irbin_out *out)
{
    const maker m = {conv, NULL, NULL, {x, row_step, column_step, channel_step},
                     conv->groups * conv->out_channels, false};
    pool_made(window, &m, made, lines, out);
}

void irbin_max_pool_sign_conv2d(const irbin_window *window, const irbin_conv *conv,
                                const irbin_out *made, const float *x, int32_t row_step,
                                int32_t column_step, int32_t channel_step, float *lines,
                                const irbin_out *out)
{
    const maker m = {conv, NULL, NULL, {x, row_step, column_step, channel_step}, conv->out_channels,
                     true};
    pool_made(window, &m, made, lines, out);
}

void irbin_max_pool_conv2d_bytes(const irbin_window *window, const irbin_byte_conv *conv,
                                 const irbin_out *made, const uint8_t *x, float *lines,
                                 const irbin_out *out)
{
    const maker m = {NULL, conv, x, {NULL, 0, 0, 0}, conv->out_channels, false};
    pool_made(window, &m, made, lines, out);
}

void irbin_max_pool_steps(const irbin_window *window, int32_t channels, const irbin_out *made,
                          const float *x, float *lines, const irbin_out *out)
{
    const maker m = {NULL, NULL, NULL, {x, 0, 0, 0}, channels, false};
    pool_made(window, &m, made, lines, out);
}

/* ---- the others ---- */

static void mean(const irbin_span *row, const irbin_span *column, int32_t width, int32_t channels,
                 const float *x, int32_t n, float *v)
{
    const float divisor = (float)(row->divisor * column->divisor);
    for (int32_t i = 0; i < n; ++i) v[i] = 0.0f;
    for (int32_t r = row->begin; r < row->end; ++r)
        for (int32_t s = column->begin; s < column->end; ++s) {
            const float *from = x + ((size_t)r * (size_t)width + (size_t)s) * (size_t)channels;
            for (int32_t i = 0; i < n; ++i) v[i] += from[i];
        }
    for (int32_t i = 0; i < n; ++i) v[i] /= divisor;
}

void irbin_average(int32_t width, int32_t channels, const irbin_span *rows, int32_t n_rows,
                   const irbin_span *columns, int32_t n_columns, const float *x,
                   const irbin_out *out)
{
    size_t pixel = 0;
    for (int32_t r = 0; r < n_rows; ++r)
        for (int32_t s = 0; s < n_columns; ++s, ++pixel)
            for (int32_t c = 0; c < channels; c += BLOCK) {
                const int32_t n = least(BLOCK, channels - c);
                float v[BLOCK];
                mean(&rows[r], &columns[s], width, channels, x + c, n, v);
                finish(v, n, pixel, c, channels, out);
            }
}

/* Between two pixels of a row. */
static float between(const float *x, const irbin_between *column, int32_t channels)
{
    return column->of_first * x[(ptrdiff_t)column->first * channels] +
           column->of_second * x[(ptrdiff_t)column->second * channels];
}

void irbin_resize(int32_t width, int32_t channels, const irbin_between *rows, int32_t n_rows,
                  const irbin_between *columns, int32_t n_columns, const float *x,
                  const irbin_out *out)
{
    const ptrdiff_t of_row = (ptrdiff_t)width * channels;
    size_t pixel = 0;
    for (const irbin_between *row = rows; row < rows + n_rows; ++row)
        for (const irbin_between *column = columns; column < columns + n_columns; ++column, ++pixel)
            for (int32_t c = 0; c < channels; c += BLOCK) {
                const float *first = x + row->first * of_row + c;
                const float *second = x + row->second * of_row + c;
                const int32_t n = least(BLOCK, channels - c);
                float v[BLOCK];
                for (int32_t i = 0; i < n; ++i)
                    v[i] = row->of_first * between(first + i, column, channels) +
                           row->of_second * between(second + i, column, channels);
                finish(v, n, pixel, c, channels, out);
            }
}

/* ---- norms ---- */

static float added_in_halves(float *sums) /* of 16 */
{
    for (int32_t half = 8; half > 0; half /= 2)
        for (int32_t i = 0; i < half; ++i) sums[i] += sums[i + half];
    return sums[0];
}

/* Of a row, less a number, or of its squares: number i goes to partial sum i mod 16. */
static float sum_of_row(const float *x, int32_t n, float less, bool of_squares)
{
    float sums[16] = {0.0f};
    for (int32_t i = 0; i < n; ++i) {
        const float apart = of_squares ? x[i] - less : x[i];
        const float term = of_squares ? apart * apart : apart;
        sums[i % 16] += term;
    }
    return added_in_halves(sums);
}

static void norm_of_rows(int32_t rows, int32_t channels, float epsilon, bool is_centered,
                         const float *x, const irbin_out *out)
{
    for (int32_t row = 0; row < rows; ++row, x += channels) {
        float mean = 0.0f;
        if (is_centered) mean = sum_of_row(x, channels, 0.0f, false) / (float)channels;
        const float variance = sum_of_row(x, channels, mean, true) / (float)channels;
        const float factor = 1.0f / root(variance + epsilon);
        for (int32_t c = 0; c < channels; c += BLOCK) {
            const int32_t n = least(BLOCK, channels - c);
            float v[BLOCK];
            for (int32_t i = 0; i < n; ++i) v[i] = (x[c + i] - mean) * factor;
            finish(v, n, (size_t)row, c, channels, out);
        }
    }
}

void irbin_layer_norm(int32_t rows, int32_t channels, float epsilon, const float *x,
                      const irbin_out *out)
{
    norm_of_rows(rows, channels, epsilon, true, x, out);
}

void irbin_rms_norm(int32_t rows, int32_t channels, float epsilon, const float *x,
                    const irbin_out *out)
{
    norm_of_rows(rows, channels, epsilon, false, x, out);
}

/* Of a channel, or of its squares, less a number: columns within their row, then the rows. */
static float sum_of_channel(const float *x, int32_t height, int32_t width, int32_t channels,
                            float less, bool of_squares)
{
    float sum = 0.0f;
    for (int32_t row = 0; row < height; ++row) {
        float line = 0.0f;
        for (int32_t column = 0; column < width; ++column, x += channels) {
            const float apart = of_squares ? *x - less : *x;
            const float term = of_squares ? apart * apart : apart;
            line += term;
        }
        sum += line;
    }
    return sum;
}

void irbin_group_norm(int32_t height, int32_t width, int32_t channels, int32_t groups,
                      float epsilon, const float *x, float *work, const irbin_out *out)
{
    const int32_t each = channels / groups;
    const float count = (float)(height * width * each);
    for (int32_t g = 0; g < groups; ++g) {
        float sum = 0.0f, squares = 0.0f;
        for (int32_t c = g * each; c < (g + 1) * each; ++c)
            sum += sum_of_channel(x + c, height, width, channels, 0.0f, false);
        work[2 * g] = sum / count;
        for (int32_t c = g * each; c < (g + 1) * each; ++c)
            squares += sum_of_channel(x + c, height, width, channels, work[2 * g], true);
        work[2 * g + 1] = 1.0f / root(squares / count + epsilon);
    }
    for (int32_t pixel = 0; pixel < height * width; ++pixel, x += channels)
        for (int32_t c = 0; c < channels; c += BLOCK) {
            const int32_t n = least(BLOCK, channels - c);
            float v[BLOCK];
            for (int32_t i = 0; i < n; ++i) {
                const float *of_group = work + 2 * ((c + i) / each);
                v[i] = (x[c + i] - of_group[0]) * of_group[1];
            }
            finish(v, n, (size_t)pixel, c, channels, out);
        }
}

/* ---- attention ---- */

/* Products of a query with n keys that lie `row` apart, numbers in order. */
static void products_of_keys(const float *query, const float *key, int32_t depth, int32_t row,
                             int32_t n, float *v)
{
    for (int32_t i = 0; i < n; ++i) v[i] = 0.0f;
    for (int32_t d = 0; d < depth; ++d)
        for (int32_t i = 0; i < n; ++i)
            v[i] = multiply_add(query[d], key[(ptrdiff_t)i * row + d], v[i]);
}

/* Numbers become e to the power of what they lie below the largest; their sum. NaN makes all NaN. */
static float soften(float *x, int32_t n)
{
    float largest = -INFINITY;
    for (int32_t i = 0; i < n; ++i)
        if (x[i] > largest || x[i] != x[i]) largest = x[i]; /* nothing is above NaN */
    for (int32_t i = 0; i < n; ++i) x[i] = exp_of(x[i] - largest);
    return sum_of_row(x, n, 0.0f, false);
}

/* One query of one head: a mean of values. */
static void attend(const irbin_heads *a, const float *query, const float *key, const float *value,
                   const float *mask, float *weights, float *to)
{
    for (int32_t k = 0; k < a->keys; k += BLOCK)
        products_of_keys(query, key + (ptrdiff_t)k * a->key.row, a->depth, a->key.row,
                         least(BLOCK, a->keys - k), weights + k);
    for (int32_t k = 0; k < a->keys; ++k) {
        weights[k] *= a->scale;
        if (mask != NULL) weights[k] += mask[k];
    }
    const float total = soften(weights, a->keys);
    for (int32_t c = 0; c < a->width; c += BLOCK) {
        const int32_t n = least(BLOCK, a->width - c);
        float v[BLOCK] = {0.0f};
        for (int32_t k = 0; k < a->keys; ++k) {
            const float *from = value + (ptrdiff_t)k * a->value.row + c;
            for (int32_t i = 0; i < n; ++i) v[i] = multiply_add(weights[k], from[i], v[i]);
        }
        for (int32_t i = 0; i < n; ++i) to[c + i] = (v[i] + 0.0f) / total;
    }
}

void irbin_attention(const irbin_heads *heads, const float *queries, const float *keys,
                     const float *values, float *work, const irbin_out *out)
{
    const int32_t channels = heads->heads * heads->width;
    const size_t of_mask = (size_t)heads->queries * (size_t)heads->keys;
    for (int32_t q = 0; q < heads->queries; ++q) {
        for (int32_t h = 0; h < heads->heads; ++h) {
            const float *mask = NULL;
            if (heads->mask != NULL)
                mask = heads->mask + (size_t)(h % heads->mask_heads) * of_mask +
                       (size_t)q * (size_t)heads->keys;
            attend(heads, queries + heads->query.offset + (ptrdiff_t)h * heads->query.head +
                       (ptrdiff_t)q * heads->query.row,
                   keys + heads->key.offset + (ptrdiff_t)h * heads->key.head,
                   values + heads->value.offset + (ptrdiff_t)h * heads->value.head, mask,
                   work + channels, work + h * heads->width);
        }
        for (int32_t c = 0; c < channels; c += BLOCK) {
            const int32_t n = least(BLOCK, channels - c);
            float v[BLOCK];
            memcpy(v, work + c, (size_t)n * sizeof(float));
            finish(v, n, (size_t)q, c, channels, out);
        }
    }
}

/* ---- boxes, several images ---- */

/* Where place i of a box's axis is read; -1: beyond the image. */
static int32_t box_source(const irbin_box *axis, int32_t i)
{
    const int32_t within = i - axis->before;
    return within >= 0 && within < axis->length ? axis->start + within * axis->step : -1;
}

void irbin_crop(const irbin_box *y, const irbin_box *x, const irbin_box *channels, float value,
                const float *image, const irbin_out *out)
{
    size_t pixel = 0;
    for (int32_t i = 0; i < y->size; ++i)
        for (int32_t j = 0; j < x->size; ++j, ++pixel) {
            const int32_t row = box_source(y, i), column = box_source(x, j);
            const bool is_there = row >= 0 && column >= 0;
            const float *from = image;
            if (is_there)
                from += ((size_t)row * (size_t)x->source + (size_t)column) *
                        (size_t)channels->source;
            for (int32_t c = 0; c < channels->size; c += BLOCK) {
                const int32_t n = least(BLOCK, channels->size - c);
                float v[BLOCK];
                for (int32_t k = 0; k < n; ++k) {
                    const int32_t channel = box_source(channels, c + k);
                    v[k] = is_there && channel >= 0 ? from[channel] : value;
                }
                finish(v, n, pixel, c, channels->size, out);
            }
        }
}

void irbin_join(int32_t pixels, const float *const *images, const int32_t *channels, int32_t n,
                const irbin_out *out)
{
    int32_t total = 0;
    for (int32_t k = 0; k < n; ++k) total += channels[k];
    for (int32_t pixel = 0; pixel < pixels; ++pixel) {
        int32_t image = 0, channel = 0;
        for (int32_t c = 0; c < total; c += BLOCK) {
            const int32_t here = least(BLOCK, total - c);
            float v[BLOCK];
            for (int32_t i = 0; i < here; ++i, ++channel) {
                if (channel == channels[image]) {
                    ++image;
                    channel = 0;
                }
                v[i] = images[image][(size_t)pixel * (size_t)channels[image] + (size_t)channel];
            }
            finish(v, here, (size_t)pixel, c, total, out);
        }
    }
}

void irbin_channel_mean(int32_t pixels, int32_t channels, int32_t count, const float *x,
                        const irbin_out *out)
{
    for (int32_t p = 0; p < pixels; ++p)
        for (int32_t c = 0; c < channels; c += BLOCK) {
            const int32_t n = least(BLOCK, channels - c);
            float v[BLOCK];
            for (int32_t i = 0; i < n; ++i) {
                float total = 0.0f;
                for (int32_t k = 0; k < count; ++k) total += *x++;
                v[i] = total / (float)count;
            }
            finish(v, n, (size_t)p, c, channels, out);
        }
}

static void meet(int32_t pixels, int32_t channels, irbin_meeting meeting, const float *x,
                 const float *other, int32_t stride, const irbin_out *out)
{
    for (int32_t p = 0; p < pixels; ++p, x += channels, other += stride)
        for (int32_t c = 0; c < channels; c += BLOCK) {
            const int32_t n = least(BLOCK, channels - c);
            float v[BLOCK];
            for (int32_t i = 0; i < n; ++i) {
                const float a = x[c + i], b = other[c + i];
                v[i] = meeting == IRBIN_TIMES ? a * b : meeting == IRBIN_PLUS ? a + b : a - b;
            }
            finish(v, n, (size_t)p, c, channels, out);
        }
}

void irbin_gate(int32_t pixels, int32_t channels, irbin_meeting meeting, const float *x,
                const float *pixel, const irbin_out *out)
{
    meet(pixels, channels, meeting, x, pixel, 0, out);
}

void irbin_pair(int32_t pixels, int32_t channels, irbin_meeting meeting, const float *x,
                const float *other, const irbin_out *out)
{
    meet(pixels, channels, meeting, x, other, channels, out);
}

void irbin_rows(int32_t rows, int32_t channels, const float *x, const irbin_out *out)
{
    for (int32_t p = 0; p < rows; ++p, x += channels)
        for (int32_t c = 0; c < channels; c += BLOCK) {
            const int32_t n = least(BLOCK, channels - c);
            float v[BLOCK];
            memcpy(v, x + c, (size_t)n * sizeof(float));
            finish(v, n, (size_t)p, c, channels, out);
        }
}

void irbin_bitpack(int32_t pixels, int32_t groups, int32_t channels, const float *x, uint8_t *bits)
{
    for (int32_t p = 0; p < pixels * groups; ++p, x += channels)
        for (int32_t c = 0; c < channels; c += BLOCK) {
            const int32_t n = least(BLOCK, channels - c);
            write_bits(negative(x + c, n), n, bits);
            bits += (n + 7) / 8;
        }
}

/* ---- any shapes ---- */

/* Where a walk stands. */
typedef struct place {
    int32_t at[IRBIN_AXES];
    ptrdiff_t from, other, to;
} place;

/* To the next row of the last axis; false behind the last one. */
static bool advance(const irbin_walk *walk, place *p)
{
    for (int32_t axis = walk->axes - 2; axis >= 0; --axis) {
        const bool is_next = ++p->at[axis] < walk->size[axis];
        const ptrdiff_t by = is_next ? 1 : 1 - walk->size[axis];
        p->from += by * walk->from[axis];
        p->other += by * walk->other[axis];
        p->to += by * walk->to[axis];
        if (is_next) return true;
        p->at[axis] = 0;
    }
    return false;
}

void irbin_copy(const irbin_walk *walk, const float *x, float *y)
{
    place p = {{0}, 0, 0, 0};
    const int32_t last = walk->axes - 1, n = walk->size[last];
    const ptrdiff_t from = walk->from[last], to = walk->to[last];
    do {
        if (from == 1 && to == 1)
            memcpy(y + p.to, x + p.from, (size_t)n * sizeof(float));
        else
            for (int32_t i = 0; i < n; ++i) y[p.to + i * to] = x[p.from + i * from];
    } while (advance(walk, &p));
}

static float met(irbin_operation operation, float a, float b)
{
    switch (operation) {
    case IRBIN_OF_PLUS: return a + b;
    case IRBIN_OF_MINUS: return a - b;
    case IRBIN_OF_TIMES: return a * b;
    case IRBIN_OF_OVER: return a / b;
    case IRBIN_OF_MAXIMUM: return a != a || (a > b && b == b) ? a : b;
    case IRBIN_OF_MINIMUM: return a != a || (a < b && b == b) ? a : b;
    case IRBIN_OF_NEGATIVE: return -a;
    case IRBIN_OF_ABSOLUTE: return fabsf(a);
    case IRBIN_OF_SQUARE: return a * a;
    case IRBIN_OF_RECIPROCAL: return 1.0f / a;
    case IRBIN_OF_ROOT: return root(a);
    case IRBIN_OF_INVERSE_ROOT: return 1.0f / root(a);
    case IRBIN_OF_POWER: return exp_of(a);
    case IRBIN_OF_LESS: return a < b ? 1.0f : 0.0f;
    case IRBIN_OF_LESS_OR_EQUAL: return a <= b ? 1.0f : 0.0f;
    case IRBIN_OF_GREATER: return a > b ? 1.0f : 0.0f;
    case IRBIN_OF_GREATER_OR_EQUAL: return a >= b ? 1.0f : 0.0f;
    case IRBIN_OF_EQUAL: return a == b ? 1.0f : 0.0f;
    case IRBIN_OF_NOT_EQUAL: return a != b ? 1.0f : 0.0f;
    case IRBIN_OF_WHERE: return b;
    }
    return a;
}

void irbin_meet(const irbin_walk *walk, irbin_operation operation, float factor, const float *a,
                const float *b, float *y)
{
    place p = {{0}, 0, 0, 0};
    const int32_t last = walk->axes - 1;
    do {
        const float *x = a + p.from, *other = b + p.other;
        float *to = y + p.to;
        for (int32_t i = 0; i < walk->size[last]; ++i) {
            const float one = x[(ptrdiff_t)i * walk->from[last]];
            if (operation == IRBIN_OF_WHERE && one == 0.0f) continue;
            to[(ptrdiff_t)i * walk->to[last]] =
                met(operation, one, other[(ptrdiff_t)i * walk->other[last]] * factor);
        }
    } while (advance(walk, &p));
}

/* Of all terms, or of the squares of what they have beside a number. */
static float folded(const irbin_walk *terms, irbin_folding folding, bool of_squares, float less,
                    const float *x)
{
    const int32_t last = terms->axes - 1;
    place p = {{0}, 0, 0, 0};
    float total = 0.0f;
    bool is_first = true;
    do {
        for (int32_t i = 0; i < terms->size[last]; ++i, is_first = false) {
            const float one = x[p.from + (ptrdiff_t)i * terms->from[last]];
            const float apart = one - less, term = of_squares ? apart * apart : one;
            if (is_first)
                total = term;
            else if (folding == IRBIN_FOLD_LARGEST)
                total = met(IRBIN_OF_MAXIMUM, total, term);
            else if (folding == IRBIN_FOLD_SMALLEST)
                total = met(IRBIN_OF_MINIMUM, total, term);
            else
                total += term;
        }
    } while (advance(terms, &p));
    return total;
}

void irbin_fold(const irbin_walk *walk, const irbin_walk *terms, irbin_folding folding,
                float divisor, const float *x, float *y)
{
    const int32_t last = walk->axes - 1;
    const bool is_spread = folding == IRBIN_FOLD_VARIANCE || folding == IRBIN_FOLD_DEVIATION;
    const bool of_squares = is_spread || folding == IRBIN_FOLD_NORM;
    int32_t n = 1;
    for (int32_t axis = 0; axis < terms->axes; ++axis) n *= terms->size[axis];
    place p = {{0}, 0, 0, 0};
    do {
        for (int32_t i = 0; i < walk->size[last]; ++i) {
            const float *from = x + p.from + (ptrdiff_t)i * walk->from[last];
            float less = 0.0f;
            if (is_spread) less = folded(terms, IRBIN_FOLD_SUM, false, 0.0f, from) / (float)n;
            float made = folded(terms, folding, of_squares, less, from);
            if (is_spread || folding == IRBIN_FOLD_MEAN) made /= divisor;
            if (folding == IRBIN_FOLD_NORM || folding == IRBIN_FOLD_DEVIATION) made = root(made);
            y[p.to + (ptrdiff_t)i * walk->to[last]] = made;
        }
    } while (advance(walk, &p));
}

/* Of one pair of matrices. */
static void multiply(const irbin_product *m, const float *a, const float *b, float *y)
{
    for (int32_t row = 0; row < m->rows; ++row, a += m->a_row, y += m->to_row)
        for (int32_t c = 0; c < m->columns; c += BLOCK) {
            const int32_t n = least(BLOCK, m->columns - c);
            float v[BLOCK] = {0.0f};
            for (int32_t k = 0; k < m->depth; ++k) {
                const float factor = a[(ptrdiff_t)k * m->a_depth];
                const float *from = b + (ptrdiff_t)k * m->b_depth + (ptrdiff_t)c * m->b_column;
                for (int32_t i = 0; i < n; ++i)
                    v[i] = multiply_add(factor, from[(ptrdiff_t)i * m->b_column], v[i]);
            }
            for (int32_t i = 0; i < n; ++i) y[(ptrdiff_t)(c + i) * m->to_column] = v[i];
        }
}

void irbin_matmul(const irbin_product *product, const float *a, const float *b, float *y)
{
    const irbin_walk *walk = &product->walk;
    const int32_t last = walk->axes - 1;
    place p = {{0}, 0, 0, 0};
    do {
        for (int32_t i = 0; i < walk->size[last]; ++i)
            multiply(product, a + p.from + (ptrdiff_t)i * walk->from[last],
                     b + p.other + (ptrdiff_t)i * walk->other[last],
                     y + p.to + (ptrdiff_t)i * walk->to[last]);
    } while (advance(walk, &p));
}

static void soften_apart(const float *x, ptrdiff_t x_step, float *y, ptrdiff_t y_step, int32_t n)
{
    float largest = -INFINITY, sums[16] = {0.0f};
    for (int32_t i = 0; i < n; ++i)
        if (x[i * x_step] > largest || x[i * x_step] != x[i * x_step]) largest = x[i * x_step];
    for (int32_t i = 0; i < n; ++i) {
        y[i * y_step] = exp_of(x[i * x_step] - largest);
        sums[i % 16] += y[i * y_step];
    }
    const float total = added_in_halves(sums);
    for (int32_t i = 0; i < n; ++i) y[i * y_step] /= total;
}

void irbin_softmax(const irbin_walk *walk, int32_t n, int32_t x_step, int32_t y_step,
                   const float *x, float *y)
{
    const int32_t last = walk->axes - 1;
    place p = {{0}, 0, 0, 0};
    do {
        for (int32_t i = 0; i < walk->size[last]; ++i)
            soften_apart(x + p.from + (ptrdiff_t)i * walk->from[last], x_step,
                         y + p.to + (ptrdiff_t)i * walk->to[last], y_step, n);
    } while (advance(walk, &p));
}

#if !defined(IRBIN_SET)
uint32_t irbin_crc32(uint32_t crc, const void *bytes, size_t n_bytes)
{
    static const uint32_t nibbles[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    const uint8_t *byte = (const uint8_t *)bytes;
    crc = ~crc;
    for (size_t i = 0; i < n_bytes; ++i) {
        crc ^= byte[i];
        crc = nibbles[crc & 15] ^ crc >> 4;
        crc = nibbles[crc & 15] ^ crc >> 4;
    }
    return ~crc;
}

/* The upper bits of a linear congruential generator (Knuth, TAOCP 2, 3.3.4). */
static uint8_t next_byte(uint32_t *state)
{
    *state = *state * UINT32_C(1664525) + UINT32_C(1013904223);
    return (uint8_t)(*state >> 24);
}

void irbin_test_bytes(uint8_t *x, size_t n)
{
    uint32_t state = 1;
    for (size_t i = 0; i < n; ++i) x[i] = next_byte(&state);
}

void irbin_test_image(float *x, size_t n)
{
    uint32_t state = 1;
    for (size_t i = 0; i < n; ++i) x[i] = (float)((int32_t)next_byte(&state) - 128) / 64.0f;
}
#endif
