/* Constants of @NAME@; bits are bytes in little-endian words. */
#ifndef @UPPER@_WEIGHTS_H
#define @UPPER@_WEIGHTS_H

#include <stdint.h>

@DECLARATIONS@

#endif
