"""The fewest `keep` rules for a set of layers, in the words a user would choose."""

from __future__ import annotations

import glob
import re
from collections.abc import Collection, Iterator, Sequence

from irbin.planning.plan import matches


def keep_rules(kept: Sequence[str], binary: Collection[str]) -> tuple[str, ...]:
    """Rules that match every layer of `kept` and none of `binary`.

    Chosen greedily: again and again the rule that matches most of what is left, among names, the
    modules around them, and either with one part, or all before it, replaced by `*`; of equals the
    one without `*`, then the shorter.

    Args:
        kept: layer names, in execution order.
        binary: layer names; none of them in `kept`.
    """
    reach = {rule: {name for name in kept if matches(rule, name)} for rule in _rules(kept)}
    usable = {r: matched for r, matched in reach.items() if not any(matches(r, b) for b in binary)}
    chosen: list[str] = []
    left = set(kept)
    while left:
        best = max(usable, key=lambda r: (len(usable[r] & left), "*" not in r, -len(r)))
        chosen.append(best)
        left -= usable[best]
    first = {rule: min(i for i, n in enumerate(kept) if n in usable[rule]) for rule in chosen}
    return tuple(sorted(chosen, key=first.__getitem__))


def _rules(names: Sequence[str]) -> tuple[str, ...]:
    """Every rule worth trying, each once."""
    return tuple(dict.fromkeys(rule for name in names for rule in _rules_of(name)))


def _rules_of(name: str) -> Iterator[str]:
    parts = [glob.escape(part) for part in name.split(".")]
    for n in range(1, len(parts) + 1):
        yield ".".join(parts[:n])
        for i in range(n if n > 1 else 0):
            yield ".".join([*parts[:i], "*", *parts[i + 1 : n]])
    for n in range(1, len(parts)):
        yield ".".join(["*", *parts[n:]])
    yield f"re:{re.escape(name)}"  # where a layer lies inside another one
