"""One item of a schedule as a function: everything that can be looked up before has been."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from irbin.errors import ArtifactError
from irbin.kernels import native
from irbin.kernels.kernel import Kernel
from irbin.messages import first_line
from irbin.program.fused import Fused, Item
from irbin.program.shapes import sizes
from irbin.program.types import INT, Dtype, Node, Ref, TensorType, Value, ValueType, one_tensor
from irbin.runtime.layers import other_names
from irbin.runtime.operators import Operation, dtype

Values = dict[str, Any]
"""What there is so far, by name."""
Call = Callable[[Values, int], None]
"""Does one item: reads and writes values by name, on at most so many threads."""
Declared = tuple[torch.dtype, tuple[int, ...]]
"""What a file says of a value, for one batch size."""


def fused_call(
    item: Fused,
    kernel: Kernel,
    buffers: Mapping[str, Tensor],
    types: Mapping[str, ValueType],
    n: int,
) -> Call:
    """A kernel's call: addresses of planned results are looked up now, those of torch's later."""
    y = buffers.get(item.floats or "")
    bits = buffers.get(item.bits or "")
    names = (item.source, *other_names(item))
    first = item.producer or item  # the one that reads the source
    source_is_bits, may_be_planes = first.kind == "dot", first.kind == "conv"
    shape = sizes(item.type, n)
    n_rows = shape[0]  # images, or windows of them, as networks that attend locally make
    if item.takes_rows:
        n_rows = math.prod(size for axis, size in enumerate(shape) if axis != item.channel_axis)
    # a kernel looks at nothing but addresses, and a file may declare what it likes
    declared = [(name, _declared(types[name], n)) for name in names if name in types]
    if not native.is_native():
        return _defined_call(item, kernel, names, declared, y, bits)
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

    def looked_up(values: Values, n_threads: int) -> None:
        for name, kind in declared:
            _check_is(name, values[name], kind)
        x, *rest = names
        source = values[x]
        planes = may_be_planes and source.is_contiguous() and source.shape[1] > 1
        ready = source_is_bits or planes
        source = source.contiguous() if ready else in_order(source, axis)
        residuals = [in_order(values[name], axis) for name in rest]
        at = [r.data_ptr() for r in residuals]
        run(source.data_ptr(), n_rows, at, y_at, bits_at, n_threads, planes)

    return looked_up


def _defined_call(
    item: Fused,
    kernel: Kernel,
    names: Sequence[str],
    declared: Sequence[tuple[str, Declared]],
    y: Tensor | None,
    bits: Tensor | None,
) -> Call:
    """The same by the reference, on arrays."""
    axis = item.channel_axis

    def rows(tensor: Tensor, at: int = axis) -> Any:
        last = in_order(tensor, at).movedim(at, -1).numpy()
        if item.root.op == "bgemm" or item.kind == "linear":
            return last.reshape(-1, 1, 1, last.shape[-1])
        if last.ndim == 2 and item.kind == "average":  # a mean that keeps no axes
            return last[:, None, None, :]
        return last if item.kind != "rows" else last.reshape(-1, last.shape[-1])

    def call(values: Values, _: int) -> None:
        for name, kind in declared:
            _check_is(name, values[name], kind)
        source, *residuals = (values[name] for name in names)
        is_bits = (item.producer or item).kind == "dot"
        x = rows(source, source.dim() - 1) if is_bits else rows(source)
        made = None if y is None else rows(y)
        packed = None if bits is None else rows(bits, bits.dim() - 1)
        kernel.define(x, [rows(r) for r in residuals], made, packed)

    return call


def node_call(node: Node, operation: Operation, constants: Mapping[str, Any]) -> Call:
    """A torch operator's call, constants filled in now."""
    name = node.name
    args = [resolve(a, constants) for a in node.args]
    kwargs = {key: resolve(v, constants) for key, v in node.kwargs.items()}
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


def resolve(value: Value, constants: Mapping[str, Any]) -> Any:
    """Constants in place of their names; other references stay."""
    if isinstance(value, Ref):
        return constants.get(value.name, value)
    if isinstance(value, tuple):
        return [resolve(item, constants) for item in value]
    return dtype(value) if isinstance(value, Dtype) else value


def _is_open(value: Any) -> bool:
    return isinstance(value, Ref) or (isinstance(value, list) and any(map(_is_open, value)))


def _fill(value: Any, values: Values) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    return [_fill(item, values) for item in value] if isinstance(value, list) else value


def in_order(x: Tensor, channel_axis: int) -> Tensor:
    """The tensor with its channels innermost in memory."""
    if channel_axis == x.dim() - 1:
        return x.contiguous()
    return x.contiguous(memory_format=torch.channels_last)


def _is_in_order(x: Tensor, channel_axis: int) -> bool:
    return in_order(x, channel_axis).data_ptr() == x.data_ptr()


def _declared(kind: ValueType, n: int) -> Declared:
    tensor = one_tensor(kind)
    return dtype(Dtype(tensor.dtype)), sizes(tensor, n)


def _check_is(name: str, value: Any, kind: Declared) -> None:
    got = (value.dtype, value.shape) if isinstance(value, Tensor) else type(value).__name__
    if got != kind:
        raise ValueError(f"`{name}` is declared as {kind}, but torch gives {got}")


def check_claim(node: Node, value: Any, n: int) -> None:
    """Holds what torch gave against what the program declares.

    Raises:
        ValueError: it is another type, shape or number of results.
    """
    kinds, values = (node.type, value) if isinstance(node.type, tuple) else ((node.type,), (value,))
    fits = isinstance(values, list | tuple) and len(values) == len(kinds)
    if fits:
        fits = all(_is_claimed(one, k, n) for one, k in zip(values, kinds, strict=True))
    if not fits:
        declared = ", ".join(map(str, kinds))
        raise ValueError(f"it gives {_described(values)}, but {declared} is declared")


def _is_claimed(value: Any, kind: TensorType, n: int) -> bool:
    if kind.dtype == INT:
        return isinstance(value, int)
    return isinstance(value, Tensor) and (value.dtype, value.shape) == _declared(kind, n)


def _described(values: Any) -> str:
    results = values if isinstance(values, list | tuple) else (values,)
    return ", ".join(
        f"{str(v.dtype).removeprefix('torch.')}[{','.join(map(str, v.shape))}]"
        if isinstance(v, Tensor)
        else type(v).__name__
        for v in results[:4]
    )


def failure(item: Item | None, error: Exception, n: int = 0) -> str:
    """One line for what an item raised for n images; None stands for the program as a whole."""
    what = first_line(error)
    node = item.root if isinstance(item, Fused) else item
    where = "the program" if node is None else f"node `{node.name}` ({node.op})"
    if isinstance(error, MemoryError) or "can't allocate memory" in what:
        what = "out of memory" + (f" for {n} images; try fewer at once" if n > 1 else "")
    return f"{where} fails: {what}"


def joined(parts: list[list[Tensor]], x: Tensor) -> Tensor | list[Tensor]:
    """What the caller gets on the device of x, of the results of a batch's parts."""
    try:
        whole = [
            (of_parts[0] if len(parts) == 1 else torch.cat(of_parts)).to(x.device)
            for of_parts in zip(*parts, strict=True)
        ]
    except RuntimeError as error:
        raise ArtifactError(failure(None, error, len(x))) from error
    return whole[0] if len(whole) == 1 else whole
