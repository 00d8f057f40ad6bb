from __future__ import annotations

import pytest
import torch

from irbin.data.choice import Choice, _fit
from irbin.launch import launched
from irbin.records.options import DataOptions

RAM, GPU = 4000, 10**9
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A little RAM beside a large GPU."""
    monkeypatch.setattr(
        "irbin.data.choice.free_bytes", lambda device=None: RAM if device is None else GPU
    )
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("n_bytes", "where"), [(RAM, "device"), (RAM + 1, "")])
def test_what_goes_to_a_gpu_is_decoded_in_ram_first(n_bytes: int, where: str) -> None:
    assert _fit(DataOptions(), n_bytes, False, CUDA, 1).where == where


@pytest.mark.parametrize(
    ("world_size", "local", "n_bytes", "where"),
    [
        (8, 2, RAM // 2, "device"),
        (8, 2, RAM // 2 + 1, ""),
        (8, 8, RAM // 8, "device"),
        (8, 8, RAM // 8 + 1, ""),
    ],
)
def test_the_processes_of_a_machine_share_its_ram(
    world_size: int, local: int, n_bytes: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(world_size))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    assert launched().local_size == local
    assert _fit(DataOptions(), n_bytes, False, CUDA, world_size).where == where


def test_who_asks_for_a_cache_may_fill_the_memory() -> None:
    assert _fit(DataOptions(cache="ram"), RAM, True, CUDA, 1) == Choice("ram", True)


@pytest.mark.parametrize(
    ("others", "where"), [([GPU, RAM], "device"), ([0, RAM], "ram"), ([0, RAM - 1], "")]
)
def test_all_processes_choose_as_the_one_with_least(others: list[int], where: str) -> None:
    """What each has free at that moment differs, and other places draw other augmentations."""

    def least(own: list[int]) -> list[int]:
        assert own == [GPU, RAM]
        return [min(pair) for pair in zip(own, others, strict=True)]

    assert _fit(DataOptions(), RAM // 4, False, CUDA, 1, least).where == where
