"""A packed network that runs: `load` gives an `nn.Module` that needs neither timm nor its source.

Nodes run one after another as the program says. What depends on constants alone is computed once,
when the model is made; every other value is dropped after its last use.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from irbin.artifact.read import Artifact, read_artifact
from irbin.artifact.schema import Manifest
from irbin.errors import ArtifactError, UsageError
from irbin.program.program import Node, Program, Ref, Value
from irbin.program.types import Dtype
from irbin.runtime.operators import Operation, dtype, operation

Record = Callable[[Node, Any], None]
"""Told of every node and its result, in order."""

BITS_SUFFIX = ".bits"


class PackedModel(nn.Module):
    """A packed network. Has no parameters, computes on the CPU, may be called from several threads.

    Args:
        artifact: a packed folder in memory.

    Attributes:
        manifest: where it came from, its plan and preprocessing.
        program: what it computes.
        path: folder it was read from.

    Raises:
        ArtifactError: this torch lacks an operator, or a node on constants fails.
    """

    def __init__(self, artifact: Artifact) -> None:
        super().__init__()
        self.manifest: Manifest = artifact.manifest
        self.program: Program = artifact.program
        self.path: str = artifact.path
        self._operations: dict[str, Operation] = {
            op: operation(op) for op in {node.op for node in self.program.nodes}
        }
        self._constants, self._nodes = self._fold(artifact.tensors)
        self._dropped = _last_uses(self._nodes, self.program)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images.

        Args:
            x: floating (batch, channels, height, width), on any device; batch may be 0.

        Returns:
            float32 on the device of x, (batch, num_classes) for a classifier.

        Raises:
            UsageError: the images have another size than the program's.
        """
        return self.run(x)

    @torch.no_grad()
    def run(self, x: Tensor, record: Record | None = None) -> Tensor:
        """As `forward`, and shows every intermediate value to `record`.

        Args:
            x: see `forward`.
            record: told of every node and its result, in order. What depends on constants alone is
                not among them.

        Raises:
            UsageError: the images have another size than the program's.
            ArtifactError: a node fails; it is named.
        """
        ((name, kind),) = self.program.inputs.items()
        if x.dim() != len(kind.shape) or tuple(x.shape[1:]) != kind.shape[1:]:
            sizes = ", ".join(map(str, kind.shape))
            raise UsageError(f"expected images of shape ({sizes}), got {tuple(x.shape)}")
        values: dict[str, Any] = {**self._constants, name: x.detach().to("cpu", torch.float32)}
        # a caller's autocast would make half-precision values that the program does not name
        with torch.autocast("cpu", enabled=False):
            for node, dropped in zip(self._nodes, self._dropped, strict=True):
                result = self._compute(node, values)
                if record is not None:
                    record(node, result)
                values[node.name] = result
                for done in dropped:
                    del values[done]
        y: Tensor = values[self.program.outputs[0]]
        return y.to(x.device)

    @property
    def layer_nodes(self) -> dict[str, tuple[tuple[Node, Node], ...]]:
        """By binary layer's name, in execution order: its `bitpack` and `bconv2d` or `bgemm` nodes.

        A layer that the network calls several times has several pairs; a 1w32a layer has none.
        """
        by_name = {node.name: node for node in self.program.nodes}
        found: dict[str, tuple[tuple[Node, Node], ...]] = {}
        for node in self.program.nodes:
            if node.op in ("bconv2d", "bgemm"):
                bits, weight_bits = node.args[:2]
                if isinstance(bits, Ref) and isinstance(weight_bits, Ref):
                    layer = weight_bits.name.removesuffix(BITS_SUFFIX)
                    found[layer] = (*found.get(layer, ()), (by_name[bits.name], node))
        return found

    def extra_repr(self) -> str:
        """For `print`."""
        return f"{self.path!r}, {len(self.program.nodes)} nodes"

    def _fold(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Any], list[Node]]:
        """Constants and results of nodes on them, as far as read later; and the other nodes."""
        known: dict[str, Any] = dict(tensors)
        nodes: list[Node] = []
        with torch.no_grad():
            for node in self.program.nodes:
                if all(name in known for name in node.refs()):
                    known[node.name] = self._compute(node, known)
                else:
                    nodes.append(node)
        read = {name for node in nodes for name in node.refs()} | set(self.program.outputs)
        return {name: value for name, value in known.items() if name in read}, nodes

    def _compute(self, node: Node, values: dict[str, Any]) -> Any:
        args = [_resolve(a, values) for a in node.args]
        kwargs = {name: _resolve(v, values) for name, v in node.kwargs.items()}
        try:
            return self._operations[node.op](*args, **kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
            text = str(error).strip().splitlines()
            what = text[0] if text else type(error).__name__
            raise ArtifactError(f"node `{node.name}` ({node.op}) fails: {what}") from error


def load(path: str | Path) -> PackedModel:
    """The packed network in a folder, ready to run.

    Args:
        path: a folder that `irbin export` wrote.

    Raises:
        ArtifactError: see `read_artifact`.
    """
    return PackedModel(read_artifact(Path(path)))


def _resolve(value: Value, values: dict[str, Any]) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, tuple):
        return [_resolve(item, values) for item in value]
    return dtype(value) if isinstance(value, Dtype) else value


def _last_uses(nodes: list[Node], program: Program) -> list[tuple[str, ...]]:
    """For each node, the values that nothing reads after it."""
    kept = set(program.outputs) | set(program.constants)
    computed = {node.name for node in nodes} | set(program.inputs)
    found: list[tuple[str, ...]] = []
    for node in reversed(nodes):
        last = {name for name in (*node.refs(), node.name) if name in computed} - kept
        kept |= last
        found.append(tuple(sorted(last)))
    return found[::-1]
