"""What mutants are made of: numbers at borders, and changes of JSON values that keep their form."""

from __future__ import annotations

import copy
import random
from typing import Any

INTEGERS = (
    0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 31, 32, 33, 63, 64, 65, 255, 256, 4096, 2**16, 2**16 + 1, 2**20,
    2**24, 2**24 + 1, 2**28, 2**31 - 1, 2**31, 2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 10**30,
)  # fmt: skip  # a list of values
FLOATS = (0.0, -0.0, 0.5, 1.0, 1e-45, 1e-38, 3.4e38, 1e39, 1e308, -1e308, 2.0**-149)
TEXTS = ("", "x", "N", "none", "tanh", "floor", "reflect", "circular", "\n", "é", "x" * 600, "\x00")
SIZES = ("N", "2*N", "N*N", "N-1", "N//2", "-N", "N**8", "1", "0", "4", "9999999999", "(N", "N+1")


def integer(draw: random.Random) -> int:
    """One at a border, or small."""
    value = draw.choice(INTEGERS) if draw.random() < 0.5 else draw.randrange(-3, 12)
    return -value if draw.random() < 0.1 else value


def scalar(draw: random.Random) -> Any:
    """Any JSON value without parts."""
    kind = draw.randrange(8)
    if kind < 4:
        return integer(draw)
    if kind == 4:
        return draw.choice(FLOATS)
    if kind == 5:
        return draw.choice(TEXTS)
    return draw.choice((None, True, False, [], {}, [[]], {"float": "nan"}, {"dtype": "int64"}))


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of every part of a JSON value."""
    found = [place]
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in parts:
        found += places(part, (*place, key))
    return found


def mutated(value: Any, draw: random.Random, n: int) -> Any:
    """A copy with n changes: a part replaced, moved, doubled or taken away."""
    value = copy.deepcopy(value)
    for _ in range(n):
        here = [place for place in places(value) if place]
        if not here:
            return scalar(draw)
        *way, last = draw.choice(here)
        holder = value
        for key in way:
            holder = holder[key]
        change = draw.randrange(10)
        if change < 5:
            holder[last] = _changed(holder[last], draw)
        elif change < 6:
            holder[last] = scalar(draw)
        elif change < 7:
            holder[last] = copy.deepcopy(_at(value, draw.choice(here)))
        elif change < 8:
            del holder[last]
        elif isinstance(holder, list):
            holder.insert(last, copy.deepcopy(draw.choice(holder)))
        else:
            holder[draw.choice(TEXTS)] = scalar(draw)
    return value


def _at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def _changed(value: Any, draw: random.Random) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return integer(draw) if draw.random() < 0.7 else value + draw.choice((-1, 1))
    if isinstance(value, float):
        return draw.choice(FLOATS)
    if isinstance(value, str) and "[" in value:  # a type
        dtype, _, sizes = value.partition("[")
        axes = sizes.rstrip("]").split(",")
        i = draw.randrange(len(axes))
        change = draw.randrange(4)
        if change == 0:
            axes[i] = draw.choice((*SIZES, str(abs(integer(draw)))))
        elif change == 1:
            axes.insert(i, draw.choice(axes))
        elif change == 2:
            del axes[i]
        else:
            dtype = draw.choice(("float32", "uint8", "int8", "int64", "bool", "float64", "int"))
        return f"{dtype}[{','.join(axes)}]"
    return scalar(draw)
