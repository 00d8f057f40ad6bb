/* Constants of the network, taken from the file beside this one; the assembler needs its folder (-I). */
#if defined(__APPLE__)
#define SYMBOL(name) _##name
#else
#define SYMBOL(name) name
#endif

#if defined(__APPLE__)
    .const_data
#elif defined(__ELF__)
    .section .rodata, "a"
#else
    .section .rdata, "dr"
#endif
@INCLUDED@

#if defined(__ELF__)
    .section .note.GNU-stack, "", %progbits
#endif
