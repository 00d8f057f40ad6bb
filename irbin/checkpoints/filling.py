"""A file's tensors fill a network, which may have another head or other image channels by request.

What depends on the number of classes or channels is found by building the network once more with
another number and comparing shapes, so that it holds for every architecture alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from timm.models import adapt_input_conv
from torch import Tensor, nn

from irbin.checkpoints.checkpoint import Checkpoint, load_into
from irbin.checkpoints.folding import folded
from irbin.checkpoints.matching import (
    COUNTER,
    NO_HEAD,
    Head,
    Match,
    Rename,
    as_is,
    by_name,
    by_name_within,
    by_order,
    fits_by_order,
    nearest_prefix,
    without_prefix,
)
from irbin.errors import SourceError
from irbin.messages import counted, names_of


@dataclass(frozen=True, eq=False)
class Target:
    """A network to fill, and in what it may differ from the file."""

    module: nn.Module
    """With the random weights that it was built with."""
    num_classes: int
    """Its outputs; 0 for none."""
    in_chans: int
    """Its image channels."""
    build: Callable[[int, int], nn.Module]
    """The same architecture for another (num_classes, in_chans)."""
    other_classes: bool = False
    """The file's head may be another."""
    other_channels: bool = False
    """The file's image channels may be others."""

    @cached_property
    def own(self) -> dict[str, Tensor]:
        """The network's tensors."""
        state: dict[str, Tensor] = self.module.state_dict()
        return state

    @cached_property
    def head(self) -> Head:
        """What follows the number of classes, if that may differ."""
        if not self.other_classes:
            return NO_HEAD
        n_other = self.num_classes + 1 if self.num_classes else 2
        return Head(_varying(self.own, self.build(n_other, self.in_chans)))

    @cached_property
    def stem(self) -> frozenset[str]:
        """What follows the number of image channels, if that may differ."""
        if not self.other_channels:
            return frozenset()
        return _varying(self.own, self.build(self.num_classes, self.in_chans + 1))


@dataclass(frozen=True)
class Filled:
    """How a network got its weights."""

    notes: tuple[str, ...] = ()
    """What the user should know; nothing where the file is exactly the network's."""
    head_is_new: bool = False
    """Its classifier is random."""


def fill(
    target: Target,
    file: Checkpoint,
    where: str,
    *,
    remap: bool = False,
    rename: Rename = as_is,
    ignore_extra: bool = False,
) -> Filled:
    """Copies a file's tensors into the network, in place.

    Args:
        target: the network; of no use where this raises.
        file: what it is filled from.
        where: the file, for messages.
        remap: where names do not fit, match by order.
        rename: brings an old file's names up to date.
        ignore_extra: leave what the network does not have, and say so.

    Raises:
        SourceError: it does not fit, or in several ways.
    """
    whole = folded(file.tensors, target.own)
    file = replace(file, tensors=as_is(whole.tensors))
    match = _matched(target, file, where, remap, rename)
    if match is None and ignore_extra:
        match = by_name_within(target.own, file.tensors, target.head, rename)
    if match is None:
        match = _load_unmatched(target, file, where, rename)
        return Filled(_told(where, file, [*whole.notes, *_match_notes(match, target.own)]))
    tensors, stem_notes = _with_stem(target, match.tensors)
    _refuse_lost_head(target, match, file, where)
    tensors, head_notes = _with_head(target, tensors)
    load_into(target.module, tensors, where)
    notes = [*whole.notes, *_match_notes(match, target.own), *stem_notes, *head_notes]
    return Filled(_told(where, file, notes), head_is_new=bool(head_notes))


def _told(where: str, file: Checkpoint, notes: list[str]) -> tuple[str, ...]:
    return (*file.notes, *(f"{where}: {note}" for note in notes))


def _matched(
    target: Target, file: Checkpoint, where: str, remap: bool, rename: Rename
) -> Match | None:
    own, tensors = target.own, file.tensors
    match = by_name(own, tensors, where, rename=rename)
    if match is None and target.other_classes:
        match = by_name(own, tensors, where, target.head, rename)
    if match is not None or not remap:
        return match
    if not file.is_ordered:
        raise SourceError(
            f"{where}: `remap=True` needs tensors in the order in which they were saved, which "
            "safetensors and indices of shards do not keep; save the state dict with `torch.save`"
        )
    return by_order(own, rename(tensors), where, target.stem | target.head.names)


def _load_unmatched(target: Target, file: Checkpoint, where: str, rename: Rename) -> Match:
    """The last attempt: some modules know their own old names. Otherwise, what does not fit."""
    prefix = nearest_prefix(target.own, file.tensors)
    named = rename(without_prefix(file.tensors, prefix))
    place = f"{where} without the prefix `{prefix}`" if prefix else where
    same_order = file.is_ordered and fits_by_order(target.own, rename(file.tensors))
    load_into(target.module, named, place, _REMAP_HINT if same_order else None)
    outside = tuple(name for name in file.tensors if not name.startswith(prefix))
    return Match(named, f"after removing the prefix `{prefix}`" if prefix else "", outside)


_REMAP_HINT = "its tensors have the same shapes in the same order: give `remap=True`"


def _varying(own: Mapping[str, Tensor], other: nn.Module) -> frozenset[str]:
    """Names whose tensor is of another shape in `other`, or is in one of the two only."""
    theirs = other.state_dict()
    names = own.keys() | theirs.keys()
    return frozenset(
        n for n in names if n not in own or n not in theirs or own[n].shape != theirs[n].shape
    )


def _with_stem(
    target: Target, tensors: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], list[str]]:
    """`tensors` with the first convolution summed or repeated for the network's channels."""
    adapted, notes = as_is(tensors), []
    for name, tensor in tensors.items():
        shape = target.own[name].shape
        if tensor.shape == shape or name not in target.stem:
            continue
        # a stem that turns blocks of pixels into channels has several inputs an image channel
        n_blocks = shape[1] // target.in_chans
        if tensor.dim() != 4 or n_blocks == 0 or tensor.shape[1] < n_blocks:
            continue  # loading says what differs
        n_channels = tensor.shape[1] // n_blocks
        adapted[name] = adapt_input_conv(target.in_chans, tensor, n_channels)
        notes.append(
            f"`{name}` adapted from {n_channels} to {target.in_chans} image channels, as timm does"
        )
    return adapted, notes


def _with_head(
    target: Target, tensors: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], list[str]]:
    """`tensors` with the network's own random head where the file's has other classes or none."""
    own = target.own
    amiss = [
        n
        for n in own
        if not n.endswith(COUNTER) and (n not in tensors or own[n].shape != tensors[n].shape)
    ]
    if not amiss or not all(name in target.head for name in amiss):
        return tensors, []  # complete, or what differs is not the head's
    shapes = [(tensors[n].shape, own[n].shape) for n in amiss if n in tensors]
    counts = {theirs[0] for theirs, _ in shapes if theirs}
    follows = all(
        theirs[1:] == ours[1:] and ours[:1] == (target.num_classes,) for theirs, ours in shapes
    )
    if len(counts) > 1 or not follows:
        return tensors, []  # not a matter of classes alone: loading says what differs
    mixed = as_is(tensors)
    new = [name for name in own if name in target.head]
    mixed.update({name: own[name] for name in new})
    partly = any(name in tensors for name in new)
    theirs = "has only some of them" if partly else "has no such head"
    theirs = f"has {counts.pop()}" if counts else theirs
    note = (
        f"{names_of(new)} re-initialised at random for {counted(target.num_classes, 'class')}, "
        "the file "
        f"{theirs}; train them"
    )
    return mixed, [note]


def _refuse_lost_head(target: Target, match: Match, file: Checkpoint, where: str) -> None:
    """Refuses to put a random head in the place of one that the file has under other names.

    Raises:
        SourceError: what the network's head lacks is there, for as many classes.
    """
    head = [name for name in target.own if name in target.head]
    lacking = [name for name in head if name not in match.tensors]
    rest = {name: match.tensors[name] for name in head if name in match.tensors}
    rest |= {name: file.tensors[name] for name in match.unused if _in_head(name, target.head)}
    sized = [n for n, t in rest.items() if t.dim() > 0 and t.shape[0] == target.num_classes]
    if lacking and sized:
        raise SourceError(
            f"{where}: has a head for {counted(target.num_classes, 'class')} in "
            f"{names_of(sized)} that does "
            f"not fit {names_of(lacking)} of the network, and it is not replaced by a random one; "
            "save the weights under the network's names, or give another `num_classes=`"
        )


def _in_head(name: str, head: Head) -> bool:
    """Whether a file's name, with whatever prefix, belongs to a module of the head."""
    parts = name.split(".")
    return any(head.covers(".".join(parts[i:])) for i in range(len(parts)))


def _match_notes(match: Match, own: Mapping[str, Tensor]) -> list[str]:
    unused = f"{len(match.unused)} left unused: {names_of(match.unused)}" if match.unused else ""
    if not match.how:
        return [unused] if unused else []
    missing = [n for n in own if n not in match.tensors and not n.endswith(COUNTER)]
    n = len(match.tensors)
    told = f"{n} of {counted(n + len(missing), 'tensor')} matched {match.how}"
    return [f"{told}; {unused}" if unused else told]
