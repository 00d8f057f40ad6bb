"""What a packed network is given: how many images at once, other tensors, and state dicts."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from irbin.errors import UsageError
from irbin.program.program import Program
from irbin.program.shapes import sizes
from irbin.program.types import BATCH, TensorType
from irbin.runtime.arrays import dtype_name

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_BYTES = 1 << 20
"""Of the largest result in a part of a batch: what a core's second cache holds."""
WHOLE_BATCH = 1 << 31
"""Images in a part where the result does not come image by image."""


def refuse_untaken(x: object) -> None:
    """Refuses images that are no floats in an array's or a tensor's memory, and torch's tracers.

    Raises:
        UsageError: says what to do instead.
    """
    if isinstance(x, np.ndarray):
        is_floating = x.dtype.kind == "f"
    elif "torch" in sys.modules:
        is_floating = _is_floating_tensor(x)
    else:
        _refuse_others(x)
    if not is_floating:
        raise UsageError(
            f"expected floating images, got {dtype_name(x)}; bytes (uint8, channels last) are for "
            "`model.bytes(images)`, which normalizes them"
        )


def _is_floating_tensor(x: object) -> bool:
    """Whether a tensor is floating; stand-ins for tensors, and some without memory, are refused."""
    from torch import Tensor, fx

    if isinstance(x, fx.Proxy):
        refuse_tracing()
    if not isinstance(x, Tensor):
        _refuse_others(x)
    refuse_valueless(x)
    return x.is_floating_point()


def refuse_valueless(x: Tensor) -> None:
    """Refuses a tensor without numbers in memory that can be read, and what torch traces.

    Raises:
        UsageError: says what to do instead.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensor

    is_traced = torch._C._get_tracing_state() is not None or torch.compiler.is_exporting()
    if is_traced or isinstance(x, FakeTensor):
        refuse_tracing()
    if x.layout is not torch.strided or x.is_meta:
        kind = "on the device `meta`" if x.is_meta else f"laid out as {x.layout}"
        raise UsageError(
            f"expected a tensor with a value in memory for every pixel, got one {kind}"
        )


def _refuse_others(x: object) -> NoReturn:
    raise UsageError(f"expected a tensor or NumPy's array of images, got a {type(x).__name__}")


def taken(x: Any, *, writable: bool) -> Any:
    """Images in float32, where the kernels can read them: in aligned memory of this machine's.

    Args:
        x: a floating array, or a tensor on any device.
        writable: whether torch is to read it too, which takes an array that may be written to
            and does not run backwards.
    """
    if not isinstance(x, np.ndarray):
        return x.detach().to("cpu", sys.modules["torch"].float32)
    with np.errstate(over="ignore"):  # as torch, which makes infinity of it
        plain = np.asarray(x, np.float32)
    images = np.require(plain, requirements=["A", "W"] if writable else ["A"])
    runs_backwards = any(stride < 0 for stride in images.strides)
    return images.copy() if writable and runs_backwards else images


def check_shape(program: Program, shape: tuple[int, ...]) -> None:
    """Refuses images of another size than the program's.

    Raises:
        UsageError: says which it takes.
    """
    ((_, kind),) = program.inputs.items()
    if len(shape) != len(kind.shape) or shape[1:] != kind.shape[1:]:
        wanted = ", ".join(map(str, kind.shape))
        raise UsageError(f"expected images of shape ({wanted}), got {shape}")


def refuse_tracing() -> NoReturn:
    """What torch would turn into a graph or a script.

    Raises:
        UsageError: says what it can take instead.
    """
    raise UsageError(
        "a packed network runs irbin's own kernels, which torch cannot trace or script; give "
        "`torch.onnx.export`, `torch.export` or `torch.jit.trace` the trained network "
        "(`irbin.open_network(RUN).module`), or ship the packed folder"
    )


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A folder's tensors as a state dict names them."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def compare_state(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    prefix: str,
    _: Any,
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    messages: list[str],
) -> None:
    """Takes a state dict of the tensors that are there already: others are another folder.

    Args:
        own: the packed network's tensors under their full names.
        state: what is to be loaded.
        prefix: of this network in it.
        strict: whether names that are not its own are told.
        missing: gets the names that `state` lacks.
        unexpected: gets names that are not its own.
        messages: gets what is wrong.
    """
    missing += [name for name in own if name not in state]
    if strict:
        unexpected += [name for name in state if name.startswith(prefix) and name not in own]
    for name, tensor in own.items():
        given = state.get(name, tensor)
        if given.shape != tensor.shape or not bool((given.to("cpu") == tensor).all()):
            messages.append(
                f"`{name}`: a packed network keeps the weights of its folder; load the other "
                "folder with `irbin.load`"
            )
            return


def chunk_of(program: Program) -> int:
    """Images to work on at once, so that the largest result of one kernel stays in the cache.

    Asked of the plain program: torch's own operators may round another way in another batch, and
    fused and unfused networks are to be equal.
    """
    types = {node.name: node.type for node in program.nodes}
    for result in map(types.get, program.outputs):
        if not isinstance(result, TensorType) or result.shape[:1] != (BATCH,):
            return WHOLE_BATCH
    kinds = [node.type for node in program.nodes if node.op in ("bconv2d", "bgemm")]
    largest = max((math.prod(sizes(k, 1)) for k in kinds if isinstance(k, TensorType)), default=1)
    return max(CHUNK_BYTES // (4 * largest), 1)
