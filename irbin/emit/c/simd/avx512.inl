/* Included by irbin_nn.c where it is compiled for AVX-512. */
#define HAS_FMA
#define HAS_POPCOUNT
#define HAS_LANES
#define VECTOR_BYTES 64
#define NEGATIVE(v) _mm512_cmp_ps_mask((__m512)(v)[0], _mm512_setzero_ps(), _CMP_LT_OQ)
#define LESS(a, b) _mm512_cmplt_epi32_mask((__m512i)(a), (__m512i)(b))
enum { TILE = 8, WORDS = 144 };

/* ---- sixteen floats ---- */

typedef __m512 lanes;
enum { LANES_AT_ONCE = 8, AT_ONCE = 8 };

static inline lanes lanes_zero(void)
{
    return _mm512_setzero_ps();
}

static inline lanes lanes_of(const float *from)
{
    return _mm512_loadu_ps(from);
}

static inline void lanes_to(float *to, lanes v)
{
    _mm512_storeu_ps(to, v);
}

static inline lanes lanes_multiply_add(float factor, lanes w, lanes sum)
{
    return _mm512_fmadd_ps(_mm512_set1_ps(factor), w, sum);
}

/* ---- masks of a block ---- */

#define HAS_MASKS

static uint32_t below(const int32_t *dots, const int32_t *lower, int32_t n)
{
    const __mmask16 part = (__mmask16)((1u << n) - 1u);
    return _mm512_mask_cmplt_epi32_mask(part, _mm512_maskz_loadu_epi32(part, dots),
                                        _mm512_maskz_loadu_epi32(part, lower));
}

static uint32_t negative(const float *v, int32_t n)
{
    const __mmask16 part = (__mmask16)((1u << n) - 1u);
    return _mm512_mask_cmp_ps_mask(part, _mm512_maskz_loadu_ps(part, v), _mm512_setzero_ps(),
                                   _CMP_LT_OQ);
}

/* ---- bits that differ ---- */

#define HAS_COUNT_BLOCK

#define HAS_COUNT_VECTORS

/* Of `pixels` windows, a number that the compiler knows; into registers. */
#define count_vectors(x, mask, w, words, pixels, counts) \
    count_lanes(x, mask, w, words, pixels, (__m512i *)(void *)(counts))

static inline __attribute__((always_inline)) void
count_lanes(const uint32_t *x, const uint32_t *mask, const uint32_t *w, int32_t words,
            int32_t pixels, __m512i *counts)
{
    _Pragma("GCC unroll 8") for (int32_t p = 0; p < pixels; ++p) counts[p] = _mm512_setzero_si512();
    for (int32_t k = 0; k < words; ++k) {
        const __m512i filters = _mm512_loadu_si512(w + k * 16);
        _Pragma("GCC unroll 8") for (int32_t p = 0; p < pixels; ++p) {
            __m512i bits = _mm512_xor_si512(filters, _mm512_set1_epi32((int32_t)x[p * WORDS + k]));
            if (mask != NULL)
                bits = _mm512_and_si512(bits, _mm512_set1_epi32((int32_t)mask[p * WORDS + k]));
            counts[p] = _mm512_add_epi32(counts[p], _mm512_popcnt_epi32(bits));
        }
    }
}

#define count_outside(mask, w, words) ((choice)lanes_outside(mask, w, words))

/* Bits of filters that the mask leaves out. */
static inline __m512i lanes_outside(const uint32_t *mask, const uint32_t *w, int32_t words)
{
    __m512i counts = _mm512_setzero_si512();
    for (int32_t k = 0; k < words; ++k) {
        const __m512i kept = _mm512_set1_epi32((int32_t)mask[k]);
        const __m512i bits = _mm512_andnot_si512(kept, _mm512_loadu_si512(w + k * 16));
        counts = _mm512_add_epi32(counts, _mm512_popcnt_epi32(bits));
    }
    return counts;
}

/* Added to what lies in memory. */
static inline __attribute__((always_inline)) void
count_windows(const uint32_t *x, const uint32_t *mask, const uint32_t *w, int32_t words,
              int32_t pixels, int32_t *differ)
{
    __m512i counts[8];
    for (int32_t p = 0; p < pixels; ++p) counts[p] = _mm512_loadu_si512(differ + p * 16);
    for (int32_t k = 0; k < words; ++k) {
        const __m512i filters = _mm512_loadu_si512(w + k * 16);
        for (int32_t p = 0; p < pixels; ++p) {
            __m512i bits = _mm512_xor_si512(filters, _mm512_set1_epi32((int32_t)x[p * WORDS + k]));
            if (mask != NULL)
                bits = _mm512_and_si512(bits, _mm512_set1_epi32((int32_t)mask[p * WORDS + k]));
            counts[p] = _mm512_add_epi32(counts[p], _mm512_popcnt_epi32(bits));
        }
    }
    for (int32_t p = 0; p < pixels; ++p) _mm512_storeu_si512(differ + p * 16, counts[p]);
}

static void count_block(const uint32_t *x, const uint32_t *mask, const uint32_t *w, int32_t words,
                        int32_t pixels, int32_t *differ)
{
    if (pixels == 8 && mask == NULL) {
        count_windows(x, NULL, w, words, 8, differ);
    } else if (pixels == 8) {
        count_windows(x, mask, w, words, 8, differ);
    } else {
        for (; pixels >= 4; pixels -= 4, x += 4 * WORDS, differ += 64) {
            if (mask == NULL)
                count_windows(x, NULL, w, words, 4, differ);
            else
                count_windows(x, mask, w, words, 4, differ);
            mask = mask == NULL ? NULL : mask + 4 * WORDS;
        }
        for (; pixels > 0; --pixels, x += WORDS, differ += 16) {
            count_windows(x, mask, w, words, 1, differ);
            mask = mask == NULL ? NULL : mask + WORDS;
        }
    }
}
