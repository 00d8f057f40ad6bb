"""A walk is a copy: sizes and strides say where every number comes from and goes to."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from irbin.emit.copies import walked
from irbin.runtime.arrays import start


def walk(x: np.ndarray, to: np.ndarray) -> None:
    """What `irbin_copy` does, number by number."""
    sizes, (from_steps, to_steps) = walked(x, to)
    owners = [one if one.base is None else one.base for one in (x, to)]
    flat_x, flat_to = (one.reshape(-1) for one in owners)
    begins = [(start(one) - start(own)) // 4 for one, own in zip((x, to), owners, strict=True)]
    for at in product(*map(range, sizes)):
        i = begins[0] + sum(a * step for a, step in zip(at, from_steps, strict=True))
        j = begins[1] + sum(a * step for a, step in zip(at, to_steps, strict=True))
        flat_to[j] = flat_x[i]


SHAPES = st.lists(st.integers(1, 4), min_size=0, max_size=5)


@given(SHAPES, st.data())
def test_a_walk_copies_turned_mirrored_and_repeated_numbers(shape, data) -> None:
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    x = x.transpose(data.draw(st.permutations(range(x.ndim))))
    x = x[(..., *(slice(None, None, data.draw(st.sampled_from((1, -1, 2)))) for _ in x.shape))]
    if data.draw(st.booleans()):
        x = np.broadcast_to(x, (3, *x.shape))
    order = data.draw(st.permutations(range(x.ndim)))
    to = np.full([x.shape[axis] for axis in order], np.nan, np.float32)
    to = to.transpose(np.argsort(order))
    walk(x, to)
    assert np.array_equal(to, x)


def test_what_lies_in_a_row_is_one_axis() -> None:
    x = np.zeros((1, 3, 4, 5), np.float32)
    assert walked(x, np.zeros_like(x)) == ((60,), ((1,), (1,)))
    in_rows = np.zeros((1, 4, 5, 3), np.float32).transpose(0, 3, 1, 2)
    assert walked(x, in_rows) == ((20, 3), ((1, 20), (3, 1)))
    assert walked(np.zeros((), np.float32), np.zeros((), np.float32)) == ((1,), ((1,), (1,)))
