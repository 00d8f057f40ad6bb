/* Included by irbin_nn.c where it is compiled for AVX2. */
#define HAS_FMA
#define HAS_LANES
#define VECTOR_BYTES 32
#define NEGATIVE_HALF(v) _mm256_movemask_ps(_mm256_cmp_ps((__m256)(v), _mm256_setzero_ps(), _CMP_LT_OQ))
#define NEGATIVE(v) ((uint32_t)(NEGATIVE_HALF((v)[0]) | NEGATIVE_HALF((v)[1]) << 8))
enum { TILE = 8, WORDS = 144 };

/* ---- sixteen floats ---- */

typedef struct lanes {
    __m256 a, b;
} lanes;
enum { LANES_AT_ONCE = 4, AT_ONCE = 4 };

static inline lanes lanes_zero(void)
{
    const lanes v = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    return v;
}

static inline lanes lanes_of(const float *from)
{
    const lanes v = {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
    return v;
}

static inline void lanes_to(float *to, lanes v)
{
    _mm256_storeu_ps(to, v.a);
    _mm256_storeu_ps(to + 8, v.b);
}

static inline lanes lanes_multiply_add(float factor, lanes w, lanes sum)
{
    const __m256 factors = _mm256_set1_ps(factor);
    const lanes v = {_mm256_fmadd_ps(factors, w.a, sum.a), _mm256_fmadd_ps(factors, w.b, sum.b)};
    return v;
}

/* ---- masks of a block ---- */

#define HAS_MASKS

static uint32_t below(const int32_t *dots, const int32_t *lower, int32_t n)
{
    uint32_t mask = 0;
    int32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i dot = _mm256_loadu_si256((const __m256i *)(const void *)(dots + i));
        const __m256i bound = _mm256_loadu_si256((const __m256i *)(const void *)(lower + i));
        const __m256 is_below = _mm256_castsi256_ps(_mm256_cmpgt_epi32(bound, dot));
        mask |= (uint32_t)_mm256_movemask_ps(is_below) << i;
    }
    for (; i < n; ++i) mask |= (uint32_t)(dots[i] < lower[i]) << i;
    return mask;
}

static uint32_t negative(const float *v, int32_t n)
{
    uint32_t mask = 0;
    int32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 less = _mm256_cmp_ps(_mm256_loadu_ps(v + i), _mm256_setzero_ps(), _CMP_LT_OQ);
        mask |= (uint32_t)_mm256_movemask_ps(less) << i;
    }
    for (; i < n; ++i) mask |= (uint32_t)(v[i] < 0.0f) << i;
    return mask;
}
