"""Operators that C has no kernel for, in words that it has: a program before it is made ready.

What they compute is defined by these words. Each operator's last word has its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from irbin.program.program import Program
from irbin.program.types import Node, Ref, TensorType, Value, ValueType, one_tensor
from irbin.program.windows import pair

CONV, RESHAPE, PAD = "aten.conv2d.default", "aten.reshape.default", "aten.constant_pad_nd.default"
FLIP, TRANSPOSE = "aten.flip.default", "aten.transpose.int"
ZEROS = "aten.zeros.default"
Sizes = tuple[int | str, ...]


class _Words:
    """Words that are put in the place of one node.

    Args:
        node: to be said in other words.
        types: of everything in front of it.
    """

    def __init__(self, node: Node, types: Mapping[str, ValueType]) -> None:
        self.node, self.types = node, types
        self.made: list[Node] = []

    def arguments(self, *defaults: Value) -> list[Value]:
        """The node's, in order; what stands behind the first is given by keyword nowhere."""
        return [*self.node.args, *defaults[len(self.node.args) :]]

    def shape(self, value: Value) -> Sizes:
        """Of a tensor in front of the node, or of a word."""
        if not isinstance(value, Ref):
            return ()
        own = {word.name: word.type for word in self.made}
        return one_tensor(own.get(value.name) or self.types[value.name]).shape

    def add(self, op: str, args: tuple[Value, ...], shape: Sizes) -> Ref:
        """A word more; no program has a name with spaces."""
        name = f"{self.node.name} word {len(self.made)}"
        self.made.append(Node(name, op, args, {}, TensorType("float32", shape)))
        return Ref(name)

    def end(self, op: str, args: tuple[Value, ...]) -> list[Node]:
        """All of them: the last one has the node's name."""
        return [*self.made, replace(self.node, op=op, args=args, kwargs={})]


def in_words(program: Program) -> Program:
    """A program in which C's words stand for operators that it has no kernel for.

    Args:
        program: as it was packed.

    Returns:
        The same where there are none.
    """
    types: dict[str, ValueType] = {**program.inputs, **program.constants}
    nodes: list[Node] = []
    for node in program.nodes:
        words = _WORDS[node.op](_Words(node, types)) if node.op in _WORDS else None
        nodes += [node] if words is None else words
        types[node.name] = node.type
    if len(nodes) == len(program.nodes) and all(map(_is_same, nodes, program.nodes)):
        return program
    return replace(program, nodes=tuple(nodes))


def _is_same(one: Node, other: Node) -> bool:
    return one is other


def _numbers(value: Value, n: int) -> list[int] | None:
    """So many integers, of one or of so many."""
    given = value if isinstance(value, tuple) else (value,)
    numbers = [one for one in given if isinstance(one, int)]
    numbers = numbers * n if len(numbers) == 1 else numbers
    return numbers if len(numbers) == n else None


def _is_static(shape: Sequence[int | str]) -> bool:
    return all(isinstance(size, int) for size in shape)


def _of_lines(words: _Words) -> list[Node] | None:
    """`conv1d` as a convolution of images of one row."""
    if words.node.kwargs:
        return None
    x, weight, bias, *rest = words.arguments(None, None, None, (1,), (0,), (1,), 1)
    stride, padding, dilation = (_numbers(one, 1) for one in rest[:3])
    image, kernel, made = words.shape(x), words.shape(weight), one_tensor(words.node.type).shape
    if stride is None or padding is None or dilation is None or not _is_static(kernel):
        return None
    if len(image) != 3 or len(kernel) != 3:
        return None
    flat, row = (image[0], image[1], 1, image[2]), (kernel[0], kernel[1], 1, kernel[2])
    lines = words.add("aten.unsqueeze.default", (x, 2), flat)
    filters = words.add("aten.unsqueeze.default", (weight, 2), row)
    window = ((1, stride[0]), (0, padding[0]), (1, dilation[0]), rest[3])
    args = (lines, filters, bias, *window)
    done = words.add(CONV, args, (made[0], made[1], 1, made[2]))
    return words.end("aten.squeeze.dim", (done, 2))


def _transposed(words: _Words) -> list[Node] | None:
    """`conv_transpose2d` as a convolution of the image with zeros between its pixels.

    Filters are turned by half a circle, and what they read and give changes places.
    """
    if words.node.kwargs:
        return None
    given = words.arguments(None, None, None, (1, 1), (0, 0), (0, 0), 1, (1, 1))
    x, weight, bias, *window, groups, dilation = given
    pairs = [one for one in map(pair, (*window, dilation)) if one is not None]
    image, kernel = words.shape(x), words.shape(weight)
    if len(image) != 4 or len(kernel) != 4 or not _is_static((*image[1:], *kernel)):
        return None
    if len(pairs) < 4 or not isinstance(groups, int) or bool(int(kernel[0]) % groups):
        return None
    stride, padding, further, steps = pairs
    n_in, n_out, *size = map(int, kernel)
    apart = _apart(words, x, image, stride)
    reach = [by * (n - 1) for by, n in zip(steps, size, strict=True)]
    around: list[int] = []
    for axis in (1, 0):
        border = reach[axis] - padding[axis]
        around += [border, border + further[axis]]
    held = words.shape(apart)
    sizes = [int(held[i + 2]) + around[2 - 2 * i] + around[3 - 2 * i] for i in (0, 1)]
    if min(sizes) < 1:
        return None
    wide = words.add(PAD, (apart, tuple(around), 0.0), (*held[:2], *sizes))
    parts = (groups, n_in // groups, n_out, *size)
    turned = words.add(FLIP, (weight, (2, 3)), kernel)
    by_group = words.add(RESHAPE, (turned, parts), parts)
    swapped = (parts[0], parts[2], parts[1], *size)
    changed = words.add(TRANSPOSE, (by_group, 1, 2), swapped)
    whole = (groups * n_out, n_in // groups, *size)
    filters = words.add(RESHAPE, (changed, whole), whole)
    return words.end(CONV, (wide, filters, bias, (1, 1), (0, 0), steps, groups))


def _apart(words: _Words, x: Value, image: Sizes, stride: tuple[int, int]) -> Ref:
    """Pixels with zeros between them."""
    assert isinstance(x, Ref), "its shape is known"
    if stride == (1, 1):
        return x
    n, channels, height, width = image
    down, right = stride
    single = (n, channels, height, 1, width, 1)
    wide = (n, channels, height, down, width, right)
    whole = (n, channels, int(height) * down, int(width) * right)
    lines = words.add(RESHAPE, (x, (-1, *single[1:])), single)
    filled = words.add(PAD, (lines, (0, right - 1, 0, 0, 0, down - 1), 0.0), wide)
    behind = words.add(RESHAPE, (filled, (-1, *whole[1:])), whole)
    cut = (n, channels, int(whole[2]) - down + 1, int(whole[3]) - right + 1)
    return words.add(PAD, (behind, (0, 1 - right, 0, 1 - down), 0.0), cut)


def _zeros(words: _Words) -> list[Node] | None:
    """`new_zeros` without the tensor whose type it takes: what follows may be a constant."""
    _, size, *rest = words.node.args
    if not isinstance(size, tuple) or not all(isinstance(one, int) for one in size):
        return None
    dtype = words.node.kwargs.get("dtype", rest[0] if rest else None)
    if dtype is not None or one_tensor(words.node.type).dtype != "float32":
        return None
    return words.end(ZEROS, (size,))


_WORDS: Mapping[str, Callable[[_Words], list[Node] | None]] = {
    "aten.conv1d.default": _of_lines,
    "aten.conv_transpose2d.input": _transposed,
    "aten.new_zeros.default": _zeros,
}
SUMMED = ("aten.conv1d.default", "aten.conv_transpose2d.input")
"""Those that compute sums."""
