"""Foreign names become the network's: as they are, past a common prefix, or by their order.

Nothing is taken for granted: a match is complete or there is none, and it says how it came about.
Batch norm's `num_batches_tracked`, which old files lack and nothing needs, never decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from torch import Tensor, nn

from irbin.checkpoints.wrapping import renamed
from irbin.errors import SourceError
from irbin.messages import names_of

Rename = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""What brings an old file's names up to date."""

COUNTER = "num_batches_tracked"
"""Ends the name of a batch norm's step counter."""

_ROLES = {"weight", "bias", "running_mean", "running_var"}
"""Last parts of a name that say what a tensor is for; the four of a batch norm have one shape."""


@dataclass(frozen=True, eq=False)
class Head:
    """The classifier's tensors, which may differ from the file's where the user asked for that."""

    names: frozenset[str] = frozenset()
    """Tensors whose shape follows the number of classes, those of a network that has them."""

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def covers(self, name: str) -> bool:
        """Whether `name` is one of them or belongs to the same modules."""
        modules = tuple(f"{n.rpartition('.')[0]}." for n in self.names if "." in n)
        return name in self.names or name.startswith(modules)


NO_HEAD = Head()


def as_is(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names that need nothing brought up to date."""
    return renamed(tensors, str)


@dataclass(frozen=True, eq=False)
class Match:
    """A file's tensors under the network's names."""

    tensors: dict[str, Tensor]
    """By the network's names; shapes may differ still."""
    how: str = ""
    """`after removing the prefix …`, `by their order …`; '' where the names were right."""
    unused: tuple[str, ...] = ()
    """Names in the file, as they stand there, of what the network does not have."""


def by_name(
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    where: str,
    head: Head = NO_HEAD,
    rename: Rename = as_is,
) -> Match | None:
    """Matches names that are the network's, with a prefix too many or too few if need be.

    Args:
        own: the network's tensors.
        tensors: the file's.
        where: the file, for the message.
        head: may be missing in the file, and may be there although the network has none.
        rename: applied to the names without the prefix.

    Returns:
        None unless the file has all that the network has, and of what lies under the same prefix
        nothing else.

    Raises:
        SourceError: several prefixes fit.
    """
    plain = _complete(own, rename(tensors), head)
    if plain is not None:
        return plain
    matches: dict[str, Match] = {}
    for prefix in _likely_prefixes(tensors, own):
        match = _complete(own, rename(without_prefix(tensors, prefix)), head, prefix)
        if match is not None:
            outside = tuple(name for name in tensors if not name.startswith(prefix))
            how = f"after removing the prefix `{prefix}`"
            matches[prefix] = Match(match.tensors, how, match.unused + outside)
    if len(matches) > 1:
        first = next(iter(matches)).removesuffix(".")
        raise SourceError(
            f"{where}: the network fits several times, under {names_of(matches)}; "
            f"choose with `state_key={first!r}`"
        )
    if matches:
        return next(iter(matches.values()))
    for prefix in _likely_prefixes(own, tensors):
        match = _complete(own, {f"{prefix}{n}": t for n, t in rename(tensors).items()}, head)
        if match is not None:
            return Match(match.tensors, f"after adding the prefix `{prefix}`", match.unused)
    return None


def by_name_within(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], head: Head, rename: Rename = as_is
) -> Match | None:
    """As `by_name`, from a file that holds more than the network; None where it lacks anything."""
    for prefix in ("", *_likely_prefixes(tensors, own)):
        named = rename(without_prefix(tensors, prefix))
        wanted = renamed(named, lambda name: name if name in own or head.covers(name) else None)
        match = _complete(own, wanted, head, prefix)
        if match is not None:
            taken = {f"{prefix}{name}" for name in match.tensors}
            unused = tuple(n for n in tensors if n not in taken and not n.endswith(COUNTER))
            how = f"after removing the prefix `{prefix}`" if prefix else "by name"
            return Match(match.tensors, how, unused)
    return None


def by_order(
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    where: str,
    may_differ: Collection[str] = (),
) -> Match:
    """Matches the n-th tensor of the file with the n-th of the network, whatever their names.

    Args:
        own: the network's tensors.
        tensors: the file's, in the order of the network that they were saved from.
        where: the file, for the message.
        may_differ: names of the network's tensors whose shape is not looked at.

    Raises:
        SourceError: another number of tensors, a pair of different shapes, or one that by its names
            plays two parts in a layer (a weight and a bias).
    """
    pairs = list(_pairs(own, tensors))
    for n, (theirs, ours) in enumerate(pairs, 1):
        if _differ(own, tensors, theirs, ours, may_differ):
            raise SourceError(
                f"{where}: `remap=True` matches tensors by their order, and pair {n} of "
                f"{len(pairs)} differs: {_described(theirs, tensors, 'the file')} for "
                f"{_described(ours, own, 'the network')}; "
                "give the `model=` and `num_classes=` that it was saved from"
            )
    matched = {ours: tensors[theirs] for theirs, ours in pairs if ours and theirs}
    changed = next(((t, o) for t, o in pairs if t != o), None)
    example = f" (`{changed[0]}` as `{changed[1]}` …)" if changed else ""
    return Match(matched, f"by their order{example}")


def fits_by_order(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> bool:
    """Whether `by_order` would match."""
    return not any(_differ(own, tensors, *pair, ()) for pair in _pairs(own, tensors))


def nearest_prefix(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """The prefix without which most names are the network's; '' where that is no prefix."""
    if any(name in own for name in tensors):
        return ""
    return next(iter(_likely_prefixes(tensors, own)), "")


def without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, under the rest of their names."""
    cut = len(prefix)
    shortened = {name[cut:]: t for name, t in tensors.items() if name.startswith(prefix)}
    return shortened if prefix else as_is(tensors)


def _complete(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], head: Head, prefix: str = ""
) -> Match | None:
    """A match of equal names, if nothing is missing or left over but what the head explains."""
    missing = [name for name in own if name not in tensors and not name.endswith(COUNTER)]
    foreign = [name for name in tensors if name not in own]
    foreign = [name for name in foreign if not name.endswith(COUNTER)]
    if any(name not in head for name in missing) or not all(map(head.covers, foreign)):
        return None
    if len(missing) == len(own):
        return None
    kept = renamed(tensors, lambda name: name if name in own else None)
    return Match(kept, unused=tuple(f"{prefix}{name}" for name in foreign))


def _likely_prefixes(longer: Mapping[str, Tensor], shorter: Mapping[str, Tensor]) -> list[str]:
    """Beginnings of `longer`'s names, up to a dot, whose rest is often one of `shorter`'s names.

    Those that account for half of `shorter`, most frequent first.
    """
    counts: Counter[str] = Counter()
    for name in longer:
        parts = name.split(".")
        for i in range(1, len(parts)):
            if ".".join(parts[i:]) in shorter:
                counts[".".join(parts[:i]) + "."] += 1
    return [prefix for prefix, n in counts.most_common() if 2 * n >= len(shorter)]


def _pairs(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> Iterator[tuple[str | None, str | None]]:
    theirs = [name for name in tensors if not name.endswith(COUNTER)]
    ours = [name for name in own if not name.endswith(COUNTER)]
    return zip_longest(theirs, ours)


def _differ(
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    theirs: str | None,
    ours: str | None,
    may_differ: Collection[str],
) -> bool:
    if theirs is None or ours is None:
        return True
    roles = {name.rpartition(".")[2] for name in (theirs, ours)}
    if len(roles) == 2 and roles <= _ROLES:
        return True
    return ours not in may_differ and own[ours].shape != tensors[theirs].shape


def _described(name: str | None, tensors: Mapping[str, Tensor], whose: str) -> str:
    return f"nothing in {whose}" if name is None else f"`{name}` {tuple(tensors[name].shape)}"


def as_backbone(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole network's tensors under the names of `module`, which timm made `features_only`.

    timm puts such a network behind `model.`, or joins the first two parts of its names
    (`stages_0.blocks` for `stages.0.blocks`). What `module` does not have is left out.
    """
    taken = {}
    for name in module.state_dict():
        first, dot, rest = name.partition(".")
        marks = [i for i, letter in enumerate(first) if letter == "_"]
        split = [f"{first[:i]}.{first[i + 1 :]}{dot}{rest}" for i in marks]
        theirs = next((n for n in (name, rest, *split) if n in tensors), None)
        if theirs is not None:
            taken[name] = tensors[theirs]
    return taken
