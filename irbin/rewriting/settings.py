"""Settings that were set after a forward was rewritten with what they decided, told once each."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from irbin.tracing.tracer import untouched

_log = logging.getLogger("irbin")


@dataclasses.dataclass(frozen=True)
class Frozen:
    """What the graph of a network decided once, of one of its modules."""

    network: str
    """Name of the network's class."""
    names: dict[str, str]
    """Attribute of the module → the same as a path in the network."""
    told: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Attributes whose setting was told, and what they were."""


class Noticing(nn.Module):
    """A module that tells that setting some of its attributes has no effect any more."""

    irbin_frozen: Frozen

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets it, as the source does."""
        frozen = self.irbin_frozen
        if name in frozen.names and name not in frozen.told:
            before = getattr(self, name, None)
            if _differ(before, value):
                frozen.told[name] = before
                _log.warning(
                    "setting `%s` changes nothing: the conversion rewrote the forward of `%s` with "
                    "what it decides, as it was; set it before converting",
                    frozen.names[name],
                    frozen.network,
                )
        super().__setattr__(name, value)


def _differ(one: Any, other: Any) -> bool:
    if one is other or isinstance(one, Tensor | nn.Module):
        return False
    return type(one) is not type(other) or bool(one != other)


def by_module(network: str, frozen: Iterable[str]) -> dict[str, Frozen]:
    """Path of a module → what of it was decided once; the network's own path is ''.

    Args:
        network: name of its class.
        frozen: attributes as paths.
    """
    made: dict[str, Frozen] = {}
    for attribute in sorted(frozen):
        path, _, name = attribute.rpartition(".")
        made.setdefault(path, Frozen(network, {})).names[name] = attribute
    return made


@contextmanager
def as_converted(module: nn.Module) -> Iterator[None]:
    """Within, a converted network's settings are those that its forward was rewritten with."""
    changed = [(p, p.irbin_frozen.told) for p in module.modules() if isinstance(p, Noticing)]
    with untouched(module):
        for part, told in changed:
            vars(part).update(told)
        yield
