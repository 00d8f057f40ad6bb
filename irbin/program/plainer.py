"""Nodes in other words before they are fused: the same numbers, by operators that kernels know.

A part of `split`, `split_with_sizes` or `unbind` is a slice, or one index of an axis; padding by
name is padding in numbers; signs of a permuted tensor are those of the tensor, where only its
channels move, and signs of a tensor are packed once for all who read them. What gives a tensor as
it is stands for that tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from irbin.program.boxes import SLICE
from irbin.program.graph import TURNS, turned_axes
from irbin.program.own import BitPack
from irbin.program.types import Node, Ref, TensorType, Value, ValueType, fixed
from irbin.program.windows import pair

SELECT = "aten.select.int"
SPLITS = ("aten.split.Tensor", "aten.split_with_sizes.default", "aten.unbind.int")
BITPACK = "bitpack"
NAMED_PADDING = "aten.conv2d.padding"


def in_plain_words(
    nodes: Sequence[Node],
    types: Mapping[str, ValueType],
    outputs: Collection[str],
    *,
    signs_once: bool = True,
) -> tuple[Node, ...]:
    """The nodes, each at its place under its name; what only others took parts of is left out.

    Args:
        nodes: in order.
        types: what names stand for.
        outputs: names that the program returns.
        signs_once: whether the same signs are packed once, under one name, or each layer's anew.
    """
    by_name = {node.name: node for node in nodes}
    plain = [_plainer(node, by_name, types) for node in nodes]
    if signs_once:
        plain = _packed_once(_as_they_are(plain, types, outputs), outputs)
    read = set(outputs)
    kept: list[Node] = []
    for node in reversed(plain):
        if node.op not in (*SPLITS, *TURNS) or node.name in read:
            kept.append(node)
            read.update(node.refs())
    return tuple(reversed(kept))


def _plainer(node: Node, by_name: Mapping[str, Node], types: Mapping[str, ValueType]) -> Node:
    made = None
    if node.op == "getitem":
        first, index = node.args
        whole = by_name.get(first.name) if isinstance(first, Ref) else None
        if whole is not None and whole.op in SPLITS and isinstance(index, int):
            made = _part(node, whole, index, types)
    elif node.op == NAMED_PADDING:
        made = _with_numbers(node, types)
    elif node.op == BITPACK:
        made = _packed_before_turns(node, by_name, types)
    return made or node


def _packed_once(nodes: Sequence[Node], outputs: Collection[str]) -> list[Node]:
    """Without a `bitpack` that another one is equal to, but for those that the program returns."""
    first: dict[tuple[Value, ...], str] = {}
    same: dict[str, str] = {}
    kept: list[Node] = []
    for node in nodes:
        if node.op == BITPACK and node.name not in outputs:
            name = first.setdefault(node.args, node.name)
            if name != node.name:
                same[node.name] = name
                continue
        changed = bool(same) and any(name in same for name in node.refs())
        kept.append(replace(node, args=_renamed(node.args, same)) if changed else node)
    return kept


def _as_they_are(
    nodes: Sequence[Node], types: Mapping[str, ValueType], outputs: Collection[str]
) -> list[Node]:
    """Without nodes that give a tensor as it is, but for those that the program returns."""
    same: dict[str, str] = {}
    kept: list[Node] = []
    for node in nodes:
        source = _given_back(node, types)
        if source is not None and node.name not in outputs:
            same[node.name] = same.get(source, source)
            continue
        changed = bool(same) and any(name in same for name in node.refs())
        kept.append(replace(node, args=_renamed(node.args, same)) if changed else node)
    return kept


def _given_back(node: Node, types: Mapping[str, ValueType]) -> str | None:
    """The tensor that a node gives as it is: what is copied over all of another, a whole slice."""
    if node.kwargs or len(node.args) < 2:
        return None
    first, *args = node.args
    source: Value = None
    match node.op:
        case "aten.copy.default":
            source = args[0]
        case "aten.slice_scatter.default" if _is_all(args[1:], types, first):
            source = args[0]
        case "aten.slice.Tensor" if _is_all(args, types, first):
            source = first
    if not isinstance(source, Ref) or types[source.name] != node.type:
        return None
    return source.name


def _is_all(bounds: Sequence[Value], types: Mapping[str, ValueType], of: Value) -> bool:
    """Whether (axis, start, end, step) are a whole axis."""
    defaults: tuple[Value, ...] = (0, None, None, 1)
    axis, start, end, step = (*bounds, *defaults[len(bounds) :])
    kind = types[of.name] if isinstance(of, Ref) else None
    if not isinstance(kind, TensorType) or not isinstance(axis, int) or step != 1:
        return False
    if not -len(kind.shape) <= axis < len(kind.shape):
        return False
    size = kind.shape[axis]
    least = size if isinstance(size, int) else 2**62
    return start in (None, 0) and (end is None or (isinstance(end, int) and end >= least))


def _renamed(values: tuple[Value, ...], names: Mapping[str, str]) -> tuple[Value, ...]:
    return tuple(
        Ref(names.get(value.name, value.name))
        if isinstance(value, Ref)
        else _renamed(value, names)
        if isinstance(value, tuple)
        else value
        for value in values
    )


def _packed_before_turns(
    pack: Node, by_name: Mapping[str, Node], types: Mapping[str, ValueType]
) -> Node | None:
    """A `bitpack` that reads what was permuted in front of it; None if there is none."""
    packing, made = BitPack.of(pack), None
    while True:
        turn = by_name.get(packing.x.name)
        kind = types[packing.x.name]
        order = turned_axes(turn, len(kind.shape)) if isinstance(kind, TensorType) else None
        if turn is None or order is None or not isinstance(turn.args[0], Ref):
            return made
        axis = order[packing.channel_axis]
        others = [one for one in order if one != axis]
        if others != sorted(others):
            return made
        packing = replace(packing, x=turn.args[0], channel_axis=axis)
        made = replace(pack, args=(packing.x, axis, packing.groups))


def _part(node: Node, split: Node, index: int, types: Mapping[str, ValueType]) -> Node | None:
    """One result of a split as what it shows of the split's input."""
    names = split.refs()
    kind = types[names[0]] if len(names) == 1 else None
    parts = split.type
    if not isinstance(kind, TensorType) or not isinstance(parts, tuple) or split.kwargs:
        return None
    sizes = split.args[1:2] if split.op != SPLITS[2] else ()
    axis = split.args[1 + len(sizes)] if len(split.args) > 1 + len(sizes) else 0
    if not isinstance(axis, int) or not -len(kind.shape) <= axis < len(kind.shape):
        return None
    axis %= len(kind.shape)
    if not 0 <= index < len(parts) or not isinstance(kind.shape[axis], int):
        return None
    source = Ref(names[0])
    if split.op == SPLITS[2]:
        return replace(node, op=SELECT, args=(source, axis, index))
    ends = _ends(sizes[0], fixed(kind.shape[axis])) if sizes else None
    declared = [part.shape[axis] for part in parts if len(part.shape) == len(kind.shape)]
    if ends is None or declared != [end - start for start, end in pairwise(ends)]:
        return None  # whoever runs it says what is wrong
    return replace(node, op=SLICE, args=(source, axis, ends[index], ends[index + 1], 1))


def _ends(sizes: Value, whole: int) -> list[int] | None:
    """Where parts of an axis begin, and where the last one ends."""
    if isinstance(sizes, int) and sizes > 0:
        return [*range(0, whole, sizes), whole]
    given = [size for size in sizes if isinstance(size, int)] if isinstance(sizes, tuple) else []
    ends = [0, *accumulate(given)]
    return ends if ends[-1] == whole and min(given, default=-1) >= 0 else None


def _with_numbers(node: Node, types: Mapping[str, ValueType]) -> Node | None:
    """Padding `same` or `valid` in pixels, where both sides of an axis get as many."""
    if node.kwargs or len(node.args) < 2:
        return None
    defaults: tuple[Value, ...] = (None, (1, 1), "valid", (1, 1), 1)
    source, weight, *rest = node.args
    bias, stride, padding, dilation, groups = (*rest, *defaults[len(rest) :])
    kernel = types[weight.name] if isinstance(weight, Ref) else None
    steps = pair(dilation)
    if not isinstance(kernel, TensorType) or len(kernel.shape) != 4 or steps is None:
        return None
    around = (0, 0)
    if padding == "same":
        sizes = [size for size in kernel.shape[2:] if isinstance(size, int)]
        added = [step * (size - 1) for size, step in zip(sizes, steps, strict=False)]
        if len(added) < 2 or any(one % 2 for one in added) or pair(stride) != (1, 1):
            return None
        around = (added[0] // 2, added[1] // 2)
    elif padding != "valid":
        return None
    args = (source, weight, bias, stride, around, dilation, groups)
    return replace(node, op="aten.conv2d.default", args=args)
