/* What an image takes of a processor, in an emulator that counts an instruction as a nanosecond: the
 * system timer around a run, and around a loop whose instructions are known; and how far down a run
 * writes on the stack.
 *
 * NETWORK is the name of the functions, UPPER that of the macros; both names come from the compiler.
 */
#include <stdio.h>

#define JOINED(a, b) a##b
#define OF(a, b) JOINED(a, b)
#define TEXT(x) #x
#define HEADER(x) TEXT(x.h)
#include HEADER(NETWORK)

#define TIMER(offset) (*(volatile uint32_t *)(0xe000e010 + (offset)))
enum { STACK = 16384 };
static const uint32_t filled = 0xa5a5a5a5;

static _Alignas(64) uint8_t arena[OF(UPPER, _ARENA_BYTES)];
static float image[OF(UPPER, _INPUT_FLOATS)], logits[OF(UPPER, _OUTPUT_FLOATS)];

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
    irbin_test_image(image, OF(UPPER, _INPUT_FLOATS));
    volatile uint32_t *top;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    for (int32_t i = 1; i <= STACK / 4; ++i) top[-i] = filled;
    begin = begun();
    const irbin_status status = OF(NETWORK, _run)(image, logits, arena, sizeof arena);
    const double ticks = since(begin);
    int32_t deepest = STACK / 4;
    while (deepest > 0 && top[-deepest] == filled) --deepest;
    printf("%.1f million instructions an image, %d bytes of stack\n", ticks * each / 1e6,
           (int)(deepest * 4));
    return status;
}
