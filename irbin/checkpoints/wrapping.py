"""Where in a training checkpoint the weights lie: wrappers are undone, and what is chosen is told.

Training programs put the state dict under `state_dict`, `model`, `ema` …, one inside the other,
and often more than one of them in a file.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from irbin.errors import SourceError
from irbin.messages import N_NAMED, names_of

AVERAGED = (
    "state_dict_ema",
    "model_ema",
    "ema",
    "ema_state_dict",
    "module_ema",
    "ema_model",
    "params_ema",
)
"""Where training programs put averaged weights: timm, torchvision, and others."""

PLAIN = (
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "module",
    "net",
    "network",
    "checkpoint",
    "weights",
    "params",
    "backbone",
    "encoder",
)
"""Where they put the weights as trained."""

_NO_WEIGHTS = ("optim", "sched", "scaler", "args", "hyper_parameters", "callbacks", "loops")
"""Parts of a key under which tensors are no weights."""

_DEEPEST = 6
"""Wrappers inside each other; a pickle may hold a dictionary that holds itself."""


@dataclass(frozen=True, eq=False)
class Part:
    """One mapping of a checkpoint that holds tensors."""

    path: tuple[str, ...]
    """Keys that lead to it."""
    state: Mapping[Any, Any]
    """The mapping itself."""

    @property
    def key(self) -> str:
        """As a user names it."""
        return ".".join(self.path)

    @property
    def is_averaged(self) -> bool:
        """Whether a key says that these are averaged weights."""
        return any(key in AVERAGED for key in self.path)

    @property
    def is_known(self) -> bool:
        """Whether every key is one under which programs put a network's weights."""
        return all(key in AVERAGED + PLAIN for key in self.path)

    def encloses(self, other: Part) -> bool:
        """Whether `other` lies inside this one."""
        return len(self.path) < len(other.path) and other.path[: len(self.path)] == self.path

    def __str__(self) -> str:
        n = sum(isinstance(value, Tensor) for value in self.state.values())
        place = f"`{self.key}`" if self.path else "its top level"
        return f"{place} ({n} tensor{'s' * (n != 1)})"


def unwrap(
    content: Mapping[Any, Any], where: str, use_ema: bool = False, state_key: str | None = None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of the one state dict that is meant, and what the user should know of the choice.

    Args:
        content: of a checkpoint file.
        where: the file, for messages.
        use_ema: take the averaged weights.
        state_key: dotted keys, or a prefix of names, of the tensors to take; decides alone.

    Raises:
        SourceError: it holds no tensors or no averaged ones, or several state dicts (all listed).
    """
    parts = list(_parts(content))
    if state_key is not None:
        return _selected(parts, state_key, where), ()
    chosen = _choose(parts, where, use_ema) if parts or use_ema else None
    tensors = clean(chosen.state) if chosen else {}
    if chosen is not None and not chosen.is_averaged:
        tensors, told = _without_averaged_names(tensors, where, use_ema)
        if told or use_ema:
            return tensors, (*told, *_told(parts, chosen, where, use_ema=False))
    if chosen is None or not tensors:
        raise SourceError(
            f"{where}: expected a state dict of tensors, found none"
            + (f" under {names_of(map(str, content))}" if content else "")
        )
    return tensors, _told(parts, chosen, where, use_ema)


def clean(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Tensors only, without the prefixes of wrappers around the network, in a new dict."""
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in state.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            tensors[_without_wrappers(name)] = value.detach()
    if any(str(name).startswith("module.") for name in state):
        tensors.pop("n_averaged", None)  # the counter of torch's AveragedModel
    versions = getattr(state, "_metadata", None)
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


def _parts(content: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[Part]:
    """Every mapping that holds tensors, from the outside in."""
    if any(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        yield Part(path, content)
    for key, value in content.items():
        if not (isinstance(key, str) and isinstance(value, Mapping) and len(path) < _DEEPEST):
            continue
        if not any(word in key for word in _NO_WEIGHTS):
            yield from _parts(value, (*path, key))


def _choose(parts: list[Part], where: str, use_ema: bool) -> Part:
    """The part that is meant: averaged as asked, under known keys before others, innermost."""
    pool = [part for part in parts if part.is_averaged == use_ema]
    if use_ema and not pool:
        pool = [part for part in parts if any(map(_is_averaged_name, part.state))]
    if use_ema and not pool:
        raise SourceError(
            f"{where}: expected averaged weights ({names_of(AVERAGED)}), found none; "
            "leave out `use_ema=True`"
        )
    pool = pool or parts  # nothing but averaged weights
    pool = [part for part in pool if _has_arrays(part)] or pool
    pool = [part for part in pool if part.is_known] or pool
    pool = [part for part in pool if not any(part.encloses(other) for other in pool)]
    if len(pool) > 1:
        raise SourceError(
            f"{where}: expected one state dict, found {_listed(pool)}; "
            f"choose with `state_key={pool[0].key!r}`"
        )
    return pool[0]


def _is_averaged_name(name: Any) -> bool:
    return isinstance(name, str) and _without_wrappers(name).partition(".")[0] in AVERAGED


def _without_averaged_names(
    tensors: dict[str, Tensor], where: str, use_ema: bool
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Of tensors where averaged ones lie beside the others (`ema.module.…`), one kind alone."""
    averaged = [name for name in tensors if _is_averaged_name(name)]
    if not averaged or (len(averaged) == len(tensors) and not use_ema):
        return tensors, ()

    def rename(name: str) -> str | None:
        if _is_averaged_name(name) != use_ema:
            return None
        return _without_wrappers(name.partition(".")[2]) if use_ema else name

    kept = renamed(tensors, rename)
    if use_ema:
        return kept, ()
    which = averaged[0].partition(".")[0]
    return kept, (
        f"{where}: took the weights as trained, left {len(averaged)} averaged tensors under "
        f"`{which}.` (`use_ema=True` takes them)",
    )


def _told(parts: list[Part], chosen: Part, where: str, use_ema: bool) -> tuple[str, ...]:
    if chosen.is_averaged and not use_ema:
        return (f"{where}: took the averaged weights under `{chosen.key}`, it has no others",)
    left = [
        part
        for part in parts
        if part is not chosen and part.is_averaged == use_ema and _has_arrays(part)
    ]
    if not left:
        return ()
    taken = f"under `{chosen.key}`" if chosen.path else "at its top level"
    return (f"{where}: took the weights {taken}, left {_listed(left)}",)


def _has_arrays(part: Part) -> bool:
    """Whether it holds more than counters."""
    return any(isinstance(value, Tensor) and value.dim() > 0 for value in part.state.values())


def _selected(parts: list[Part], key: str, where: str) -> dict[str, Tensor]:
    """The tensors under `key`: a part, or a beginning of dotted names, keys in front or not."""
    for part in parts:
        if part.key == key:
            return clean(part.state)
    start = f"{key.removesuffix('.')}."
    dotted = {f"{part.key}.{n}": t for part in parts for n, t in clean(part.state).items()}
    tensors = _below(start, dotted)
    if not tensors and any(_below(start, clean(part.state)) for part in parts):
        tensors = _below(start, clean(_choose(parts, where, use_ema=False).state))
    if not tensors:
        raise SourceError(
            f"{where}: expected tensors under `state_key={key!r}`, found none; "
            f"it has {_listed(parts)}"
        )
    return tensors


def _below(start: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def _listed(parts: list[Part]) -> str:
    rest = f" and {len(parts) - N_NAMED} more" if len(parts) > N_NAMED else ""
    return ", ".join(str(part) for part in parts[:N_NAMED]) + rest or "no tensors"


def _without_wrappers(name: str) -> str:
    """`name` without `module.` (DataParallel) and `_orig_mod.` (torch.compile) in front."""
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name


_WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_forward_module.")
"""What DataParallel, torch.compile, FSDP and DeepSpeed put in front of every name."""
