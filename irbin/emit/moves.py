"""A network's items for one image, and what `runtime` leaves to NumPy or torch among them.

Copies bring what a kernel reads into its order; products, sums and the like are calls too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from irbin.emit.around import around_of
from irbin.emit.copies import Copy, copies_of
from irbin.emit.folds import Fold, fold_of
from irbin.emit.looks import look, parts
from irbin.emit.meetings import FLAGS, Meeting, chosen_of, meeting_of
from irbin.emit.products import Product, Soft, as_floats, attends, product_of
from irbin.emit.reads import LINES_OF, lines_shape, reading, reads
from irbin.errors import ArtifactError, LowerError
from irbin.kernels.kernel import Kernel
from irbin.kernels.tensor_reference import added
from irbin.program.elementwise import as_step, channel_axis_of
from irbin.program.fused import Fused, Item, results
from irbin.program.own import BitPack
from irbin.program.start import record_of
from irbin.program.types import Node, Ref, TensorType, ValueType
from irbin.runtime.arrays import Array, is_in_rows
from irbin.runtime.layers import make_kernel, other_names
from irbin.runtime.memory import Form, forms
from irbin.runtime.work import Work

LINES = "lines"
"""Operator of memory that a kernel works on."""
MAX_BYTES = 2**31 - 1
"""Of what one call reads or writes: the C counts in `int32_t`."""

OneMove = Copy | Meeting | Product | Soft | Fold
Move = tuple[OneMove, ...]


class Look(NamedTuple):
    """A value as it lies in memory that something else owns."""

    root: str
    """Who owns it: a result, the image, or a constant."""
    array: Array
    """Its strides and beginning, in memory of `Added.memory`."""


@dataclass(eq=False)
class Added:
    """A network with its moves. Made by `moves_added`, read by `placed`."""

    items: list[Item] = field(default_factory=list)
    """Whatever is a call or memory, in order."""
    kernels: dict[str, Kernel] = field(default_factory=dict)
    """Of the fused items, by name."""
    made: dict[str, Form] = field(default_factory=dict)
    """All that is to be placed."""
    moves: dict[str, Move] = field(default_factory=dict)
    """Of the nodes but for `bitpack`, by name."""
    origins: dict[str, str] = field(default_factory=dict)
    """What a copy holds, if the program has it under another name."""
    looks: dict[str, Look] = field(default_factory=dict)
    """All values of floats or bits."""
    memory: dict[str, Array] = field(default_factory=dict)
    """Owners, by name: as in the arena, but each by itself."""


def moves_added(
    work: Work, known: Mapping[str, Any], given: Mapping[str, Array], image: Array
) -> Added:
    """The items with moves among them.

    Args:
        work: what to do.
        known: sizes by name.
        given: results that are known, by name.
        image: one, as it lies in the caller's memory.

    Raises:
        LowerError: something is written in C neither as a kernel nor as a move; every such node is
            named, by operator.
    """
    adding = _Adding(work, known, given, image)
    for item in work.items:
        adding.take(item)
    if adding.refused:
        raise LowerError(
            f"expected nodes that C is written for, got {_named(adding.refused)}; run the packed "
            "folder with `irbin.load`"
        )
    return adding.added


def _named(refused: list[Node]) -> str:
    """All of them, by operator."""
    by_op: dict[str, list[str]] = {}
    for node in refused:
        by_op.setdefault(node.op, []).append(f"`{node.name}`")
    return ", ".join(f"{', '.join(names)} ({op})" for op, names in by_op.items())


class _Adding:
    """One pass over the items."""

    def __init__(
        self, work: Work, known: Mapping[str, Any], given: Mapping[str, Array], image: Array
    ) -> None:
        self.work, self.known, self.given = work, known, given
        self.added = Added(kernels=dict(work.kernels))
        self.refused: list[Node] = []
        self._unknown: set[str] = set()  # made of a refused node's result: no fault of its own
        self._several: dict[str, list[Look]] = {}
        self._flags: set[str] = set()  # values of zeros and ones
        self._types: dict[str, ValueType] = {**work.types}
        for item in work.items:
            self._types |= dict.fromkeys(results(item), item.type)
        self._hold(work.source, image)
        for name, value in {**work.constants, **given}.items():
            if isinstance(value, np.ndarray) and value.dtype in (np.float32, np.bool_):
                self._hold(name, np.ascontiguousarray(value, np.float32))
                if value.dtype == np.bool_:
                    self._flags.add(name)

    def take(self, item: Item) -> None:
        """Adds what an item needs, or refuses it."""
        if self._unknown.intersection(item.refs()):
            self._unknown.update(results(item))
            return
        if item.name in self.known or self.given.keys() >= {*results(item)}:
            return
        if not (self._kernel(item) if isinstance(item, Fused) else self._node(item)):
            self.refused.append(item.root if isinstance(item, Fused) else item)
            self._unknown.update(results(item))

    def _hold(self, name: str, array: Array) -> None:
        self.added.memory[name] = array
        self.added.looks[name] = Look(name, array)

    def _place(self, name: str, form: Form) -> Array:
        """A result with memory of its own."""
        if form.n_bytes > MAX_BYTES:
            raise LowerError(f"`{name}`: expected at most {MAX_BYTES} bytes, got {form.n_bytes}")
        self.added.made[name] = form
        self._hold(name, form.cut(np.empty(form.n_bytes, np.uint8), 0))
        return self.added.memory[name]

    def _node(self, node: Node) -> bool:
        if node.op == "getitem":
            return self._picked(node)
        source = self._first(node)
        if source is not None and (self._shown(node, source) or self._packed(node, source)):
            return True
        moved = self._copied(node) or self._met(node) or self._chosen(node) or self._passed(node)
        return moved or self._folded(node) or self._multiplied(node) or self._attended(node)

    def _first(self, node: Node) -> Look | None:
        first = node.args[0] if node.args else None
        return self.added.looks.get(first.name) if isinstance(first, Ref) else None

    def _picked(self, node: Node) -> bool:
        first, index = node.args
        several = self._several.get(first.name) if isinstance(first, Ref) else None
        if (
            several is None
            or not isinstance(index, int)
            or not -len(several) <= index < len(several)
        ):
            return False
        self.added.looks[node.name] = several[index]
        return True

    def _shown(self, node: Node, source: Look) -> bool:
        """What moves no number; a reshape of turned numbers is one of a copy in order."""
        shown = look(node, source.array, self.known)
        if shown is None and node.op == "aten.reshape.default" and source.array.dtype == np.float32:
            name = self._in_rows(node.refs()[0], source.array.ndim - 1)
            source = self.added.looks[name]
            shown = look(node, source.array, self.known)
        if shown is not None:
            self.added.looks[node.name] = Look(source.root, shown)
            if node.refs()[0] in self._flags:
                self._flags.add(node.name)
            return True
        several = parts(node, source.array, self.known)
        if several is not None:
            self._several[node.name] = [Look(source.root, part) for part in several]
        return several is not None

    def _packed(self, node: Node, source: Look) -> bool:
        if node.op != "bitpack" or source.array.dtype != np.float32:
            return False
        own, array = BitPack.of(node), source.array
        name = node.refs()[0]
        if not is_in_rows(array, own.channel_axis):
            name = self._in_rows(name, own.channel_axis)
        n_channels = array.shape[own.channel_axis] // own.groups
        outer = [size for axis, size in enumerate(array.shape) if axis != own.channel_axis]
        shape = (*outer, own.groups * -(-n_channels // 8))
        self._place(node.name, Form(shape, np.uint8, len(shape) - 1))
        self.added.items.append(replace(node, args=(Ref(name), *node.args[1:])))
        return True

    def _copied(self, node: Node) -> bool:
        arrays = {n: one.array for n, one in self.added.looks.items()}
        copied = copies_of(node, arrays, self.known) or around_of(node, arrays, self.known)
        if copied is None:
            return False
        axis, made = copied
        self._move(node, axis, made)
        return True

    def _met(self, node: Node) -> bool:
        arrays = {n: one.array for n, one in self.added.looks.items()}
        meeting = meeting_of(node, arrays, self._flags)
        if meeting is None:
            return False
        if node.op in FLAGS:
            self._flags.add(node.name)
        axis, made = meeting
        self._move(node, axis, lambda to: (made(to),))
        return True

    def _chosen(self, node: Node) -> bool:
        chosen = chosen_of(node, {n: one.array for n, one in self.added.looks.items()}, self._flags)
        if chosen is None:
            return False
        self._move(node, *chosen)
        return True

    def _folded(self, node: Node) -> bool:
        fold = fold_of(node, {n: one.array for n, one in self.added.looks.items()})
        if fold is None:
            return False
        axis, made = fold
        self._move(node, axis, lambda to: (made(to),))
        return True

    def _multiplied(self, node: Node) -> bool:
        made = product_of(node, {n: one.array for n, one in self.added.looks.items()})
        if made is None or not isinstance(node.type, TensorType):
            return False
        self._move(node, len(node.type.shape) - 1, lambda to: (made(to),))
        return True

    def _attended(self, node: Node) -> bool:
        """Attention whose rows lie anyhow: the products have memory of their own."""
        for name in node.refs()[3:]:
            mask = self.work.constants.get(name)
            if isinstance(mask, np.ndarray) and mask.dtype == np.bool_:
                self._hold(as_floats(name), added(mask))
        attention = attends(node, {n: one.array for n, one in self.added.looks.items()})
        if attention is None or not isinstance(node.type, TensorType):
            return False
        form = Form(attention.scores, np.float32, len(attention.scores) - 1)
        lines, scores = self._lines(node.name, form)
        axis = len(node.type.shape) - 1
        node = replace(node, args=(*node.args, Ref(lines)))
        self._move(node, axis, lambda to: attention.calls(lines, scores, to))
        return True

    def _lines(self, name: str, form: Form) -> tuple[str, Array]:
        """Memory that a call works on: its name, and it."""
        lines = f"{LINES_OF}{name}"
        array = self._place(lines, form)
        self.added.items.append(Node(lines, LINES, (), {}, TensorType("float32", form.shape)))
        return lines, array

    def _move(self, node: Node, axis: int, made: Callable[[Array], Move]) -> None:
        assert isinstance(node.type, TensorType), "a move gives one tensor"
        (form,) = forms([replace(record_of(node, "", axis, "rows"))], 1).values()
        to = self._place(node.name, form)
        self.added.moves[node.name] = made(to)
        self.added.items.append(node)

    def _passed(self, node: Node) -> bool:
        """An elementwise step by itself, as a pass of the kernels."""
        for value in dict.fromkeys(node.refs()):
            kind = self._types.get(value)
            is_float = isinstance(kind, TensorType) and kind.dtype == "float32" and kind.shape
            if not is_float or value in self.work.constants:
                continue
            axis = channel_axis_of(value, self._types, [node], self.work.constants)
            if axis is None:
                continue
            step = as_step(node, value, axis, self._types, self.work.constants)
            if step is None:
                continue
            item = replace(record_of(node, value, axis, "rows"), steps=(step,))
            try:
                kernel = make_kernel(item, self.work.constants, self._types)
            except ArtifactError:
                return False
            self.added.kernels[item.name] = kernel
            return self._kernel(item)
        return False

    def _in_rows(self, name: str, axis: int) -> str:
        """The name of a copy whose channels lie innermost."""
        copied = f"{name} by axis {axis}"  # no program has a name with spaces
        if copied not in self.added.made:
            array = self.added.looks[name].array
            to = self._place(copied, Form(array.shape, np.float32, axis))
            kind = TensorType("float32", array.shape)
            self.added.items.append(Node(copied, "copy", (Ref(name),), {}, kind))
            self.added.moves[copied] = (Copy(name, array, to),)
            self.added.origins[copied] = name
        return copied

    def _kernel(self, item: Fused) -> bool:
        kernel = self.added.kernels[item.name]
        renamed: dict[str, str] = {}
        for name, axis in reads(item):
            one = self.added.looks.get(name)
            if one is None:
                return False
            array, own = one.array, one.array.ndim - 1 if axis is None else axis
            takes_strides = name == item.source and (item.producer or item).kind == "conv"
            if is_in_rows(array, own) or (takes_strides and name not in other_names(item)):
                continue
            if axis is None or array.dtype != np.float32:
                return False
            renamed[name] = self._in_rows(name, own)
        item = reading(item, renamed) if renamed else item
        self.added.items.append(self._with_lines(item, kernel))
        for name, form in forms([item], 1).items():
            self._place(name, form)
        return True

    def _with_lines(self, item: Fused, kernel: Kernel) -> Fused:
        """Some kernels work on memory that is there for that moment alone."""
        shape = lines_shape(kernel)
        if shape is None:
            return item
        name, _ = self._lines(item.name, Form(shape, np.float32, 1))
        axes = (*item.others_axes, 1) if item.others_axes else ()
        return replace(item, others=(*item.others, name), others_axes=axes)
