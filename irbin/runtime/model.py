"""A packed network as an `nn.Module`, which needs neither timm nor its source."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from irbin.artifact.read import Artifact
from irbin.program.fuse import FUSIONS
from irbin.records.options import FloatMath
from irbin.runtime.arrays import as_tensor
from irbin.runtime.given import compare_state, refuse_tracing, under
from irbin.runtime.packed import Packed


class PackedModel(Packed, nn.Module):
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
        nn.Module.__init__(self)
        Packed.__init__(self, artifact, fusions, float_math, float_convs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles as what it was made from."""
        return type(self), self._engine.origin

    def forward(self, x: Any) -> Any:
        """Logits of a batch of images; of a backbone its features.

        Args:
            x: floating (batch, channels, height, width), a tensor on any device or an array of
                NumPy's; batch may be 0.

        Returns:
            Tensors on the device of x, or arrays where x is one: for a classifier float32,
            (batch, num_classes); for a network with several outputs a list of them, in order,
            whatever held them in the source.

        Raises:
            UsageError: the images have another size than the program's.
        """
        if torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting():
            # nothing of it is a graph of torch's
            run = torch.compiler.disable(self.run)  # type: ignore[no-untyped-call]
            return run(x)
        return self.run(x)

    def bytes(self, images: Any) -> Any:
        """See `Packed.bytes`."""
        if torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting():
            run = torch.compiler.disable(super().bytes)  # type: ignore[no-untyped-call]
            return run(images)
        return super().bytes(images)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:  # noqa: ARG002 - torch's
        destination.update(under(prefix, self._tensors))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        compare_state(under(prefix, self._tensors), state_dict, prefix, *rest)

    def __prepare_scriptable__(self) -> NoReturn:  # torch.jit.script asks for it
        refuse_tracing()

    @property
    def _tensors(self) -> dict[str, Tensor]:
        """Of the folder."""
        return {name: as_tensor(value) for name, value in self._engine.origin[0].tensors.items()}
