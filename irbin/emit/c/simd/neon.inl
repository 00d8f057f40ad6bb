/* Included by irbin_nn.c where it is compiled for NEON. */
enum { TILE = 8, WORDS = 144 };

/* ---- sixteen floats: on 64-bit ARM, where vectors round as IEEE 754 says ---- */

#if defined(__aarch64__)
#define HAS_LANES
#define VECTOR_BYTES 16
#define NEGATIVE(v) negative((const float *)(const void *)(v), BLOCK)
typedef struct lanes {
    float32x4_t part[4];
} lanes;
enum { LANES_AT_ONCE = 4, AT_ONCE = 4 };

static inline lanes lanes_zero(void)
{
    lanes v;
    for (int32_t i = 0; i < 4; ++i) v.part[i] = vdupq_n_f32(0.0f);
    return v;
}

static inline lanes lanes_of(const float *from)
{
    lanes v;
    for (int32_t i = 0; i < 4; ++i) v.part[i] = vld1q_f32(from + 4 * i);
    return v;
}

static inline void lanes_to(float *to, lanes v)
{
    for (int32_t i = 0; i < 4; ++i) vst1q_f32(to + 4 * i, v.part[i]);
}

static inline lanes lanes_multiply_add(float factor, lanes w, lanes sum)
{
    for (int32_t i = 0; i < 4; ++i) sum.part[i] = vfmaq_n_f32(sum.part[i], w.part[i], factor);
    return sum;
}

/* ---- masks of a block ---- */

#define HAS_MASKS

/* Bit i of four comparisons, which are all ones or zeros. */
static inline uint32_t bits_of_four(uint32x4_t is_so)
{
    static const uint32_t places[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(is_so, vld1q_u32(places)));
}

static uint32_t below(const int32_t *dots, const int32_t *lower, int32_t n)
{
    uint32_t mask = 0;
    int32_t i = 0;
    for (; i + 4 <= n; i += 4)
        mask |= bits_of_four(vcltq_s32(vld1q_s32(dots + i), vld1q_s32(lower + i))) << i;
    for (; i < n; ++i) mask |= (uint32_t)(dots[i] < lower[i]) << i;
    return mask;
}

static uint32_t negative(const float *v, int32_t n)
{
    uint32_t mask = 0;
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) mask |= bits_of_four(vcltzq_f32(vld1q_f32(v + i))) << i;
    for (; i < n; ++i) mask |= (uint32_t)(v[i] < 0.0f) << i;
    return mask;
}
#endif

/* ---- bits that differ ---- */

#define HAS_COUNT_BLOCK
enum { COUNTED_BYTES = 31 }; /* words whose bits a byte counts */

static inline uint8x16_t differing_four(uint32_t x, const uint32_t *mask, const uint32_t *w)
{
    uint32x4_t bits = veorq_u32(vdupq_n_u32(x), vld1q_u32(w));
    if (mask != NULL) bits = vandq_u32(bits, vdupq_n_u32(*mask));
    return vcntq_u8(vreinterpretq_u8_u32(bits));
}

static inline __attribute__((always_inline)) void
count_window(const uint32_t *x, const uint32_t *mask, const uint32_t *w, int32_t words,
             int32_t *differ)
{
    for (int32_t begin = 0; begin < words; begin += COUNTED_BYTES) {
        uint8x16_t counts[4];
        for (int32_t i = 0; i < 4; ++i) counts[i] = vdupq_n_u8(0);
        const int32_t left = words - begin, end = left < COUNTED_BYTES ? words : begin + COUNTED_BYTES;
        for (int32_t k = begin; k < end; ++k)
            for (int32_t i = 0; i < 4; ++i)
                counts[i] = vaddq_u8(counts[i], differing_four(x[k], mask == NULL ? NULL : mask + k,
                                                               w + k * 16 + 4 * i));
        for (int32_t i = 0; i < 4; ++i) {
            const uint32x4_t total = vpaddlq_u16(vpaddlq_u8(counts[i]));
            int32_t *to = differ + 4 * i;
            vst1q_s32(to, vaddq_s32(vld1q_s32(to), vreinterpretq_s32_u32(total)));
        }
    }
}

static void count_block(const uint32_t *x, const uint32_t *mask, const uint32_t *w, int32_t words,
                        int32_t pixels, int32_t *differ)
{
    for (int32_t p = 0; p < pixels; ++p, x += WORDS, differ += 16) {
        if (mask == NULL)
            count_window(x, NULL, w, words, differ);
        else
            count_window(x, mask + p * WORDS, w, words, differ);
    }
}
