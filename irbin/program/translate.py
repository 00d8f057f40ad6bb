"""Graph of `torch.export` to nodes of a program, one at a time: names, types, what is left out."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx

from irbin.errors import ArtifactError, LowerError, MixedImagesError
from irbin.program.batch import check_images_apart
from irbin.program.foreign import mixes_images
from irbin.program.place import module_path, place
from irbin.program.program import Program
from irbin.program.synonyms import in_other_words
from irbin.program.types import BATCH, INT, Dtype, Node, Ref, TensorType, Value, ValueType
from irbin.program.vocabulary import OWN_OPERATORS, signatures

RENAMED = {
    "aten.view.default": "aten.reshape.default",  # strides are the runtime's business
    "aten._unsafe_view.default": "aten.reshape.default",
    "aten.__and__.Tensor": "aten.bitwise_and.Tensor",
    "aten.__or__.Tensor": "aten.bitwise_or.Tensor",
    **{f"irbin.{name}.default": name for name in OWN_OPERATORS},
}
"""ATen's name to the program's, where one operator has several."""

FUNCTIONS: dict[object, str] = {
    operator.getitem: "getitem",
    operator.add: "int_add",
    operator.sub: "int_sub",
    operator.mul: "int_mul",
    operator.floordiv: "int_floordiv",
    operator.mod: "int_mod",
}
"""Python functions in an exported graph: picking from several results, and arithmetic on sizes."""

IDENTITIES = frozenset(
    {
        "aten.clone.default",
        "aten.alias.default",
        "aten.detach.default",
        "aten.detach_.default",
        "aten.contiguous.default",
        "aten.lift_fresh_copy.default",
        "aten.dropout.default",  # exported in eval mode
        "aten.feature_dropout.default",
        "aten.alpha_dropout.default",
    }
)
"""Operators whose result is their first argument."""

BATCH_NORMS = frozenset(
    {
        "aten._native_batch_norm_legit_no_training.default",
        "aten.native_batch_norm.default",
        "aten.batch_norm.default",
    }
)
"""Batch norm in eval mode, as the versions of torch decompose it."""

WHERE_IT_RUNS = ("device", "layout", "pin_memory", "memory_format", "non_blocking")
"""Keyword arguments that a program does not hold."""


_NODE = re.compile(r"node `([^`]+)`")
"""How an error of a program begins that is about one node."""


class Translation:
    """A program in the making. Nodes are added in execution order, then `result` is called."""

    def __init__(self) -> None:
        self.inputs: dict[str, TensorType] = {}
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.outputs: tuple[str, ...] = ()
        self._values: dict[fx.Node, Value] = {}
        self.places: dict[str, str] = {}
        self._n_named: dict[str, int] = {}
        self._constants: dict[fx.Node, object] = {}
        self._place = ""
        self._batch_symbol = ""

    def add_input(self, node: fx.Node) -> None:
        """The images. Their first size is the batch."""
        shape = node.meta["val"].shape
        self._batch_symbol = str(shape[0])
        self.inputs[node.name] = self._type(node.meta["val"])
        self._values[node] = Ref(node.name)

    def add_constant(self, node: fx.Node, name: str, tensor: Tensor) -> None:
        """A parameter, buffer or literal tensor under its name in the file."""
        self._values[node] = self._hold(name, tensor)
        self._constants[node] = tensor

    def add_node(self, node: fx.Node) -> None:
        """One call of the graph.

        Raises:
            LowerError: a program may not name the operator.
        """
        name = FUNCTIONS.get(node.target) or str(node.target)
        self._place = place(node)
        if name in IDENTITIES:
            self._values[node] = self._values[node.all_input_nodes[0]]
        elif name in BATCH_NORMS:
            self._values[node] = self._batch_norm(
                node, one_result=name == "aten.batch_norm.default"
            )
        elif name == "getitem" and isinstance(whole := self._value(node.args[0]), tuple):
            self._values[node] = whole[int(str(node.args[1]))]  # of a batch norm
        elif name == "aten.instance_norm.default":
            self._values[node] = self._instance_norm(node)
        elif RENAMED.get(name, name) not in signatures() and self._is_constant(node):
            self._values[node] = self._folded(node)
        elif (words := in_other_words(name, node)) is not None:
            args = tuple(self._value(a) for a in words[1])
            self._values[node] = self._emit(words[0], args, {}, self._type(node.meta["val"]))
        else:
            self._values[node] = self._call(node, RENAMED.get(name, name))

    def finish(self, results: tuple[object, ...], paths: Sequence[str]) -> None:
        """The graph's outputs, in order.

        Args:
            results: what the graph returns, flat.
            paths: where each stands in what the network returns, for messages.

        Raises:
            LowerError: there is none, or one is not a tensor.
        """
        values = [self._values.get(r) if isinstance(r, fx.Node) else None for r in results]
        names = tuple(value.name for value in values if isinstance(value, Ref))
        if not values:
            raise LowerError("expected a network that returns tensors, got one that returns none")
        for result, path in zip(results, paths, strict=True):
            if not isinstance(result, fx.Node) or not isinstance(result.meta.get("val"), Tensor):
                what = "a size" if isinstance(result, fx.Node) else f"{result!r}"
                raise LowerError(
                    f"expected a network that returns tensors alone, but `{path}` is {what}"
                )
        self.outputs = names

    def result(self) -> tuple[Program, dict[str, Tensor]]:
        """The program and its constants.

        Raises:
            LowerError: the program breaks a rule of its own language, or mixes images.
        """
        read = set(self.outputs)  # weights that were folded leave nodes that nobody reads
        for node in reversed(self.nodes):
            if node.name in read:
                read.update(node.refs())
        nodes = tuple(node for node in self.nodes if node.name in read)
        tensors = {name: t for name, t in self.tensors.items() if name in read}
        types = {name: _tensor_type(t) for name, t in tensors.items()}
        # first, since it knows the line of the source
        check_images_apart(self.inputs, types, nodes, self.places)
        try:
            return Program(self.inputs, types, nodes, self.outputs), tensors
        except ArtifactError as error:
            named = _NODE.match(str(error))
            where = self.places.get(named[1], "") if named else ""
            raise LowerError(
                f"the network cannot be written as a program: {error}"
                + f"; it stands for code{where}" * bool(where)
            ) from error

    def _hold(self, name: str, tensor: Tensor) -> Ref:
        """A constant under `name`, or under a variant of it if another one has it already."""
        held, free, count = tensor.detach().contiguous(), name, 1
        while free in self.tensors and not _same(self.tensors[free], held):
            count += 1
            free = f"{name}_{count}"
        self.tensors.setdefault(free, held)
        return Ref(free)

    def _call(self, node: fx.Node, op: str) -> Ref:
        if op not in signatures():
            if mixes_images(node):
                raise MixedImagesError(
                    f"`{op}`{self._place} mixes the images of a batch; a packed network runs a "
                    "batch in parts, so each image's result must depend on that image alone"
                )
            raise LowerError(
                f"operator `{op}`{self._place} is not one that a packed network may use; "
                "see `irbin/program/vocabulary.py` for those that are"
            )
        args = tuple(self._value(a) for a in node.args)
        kept = {k: v for k, v in node.kwargs.items() if k not in WHERE_IT_RUNS}
        if op == "aten.reshape.default":
            args = (args[0], self._settled_shape(node, args[1]))
        kind = self._value_type(node.meta["val"])
        return self._emit(op, args, {k: self._value(v) for k, v in kept.items()}, kind)

    def _settled_shape(self, node: fx.Node, shape: Value) -> Value:
        """Puts a known size for −1, which means nothing in a batch of 0 images."""
        sizes = node.meta["val"].shape
        if not isinstance(shape, tuple) or len(shape) != len(sizes):
            return shape
        return tuple(
            size if asked == -1 and isinstance(size, int) else asked
            for asked, size in zip(shape, sizes, strict=True)
        )

    def _emit(
        self, op: str, args: tuple[Value, ...], kwargs: dict[str, Value], kind: ValueType
    ) -> Ref:
        base = op if op in OWN_OPERATORS or "." not in op else op.split(".")[1].strip("_")
        while True:
            count = self._n_named[base] = self._n_named.get(base, 0) + 1
            name = base if count == 1 else f"{base}_{count - 1}"
            if name not in self.inputs and name not in self.tensors:
                break
        self.nodes.append(Node(name, op, args, kwargs, kind))
        self.places[name] = self._place
        return Ref(name)

    def _batch_norm(self, node: fx.Node, *, one_result: bool) -> Value:
        """y = x·multiply + add, with the constants computed in double and rounded once.

        multiply = weight / √(var + ε), add = bias − mean·multiply, of the rounded multiply: so a
        value equal to its mean gives the bias exactly, and exact zeros keep their sign.
        """
        x, weight, bias, mean, var = (self._value(a) for a in node.args[:5])
        epsilon = float(str(node.args[7 if one_result else -1]))
        if not isinstance(mean, Ref) or not isinstance(var, Ref) or mean.name not in self.tensors:
            raise LowerError(f"batch norm{self._place}: expected running statistics, got none")
        multiply = (self.tensors[var.name].double() + epsilon).rsqrt()
        if isinstance(weight, Ref):
            multiply = multiply * self.tensors[weight.name].double()
        multiply = multiply.float().double()
        add = -self.tensors[mean.name].double() * multiply
        if isinstance(bias, Ref):
            add = add + self.tensors[bias.name].double()
        result = node.meta["val"] if one_result else node.meta["val"][0]
        after = [1] * (result.dim() - 2)
        prefix = mean.name.removesuffix("running_mean").removesuffix(".") or "batch_norm"
        held: list[Ref] = []
        for role, vector in (("multiply", multiply), ("add", add)):
            constant = vector.float().reshape(-1, *after)
            if not bool(torch.isfinite(constant).all()):
                raise LowerError(f"batch norm `{prefix}`: its statistics give no finite `{role}`")
            held.append(self._hold(f"{prefix}.{role}", constant))
        kind = self._type(result)
        product = self._emit("aten.mul.Tensor", (x, held[0]), {}, kind)
        total = self._emit("aten.add.Tensor", (product, held[1]), {}, kind)
        return total if one_result else (total, None, None)

    def _instance_norm(self, node: fx.Node) -> Value:
        """With statistics of each image: a group norm of one channel a group; else a batch norm."""
        if not node.args[5]:
            return self._batch_norm(node, one_result=True)
        x, weight, bias = (self._value(a) for a in node.args[:3])
        n_channels, epsilon = int(node.meta["val"].shape[1]), float(str(node.args[7]))
        args = (x, n_channels, weight, bias, epsilon)
        return self._emit("aten.group_norm.default", args, {}, self._type(node.meta["val"]))

    def _is_constant(self, node: fx.Node) -> bool:
        """Whether a node depends on weights alone; what it takes is computed on the way."""
        if node in self._constants:
            return True
        if node.op != "call_function" or not all(map(self._is_constant, node.all_input_nodes)):
            return False
        known = cast("dict[fx.Node, Any]", self._constants)
        args, kwargs = cast("Any", fx.node.map_arg((node.args, node.kwargs), known.__getitem__))
        with torch.no_grad():
            self._constants[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        return True

    def _folded(self, node: fx.Node) -> Value:
        """The value of a node on weights alone, whose operator a program may not name."""
        value = self._constants[node]
        prefix = f"{module_path(node)}.{node.name}".removeprefix(".")
        if isinstance(value, Tensor):
            return self._hold(prefix, value)
        if isinstance(value, list | tuple) and all(isinstance(v, Tensor) for v in value):
            return tuple(self._hold(f"{prefix}.{i}", one) for i, one in enumerate(value))
        raise LowerError(f"`{node.target}`{self._place}: expected tensors, got {value!r}")

    def _value(self, value: object) -> Value:
        if isinstance(value, fx.Node):
            return self._values[value]
        if isinstance(value, list | tuple):
            return tuple(self._value(item) for item in value)
        if isinstance(value, torch.dtype):
            return Dtype(str(value).removeprefix("torch."))
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise LowerError(f"an argument {value!r} cannot be written in a program")

    def _value_type(self, value: object) -> ValueType:
        if isinstance(value, list | tuple):
            return tuple(self._type(item) for item in value)
        return self._type(value)

    def _type(self, value: object) -> TensorType:
        if not isinstance(value, Tensor):
            return TensorType(INT)
        dtype = str(value.dtype).removeprefix("torch.")
        return TensorType(dtype, tuple(self._size(size) for size in value.shape))

    def _size(self, size: int | torch.SymInt) -> int | str:
        if isinstance(size, int):
            return size
        text = str(size.node.expr)
        symbols = {str(symbol) for symbol in size.node.expr.free_symbols}
        if symbols != {self._batch_symbol}:
            raise LowerError(f"the shape{self._place} depends on the images' values: {text}")
        return text.replace(self._batch_symbol, BATCH)


def _tensor_type(tensor: Tensor) -> TensorType:
    return TensorType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.dtype == other.dtype and torch.equal(one, other))
