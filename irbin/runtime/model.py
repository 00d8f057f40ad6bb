"""A packed network as an `nn.Module`, which needs neither timm nor its source."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from irbin.artifact.read import Artifact, read_artifact
from irbin.artifact.schema import Manifest
from irbin.kernels import native
from irbin.messages import counted
from irbin.program.fuse import FUSIONS
from irbin.program.fused import Item
from irbin.program.own import inner_product
from irbin.program.program import Node, Program
from irbin.records.options import FloatMath
from irbin.runtime.arrays import as_tensor
from irbin.runtime.engine import Engine, Record
from irbin.runtime.given import (
    check_shape,
    compare_state,
    refuse_tracing,
    refuse_untaken,
    under,
)
from irbin.runtime.schedule import Watch
from irbin.zoo.entries import located

BITS_SUFFIX = ".bits"


class PackedModel(nn.Module):
    """A packed network. Has no parameters, computes on the CPU, may be called from several threads.

    Large batches are worked through in parts whose results stay in the cache.

    Args:
        artifact: a packed folder in memory.
        fusions: passes to make, of `program.fuse.FUSIONS`; none changes a result in float32.
        float_math: `bfloat16` rounds the inputs and weights of float convolutions (the stem, 1×1
            shortcuts), which changes results and takes about half of their time; it needs a
            processor with AVX-512 BF16.
        float_convs: whether our kernels compute the float convolutions, with the same bits for any
            batch, thread and implementation; or torch does. None: where the active one is fast.

    Attributes:
        manifest: where it came from, its plan and preprocessing.
        program: what it computes.
        path: folder it was read from.

    Raises:
        ArtifactError: this torch lacks an operator, or a node on constants fails.
        UsageError: `fusions` names a pass that there is not, `IRBIN_KERNELS` a kernel, or
            `float_math` what this processor does not do.
    """

    def __init__(
        self,
        artifact: Artifact,
        fusions: Collection[str] = FUSIONS,
        float_math: FloatMath = "float32",
        float_convs: bool | None = None,
    ) -> None:
        super().__init__()
        self.manifest: Manifest = artifact.manifest
        self.program: Program = artifact.program
        self.path: str = artifact.path
        self._engine = Engine(artifact, fusions, float_math, float_convs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles as what it was made from."""
        return type(self), self._engine.origin

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits of a batch of images; of a backbone its features.

        Args:
            x: floating (batch, channels, height, width), on any device; batch may be 0.

        Returns:
            On the device of x: for a classifier float32, (batch, num_classes); for a network with
            several outputs a list of tensors, in order, whatever held them in the source.

        Raises:
            UsageError: the images have another size than the program's.
        """
        if torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting():
            # nothing of it is a graph of torch's
            run = torch.compiler.disable(self.run)  # type: ignore[no-untyped-call]
            return run(x)  # type: ignore[no-any-return]
        return self.run(x)

    def run(self, x: Tensor, record: Record | None = None) -> Tensor | list[Tensor]:
        """As `forward`, and shows every intermediate value to `record`.

        Args:
            x: see `forward`.
            record: told of every node and its result, in order, unfused. What depends on constants
                alone is not among them.

        Raises:
            UsageError: the images have another size than the program's.
            ArtifactError: a node fails; it is named.
        """
        images, engine = self._images(x), self._engine
        results = engine.run(images) if record is None else engine.record(images, record)
        return _as_given(results, x)

    def watch(self, x: Tensor, watch: Watch) -> Tensor | list[Tensor]:
        """As `forward`, and tells `watch` of every fused item and its seconds; for benchmarks.

        Raises:
            UsageError: the images have another size than the program's.
        """
        return _as_given(self._engine.run(self._images(x), watch), x)

    def calling_seconds(self, x: Tensor, n_runs: int) -> list[float]:
        """Seconds that a batch's kernels take to be called; for `runtime.profile`."""
        return self._engine.calling_seconds(self._images(x), n_runs)

    def with_float_math(self, float_math: FloatMath) -> PackedModel:
        """This network, or one like it that computes its float convolutions so.

        Raises:
            UsageError: this processor does not.
        """
        if float_math == self._engine.float_math:
            return self
        artifact, fusions, _, float_convs = self._engine.origin
        return PackedModel(artifact, fusions, float_math, float_convs)

    @property
    def items(self) -> tuple[Item, ...]:
        """What is run, in order: fused kernels, and nodes that torch computes."""
        return self._engine.work.items

    def is_run(self, node: Node) -> bool:
        """Whether a node depends on the images, and is not computed once."""
        return self._engine.is_run(node)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:  # noqa: ARG002 - torch's
        destination.update(under(prefix, self._tensors))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        compare_state(under(prefix, self._tensors), state_dict, prefix, *rest)

    def __prepare_scriptable__(self) -> NoReturn:  # torch.jit.script asks for it
        refuse_tracing()

    def _images(self, x: Tensor) -> Tensor:
        refuse_untaken(x)
        check_shape(self.program, tuple(x.shape))
        return x.detach().to("cpu", torch.float32)

    @property
    def _tensors(self) -> dict[str, Tensor]:
        """Of the folder."""
        return {name: as_tensor(value) for name, value in self._engine.origin[0].tensors.items()}

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


def _as_given(made: list[Tensor], x: Tensor) -> Tensor | list[Tensor]:
    """What the caller gets, on the device of x."""
    results = [y.to(x.device) for y in made]
    return results[0] if len(results) == 1 else results


def load(
    path: str | Path,
    fusions: Collection[str] = FUSIONS,
    float_math: FloatMath = "float32",
) -> PackedModel:
    """The packed network in a folder, ready to run.

    Args:
        path: a folder that `irbin export` wrote, or `zoo:NAME`.
        fusions: see `PackedModel`.
        float_math: see `PackedModel`.

    Raises:
        ArtifactError: see `read_artifact`.
        SourceError: the zoo has no such entry.
        UsageError: see `PackedModel`.
    """
    folder = located(path)
    native.warn()
    return PackedModel(read_artifact(folder), fusions, float_math)
