"""Boxes of numbers that are taken from any places to any places: what a walk is made of."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

MAX_WALK_AXES = 8
"""Of a box."""
CONSTANTS = -1
"""Source of a way among constants."""

WalkKind = Literal[
    "copy",
    "multiply",
    "add",
    "subtract",
    "divide",
    "maximum",
    "minimum",
    "negate",
    "absolute",
    "sum",
    "softmax",
]
WALK_KINDS: tuple[WalkKind, ...] = get_args(WalkKind)
"""In the order of the C++ enum."""


class Way(NamedTuple):
    """Where the numbers of a leg lie in an image of a tensor, or in constants."""

    source: int
    """Which tensor: 0 for what is read first, i for the i-th beside it, −1 for the constants."""
    offset: int
    """Of the first number."""
    strides: tuple[int, ...]
    """From a number to the next, along each axis of the leg."""


class Leg(NamedTuple):
    """A box of results, and what each is made of."""

    kind: WalkKind
    """`maximum` and `minimum` give NaN where one is, and the second of equal ones; `sum` adds
    `n_terms` numbers in order, each sum rounded; `softmax` makes as many results of them."""
    sizes: tuple[int, ...]
    """Of the box."""
    to: Way
    """Where results lie in an image of them; its source says nothing."""
    first: Way
    """What is read."""
    second: Way
    """The other one of a pair; of a leg that reads one, the same."""
    n_terms: int = 1
    """Numbers of a sum or softmax."""
    step: int = 0
    """From one of these to the next."""
    to_step: int = 0
    """From a result of a softmax to the next."""
