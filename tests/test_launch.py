from __future__ import annotations

import pytest

from irbin.errors import UsageError
from irbin.launch import Launch, check_launch, launched

NAMES = (
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_STEP_NUM_TASKS",
    "LOCAL_WORLD_SIZE",
    "SLURM_STEP_TASKS_PER_NODE",
)
SRUN = {
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}
SCRIPT = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
TORCHRUN = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Launch(0, 0, 1)),
        (TORCHRUN, Launch(3, 1, 4, 4)),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "2"}, Launch(3, 1, 4, 2)),
        (SRUN, Launch(5, 1, 8, 8)),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "2(x3),1(x2)"}, Launch(5, 1, 8, 2)),
        ({**SRUN, **TORCHRUN}, Launch(3, 1, 4, 4)),  # torchrun within a step
        (SCRIPT, Launch(0, 0, 1)),
        ({**SCRIPT, "SLURM_STEP_NUM_TASKS": "1"}, Launch(0, 0, 1)),  # the shell of salloc
        ({"RANK": "x"}, Launch(0, 0, 1)),
    ],
)
def test_who_started_a_process_with_how_many(
    environment: dict[str, str], expected: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == expected
    if "SLURM_NTASKS" in environment and expected.size == 1:
        with pytest.raises(UsageError, match=r"^expected a process for each .* 8 tasks, got this"):
            check_launch()
    else:
        check_launch()
