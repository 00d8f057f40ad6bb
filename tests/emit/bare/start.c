/* The first instructions of a board without an operating system; newlib's semihosting does the rest. */
#include <stddef.h>
#include <stdint.h>

extern char __stack[];
void _start(void);

static void reset(void)
{
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20; /* the floating-point unit on */
    __asm__ volatile("dsb\n\tisb");
    _start();
}

static void fault(void)
{
    for (;;) __asm__ volatile("bkpt 1");
}

__attribute__((section(".vectors"), used)) static const struct {
    char *stack;
    void (*handlers[15])(void);
} vectors = {__stack, {reset, fault, fault, fault, fault, fault}};

/* Memory for newlib's files: what semihosting says of the board's RAM is not what is linked. */
void *_sbrk(ptrdiff_t n)
{
    static _Alignas(8) char heap[1 << 15];
    static size_t taken;
    if (n < 0 || taken + (size_t)n > sizeof heap) return (void *)-1;
    taken += (size_t)n;
    return heap + taken - n;
}

/* Called by newlib around main; there are no constructors. */
void _init(void)
{
}

void _fini(void)
{
}
