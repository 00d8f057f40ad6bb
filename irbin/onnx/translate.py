"""A packed program as an ONNX graph, node by node; what cannot be written is told all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from irbin.artifact.read import Artifact
from irbin.errors import LowerError
from irbin.messages import counted
from irbin.onnx import bits, elementwise, moves, products, windows
from irbin.onnx.call import Call, Signs, Written
from irbin.onnx.graph import Graph, Unwritable
from irbin.program.claims import INTEGERS
from irbin.program.shapes import SIZE
from irbin.program.types import Node, ValueType
from irbin.runtime.arrays import Array, as_array
from irbin.runtime.engine import Engine

_OF_BITS: Mapping[str, Callable[[Call], Written]] = {
    "bconv2d": bits.bconv2d,
    "bgemm": bits.bgemm,
    "bitpack": bits.bitpack,
    "bitunpack": bits.bitunpack,
}
RULES: Mapping[str, Callable[[Call], Written]] = {
    **_OF_BITS,
    **elementwise.RULES,
    **moves.RULES,
    **products.RULES,
    **windows.RULES,
}
"""What writes an operator."""


@dataclass(frozen=True, eq=False)
class Translated:
    """A program as a graph. Made here, read by `model`."""

    graph: Graph
    outputs: tuple[str, ...]
    """Names of the results, as the program has them."""


def translated(artifact: Artifact) -> Translated:
    """The graph of a packed network.

    What depends on constants alone is computed now, but for weights that are bits in the file.

    Args:
        artifact: a packed folder.

    Raises:
        LowerError: ONNX is not written for something in it; every node and operator is named.
    """
    return _Translation(artifact).done()


class _Translation:
    def __init__(self, artifact: Artifact) -> None:
        self.program = artifact.program
        engine = Engine(artifact, fusions=(), float_convs=False, walks=False)
        tensors = {**artifact.tensors, **engine.work.constants}
        self.arrays: dict[str, Array] = {
            name: as_array(value) for name, value in tensors.items() if not isinstance(value, int)
        }
        self.sizes = {name for name, value in tensors.items() if isinstance(value, int)}
        (images,) = self.program.inputs
        self.types: dict[str, ValueType] = {**self.program.inputs, **self.program.constants}
        self.types |= {node.name: node.type for node in self.program.nodes}
        self.graph = Graph(images, set(self.types), artifact.manifest.float_dtype)
        self.values: dict[str, Written] = {images: images}
        self.failed: dict[tuple[str, str], list[str]] = {}
        self.nodes = self._needed({n.name for n in self.program.nodes if engine.is_run(n)})

    def _needed(self, run: set[str]) -> list[Node]:
        """Nodes that are written: those that something reads and no constant stands for.

        Args:
            run: names of nodes that depend on the images.
        """
        from_bits: set[str] = set()
        for node in self.program.nodes:
            if node.op == "bitunpack" or from_bits & set(node.refs()):
                from_bits.add(node.name)
        wanted, nodes = set(self.program.outputs), []
        for node in reversed(self.program.nodes):
            is_known = node.name in self.arrays or node.name in self.sizes
            is_constant = is_known and node.name not in run and node.name not in from_bits
            if node.name in wanted and not is_constant:
                nodes.append(node)
                wanted |= set(node.refs())
        for node in nodes:
            self.arrays.pop(node.name, None)
        return nodes[::-1]

    def done(self) -> Translated:
        for node in self.nodes:
            self._constants_of(node)
            self.values[node.name] = self._written(node)
        if self.failed:
            told = "; ".join(_told(op, why, names) for (op, why), names in self.failed.items())
            raise LowerError(
                f"expected operators that are written as ONNX, got {told}; "
                "a packed folder keeps all of them"
            )
        return Translated(self.graph, self._outputs())

    def _constants_of(self, node: Node) -> None:
        """Puts constants that a node reads as tensors into the graph."""
        own_weights = {name for name in node.refs() if node.op in _OF_BITS and name in self.arrays}
        for name in node.refs():
            if name in self.arrays and name not in self.values and name not in own_weights:
                self.values[name] = self._constant(name)

    def _constant(self, name: str) -> str:
        array = self.arrays[name]
        is_plain = name in self.program.constants and array.dtype != object
        return self.graph.constant(array, name=name if is_plain else None)

    def _written(self, node: Node) -> Written:
        if node.op in (SIZE, *INTEGERS):
            return None
        if node.op == "getitem":
            return self._picked(node)
        rule = RULES.get(node.op)
        if rule is None:
            return self._refused(node, "")
        call = Call(self.graph, node, self.values, self.types, self.arrays)
        try:
            written = rule(call)
        except Unwritable as why:
            return self._refused(node, str(why))
        if isinstance(written, str) and self.graph.named(written, node.name):
            return node.name
        if isinstance(written, Signs) and self.graph.named(written.value, node.name):
            return replace(written, value=node.name)
        return written

    def _picked(self, node: Node) -> Written:
        (source, *_), index = node.refs(), node.args[1]
        several = self.values.get(source)
        if not isinstance(several, tuple) or not isinstance(index, int):
            return self._refused(node, "")
        if several[index] is None:
            return self._refused(node, "places of maxima")
        return several[index]

    def _refused(self, node: Node, why: str) -> Written:
        """Notes it, and gives something for those that read it: all faults are told at once."""
        self.failed.setdefault((node.op, why), []).append(node.name)
        kinds: Any = node.type if isinstance(node.type, tuple) else None
        return tuple(self.graph.fresh() for _ in kinds) if kinds else self.graph.fresh()

    def _outputs(self) -> tuple[str, ...]:
        """Results under the program's names, each once; a name of its own where two are one."""
        names = []
        for wanted in self.program.outputs:
            value = self.values.get(wanted)
            if value is None:
                value = self._constant(wanted)
            if not isinstance(value, str):
                raise LowerError(
                    f"expected tensors of numbers as results, got the bits `{wanted}`; "
                    "ONNX has no such thing"
                )
            if value != wanted or wanted in names or not self._is_made(value):
                name = wanted if wanted not in names and value != wanted else self.graph.fresh()
                made = self.graph.add("Identity", value)
                self.graph.named(made, name)
                value = name
            names.append(value)
        return tuple(names)

    def _is_made(self, name: str) -> bool:
        """Whether a node gives it: no input or constant is a result."""
        return any(name in node.outputs for node in self.graph.nodes)


def _told(op: str, why: str, names: list[str]) -> str:
    nodes = ", ".join(f"`{name}`" for name in names)
    reason = f" with {why}" if why else ""
    return f"`{op}`{reason} ({counted(len(names), 'node')}: {nodes})"
