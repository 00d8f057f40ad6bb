"""The bound of every number that a packed folder, or a caller of the kernels, may give.

The one home of these numbers; `docs/format.md` says them, `program` holds folders to them when they
are read, `kernels` whoever calls its operators. They are far above what networks need, and low
enough that no product of them leaves 64 bits, and that reading a folder stays quick and small.
"""

from __future__ import annotations

MAX_INTEGER = 2**31 - 1
"""Of a size, and of an integer that stands in a file."""
TO_THE_END = 2**63 - 1
"""What `aten.slice` takes for "as far as there is"; the one larger integer."""
MAX_COMPUTED = 2**40
"""Of a size that is computed from the batch, and on the way to it."""
MAX_AXES = 16
"""Of a tensor."""
MAX_ELEMENTS = 2**28
"""Of a tensor of one image, of an image with its border, and of an attention's scores."""
MAX_REACH = 2**16
"""Pixels, taken along one axis: of a window with its dilation, a stride, a border."""
MAX_DEPTH_BITS = 2**24
"""Products in one dot: beyond it float32 cannot hold every dot."""
MAX_PRODUCTS = 2**40
"""Multiply-adds of a node for one image, and pixels that a pooling compares."""
MAX_THREADS = 2**10
"""That a kernel is asked to use."""
MAX_RESIDUALS = 4
"""Tensors that one kernel adds, as in `csrc/steps.h`."""

MAX_EXPRESSION = 200
"""Characters of a size that is an expression."""
MAX_DIGITS = 19
"""Of an integer in a JSON file."""
MAX_NESTING = 32
"""Of lists and objects in a JSON file."""
MAX_ARGUMENT_NESTING = 3
"""Of lists in an argument."""
MAX_LIST = 4096
"""Items of an argument, results of an operator, outputs of a program."""
MAX_TEXT = 512
"""Characters of a name, and of a text that is an argument."""
MAX_NODES = 2**16
"""Of a program, and of its constants."""
MAX_JSON_BYTES = 2**26
"""Of `config.json`, and of `program.json`."""

FOLDED_BYTES, FOLDED_RATIO = 2**26, 64
"""What nodes on constants alone give may hold so much, and so many times the constants' bytes."""
