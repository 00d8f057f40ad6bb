"""A program made ready for one batch size: calls in order, addresses known, memory set aside.

A plan is for one caller at a time. Its first run keeps every result apart and looks which of
torch's results are views of ours; then one block of memory is laid out for all later runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from irbin.errors import ArtifactError
from irbin.kernels import native
from irbin.kernels.kernel import Kernel
from irbin.program.fused import Fused, Item, results
from irbin.program.types import Dtype, Node, Ref, TensorType, Value, ValueType
from irbin.runtime.buffers import Need, place
from irbin.runtime.layers import residual_names
from irbin.runtime.operators import Operation, dtype
from irbin.runtime.shapes import sizes

Values = dict[str, Any]
Call = Callable[[Values, int], None]
"""Does one item: reads and writes values by name, on at most so many threads."""
Watch = Callable[[Item, Values, float], None]
"""Told of every item after it is done, with all values there are and its seconds."""


ANY_LAYOUT = ("bitpack", "aten.sym_size.int")
"""Operators that give the same however their input lies in memory; our kernels do too."""


@dataclass(frozen=True, eq=False)
class Work:
    """What a model hands to its plans, the same for every batch size."""

    items: tuple[Item, ...]
    """In order."""
    kernels: Mapping[str, Kernel]
    """Of the fused items, by name."""
    operations: Mapping[str, Operation]
    """Of the others, by operator."""
    constants: Mapping[str, Any]
    """Known values."""
    source: str
    """Name of the images."""
    output: str
    """Name of the result."""


class Plan:
    """The calls for batches of n images.

    Args:
        work: what to do.
        n: images.
        keep_apart: never lay results out in shared memory, for a caller who keeps them.
    """

    def __init__(self, work: Work, n: int, *, keep_apart: bool = False) -> None:
        self.work, self.n = work, n
        self._last = _last_uses(work)
        self._constants_at = {
            c.untyped_storage().data_ptr() for c in work.constants.values() if isinstance(c, Tensor)
        }
        self._is_read_by_torch = any(
            isinstance(item, Node) and item.op not in ANY_LAYOUT and work.source in item.refs()
            for item in work.items
        )
        self._is_final = keep_apart
        self._views: dict[str, set[str]] = {}
        self._buffers = self._apart()
        self._calls = self._make_calls()

    @property
    def n_bytes(self) -> int:
        """Memory set aside for the kernels' results."""
        storages = {
            b.untyped_storage().data_ptr(): b.untyped_storage().nbytes()
            for b in self._buffers.values()
        }
        return sum(storages.values())

    def run(self, x: Tensor, n_threads: int, watch: Watch | None = None) -> Tensor:
        """The result for n images; its memory is the caller's.

        Args:
            x: float32 (n, channels, height, width).
            n_threads: for our kernels.
            watch: told of every item.

        Raises:
            ArtifactError: an item fails; it is named.
        """
        values: Values = {self.work.source: self._laid_out(x), **self._buffers}
        if self.work.output in self.work.constants:
            values[self.work.output] = self.work.constants[self.work.output]
        item: Item | None = None
        try:
            for item, call, done in zip(self.work.items, self._calls, self._last, strict=True):
                start = time.perf_counter() if watch is not None else 0.0
                call(values, n_threads)
                if watch is not None:
                    watch(item, values, time.perf_counter() - start)
                if not self._is_final:
                    self._look_for_views(item, values)
                for name in done:
                    del values[name]
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
            raise _named(item, error) from error
        y: Tensor = values[self.work.output]
        if self._is_ours(y) or _shares(y, x):
            y = y.clone()
        if not self._is_final:
            self._settle()
        return y

    def _laid_out(self, x: Tensor) -> Tensor:
        """The images channels-last, if torch reads them: it rounds by how they lie in memory."""
        if not self._is_read_by_torch:
            return x
        return _in_order(x, 1 if x.dim() == 4 else x.dim() - 1)

    def _is_ours(self, y: Tensor) -> bool:
        """Whether a tensor lies in memory of this plan, or of the model's constants."""
        if y.untyped_storage().data_ptr() in self._constants_at:
            return True
        return any(_shares(y, buffer) for buffer in self._buffers.values())

    def _settle(self) -> None:
        """Lays results out in one block, now that it is known who needs them how long."""
        offsets, total = place(self._needs())
        block = torch.empty(total, dtype=torch.uint8, device="cpu")
        self._buffers = {
            name: _view(block, offsets[name], buffer) for name, buffer in self._buffers.items()
        }
        self._calls = self._make_calls()
        self._is_final = True

    def _needs(self) -> list[Need]:
        items = self.work.items
        last = {self.work.output: len(items)}
        for i, item in enumerate(items):
            for name in item.refs():
                last[name] = max(last.get(name, i), i)
        # what a view is needed for, its owner is needed for; later views first, as views of views
        for item in reversed(items):
            for name in results(item):
                for owner in self._views.get(name, ()):
                    last[owner] = max(last.get(owner, -1), last.get(name, -1))
        needs = []
        for i, item in enumerate(items):
            over = self._overwritable(item) if isinstance(item, Fused) else ()
            for name in results(item):
                if name in self._buffers:
                    n_bytes = self._buffers[name].nbytes
                    needs.append(Need(name, n_bytes, i, max(last.get(name, i), i), over))
        return needs

    def _overwritable(self, item: Fused) -> tuple[str, ...]:
        """What it adds, unless it also reads it at other places: windows reach further back."""
        source = {item.source, *self._views.get(item.source, ())}
        return tuple(name for name in residual_names(item) if name not in source)

    def _look_for_views(self, item: Item, values: Values) -> None:
        """Notes whether torch's result lies in a result of ours."""
        if isinstance(item, Fused):
            return
        made = values[item.name]
        for tensor in made if isinstance(made, list | tuple) else (made,):
            if isinstance(tensor, Tensor):
                owners = {name for name, b in self._buffers.items() if _shares(tensor, b)}
                self._views.setdefault(item.name, set()).update(owners)

    def _apart(self) -> dict[str, Tensor]:
        """Memory of its own for every result of a kernel, as the program sees its shape."""
        found = {}
        for item in self.work.items:
            if not isinstance(item, Fused):
                continue
            if item.floats is not None:
                shape = sizes(item.type, self.n)
                layout = _layout(item.type, item.channel_axis)
                found[item.floats] = torch.empty(
                    shape, dtype=torch.float32, device="cpu", memory_format=layout
                )
            if item.bits is not None and item.bits_type is not None:
                shape = sizes(item.bits_type, self.n)
                found[item.bits] = torch.empty(shape, dtype=torch.uint8, device="cpu")
        return found

    def _make_calls(self) -> list[Call]:
        types = {item.name: item.type for item in self.work.items if isinstance(item, Node)}
        return [
            _fused_call(item, self.work.kernels[item.name], self._buffers, types, self.n)
            if isinstance(item, Fused)
            else _node_call(item, self.work.operations[item.op], self.work.constants)
            for item in self.work.items
        ]


def _fused_call(
    item: Fused,
    kernel: Kernel,
    buffers: Mapping[str, Tensor],
    types: Mapping[str, ValueType],
    n: int,
) -> Call:
    """A kernel's call: addresses of planned results are looked up now, those of torch's later."""
    y = buffers.get(item.floats or "")
    bits = buffers.get(item.bits or "")
    names = (item.source, *residual_names(item))
    first = item.producer or item  # the one that reads the source
    source_is_bits, may_be_planes = first.kind == "dot", first.kind == "conv"
    n_rows = n
    if item.root.op == "bgemm" or item.kind == "rows":
        shape = sizes(item.type, n)
        n_rows = 1
        for axis, size in enumerate(shape):
            n_rows *= size if axis != item.channel_axis else 1
    if not native.is_native():
        return _defined_call(item, kernel, names, y, bits)
    y_at = 0 if y is None else y.data_ptr()
    bits_at = 0 if bits is None else bits.data_ptr()
    run, axis = kernel.run, item.channel_axis
    ready = [name in buffers and _is_in_order(buffers[name], axis) for name in names]
    if source_is_bits:
        ready[0] = item.source in buffers
    if all(ready):
        x_at, *residuals_at = (buffers[name].data_ptr() for name in names)

        def planned(_: Values, n_threads: int) -> None:
            run(x_at, n_rows, residuals_at, y_at, bits_at, n_threads)

        return planned

    # a kernel looks at nothing but addresses, and a file may declare what it likes
    declared = [(name, _declared(types[name], n)) for name in names if name in types]

    def found(values: Values, n_threads: int) -> None:
        for name, kind in declared:
            _check_is(name, values[name], kind)
        x, *rest = names
        source = values[x]
        planes = may_be_planes and source.is_contiguous() and source.shape[1] > 1
        ready = source_is_bits or planes
        source = source.contiguous() if ready else _in_order(source, axis)
        residuals = [_in_order(values[name], axis) for name in rest]
        at = [r.data_ptr() for r in residuals]
        run(source.data_ptr(), n_rows, at, y_at, bits_at, n_threads, planes)

    return found


def _defined_call(
    item: Fused, kernel: Kernel, names: Sequence[str], y: Tensor | None, bits: Tensor | None
) -> Call:
    """The same by the reference, on arrays."""
    axis = item.channel_axis

    def rows(tensor: Tensor, at: int = axis) -> Any:
        last = _in_order(tensor, at).movedim(at, -1).numpy()
        if item.root.op == "bgemm":
            return last.reshape(-1, 1, 1, last.shape[-1])
        return last if item.kind != "rows" else last.reshape(-1, last.shape[-1])

    def call(values: Values, _: int) -> None:
        source, *residuals = (values[name] for name in names)
        is_bits = (item.producer or item).kind == "dot"
        x = rows(source, source.dim() - 1) if is_bits else rows(source)
        made = None if y is None else rows(y)
        packed = None if bits is None else rows(bits, bits.dim() - 1)
        kernel.define(x, [rows(r) for r in residuals], made, packed)

    return call


def _node_call(node: Node, operation: Operation, constants: Mapping[str, Any]) -> Call:
    """A torch operator's call, constants filled in now."""
    name = node.name
    args = [_resolve(a, constants) for a in node.args]
    kwargs = {key: _resolve(v, constants) for key, v in node.kwargs.items()}
    first, *rest = args if args else (None,)
    if isinstance(first, Ref) and not any(map(_is_open, (*rest, *kwargs.values()))):
        source = first.name

        def unary(values: Values, _: int) -> None:
            values[name] = operation(values[source], *rest, **kwargs)

        return unary

    def call(values: Values, _: int) -> None:
        values[name] = operation(
            *(_fill(a, values) for a in args), **{k: _fill(v, values) for k, v in kwargs.items()}
        )

    return call


def _resolve(value: Value, constants: Mapping[str, Any]) -> Any:
    """Constants in place of their names; other references stay."""
    if isinstance(value, Ref):
        return constants.get(value.name, value)
    if isinstance(value, tuple):
        return [_resolve(item, constants) for item in value]
    return dtype(value) if isinstance(value, Dtype) else value


def _is_open(value: Any) -> bool:
    return isinstance(value, Ref) or (isinstance(value, list) and any(map(_is_open, value)))


def _fill(value: Any, values: Values) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    return [_fill(item, values) for item in value] if isinstance(value, list) else value


def _last_uses(work: Work) -> list[tuple[str, ...]]:
    """For each item, torch's results that nothing reads after it."""
    kept = {work.output, *work.constants}
    found: list[tuple[str, ...]] = []
    for item in reversed(work.items):
        own = results(item) if isinstance(item, Node) else ()
        last = {*item.refs(), *own} - kept
        kept |= last
        found.append(tuple(sorted(last)))
    return found[::-1]


def _layout(kind: TensorType, channel_axis: int) -> torch.memory_format:
    last = channel_axis == len(kind.shape) - 1
    return torch.contiguous_format if last else torch.channels_last


def _in_order(x: Tensor, channel_axis: int) -> Tensor:
    """The tensor with its channels innermost in memory."""
    if channel_axis == x.dim() - 1:
        return x.contiguous()
    return x.contiguous(memory_format=torch.channels_last)


def _is_in_order(x: Tensor, channel_axis: int) -> bool:
    return _in_order(x, channel_axis).data_ptr() == x.data_ptr()


def _declared(kind: ValueType, n: int) -> tuple[torch.dtype, tuple[int, ...]]:
    assert isinstance(kind, TensorType), "a kernel reads tensors"
    return dtype(Dtype(kind.dtype)), sizes(kind, n)


def _check_is(name: str, value: Any, kind: tuple[torch.dtype, tuple[int, ...]]) -> None:
    found = (value.dtype, value.shape) if isinstance(value, Tensor) else type(value).__name__
    if found != kind:
        raise ValueError(f"`{name}` is declared as {kind}, but torch gives {found}")


def _view(block: Tensor, offset: int, like: Tensor) -> Tensor:
    """A part of a block as a tensor like another, strides too."""
    flat = block[offset : offset + like.nbytes].view(like.dtype)
    return flat.as_strided(like.shape, like.stride())


def _shares(one: Tensor, other: Tensor) -> bool:
    a, b = one.untyped_storage(), other.untyped_storage()
    return a.data_ptr() == b.data_ptr() and a.nbytes() > 0


def _named(item: Item | None, error: Exception) -> ArtifactError:
    text = str(error).strip().splitlines()
    what = text[0] if text else type(error).__name__
    node = item.root if isinstance(item, Fused) else item
    where = "the program" if node is None else f"node `{node.name}` ({node.op})"
    return ArtifactError(f"{where} fails: {what}")
