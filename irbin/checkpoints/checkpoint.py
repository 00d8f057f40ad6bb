"""A checkpoint file that any program wrote becomes named tensors; no code in it is ever run.

Formats are read by `formats`, wrappers undone by `wrapping`; here the whole is one record, checked,
and copied into a network whose names it has.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from irbin.checkpoints.formats import INDEX_SUFFIX, read_content
from irbin.checkpoints.wrapping import unwrap
from irbin.errors import SourceError
from irbin.messages import N_NAMED, counted, first_line, names_of

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".safetensors", INDEX_SUFFIX)
"""File endings that are never a network's name."""

EXPANDED_BYTES = 1 << 26
"""So much more than its file a tensor may take, as one number repeated along an axis does."""

INPUT_ARGS = ("in_chans", "input_size", "img_size", "mean", "std", "interpolation", "crop_pct")
"""Arguments of timm's training script that say how images were fed."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint file says. Made by `read_checkpoint`, read by `sources.spec`."""

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
    is_ordered: bool = True
    """Whether the tensors stand in the order in which they were saved."""
    notes: tuple[str, ...] = ()
    """Sentences on which of the file's tensors were taken, and their type, where not plain."""


def read_checkpoint(path: Path, use_ema: bool = False, state_key: str | None = None) -> Checkpoint:
    """Reads .pth, .pt, .tar, .bin (torch), .safetensors, and an index of shards of these.

    Args:
        path: file.
        use_ema: take the averaged weights of a training checkpoint.
        state_key: dotted keys of the weights in the file, or a prefix of their names.

    Raises:
        SourceError: the file is missing, empty, cut short, not a checkpoint, would run code, holds
            no tensors, no averaged ones or several state dicts, or holds NaN or infinite weights.
    """
    (content, is_ordered), where = read_content(path), f"`{path}`"
    tensors, notes = unwrap(content, where, use_ema, state_key)
    check_finite(tensors, where)
    return Checkpoint(
        tensors,
        **_training_arguments(content, where),
        is_ordered=is_ordered,
        notes=notes + _type_notes(tensors, where),
    )


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuses NaN and infinite weights, and tensors that are no plain numbers in memory.

    Raises:
        SourceError: names the first such tensor.
    """
    for name, tensor in tensors.items():
        _check_plain(name, tensor, where)
        if not tensor.is_floating_point():
            continue
        try:  # float8 knows no isfinite, float4 nothing at all
            wide = tensor.float() if tensor.element_size() == 1 else tensor
        except RuntimeError as error:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise SourceError(
                f"{where}: `{name}` is {kind}, which torch cannot compute with; "
                "save it as float32 or bfloat16"
            ) from error
        n_bad = int((~wide.isfinite()).sum())
        if n_bad:
            raise SourceError(
                f"{where}: expected finite weights, `{name}` has {n_bad} NaN or infinite of "
                f"{tensor.numel()}; use a checkpoint from before training diverged"
            )


def _check_plain(name: str, tensor: Tensor, where: str) -> None:
    what = None
    if tensor.layout != torch.strided or tensor.is_nested:
        what = f"a {str(tensor.layout).removeprefix('torch.')} tensor"
    elif tensor.is_meta:
        what = "a tensor without numbers (device `meta`)"
    elif (
        tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes() + EXPANDED_BYTES
    ):
        what = f"{tensor.untyped_storage().nbytes()} bytes expanded to {tuple(tensor.shape)}"
    if what is not None:
        raise SourceError(
            f"{where}: expected plain tensors, `{name}` is {what}; save `model.state_dict()` of "
            "the network on the CPU"
        )


def load_into(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str, hint: str | None = None
) -> None:
    """Copies `tensors` into `module`, in place; names and shapes must be exactly the module's.

    Args:
        module: the network; half loaded, hence of no use, where this raises.
        tensors: by parameter name.
        where: the file, for the message.
        hint: what to do where it does not fit; None finds it from what differs.

    Raises:
        SourceError: with the first few missing and unexpected names, differing shapes, and a hint;
            or a weight is no floating-point number.
    """
    own = module.state_dict()
    _refuse_integers(own, tensors, where)
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
        raise SourceError(_mismatch(own, state, where, error, hint)) from error


def _type_notes(tensors: Mapping[str, Tensor], where: str) -> tuple[str, ...]:
    kinds = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()}
    foreign = " and ".join(sorted(kinds - {"float32"}))
    return (f"{where}: weights are {foreign}, computed in float32",) if foreign else ()


def _training_arguments(content: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Fields of `Checkpoint` that a timm training checkpoint states beside its weights."""
    arguments = content.get("args")
    if isinstance(arguments, argparse.Namespace):
        arguments = vars(arguments)
    if not isinstance(arguments, Mapping):
        arguments = {}
    architecture, num_classes = content.get("arch"), arguments.get("num_classes")
    model_kwargs = arguments.get("model_kwargs")
    model_kwargs = {} if model_kwargs is None else model_kwargs
    if not (isinstance(model_kwargs, Mapping) and all(isinstance(k, str) for k in model_kwargs)):
        raise SourceError(
            f"{where}: expected names and values in `args.model_kwargs`, got a "
            f"{type(model_kwargs).__name__}"
        )
    is_count = isinstance(num_classes, int) and not isinstance(num_classes, bool)
    return {
        "architecture": f"timm:{architecture}" if isinstance(architecture, str) else None,
        "num_classes": num_classes if is_count else None,
        "model_kwargs": dict(model_kwargs),
        "input_args": {k: arguments[k] for k in INPUT_ARGS if arguments.get(k) is not None},
    }


def _refuse_integers(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> None:
    """torch would copy the integers of a quantized checkpoint as if they were its weights."""
    for name, tensor in tensors.items():
        if name in own and own[name].is_floating_point() and not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise SourceError(
                f"{where}: expected floating-point numbers in `{name}`, got {kind}; "
                "use the checkpoint from before quantization"
            )


def _mismatch(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    where: str,
    error: Exception,
    hint: str | None,
) -> str:
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [n for n in own if n in state and own[n].shape != state[n].shape]
    parts = []
    if missing:
        parts.append(f"missing {names_of(missing)}")
    if unexpected:
        parts.append(f"unexpected {names_of(unexpected)}")
    if shapes:
        pairs = [f"`{n}` {tuple(state[n].shape)} instead of {tuple(own[n].shape)}" for n in shapes]
        rest = f" and {len(pairs) - N_NAMED} more" if len(pairs) > N_NAMED else ""
        parts.append(", ".join(pairs[:N_NAMED]) + rest)
    differences = "; ".join(parts) or first_line(error)
    hint = hint or _hint(own, state, shapes, parts)
    return f"{where} does not fit the network: {differences}; {hint}"


def _hint(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], shapes: list[str], parts: list[str]
) -> str:
    """What to do about a state dict that does not fit."""
    if "ede.t" in state and "ede.t" not in own:
        return "it belongs to a converted network: give its folder instead of the file"
    if not shapes and all(name in state for name in own):
        return "it has all that the network has: `ignore_extra=True` leaves the rest unread"
    heads = {state[n].shape[:1] for n in shapes if state[n].shape[1:] == own[n].shape[1:]}
    same_tail = all(state[n].shape[1:] == own[n].shape[1:] for n in shapes)
    if len(parts) == 1 and shapes and same_tail and len(heads) == 1:
        # only first axes differ, all by the same number: that is a classifier
        return f"it may have {counted(heads.pop()[0], 'class')}: give `num_classes=`"
    return "wrong `model=`, or another class count (`num_classes=`)?"
