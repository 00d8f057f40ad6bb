/* Runs the network on vectors.bin and compares every result of every call, bit for bit.
 *
 * usage: @NAME@_test vectors.bin
 *
 * vectors.bin, little-endian: "irbinvec", the numbers of images, of results in one run, of an
 * image's numbers and of an answer's (uint32); then for each image its numbers, its answer, and the
 * CRC-32 of every result.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "@NAME@.h"
#include "irbin_nn.h"

enum { CANARY = 64, N_RESULTS = @N_RESULTS@ };

static _Alignas(64) uint8_t memory[CANARY + @UPPER@_SELF_TEST_BYTES + CANARY];
static @TYPE@ image[@UPPER@_INPUT_@UNIT@];
static float answer[@UPPER@_OUTPUT_FLOATS];
static float expected[@UPPER@_OUTPUT_FLOATS];
static uint32_t sums[N_RESULTS], seen;
static int wrong;

void irbin_trace(const void *bytes, size_t n_bytes)
{
    if (seen < N_RESULTS && irbin_crc32(0, bytes, n_bytes) != sums[seen]) {
        printf("result %u differs\n", (unsigned)seen);
        wrong = 1;
    }
    ++seen;
}

static void expect(int is_so, const char *what)
{
    if (is_so) return;
    printf("expected: %s\n", what);
    wrong = 1;
}

static void check_statuses(uint8_t *arena)
{
    const size_t n = @UPPER@_ARENA_BYTES;
    expect(@RUN@(NULL, answer, arena, n) == IRBIN_NULL_POINTER, "no image is told");
    expect(@RUN@(image, NULL, arena, n) == IRBIN_NULL_POINTER, "no place for logits is told");
    expect(@RUN@(image, answer, NULL, n) == IRBIN_NULL_POINTER, "no arena is told");
    expect(@RUN@(image, answer, arena, n - 1) == IRBIN_SMALL_ARENA, "a small arena is told");
    expect(@RUN@(image, answer, arena + 1, n) == IRBIN_MISALIGNED_ARENA,
           "a misaligned arena is told");
}

static void run_image(FILE *file, uint8_t *arena, unsigned number)
{
    if (fread(image, sizeof image, 1, file) != 1 || fread(expected, sizeof expected, 1, file) != 1 ||
        fread(sums, sizeof sums, 1, file) != 1) {
        expect(0, "a whole vectors.bin");
        return;
    }
    memset(memory, 0xa5, sizeof memory);
    seen = 0;
    const irbin_status status = @RUN@(image, answer, arena, @UPPER@_ARENA_BYTES);
    expect(status == IRBIN_OK, irbin_status_text(status));
    expect(seen == N_RESULTS, "as many results as at export");
    if (memcmp(answer, expected, sizeof answer) != 0) {
        printf("answer %u differs\n", number);
        wrong = 1;
    }
    for (size_t i = 0; i < CANARY; ++i)
        expect(memory[i] == 0xa5 && arena[@UPPER@_ARENA_BYTES + i] == 0xa5,
               "nothing is written beside the arena");
}

int main(int n_arguments, char **arguments)
{
    FILE *file = n_arguments == 2 ? fopen(arguments[1], "rb") : NULL;
    char magic[8];
    uint32_t sizes[4];
    uint8_t *arena = memory + CANARY;
    if (file == NULL || fread(magic, 8, 1, file) != 1 || memcmp(magic, "irbinvec", 8) != 0 ||
        fread(sizes, sizeof sizes, 1, file) != 1 || sizes[1] != N_RESULTS ||
        sizes[2] != @UPPER@_INPUT_@UNIT@ || sizes[3] != @UPPER@_OUTPUT_FLOATS) {
        printf("usage: @NAME@_test vectors.bin (that of this network)\n");
        return 2;
    }
    for (uint32_t i = 0; i < sizes[0]; ++i) run_image(file, arena, (unsigned)i);
    fclose(file);
    check_statuses(arena);
    memset(sums, 0, sizeof sums);
    seen = N_RESULTS; /* a self-test's results are not compared one by one */
    const irbin_status status = @NAME@_self_test(arena, @UPPER@_SELF_TEST_BYTES);
    expect(status == IRBIN_OK, irbin_status_text(status));
    printf("%s: %u images, %d results each: %s\n", @NAME@_version(), (unsigned)sizes[0], N_RESULTS,
           wrong ? "NOT equal" : "equal");
    return wrong;
}
