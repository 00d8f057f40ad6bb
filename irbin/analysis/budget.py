"""Which groups to binarize for a budget, and which points of the way there are worth measuring.

A knapsack solved greedily: groups are taken in the order of loss per byte (or per second) saved
until the budget is met, then those that turn out not to be needed are given back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence

from irbin.analysis.choices import Choices
from irbin.errors import UsageError
from irbin.records.analysis import Budget, BudgetKind, LayerAnalysis, Ranking

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_KINDS: dict[str, BudgetKind] = {"size": "bytes", "latency": "latency", "drop": "drop"}
"""What a budget is of, as it is typed → `Budget.kind`."""


def parse_bytes(text: str, argument: str) -> int:
    """A size as typed: `4MB` is 4·10⁶, `4MiB` 4·2²⁰, a bare number bytes.

    Args:
        text: it.
        argument: what gave it, for the message.

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"(\d+\.?\d*)\s*([kmg]?i?)b?", text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise UsageError(f"`{argument}`: expected a size like 4MB, 300kB or 250000, got `{text}`")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_budget(text: str) -> Budget:
    """A budget as typed: "size=4MB", "latency=5" (milliseconds) or "drop=2" (points of top-1).

    Raises:
        UsageError: it is none.
    """
    name, _, amount = text.partition("=")
    kind = _KINDS.get(name.strip())
    if kind is None or not amount.strip():
        raise UsageError(
            f"`budget`: expected size=4MB, latency=5 (ms) or drop=2 (points), got `{text}`"
        )
    if kind == "bytes":
        return Budget(kind, parse_bytes(amount, "budget"))
    try:
        limit = float(amount.strip().removesuffix("ms" if kind == "latency" else ""))
    except ValueError:
        limit = math.nan
    if not 0 <= limit < math.inf:
        raise UsageError(f"`budget`: expected a number behind `{name}=`, got `{amount}`")
    return Budget(kind, limit)


def rank(layers: Sequence[LayerAnalysis], by: Ranking) -> tuple[LayerAnalysis, ...]:
    """Least loss for what is saved first; what saves nothing or has no finite loss comes last.

    A loss that fell counts as unchanged: that much is noise of the sample.
    """

    def key(layer: LayerAnalysis) -> tuple[float, float]:
        saved = layer.seconds_saved if by == "time" else layer.bytes_saved
        if saved <= 0 or not math.isfinite(layer.loss_increase):
            return math.inf, layer.loss_increase if math.isfinite(layer.loss_increase) else math.inf
        return max(layer.loss_increase, 0) / saved, -saved

    return tuple(sorted(layers, key=key))


def check_reachable(
    budget: Budget, choices: Choices, argument: str = "", beside_bytes: int = 0
) -> None:
    """Refuses, before anything is measured, a size or time that no choice of layers meets.

    Args:
        budget: asked for.
        choices: what may be binary.
        argument: what gave the budget, for the message; `max_bytes=` and the like where it is ''.
        beside_bytes: that a size counts beside the tensors.

    Raises:
        UsageError: it cannot be met, or the float network meets it.
    """
    said = argument or f"max_{budget.kind}="
    if budget.kind == "drop":
        if not budget.limit >= 0:
            raise UsageError(f"`{said}`: expected points ≥ 0, got {budget.limit:g}")
        return
    of_choice, useful = cost_of(budget, choices), useful_for(budget, choices)
    beside = beside_bytes if budget.kind == "bytes" else 0

    def cost(names: Collection[str]) -> float:
        return of_choice(names) + beside

    smallest = cost(useful) if useful else cost(())
    if not budget.limit >= smallest:
        raise UsageError(
            f"`{said}`: expected at least {_amount(budget, smallest, up=True)}, which "
            f"every useful layer binary gives, got {_amount(budget, budget.limit)}"
        )
    if cost(()) <= budget.limit:
        raise UsageError(
            f"`{said}`: expected less than {_amount(budget, cost(()))}, which the "
            f"float network has, got {_amount(budget, budget.limit)}: nothing needs to be binary"
        )


def cost_of(budget: Budget, choices: Choices) -> Callable[[Collection[str]], float]:
    """What a budget limits, of the network with the given groups binary: bytes, or milliseconds."""
    if budget.kind == "bytes":
        return choices.packed_bytes
    return lambda names: 1e3 * choices.seconds(names)


def useful_for(budget: Budget, choices: Choices) -> tuple[str, ...]:
    """The groups that save something of what the budget limits."""
    saved = choices.seconds_saved if budget.kind == "latency" else choices.bytes_saved
    return tuple(name for name in choices.groups if saved(name) > 0)


def spend(budget: Budget, choices: Choices, ranking: Sequence[str]) -> tuple[str, ...]:
    """The groups to binarize for a size or a time that can be reached.

    Args:
        budget: of bytes or milliseconds; `check_reachable` has let it pass.
        choices: what may be binary.
        ranking: all groups, least sensitive first.
    """
    cost, useful = cost_of(budget, choices), useful_for(budget, choices)
    order = [name for name in ranking if name in useful]
    n = next(n for n in range(1, len(order) + 1) if cost(order[:n]) <= budget.limit)
    chosen = order[:n]
    for name in reversed(order[:n]):
        without = [other for other in chosen if other != name]
        if without and cost(without) <= budget.limit:
            chosen = without
    return tuple(chosen)


def longest(n: int, fits: Callable[[int], bool], known: Collection[int]) -> int:
    """The largest k in 0…n with `fits(k)`, if fitting ends somewhere once and for all.

    Asks first of the `known` (cheap) ones, then halves what is between; `fits(0)` is taken for
    granted.
    """
    low = max((k for k in known if fits(k)), default=0)
    high = min((k for k in known if k > low), default=n + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def evenly(saved: Sequence[float], n_points: int) -> tuple[int, ...]:
    """At most `n_points` prefix lengths of a ranking, evenly spaced in what they save.

    The last is the whole ranking.

    Args:
        saved: by each in the ranking; 0 or more.
        n_points: 1 or more.
    """
    total, running, lengths = sum(saved), 0.0, []
    for k, amount in enumerate(saved, start=1):
        before, running = running, running + amount
        step = total / n_points
        if k == len(saved) or (step and int(running / step + 1e-9) > int(before / step + 1e-9)):
            lengths.append(k)
    return tuple(lengths)


def front(points: Sequence[tuple[float, float]]) -> frozenset[int]:
    """Indices of the (cost, gain) points that no other beats: costs no more, gains more, or so.

    Equal points are on it together; a point with a nan is not.
    """

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a != b and a[0] <= b[0] and a[1] >= b[1]

    whole = {i: point for i, point in enumerate(points) if not any(map(math.isnan, point))}
    return frozenset(i for i, p in whole.items() if not any(beats(q, p) for q in whole.values()))


def _amount(budget: Budget, value: float, *, up: bool = False) -> str:
    if budget.kind == "bytes":
        return f"{value:,.0f} bytes"
    shown = math.ceil(value * 1000) / 1000 if up else value
    return f"{shown:.3f} ms"
