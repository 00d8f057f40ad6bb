"""What each operator does to the images of a batch: mixes along some axes, moves or joins others.

A rule takes a call and gives the make-up of its result's batch axis, or raises `Mixed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from irbin.program.images import (
    EVERYWHERE,
    Call,
    Images,
    Mixed,
    aligned,
    axis_of,
    joined,
    per_image,
)
from irbin.program.types import Ref, ValueType

Rule = Callable[[Call], Images | None]


def elementwise(call: Call) -> Images:
    """Each number by itself, or with those of the same place."""
    return aligned(call, list(call.tensors))


def one(call: Call) -> Images:
    """Only moves, or changes each number by itself: ranks stay ranks."""
    return call.images.get(call.batched[0], EVERYWHERE) if call.batched else EVERYWHERE


def type_as(call: Call) -> Images:
    """Only moves: the other operand is asked for its type."""
    return call.of("self")


def filled(call: Call) -> Images | None:
    """The same number everywhere."""
    return EVERYWHERE if axis_of(call.node.type) is not None else None


def places(call: Call) -> Images:
    """`arange(N)`: every value tells its place."""
    return Images(1, per_image(first_size(call.node.type)), is_rank=True)


def first_size(kind: ValueType) -> int | str:
    """Along the first axis."""
    return (kind[0] if isinstance(kind, tuple) else kind).shape[0]


def along(argument: str = "self", dims: str = "dim") -> Rule:
    """Mixes along the axes that `dims` names; along all where it names none."""

    def rule(call: Call) -> Images:
        value = call.given.get(dims)
        axes = range(call.rank(argument)) if value in (None, ()) else call.integers(dims)
        return not_ranks(call.apart(argument, *axes))

    return rule


def picked(argument: str = "self", dims: str = "dim") -> Rule:
    """Picks along one axis, the first unless said."""

    def rule(call: Call) -> Images:
        axes = call.integers(dims) if call.given.get(dims) is not None else (0,)
        return call.apart(argument, *axes)

    return rule


def last(n: int, argument: str = "self") -> Rule:
    """Mixes along the last n axes."""

    def rule(call: Call) -> Images:
        return not_ranks(call.apart(argument, *range(-n, 0)))

    return rule


def all_but(axis: int, argument: str, *weights: str) -> Rule:
    """Mixes along every axis but one; the weights are the same for all images."""

    def rule(call: Call) -> Images:
        call.alone(*weights)
        axes = [a for a in range(call.rank(argument)) if a != axis]
        return not_ranks(call.apart(argument, *axes))

    return rule


def not_ranks(images: Images) -> Images:
    """Refuses places of images as numbers to compute with."""
    return joined([images])


def spaced(call: Call) -> Images:  # noqa: ARG001 - a rule's signature
    """Every number depends on how many there are."""
    raise Mixed("spreads numbers over the images of a batch")


def norm_over_last(call: Call) -> Images:
    """Mixes along the axes of `normalized_shape`."""
    call.alone("weight", "bias") if "bias" in call.given else call.alone("weight")
    return not_ranks(call.apart("input", *range(-len(call.integers("normalized_shape")), 0)))


def batch_norm(call: Call) -> Images:
    """Statistics per channel: over every axis but the second."""
    channels = [call.of(a) for a in ("weight", "bias") if call.axis(call.given[a]) is not None]
    axes = [a for a in range(call.rank("input")) if a != 1]
    return joined([call.apart("input", *axes), *channels])


def convolution(n_spatial: int) -> Rule:
    """Mixes channels and the spatial axes; weights are the same for all images."""

    def rule(call: Call) -> Images:
        if call.axis(call.given["input"]) == 1 and call.rank("input") == n_spatial + 2:
            return convolution_per_image(call)
        call.alone("weight", "bias")
        return not_ranks(call.apart("input", *range(-n_spatial - 1, 0)))

    return rule


def convolution_per_image(call: Call) -> Images:
    """Every image is a group of channels with weights of its own (CondConv, involutions)."""
    weight, source = call.kind(call.given["weight"]), call.of("input")
    n_in = weight.shape[1] if len(weight.shape) > 1 else 0
    is_split = isinstance(n_in, int) and n_in > 0 and source.after % n_in == 0
    weights = call.of("weight")
    if call.axis(call.given["weight"]) != 0 or not is_split or source.before != 1:
        raise Mixed("mixes the images of a batch")
    if weights.before != 1 or source.is_rank:
        raise Mixed("mixes the images of a batch")
    return Images(1, weights.after)


def linear(call: Call) -> Images:
    """Mixes along the last axis."""
    call.alone("weight", "bias")
    return not_ranks(call.apart("input", -1))


def matmul(first: str, second: str) -> Rule:
    """(…, rows, k) · (…, k, columns); one operand's rows or columns may hold the images."""

    def rule(call: Call) -> Images:
        one, other = call.given[first], call.given[second]
        both = [v for v in (one, other) if call.axis(v) is not None]
        if len(both) == 2:
            return aligned(call, both, skipped=2)
        call.apart(first, -1)
        call.apart(second, *([-2] if call.rank(second) > 1 else [-1]))
        return not_ranks(call.images.get(call.batched[0], EVERYWHERE))

    return rule


def addmm(call: Call) -> Images | None:
    """A product of two matrices, and a bias that depends on no image."""
    return matmul("mat1", "mat2")(call) if call.axis(call.given["self"]) is None else unknown()


def unknown() -> Images:
    """A case that no rule tells."""
    raise Mixed("works on the images in a way that is not known")


def attention(call: Call) -> Images:
    """Mixes along the last two axes of every operand."""
    names = [call.given[a] for a in ("query", "key", "value", "attn_mask")]
    return aligned(call, [n for n in names if isinstance(n, Ref)], skipped=2)


def einsum(call: Call) -> Images:
    """The images' letter stands in every operand that has them, and in the result."""
    equation, tensors = str(call.given["equation"]).replace(" ", ""), call.given["tensors"]
    sides, arrow, out = equation.partition("->")
    if not arrow or "." in equation or not isinstance(tensors, tuple):
        return unknown()
    pairs = [(v, call.axis(v), s) for v, s in zip(tensors, sides.split(","), strict=True)]
    letters = {side[axis] for _, axis, side in pairs if axis is not None}
    if len(letters) > 1 or not letters <= set(out):
        raise Mixed("mixes the images of a batch")
    refs = [v.name for v, axis, _ in pairs if axis is not None and isinstance(v, Ref)]
    return joined([call.images.get(name, EVERYWHERE) for name in refs])


def reshape(call: Call) -> Images:
    """Row-major order is kept, so the images' blocks are found again where they are whole axes."""
    source, made = call.kind(call.given["self"]), call.node.type
    images, axis = call.of("self"), call.axis(call.given["self"])
    out = axis_of(made)
    if images == EVERYWHERE:
        return images
    if axis is None or out is None or isinstance(made, tuple):
        raise Mixed("loses the axis of the images")
    before = product(source.shape[:axis]) * images.before
    after = images.after * product(source.shape[axis + 1 :])
    outer, inner = product(made.shape[:out]), product(made.shape[out + 1 :])
    if before % outer or after % inner:
        raise Mixed("mixes the images of a batch")
    return Images(before // outer, after // inner, images.is_rank)


def product(shape: tuple[int | str, ...]) -> int:
    """Of the sizes that do not depend on the batch."""
    return math.prod(size for size in shape if isinstance(size, int))


def expand(call: Call) -> Images:
    """An axis of one that becomes N is the same for every image."""
    kind, out = call.node.type, axis_of(call.node.type)
    if call.batched or out is None or isinstance(kind, tuple):
        return one(call)
    return Images(1, per_image(kind.shape[out]))


def repeat(call: Call) -> Images:
    """Tiles: a repeated batch axis has every image several times, in blocks of the whole batch."""
    kind, out = call.node.type, axis_of(call.node.type)
    if out is None or isinstance(kind, tuple):
        return unknown()
    k = per_image(kind.shape[out])
    if not call.batched:
        return Images(1, k)
    images = call.of("self")
    if images == EVERYWHERE:
        return images
    return Images(k // images.after, images.after, images.is_rank)


def repeat_interleave(call: Call) -> Images:
    """Repeats each place, so an image's block grows."""
    kind, out, images = call.node.type, axis_of(call.node.type), call.of("self")
    if out is None or isinstance(kind, tuple) or images == EVERYWHERE:
        return images
    return Images(images.before, per_image(kind.shape[out]) // images.before, images.is_rank)


def cat(call: Call) -> Images:
    """Along the images' axis, batches of the same make-up stand behind each other."""
    out, dim = axis_of(call.node.type), (call.integers("dim") or (0,))[0]
    kind = call.node.type
    if isinstance(kind, tuple) or out != dim % len(kind.shape):
        return elementwise(call)
    tensors = call.given["tensors"]
    names = [v.name for v in tensors if isinstance(v, Ref)] if isinstance(tensors, tuple) else []
    operands = [call.images.get(name, EVERYWHERE) for name in names]
    if len(set(names) & set(call.batched)) != len(set(names)) or any(
        one.is_rank or one == EVERYWHERE or one.after != operands[0].after for one in operands
    ):
        raise Mixed("mixes the images of a batch with something else")
    return Images(sum(one.before for one in operands), operands[0].after)


def slice_(call: Call) -> Images:
    """All of the batch axis is no slice."""
    source, kind = call.kind(call.given["self"]), call.node.type
    dim = (call.integers("dim") or (0,))[0] % len(source.shape)
    step = call.given["step"]
    is_all = not isinstance(kind, tuple) and kind.shape == source.shape and step in (None, 1)
    return call.of("self") if is_all else call.apart("self", dim)


def split(call: Call) -> Images:
    """Whole batches that were joined may be taken apart again."""
    axis, images = call.axis(call.given["self"]), call.of("self")
    kinds = call.node.type if isinstance(call.node.type, tuple) else (call.node.type,)
    dim = (call.integers("dim") or (0,))[0] % len(kinds[0].shape)
    if axis != dim or images.before == 1:
        return call.apart("self", dim)
    shares = {per_image(kind.shape[dim]) for kind in kinds}
    share = shares.pop()
    if shares or share % images.after:
        raise Mixed("mixes the images of a batch")
    return Images(share // images.after, images.after)


def scatter(call: Call) -> Images:
    """Other places along an axis that does not hold the images, or all of its places."""
    if call.given.get("step", 0) in (None, 1) and call.kind(call.given["src"]) == call.node.type:
        return call.of("src")  # `x[:, a:b] = y` writes into `x[:]` too
    call.apart("self", *(call.integers("dim") or (0,)))
    axes = {call.axis(call.given["self"])}
    if axes == {None}:
        raise Mixed("writes what depends on the images into something that does not")
    return joined([call.images.get(name, EVERYWHERE) for name in call.batched])


def index(call: Call) -> Images:
    """By tables: of the images' axis all are taken, or each image's own place."""
    indices = call.given["indices"]
    given = indices if isinstance(indices, tuple) else ()
    axis = call.axis(call.given["self"])
    used = [i for i in given if isinstance(i, Ref) and call.axis(i) is not None]
    at_images = given[axis] if axis is not None and axis < len(given) else None
    if at_images is None:
        if axis is not None and used:
            raise Mixed("mixes the images of a batch")
        return joined([call.images.get(name, EVERYWHERE) for name in call.batched])
    operands = [call.images.get(i.name, EVERYWHERE) for i in used]
    place = call.images.get(at_images.name, EVERYWHERE) if isinstance(at_images, Ref) else None
    if place is None or not place.is_rank or call.of("self") != Images():
        raise Mixed("picks other images of the batch")
    return joined([one._replace(is_rank=False) for one in operands])


def embedding(call: Call) -> Images:
    """A table that depends on no image, looked up."""
    call.alone("weight")
    return not_ranks(call.of("indices"))


def pad(call: Call) -> Images:
    """Padded axes are mixed; those padded by nothing are not."""
    amounts = call.given["pad"] if "pad" in call.given else call.given["padding"]
    pads = amounts if isinstance(amounts, tuple) else ()
    padded = [-1 - i // 2 for i, amount in enumerate(pads) if amount != 0]
    return not_ranks(call.apart("self", *padded))


def lstm(call: Call) -> Images:
    """Mixes along every axis but the batch's."""
    axis = 0 if call.given["batch_first"] is True else 1
    others = [a for a in range(call.rank("input")) if a != axis]
    return not_ranks(call.apart("input", *others))


def size(call: Call) -> None:  # noqa: ARG001 - a rule's signature
    """A size is no tensor."""
    return
