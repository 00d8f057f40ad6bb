"""A checkpoint file that any program wrote becomes named tensors; no code in it is ever run.

torch's formats are read with `weights_only=True`. Training programs wrap the state dict in various
ways; the wrappings of timm, torchvision and plain PyTorch are undone here.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from irbin.errors import SourceError
from irbin.network.unpickle import first_line, read_torch

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".safetensors")
"""File endings that are never a network's name."""

AVERAGED = ("state_dict_ema", "model_ema")
"""Where training programs put averaged weights: timm, torchvision."""

PLAIN = ("state_dict", "model")
"""Where they put the weights as trained: timm and most others, torchvision and DeiT."""

INPUT_ARGS = ("in_chans", "input_size", "img_size", "mean", "std", "interpolation", "crop_pct")
"""Arguments of timm's training script that say how images were fed."""

N_NAMED = 3
"""Names that a message lists before it counts the rest."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint file says. Made by `read_checkpoint`, read by `network.source`."""

    tensors: dict[str, Tensor]
    """By parameter name, on the CPU; with torch's `_metadata` (module versions) if there is one."""
    architecture: str | None = None
    """`timm:NAME` where a training checkpoint names it."""
    num_classes: int | None = None
    """Where its training arguments say so."""
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the factory, from its training arguments."""
    input_args: dict[str, Any] = field(default_factory=dict)
    """How images were fed, in timm's words (`INPUT_ARGS`); only what was set."""


def read_checkpoint(path: Path, use_ema: bool = False) -> Checkpoint:
    """Reads .pth, .pt, .tar, .bin (torch) and .safetensors; the content decides, not the name.

    Args:
        path: file.
        use_ema: take the averaged weights of a training checkpoint.

    Raises:
        SourceError: the file is missing, empty, cut short, not a checkpoint, would run code, holds
            no tensors or no averaged ones, or holds NaN or infinite weights.
    """
    content = _read(path)
    wrapped, ema_found = _unwrap(content, use_ema)
    if use_ema and not ema_found:
        raise SourceError(
            f"`{path}`: expected averaged weights ({_names(AVERAGED)}), found none; "
            "leave out `--use-ema`"
        )
    tensors = _clean(wrapped)
    if not tensors:
        raise SourceError(
            f"`{path}`: expected a state dict of tensors, found none under "
            f"{_names(map(str, content))}"
        )
    check_finite(tensors, f"`{path}`")
    return Checkpoint(tensors, **_training_arguments(content))


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuses NaN and infinite weights.

    Raises:
        SourceError: names the first tensor that has one.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        wide = tensor.float() if tensor.element_size() == 1 else tensor  # float8 knows no isfinite
        n_bad = int((~wide.isfinite()).sum())
        if n_bad:
            raise SourceError(
                f"{where}: expected finite weights, `{name}` has {n_bad} NaN or infinite of "
                f"{tensor.numel()}; use a checkpoint from before training diverged"
            )


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copies `tensors` into `module`, in place; names and shapes must be exactly the module's.

    Args:
        module: the network; half loaded, hence of no use, where this raises.
        tensors: by parameter name.
        where: the file, for the message.

    Raises:
        SourceError: with the first few missing and unexpected names, differing shapes, and a hint.
    """
    own = module.state_dict()
    state: OrderedDict[str, Tensor] = OrderedDict(tensors)
    for name, tensor in own.items():
        if name.endswith("num_batches_tracked"):  # a counter that old files lack and nothing needs
            state.setdefault(name, tensor)
    versions = getattr(tensors, "_metadata", None)
    if versions is None and state.keys() == own.keys():
        versions = getattr(
            own, "_metadata", None
        )  # safetensors has none; some modules insist on it
    if versions is not None:
        state._metadata = versions  # type: ignore[attr-defined]  # where torch itself keeps it
    try:
        module.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError) as error:
        raise SourceError(_mismatch(own, state, where, error)) from error


def _read(path: Path) -> Mapping[Any, Any]:
    """The mapping that a checkpoint file holds, whatever its format."""
    if path.is_dir():
        raise SourceError(f"`{path}`: expected a checkpoint file, got a folder")
    if not path.is_file():
        raise SourceError(f"`{path}`: no such file; expected a checkpoint")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise SourceError(f"`{path}`: cannot be read: {error.strerror}") from error
    if not head:
        raise SourceError(f"`{path}`: expected a checkpoint, the file is empty")
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(path)
    content = read_torch(path)
    if not isinstance(content, Mapping):
        raise SourceError(
            f"`{path}`: expected a state dict, got a {type(content).__name__}; "
            "save `model.state_dict()`"
        )
    return content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, ValueError, OSError) as error:
        raise SourceError(
            f"`{path}`: expected a safetensors file, this one is cut short or damaged "
            f"({first_line(error)})"
        ) from error


def _unwrap(content: Mapping[Any, Any], use_ema: bool) -> tuple[Mapping[Any, Any], bool]:
    """The state dict inside a training checkpoint, and whether it is the averaged one."""
    order = (*AVERAGED, *PLAIN) if use_ema else (*PLAIN, *AVERAGED)
    for key in order:
        if isinstance(content.get(key), Mapping):
            return content[key], key in AVERAGED
    return content, False


def _clean(wrapped: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Tensors only, without the prefixes of wrappers around the network, in a new dict."""
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in wrapped.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            tensors[_without_wrappers(name)] = value.detach()
    if any(str(name).startswith("module.") for name in wrapped):
        tensors.pop("n_averaged", None)  # the counter of torch's AveragedModel
    versions = getattr(wrapped, "_metadata", None)
    if isinstance(versions, Mapping):
        kept = {_without_wrappers(f"{name}."): value for name, value in versions.items()}
        kept = {name.removesuffix("."): value for name, value in kept.items()}
        tensors._metadata = OrderedDict(kept)  # type: ignore[attr-defined]  # as torch does
    return tensors


def renamed(
    tensors: Mapping[str, Tensor], rename: Callable[[str], str | None]
) -> dict[str, Tensor]:
    """`tensors` under the names that `rename` gives, without those it answers with None."""
    kept: OrderedDict[str, Tensor] = OrderedDict()
    for name, tensor in tensors.items():
        new = rename(name)
        if new is not None:
            kept[new] = tensor
    versions = getattr(tensors, "_metadata", None)
    if versions is not None:
        kept._metadata = versions  # type: ignore[attr-defined]  # where torch itself keeps it
    return kept


def _without_wrappers(name: str) -> str:
    """`name` without `module.` (DataParallel) and `_orig_mod.` (torch.compile) in front."""
    while name.startswith(("module.", "_orig_mod.")):
        name = name.partition(".")[2]
    return name


def _training_arguments(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Fields of `Checkpoint` that a timm training checkpoint states beside its weights."""
    arguments = content.get("args")
    if isinstance(arguments, argparse.Namespace):
        arguments = vars(arguments)
    if not isinstance(arguments, Mapping):
        arguments = {}
    architecture, num_classes = content.get("arch"), arguments.get("num_classes")
    return {
        "architecture": f"timm:{architecture}" if isinstance(architecture, str) else None,
        "num_classes": num_classes if isinstance(num_classes, int) else None,
        "model_kwargs": dict(arguments.get("model_kwargs") or {}),
        "input_args": {k: arguments[k] for k in INPUT_ARGS if arguments.get(k) is not None},
    }


def _mismatch(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str, error: Exception
) -> str:
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [n for n in own if n in state and own[n].shape != state[n].shape]
    parts = []
    if missing:
        parts.append(f"missing {_names(missing)}")
    if unexpected:
        parts.append(f"unexpected {_names(unexpected)}")
    if shapes:
        pairs = [f"`{n}` {tuple(state[n].shape)} instead of {tuple(own[n].shape)}" for n in shapes]
        rest = f" and {len(pairs) - N_NAMED} more" if len(pairs) > N_NAMED else ""
        parts.append(", ".join(pairs[:N_NAMED]) + rest)
    differences = "; ".join(parts) or first_line(error)
    return f"{where} does not fit the network: {differences}; {_hint(own, state, shapes, parts)}"


def _hint(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], shapes: list[str], parts: list[str]
) -> str:
    """What to do about a state dict that does not fit."""
    if "ede.t" in state and "ede.t" not in own:
        return "it belongs to a converted network: give its folder instead of the file"
    heads = {state[n].shape[:1] for n in shapes if state[n].shape[1:] == own[n].shape[1:]}
    same_tail = all(state[n].shape[1:] == own[n].shape[1:] for n in shapes)
    if len(parts) == 1 and shapes and same_tail and len(heads) == 1:
        # only first axes differ, all by the same number: that is a classifier
        return f"it may have {heads.pop()[0]} classes: give `--num-classes`"
    return "wrong `--model`, or another class count (`--num-classes`)?"


def _names(names: Iterable[str]) -> str:
    """The first few names in backticks and how many more there are."""
    listed = list(names)
    rest = f" and {len(listed) - N_NAMED} more" if len(listed) > N_NAMED else ""
    return ", ".join(f"`{name}`" for name in listed[:N_NAMED]) + rest or "nothing"
