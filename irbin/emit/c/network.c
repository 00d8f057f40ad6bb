/* @SPEC@: one call a node. Written by irbin @VERSION@. */
#include "@NAME@.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "@NAME@_weights.h"@INCLUDE_SIMD@

#define FLOATS(offset) ((float *)(void *)(memory + (offset)))
#define BITS(offset) (memory + (offset))

#ifdef IRBIN_TRACE /* a test looks at every result */
void irbin_trace(const void *bytes, size_t n_bytes);
#define TRACE(bytes, n_bytes) irbin_trace(bytes, n_bytes)
#else
#define TRACE(bytes, n_bytes) ((void)0)
#endif

const char *const @NAME@_classes[] = {
@CLASSES@    NULL,
};

const char *@NAME@_version(void)
{
    return @TOLD@;
}

static void compute(const @TYPE@ *image, float *logits, uint8_t *memory)
{
@CALLS@
@ANSWER@
}

static irbin_status check_arena(const void *arena, size_t arena_bytes, size_t wanted)
{
    if (arena == NULL) return IRBIN_NULL_POINTER;
    if (arena_bytes < wanted) return IRBIN_SMALL_ARENA;
    if ((uintptr_t)arena % @UPPER@_ARENA_ALIGNMENT != 0) return IRBIN_MISALIGNED_ARENA;
    return IRBIN_OK;
}

irbin_status @RUN@(const @TYPE@ *@PIXELS@, float *logits, void *arena, size_t arena_bytes)
{
    if (@PIXELS@ == NULL || logits == NULL) return IRBIN_NULL_POINTER;
    const irbin_status status = check_arena(arena, arena_bytes, @UPPER@_ARENA_BYTES);
    if (status == IRBIN_OK) compute(@PIXELS@, logits, arena);
    return status;
}

static bool weights_are_whole(void)
{
    uint32_t crc = 0;
@CHECKED@
    return crc == @CRC@;
}

irbin_status @NAME@_self_test(void *arena, size_t arena_bytes)
{
    const irbin_status status = check_arena(arena, arena_bytes, @UPPER@_SELF_TEST_BYTES);
    if (status != IRBIN_OK) return status;
    if (!weights_are_whole()) return IRBIN_DAMAGED_WEIGHTS;
    uint8_t *memory = arena;
    float *logits = FLOATS(@UPPER@_ARENA_BYTES);
    @TYPE@ *image = (@TYPE@ *)(void *)(logits + @UPPER@_OUTPUT_FLOATS);
    @TEST_IMAGE@(image, @UPPER@_INPUT_@UNIT@);
    compute(image, logits, memory);
    const bool is_equal = memcmp(logits, @EXPECTED@, sizeof(@EXPECTED@)) == 0;
    return is_equal ? IRBIN_OK : IRBIN_WRONG_ANSWER;
}
