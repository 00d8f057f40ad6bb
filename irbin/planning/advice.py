"""An estimate in words: one line that sums it up, and why a network gains little where it does."""

from __future__ import annotations

import re
from typing import NamedTuple

from irbin.records.plan import Decision, Estimate, Plan

LITTLE_FASTER = 1.2
"""Another processor, batch size or version takes a smaller speed-up away again."""
FEW_MACS = 0.5
"""With fewer multiply-adds binary, those that stay float bound the speed-up at two."""
MOST_DEPTHWISE = 0.5
"""From here on nothing but another network helps."""
LITTLE_SMALLER = 2.0
"""So much `float_dtype="float16"` saves too, without any training."""

EXAMPLE = "a network with dense convolutions such as resnet18 gains 8×"
"""What there is to gain, measured in `docs/performance.md`."""

PRODUCTS = "products of activations, as in attention, have no binary form"
REST = "norms, embeddings and the like"


class Rest(NamedTuple):
    """The largest part of a plan that stays float for one reason."""

    n_macs: int
    """Multiply-adds per image."""
    words: str
    """How many layers, which and why."""


def verdict(gains: Estimate, plan: Plan) -> str:
    """One line: what becomes binary, how much faster, how much smaller.

    Args:
        gains: numbers; its words are not read.
        plan: what they were estimated for.
    """
    shares = (
        f"{percent(gains.binary_macs)} of multiply-adds, {percent(gains.binary_bytes)} of bytes"
    )
    smaller = f"{times(gains.shrinkage)} smaller"
    if plan.options.bits == "1w32a":
        return f"binary weights: {shares}; {smaller}"
    return f"binary: {shares}; estimated {_speed(gains.speed_up)}, {smaller}"


def advice(gains: Estimate, plan: Plan) -> tuple[str, ...]:
    """Why it gains little, a sentence each; none where it is worth it.

    Args:
        gains: numbers; its words are not read.
        plan: what they were estimated for.
    """
    if plan.options.bits == "1w32a":
        sentences = [
            "1w32a gains size alone: weights are unpacked to floats, and the arithmetic is float "
            "arithmetic; 1w1a is for speed"
        ]
    elif depthwise := _depthwise(gains, plan):
        sentences = [depthwise]
    else:
        sentences = [_few_macs(gains, plan), _little_faster(gains)]
    return tuple(s for s in (*sentences, _little_smaller(gains, plan)) if s)


def _depthwise(gains: Estimate, plan: Plan) -> str:
    deep = [d.layer for d in plan.decisions if d.layer.is_depthwise and not d.binary]
    n_macs = sum(layer.n_macs for layer in deep)
    if not n_macs or n_macs < MOST_DEPTHWISE * plan.n_macs:
        return ""
    return (
        f"{percent(n_macs / plan.n_macs)} of multiply-adds are depthwise convolutions, which stay "
        f"float: binarizing gains little (estimated {_speed(gains.speed_up)}); {EXAMPLE}"
    )


def _few_macs(gains: Estimate, plan: Plan) -> str:
    if not plan.n_macs or gains.binary_macs >= FEW_MACS:
        return ""
    rest = _largest_rest(plan)
    return (
        f"only {percent(gains.binary_macs)} of multiply-adds become binary; "
        f"{percent(rest.n_macs / plan.n_macs)} stay float for one reason: {rest.words}"
    )


def _largest_rest(plan: Plan) -> Rest:
    """Reasons that differ only in the names they quote count as one."""
    groups: dict[str, list[Decision]] = {}
    for d in plan.decisions:
        if not d.binary:
            groups.setdefault(re.sub(r"`[^`]*`|'[^']*'", "…", d.reason), []).append(d)
    rests = [Rest(plan.other_macs, PRODUCTS)]
    for group in groups.values():
        first, more = group[0], len(group) - 1
        which = f"`{first.layer.name}`" + (f" and {more} more" if more else "")
        rests.append(Rest(sum(d.layer.n_macs for d in group), f"{first.reason} ({which})"))
    return max(rests, key=lambda rest: rest.n_macs)


def _little_faster(gains: Estimate) -> str:
    if gains.speed_up >= LITTLE_FASTER:
        return ""
    where = size = ""
    if gains.packed_seconds:
        what, seconds = next(iter(gains.packed_parts.items()))  # the longest
        where = f"; {percent(seconds / gains.packed_seconds)} of its time would go to {what}"
    if gains.shrinkage >= LITTLE_SMALLER:
        size = f", though it may be for size ({times(gains.shrinkage)} smaller)"
    return f"not worth it for speed (estimated {_speed(gains.speed_up)}{where}){size}"


def _little_smaller(gains: Estimate, plan: Plan) -> str:
    if gains.shrinkage >= LITTLE_SMALLER:
        return ""
    floats = {REST: plan.other_bytes}
    for d in plan.decisions:
        if not d.binary:
            floats[f"`{d.layer.name}` ({d.reason})"] = d.packed_bytes
    largest = max(floats, key=lambda name: floats[name])
    share = floats[largest] / max(plan.packed_bytes(), 1)
    return (
        f"hardly smaller ({times(gains.shrinkage)}): {percent(share)} of the packed bytes are "
        f"{largest}; `float_dtype='float16'` halves what stays float"
    )


def _speed(ratio: float) -> str:
    if 0.95 <= ratio < 1.05:
        return "no faster"
    return f"{times(ratio)} faster" if ratio > 1 else f"{times(1 / ratio)} slower"


def times(ratio: float) -> str:
    """`1.15×`, `8.1×`, `11×`."""
    n_decimals = 2 if ratio < 1.995 else 1 if ratio < 9.95 else 0
    return f"{ratio:.{n_decimals}f}×"


def percent(share: float) -> str:
    """Whole per cent of a share; only all gives 100, only nothing 0."""
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    return f"{min(max(100 * share, 1), 99):.0f} %"
