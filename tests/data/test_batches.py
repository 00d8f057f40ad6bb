from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from irbin.data.batches import seed_all


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=3))
def test_equal_keys_give_equal_streams(key: list[int]) -> None:
    def draw() -> tuple[float, float, float]:
        return float(torch.rand(())), random.random(), float(np.random.rand())

    seed_all(*key)
    first = draw()
    seed_all(*key)
    assert draw() == first
    seed_all(*key[:-1], key[-1] + 1)
    assert draw() != first
