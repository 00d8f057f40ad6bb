"""From a folder to a network that runs: without torch, and an `nn.Module` where torch is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from irbin.artifact.read import Artifact, read_artifact
from irbin.hub.repository import located
from irbin.kernels import native
from irbin.program.fuse import FUSIONS
from irbin.records.options import FloatMath
from irbin.runtime.arrays import is_tensor
from irbin.runtime.packed import Packed

if TYPE_CHECKING:
    from irbin.runtime.model import PackedModel

_turning = threading.Lock()


class PackedWithoutTorch(Packed):
    """A packed network in a process without torch.

    Whoever has torch meets a `PackedModel`: the object says that it is one, and turns into one, in
    place and for good, with the first tensor and with whatever only an `nn.Module` has.
    """

    def __call__(self, x: Any) -> Any:
        """See `PackedModel.forward`."""
        return self._module()(x) if is_tensor(x) else self.run(x)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles as what it was made from."""
        return packed_network, self._engine.origin

    def __repr__(self) -> str:
        return f"PackedModel({self.extra_repr()})"

    @property  # type: ignore[misc]  # what `isinstance` asks for when the type itself does not fit
    def __class__(self) -> type[Any]:
        if "torch" not in sys.modules:
            return type(self)
        from irbin.runtime.model import PackedModel

        return PackedModel

    def __getattr__(self, name: str) -> Any:
        """What only an `nn.Module` has: `eval`, `state_dict`, `to` … imports torch."""
        if name.startswith("_") and "torch" not in sys.modules:  # protocols that nobody has
            raise AttributeError(f"a packed network has no attribute `{name}`")
        return getattr(self._module(), name)

    def _module(self) -> PackedModel:
        """Itself, turned."""
        from torch import nn

        from irbin.runtime.model import PackedModel

        with _turning:
            if type(self) is PackedWithoutTorch:
                module = PackedModel.__new__(PackedModel)
                nn.Module.__init__(module)
                # its parts before its type: other threads may be calling it
                for name, value in module.__dict__.items():
                    self.__dict__.setdefault(name, value)
                vars(object)["__class__"].__set__(self, PackedModel)
        return cast("PackedModel", self)


def packed_network(
    artifact: Artifact,
    fusions: Collection[str] = FUSIONS,
    float_math: FloatMath = "float32",
    float_convs: bool | None = None,
) -> PackedModel:
    """A packed folder in memory, ready to run; an `nn.Module` from the start where torch is.

    Args, errors: see `PackedModel`.
    """
    if "torch" not in sys.modules:
        made = PackedWithoutTorch(artifact, fusions, float_math, float_convs)
        return cast("PackedModel", made)
    from irbin.runtime.model import PackedModel

    return PackedModel(artifact, fusions, float_math, float_convs)


def load(
    path: str | Path,
    fusions: Collection[str] = FUSIONS,
    float_math: FloatMath = "float32",
) -> PackedModel:
    """The packed network in a folder, ready to run; imports torch only if the network needs it.

    Args:
        path: a folder that `irbin export` wrote, or `zoo:NAME`.
        fusions: see `PackedModel`.
        float_math: see `PackedModel`.

    Returns:
        An `nn.Module`; in a process without torch an object that is called the same way, with
        arrays, and turns into one as soon as torch is there and asks.

    Raises:
        ArtifactError: see `read_artifact`.
        SourceError: the zoo has no such entry.
        UsageError: see `PackedModel`.
    """
    folder = located(path)
    native.warn()
    return packed_network(read_artifact(folder), fusions, float_math)
