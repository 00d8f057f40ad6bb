from __future__ import annotations

import pytest
import torch

from irbin.evaluation import speed
from irbin.evaluation.speed import TIMED_ON_DEVICES, Speed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that goes where it is told."""
    now = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    return now


def called(one: Speed, clock: list[float], n_images: int, seconds: float) -> None:
    with one.call(n_images):
        clock[0] += seconds


def test_the_first_batch_prepares_and_does_not_count(clock: list[float]) -> None:
    one = Speed(torch.device("cpu"))
    called(one, clock, 64, 10.0)
    clock[0] += 100.0  # decoding
    called(one, clock, 64, 2.0)
    clock[0] += 100.0
    called(one, clock, 36, 0.5)
    assert one.images_per_second == pytest.approx(100 / 2.5)


def test_a_single_batch_counts(clock: list[float]) -> None:
    one = Speed(torch.device("cpu"))
    called(one, clock, 7, 2.0)
    assert one.images_per_second == pytest.approx(3.5)


def test_nothing_timed_is_nothing() -> None:
    assert Speed(torch.device("cpu")).images_per_second == 0.0


def test_a_device_is_waited_for_and_for_a_few_batches_only(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    device = torch.device("cuda:1")
    one = Speed(device)
    for _ in range(TIMED_ON_DEVICES + 5):
        called(one, clock, 10, 1.0)
    assert waited == [device] * 2 * (TIMED_ON_DEVICES + 1)
    assert one.images_per_second == pytest.approx(10.0)
