/* How long an image takes on this machine: the median of several runs, one thread.
 *
 * usage: @NAME@_time [RUNS]
 *
 * Reads a clock of POSIX; the library itself needs none.
 */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "@NAME@.h"
#include "irbin_nn.h"

enum { MOST = 10000, WARM = 3 };

static _Alignas(64) uint8_t arena[@UPPER@_ARENA_BYTES];
static @TYPE@ image[@UPPER@_INPUT_@UNIT@];
static float answer[@UPPER@_OUTPUT_FLOATS];
static double taken[MOST];

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static int order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int n_arguments, char **arguments)
{
    const long asked = n_arguments == 2 ? strtol(arguments[1], NULL, 10) : 50;
    if (n_arguments > 2 || asked < 1 || asked > MOST) {
        printf("usage: @NAME@_time [RUNS, 1 to %d; 50]\n", MOST);
        return 2;
    }
    @TEST_IMAGE@(image, @UPPER@_INPUT_@UNIT@);
    for (long i = -WARM; i < asked; ++i) {
        const double begin = now_ms();
        const irbin_status status = @RUN@(image, answer, arena, sizeof arena);
        if (status != IRBIN_OK) {
            printf("%s\n", irbin_status_text(status));
            return 1;
        }
        if (i >= 0) taken[i] = now_ms() - begin;
    }
    qsort(taken, (size_t)asked, sizeof *taken, order);
    printf("@NAME@: median %.3f ms an image, fastest %.3f, of %ld runs, one thread\n",
           taken[asked / 2], taken[0], asked);
    return 0;
}
