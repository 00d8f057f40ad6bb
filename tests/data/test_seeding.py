from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irbin.data.seeding import seed_all


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


class TestSeedOfADevice:
    """Without one at hand: its generators are two of the CPU's."""

    @pytest.fixture
    def generators(self) -> tuple[torch.Generator, torch.Generator]:
        return torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)

    @pytest.mark.parametrize("kind", ["cuda", "xpu"])
    @pytest.mark.parametrize(("index", "used"), [(None, 0), (0, 0), (1, 1)])
    def test_its_own_generator_is_seeded_and_no_other(
        self, kind: str, index: int | None, used: int, generators, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = getattr(torch, kind)
        monkeypatch.setattr(backend, "default_generators", generators)
        monkeypatch.setattr(backend, "current_device", lambda: 0)
        seed_all(3, 4, device=torch.device(kind, index))
        assert generators[used].initial_seed() == torch.initial_seed()
        assert generators[1 - used].initial_seed() == 2 - used

    def test_that_of_an_apple_gpu_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seeds: list[int] = []
        monkeypatch.setattr(torch.mps, "manual_seed", seeds.append)
        seed_all(3, 4, device=torch.device("mps"))
        assert seeds == [torch.initial_seed()]

    def test_the_cpu_needs_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seed_all(3, 4, device=torch.device("cpu"))
        first = torch.initial_seed()
        seed_all(3, 4)
        assert torch.initial_seed() == first
