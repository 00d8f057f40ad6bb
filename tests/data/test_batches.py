from __future__ import annotations

import random
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import irbin
from irbin.data.batches import first_line, seed_all
from irbin.data.sending import moved


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


@pytest.mark.parametrize(
    ("kind", "pinned", "quick"),
    [("cuda", True, True), ("cuda", False, False), ("mps", False, False), ("mps", True, False),
     ("xpu", True, False), ("cpu", False, False)],
)  # fmt: skip
def test_only_copies_from_pinned_memory_to_cuda_are_not_waited_for(
    kind: str, pinned: bool, quick: bool
) -> None:
    tensor = Mock(spec=torch.Tensor)
    tensor.is_pinned.return_value = pinned
    device = torch.device(kind)
    assert moved(tensor, device) is tensor.to.return_value
    tensor.to.assert_called_once_with(device, non_blocking=quick)


def test_nothing_else_moves_batches_without_waiting() -> None:
    root = Path(irbin.__file__).parent
    users = {
        file.relative_to(root).as_posix()
        for file in root.rglob("*.py")
        if "non_blocking=" in file.read_text(encoding="utf-8")
    }
    assert users == {"data/sending.py"}


@pytest.mark.parametrize(
    "name",
    [
        "<_io.BufferedReader name='/data/val/bee/a > b.png'>", "<_io.BytesIO object at 0x7f00>",
        "<ExFileObject name='/data/val.tar'>", "<tarfile.ExFileObject object at 0x7f00>",
        "<torchvision.datasets.Reader object at 0x7f00>",
    ],
)  # fmt: skip
def test_no_object_of_pythons_stands_in_an_error(name: str) -> None:
    error = OSError(f"cannot identify image file {name}\nsecond line")
    assert first_line(error) == "cannot identify image file"


def test_what_else_stands_in_brackets_stays() -> None:
    assert first_line(ValueError("expected <class 'int'>")) == "expected <class 'int'>"
    assert first_line(ValueError("")) == first_line(ValueError("\n")) == "ValueError"
    assert first_line(OSError("<_io.BytesIO object at 0x7f00>")) == "OSError"
