"""What `docs/gpu/each_process.py` computes, on a driver and kernels that are made up."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAMS = Path(__file__).parents[2] / "docs" / "gpu"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(PROGRAMS)
    return importlib.import_module("each_process")


class Driver:
    """CUDA's driver, as far as it is asked which primary contexts there are."""

    def __init__(self, active: set[int], error: int = 0) -> None:
        self.active, self.error = active, error

    def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: N802  # CUDA's name
        device._obj.value = 10 + number
        return self.error

    def cuDevicePrimaryCtxGetState(self, device: Any, _flags: Any, active: Any) -> int:  # noqa: N802
        active._obj.value = device.value - 10 in self.active
        return 0


@pytest.mark.parametrize("active", [set(), {0}, {1}, {0, 1}])
def test_gpus_with_a_context_are_found(program: ModuleType, active: set[int]) -> None:
    assert program.opened(Driver(active), 2) == sorted(active)
    with pytest.raises(RuntimeError, match="driver says error 3 about GPU 0"):
        program.opened(Driver(active, error=3), 2)


@pytest.mark.parametrize(
    ("local_rank", "active", "line"),
    [
        ("1", {1}, "PASS process 1 opened GPUs [1]"),
        ("1", {0, 1}, "FAIL process 1 opened GPUs [0, 1]"),
        (None, {1}, "PASS process 1 opened GPUs [1]"),
    ],
)
def test_a_process_may_open_its_own_gpu_alone(
    program: ModuleType,
    local_rank: str | None,
    active: set[int],
    line: str,
    capsys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    words: list[str] = []
    monkeypatch.setattr(program, "run_irbin", lambda given: words.extend(given) or 0)
    monkeypatch.setattr(program.ctypes, "CDLL", lambda _: Driver(active))
    monkeypatch.setattr(program.torch.cuda, "device_count", lambda: 2)
    device = "cuda" if local_rank else "cuda:1"
    assert program.contexts(device, ["eval", "x"]) == line.startswith("FAIL")
    assert words == ["eval", "x", "--device", device]
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize(
    ("spans", "by", "share"),
    [
        ([], [(0, 9)], 0.0),
        ([(0, 4)], [], 0.0),
        ([(0, 4)], [(4, 9)], 0.0),
        ([(0, 4)], [(2, 9)], 0.5),
        ([(0, 4)], [(1, 2), (1, 3)], 0.5),  # two at once count once
        ([(0, 4), (6, 10)], [(0, 7)], 0.625),
        ([(1, 2)], [(0, 9)], 1.0),
    ],
)
def test_the_share_of_time_that_is_covered(
    program: ModuleType, spans: list[Any], by: list[Any], share: float
) -> None:
    assert program.covered(spans, by) == share
