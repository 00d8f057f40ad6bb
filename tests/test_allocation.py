from __future__ import annotations

import os
import platform
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from irbin import allocation
from irbin.allocation import memory_kept
from irbin.bench.training import benchmark_training
from irbin.evaluation.accuracy import Subject, evaluate
from irbin.records.options import Preprocessing

PAGE = resource.getpagesize()
N_BYTES = 144 << 20
"""More than twice what glibc maps apart, so that by itself it never keeps it."""

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is tuned")


def pages_mapped(work: Callable[[], object], n_rounds: int = 8) -> float:
    """Pages that the system hands out for a round of `work`, after two that do not count."""
    for _ in range(2):
        work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n_rounds):
        work()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / n_rounds


def fill() -> None:
    buffers = [torch.empty(N_BYTES // 6, dtype=torch.uint8).fill_(1) for _ in range(6)]
    assert len(buffers) == 6  # all at once, as a step holds them


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.fixture(autouse=True)
def _untuned(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES":
            monkeypatch.delenv(name)


@needs_glibc
def test_within_freed_memory_serves_again_without_a_new_page() -> None:
    with memory_kept():
        assert pages_mapped(fill) < 0.3 * N_BYTES / PAGE


@needs_glibc
def test_on_leaving_all_of_it_goes_back() -> None:
    with memory_kept():
        fill()
        held = resident()
    assert resident() < held - 0.8 * N_BYTES


@pytest.mark.slow
@needs_glibc
def test_the_outermost_one_counts() -> None:
    with memory_kept():
        fill()
        with memory_kept():
            fill()
        assert pages_mapped(fill) < 0.3 * N_BYTES / PAGE


@needs_glibc
def test_an_error_within_gives_memory_back() -> None:
    def fail() -> None:
        with memory_kept():
            fill()
            held.append(resident())
            raise ValueError

    held: list[int] = []
    with pytest.raises(ValueError, match=r"^$"):
        fail()
    assert resident() < held[0] - 0.8 * N_BYTES


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_ARENA_MAX", "2"), ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1000000")],
)
def test_malloc_that_somebody_tuned_is_left_alone(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("ctypes.CDLL", lambda _name: pytest.fail("malloc was touched"))
    with memory_kept():
        fill()


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda _name: pytest.fail("malloc was touched"))
    with memory_kept():
        fill()


class FakeLibc:
    """Remembers whether it may hand memory back."""

    def __init__(self) -> None:
        self.n_trims = 0
        self.thresholds: dict[int, int] = {}

    def mallopt(self, name: int, value: int) -> int:
        self.thresholds[name] = value
        return 1

    def malloc_trim(self, _pad: int) -> None:
        self.n_trims += 1

    @property
    def keeps(self) -> bool:
        return self.thresholds.get(-1) == -1


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> FakeLibc:
    fake = FakeLibc()
    monkeypatch.setattr(allocation, "_tunable", lambda: fake)
    return fake


def test_evaluation_keeps_its_memory(libc: FakeLibc) -> None:
    kept: list[bool] = []

    def model(images: Tensor) -> Tensor:
        kept.append(libc.keeps)
        return images

    subject = Subject("", "float", None, 0, 0, Preprocessing((3, 1, 1)))
    evaluate(model, [(torch.zeros(2, 3), torch.tensor([0, 1]))], subject)
    assert kept == [True]
    assert not libc.keeps
    assert libc.n_trims == 1


@pytest.mark.slow
def test_the_training_benchmark_keeps_its_memory(libc: FakeLibc) -> None:
    kept: set[bool] = set()

    def report(stage: str, _done: int, _all: int) -> None:
        if stage == "timing":
            kept.add(libc.keeps)

    plain = {"amp": "off", "channels_last": False, "compile": False}
    benchmark_training(
        "paper:resnet20",
        batch_size=2,
        n_runs=1,
        n_threads=1,
        overrides=plain,
        memory=False,
        report=report,
    )
    assert kept == {True}
    assert not libc.keeps
