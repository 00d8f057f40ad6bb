/* @SPEC@, written by irbin @VERSION@. */
#ifndef @UPPER@_H
#define @UPPER@_H

#include <stddef.h>

#include "irbin_nn.h"

#ifdef __cplusplus
extern "C" {
#endif

#define @UPPER@_ABI @ABI@
#define @UPPER@_INPUT_CHANNELS @CHANNELS@
#define @UPPER@_INPUT_HEIGHT @HEIGHT@
#define @UPPER@_INPUT_WIDTH @WIDTH@
#define @UPPER@_INPUT_@UNIT@ @N_IN@
#define @UPPER@_OUTPUT_FLOATS @N_OUT@
#define @UPPER@_ARENA_BYTES @ARENA_BYTES@
#define @UPPER@_ARENA_ALIGNMENT @ALIGNMENT@
#define @UPPER@_SELF_TEST_BYTES @SELF_TEST_BYTES@
#define @UPPER@_CLASSES @N_CLASSES@

/* Computes the answer to one image. May run in several threads, each with an arena of its own.
 *
 * @PIXELS@: @FED@
 * logits: written.
 * arena: @UPPER@_ARENA_BYTES bytes or more, at a multiple of @UPPER@_ARENA_ALIGNMENT.
 */
irbin_status @RUN@(const @TYPE@ *@PIXELS@, float *logits, void *arena, size_t arena_bytes);

/* Whether the constants and the answer to a test image are those of the export.
 *
 * arena: @UPPER@_SELF_TEST_BYTES bytes or more, at a multiple of @UPPER@_ARENA_ALIGNMENT.
 */
irbin_status @NAME@_self_test(void *arena, size_t arena_bytes);

/* Who wrote this, and from what. */
const char *@NAME@_version(void);

/* Names of the answers, @UPPER@_CLASSES of them, then NULL. */
extern const char *const @NAME@_classes[];

#ifdef __cplusplus
}
#endif
#endif
