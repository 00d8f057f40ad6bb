/* How many instructions an image takes, in an emulator that counts one of them as a nanosecond: the
 * system timer around a run, and around a loop whose instructions are known. */
#include <stdio.h>

#include "net.h"

#define TIMER(offset) (*(volatile uint32_t *)(0xe000e010 + (offset)))

static _Alignas(64) uint8_t arena[NET_ARENA_BYTES];
static float image[NET_INPUT_FLOATS], logits[NET_OUTPUT_FLOATS];

static uint32_t begun(void)
{
    TIMER(4) = 0xffffff; /* it counts down, 24 bits */
    TIMER(8) = 0;
    TIMER(0) = 5;
    return TIMER(8);
}

static uint32_t since(uint32_t begin)
{
    return (begin - TIMER(8)) & 0xffffff;
}

int main(void)
{
    uint32_t left = 10000000; /* two instructions each */
    uint32_t begin = begun();
    __asm__ volatile("1: subs %0, #1\n\tbne 1b" : "+r"(left) : : "cc");
    const double each = 2e7 / since(begin);
    irbin_test_image(image, NET_INPUT_FLOATS);
    begin = begun();
    const irbin_status status = net_run(image, logits, arena, sizeof arena);
    const double ticks = since(begin);
    printf("%.1f million instructions an image\n", ticks * each / 1e6);
    return status;
}
