"""What an equation of letters says of two tensors."""

from __future__ import annotations

import numpy as np
import pytest

from irbin.emit.letters import as_matrices, letters_of

SIZES = dict(zip("abcdefg", (2, 3, 4, 5, 6, 1, 7), strict=True))


@pytest.mark.parametrize(
    "equation",
    [
        "ab,bc->ac",
        "abc,bc->ab",
        "cab,dcb->dac",
        "a,b->ba",
        "abcd,aec->bead",
        "ab,ab->ab",
        "gaf,f->ag",
    ],
)
def test_matrices_give_what_the_equation_says(equation: str) -> None:
    draw, (read, result) = np.random.default_rng(0), equation.split("->")
    a, b = (draw.integers(-9, 9, [SIZES[c] for c in one]) * 1.0 for one in read.split(","))
    letters = letters_of(equation, [a.ndim, b.ndim])
    to = np.empty([SIZES[c] for c in result])
    first, second, whole = as_matrices(letters, a, b, to)
    whole[...] = first @ second
    assert np.array_equal(to, np.einsum(equation, a, b))


@pytest.mark.parametrize(
    "equation",
    [
        "ab->a",
        "ab,bc",
        "abc,abc->c",
        "aab,b->a",
        "ab,bc->a",
        "...b,bc->...c",
        "ab,bc,cd->ad",
        "ab,b->aa",
    ],
)
def test_other_equations_are_left(equation: str) -> None:
    ranks = [len(one) for one in equation.split("->")[0].split(",")]
    assert letters_of(equation, ranks) is None


def test_tensors_of_other_ranks_are_left() -> None:
    assert letters_of("ab,bc->ac", [2, 3]) is None
