"""What torch runs, and our operators between its nodes: nodes as functions, results checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from irbin.messages import first_line, lacks_memory
from irbin.program.claims import INTEGERS
from irbin.program.fused import Fused, Item
from irbin.program.shapes import SIZE, sizes
from irbin.program.types import INT, Dtype, Node, Ref, TensorType, Value, ValueType, one_tensor
from irbin.runtime.arrays import as_array, as_tensor, dtype_name, is_shaped
from irbin.runtime.operators import OWN_OPERATIONS, Operation, dtype
from irbin.runtime.views import VIEWS, look

if TYPE_CHECKING:
    from torch import Tensor

Values = dict[str, Any]
"""What there is so far, by name: arrays, or tensors where torch computes."""
Call = Callable[[Values, int], None]
"""Does one item: reads and writes values by name, on at most so many threads."""
Declared = tuple[str, tuple[int, ...]]
"""What a file says of a value, for one batch size: element type and shape."""


def runs_torch(node: Node) -> bool:
    """Whether torch computes a node that no kernel does."""
    return node.op not in OWN_OPERATIONS and node.op not in VIEWS


def is_look(item: Item) -> bool:
    """Whether an item computes nothing: a size, a part of several results, another view."""
    return isinstance(item, Node) and item.op in {*VIEWS, SIZE, "getitem", *INTEGERS}


def short(op: str) -> str:
    """An operator's name without where it is from: `relu` of `aten.relu.default`."""
    return op.split(".")[1] if op.startswith("aten.") else op


@contextmanager
def plainly() -> Iterator[None]:
    """torch's operators keep no graph and make no half-precision values, whatever a caller set."""
    import torch

    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield


def node_call(node: Node, operation: Operation, constants: Mapping[str, Any]) -> Call:
    """A node's call, constants filled in now: on tensors if it is torch's, else on arrays."""
    name = node.name
    turned = as_array if node.op in OWN_OPERATIONS else as_tensor
    known = {key: turned(constants[key]) for key in node.refs() if key in constants}
    args = [resolve(a, known) for a in node.args]
    kwargs = {key: resolve(v, known) for key, v in node.kwargs.items()}
    first, *rest = args if args else (None,)
    if isinstance(first, Ref) and not any(map(_is_open, (*rest, *kwargs.values()))):
        source = first.name

        def unary(values: Values, _: int) -> None:
            values[name] = operation(turned(values[source]), *rest, **kwargs)

        return unary

    def fill(value: Any, values: Values) -> Any:
        if isinstance(value, Ref):
            return turned(values[value.name])
        return [fill(item, values) for item in value] if isinstance(value, list) else value

    def call(values: Values, _: int) -> None:
        values[name] = operation(
            *(fill(a, values) for a in args), **{k: fill(v, values) for k, v in kwargs.items()}
        )

    return call


def look_call(node: Node, known: Mapping[str, Any]) -> Call:
    """A view's call, on arrays: a copy where numbers have to move."""
    name, source = node.name, node.refs()[0]

    def call(values: Values, _: int) -> None:
        there = {**known, **values}
        values[name] = look(node, as_array(there[source]), there)

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


def in_order(x: Tensor, channel_axis: int) -> Tensor:
    """The tensor with its channels innermost in memory."""
    import torch

    if channel_axis == x.dim() - 1:
        return x.contiguous()
    return x.contiguous(memory_format=torch.channels_last)


def declared(kind: ValueType, n: int) -> Declared:
    """What the program says of a tensor, for n images."""
    tensor = one_tensor(kind)
    return tensor.dtype, sizes(tensor, n)


def check_is(name: str, value: Any, kind: Declared) -> None:
    """Refuses a tensor that is not what the program declares.

    Raises:
        ValueError: it is another one.
    """
    if not is_shaped(value) or (dtype_name(value), tuple(value.shape)) != kind:
        raise ValueError(f"`{name}` is declared as {kind}, but torch gives {_described(value)}")


def check_claim(node: Node, value: Any, n: int) -> None:
    """Holds what a node gave against what the program declares.

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
    return is_shaped(value) and (dtype_name(value), tuple(value.shape)) == declared(kind, n)


def _described(values: Any) -> str:
    results = values if isinstance(values, list | tuple) else (values,)
    return ", ".join(
        f"{dtype_name(v)}[{','.join(map(str, v.shape))}]" if is_shaped(v) else type(v).__name__
        for v in results[:4]
    )


def failure(item: Item | None, error: Exception, n: int = 0) -> str:
    """One line for what an item raised for n images; None stands for the program as a whole."""
    what = first_line(error)
    node = item.root if isinstance(item, Fused) else item
    where = "the program" if node is None else f"node `{node.name}` ({node.op})"
    if lacks_memory(error):
        what = "out of memory" + (f" for {n} images; try fewer at once" if n > 1 else "")
    return f"{where} fails: {what}"
