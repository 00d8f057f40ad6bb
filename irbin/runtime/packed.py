"""What a packed network is, with torch or without: arrays in and out, or tensors."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Self

from irbin.artifact.read import Artifact
from irbin.messages import counted
from irbin.program.fuse import FUSIONS
from irbin.program.fused import Item
from irbin.program.own import inner_product
from irbin.program.program import Node
from irbin.records.options import FloatMath
from irbin.runtime.arrays import is_tensor
from irbin.runtime.engine import Engine, Record
from irbin.runtime.given import check_shape, refuse_untaken, taken
from irbin.runtime.schedule import Watch

if TYPE_CHECKING:
    from irbin.artifact.schema import Manifest
    from irbin.program.program import Program

BITS_SUFFIX = ".bits"


class Packed:
    """What a packed network is, with torch or without; arguments and errors as `PackedModel`'s."""

    def __init__(
        self,
        artifact: Artifact,
        fusions: Collection[str] = FUSIONS,
        float_math: FloatMath = "float32",
        float_convs: bool | None = None,
    ) -> None:
        self.manifest: Manifest = artifact.manifest
        self.program: Program = artifact.program
        self.path: str = artifact.path
        self._engine = Engine(artifact, fusions, float_math, float_convs)

    def run(self, x: Any, record: Record | None = None) -> Any:
        """As a call, and shows every intermediate value to `record`.

        Args:
            x: see `PackedModel.forward`.
            record: told of every node and its result, in order, unfused. What depends on constants
                alone is not among them.

        Raises:
            UsageError: the images have another size than the program's.
            ArtifactError: a node fails; it is named.
        """
        images, engine = self._images(x), self._engine
        results = engine.run(images) if record is None else engine.record(images, record)
        return _as_given(results, x)

    def watch(self, x: Any, watch: Watch) -> Any:
        """As a call, and tells `watch` of every fused item and its seconds; for benchmarks.

        Raises:
            UsageError: the images have another size than the program's.
        """
        return _as_given(self._engine.run(self._images(x), watch), x)

    def calling_seconds(self, x: Any, n_runs: int) -> list[float]:
        """Seconds that a batch's kernels take to be called; for `runtime.profile`."""
        return self._engine.calling_seconds(self._images(x), n_runs)

    def with_float_math(self, float_math: FloatMath) -> Self:
        """This network, or one like it that computes its float convolutions so.

        Raises:
            UsageError: this processor does not.
        """
        if float_math == self._engine.float_math:
            return self
        make: Any = self.__reduce__()[0]
        artifact, fusions, _, float_convs = self._engine.origin
        other: Self = make(artifact, fusions, float_math, float_convs)
        return other

    @property
    def items(self) -> tuple[Item, ...]:
        """What is run, in order: fused kernels, and nodes that torch computes."""
        return self._engine.work.items

    def is_run(self, node: Node) -> bool:
        """Whether a node depends on the images, and is not computed once."""
        return self._engine.is_run(node)

    @property
    def layer_nodes(self) -> dict[str, tuple[tuple[Node, Node], ...]]:
        """By binary layer's name, in execution order: its `bitpack` and `bconv2d` or `bgemm` nodes.

        A layer that the network calls several times has several pairs; a 1w32a layer has none.
        """
        by_name = {node.name: node for node in self.program.nodes}
        by_layer: dict[str, tuple[tuple[Node, Node], ...]] = {}
        for node in self.program.nodes:
            own = inner_product(node)
            if own is not None:
                layer = own.weight_bits.name.removesuffix(BITS_SUFFIX)
                by_layer[layer] = (*by_layer.get(layer, ()), (by_name[own.bits.name], node))
        return by_layer

    def extra_repr(self) -> str:
        """For `print`."""
        return f"{self.path!r}, {counted(len(self.program.nodes), 'node')}"

    def _images(self, x: Any) -> Any:
        refuse_untaken(x)
        check_shape(self.program, tuple(x.shape))
        return taken(x, writable=self._engine.runs_torch)


def _as_given(made: list[Any], x: Any) -> Any:
    """What the caller gets: arrays for an array, tensors on the device of x for a tensor."""
    results = [y.to(x.device) for y in made] if is_tensor(x) else made
    return results[0] if len(results) == 1 else results
