from __future__ import annotations

from pathlib import Path

import pytest
import torch

from irbin.cli.app import main
from irbin.cli.device import pick_device
from irbin.errors import UsageError


@pytest.mark.parametrize(("has_cuda", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_cuda_where_there_is_one(monkeypatch, has_cuda: bool, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert pick_device("auto") == device


def test_a_device_that_exists_is_taken() -> None:
    assert pick_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["", "gpu", "cuda:99"])
def test_a_device_that_does_not_exist_is_an_error(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^`--device`: .* got `{name}`; try `cpu` or `auto`$"):
        pick_device(name)


class Opened(BaseException):  # no error, and nobody on the way may catch it
    """Which GPU was the first that a command touched."""


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs that can be counted; whoever touches one raises `Opened`."""

    def choose(device: torch.device | int) -> None:
        raise Opened(device if isinstance(device, int) else device.index)

    def open_first() -> None:  # torch calls it before whatever needs a GPU
        raise Opened("the present one")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", choose)
    monkeypatch.setattr(torch.cuda, "_lazy_init", open_first)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


COMMANDS = {
    "finetune": ["finetune", "paper:resnet20", "--no-distill", "-o", "{out}"],
    "finetune, converts": [
        "finetune",
        "paper:resnet20",
        "-c",
        "irbin-resnet20-cifar10",
        "--no-distill",
        "-o",
        "{out}",
    ],
    "eval": ["eval", "paper:resnet20"],
    "analyze": ["analyze", "paper:resnet20", "--samples", "4"],
    "bench": ["bench", "paper:resnet20", "--train", "-b", "2"],
}
STEP = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}
STARTED = {
    "torchrun": ("cuda", {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}),
    "second machine": ("auto", {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}),
    "srun": ("cuda", STEP),
}
OF_SEVERAL = [name for name in COMMANDS if name not in ("analyze", "bench")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "device", "processes"),
    [
        *[pytest.param(name, "cuda:1", {}, id=f"{name}, cuda:1") for name in COMMANDS],
        *[
            pytest.param(name, *started, id=f"{name}, {way}")
            for name in OF_SEVERAL
            for way, started in STARTED.items()
        ],
    ],
)
def test_a_process_opens_its_own_gpu_alone(
    command: str,
    device: str,
    processes: dict[str, str],
    two_gpus: None,
    pictures28: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first touch is the choice of number 1: any other would open number 0 beside it."""
    for name, value in processes.items():
        monkeypatch.setenv(name, value)
    words = [word.format(out=tmp_path / "run") for word in COMMANDS[command]]
    if command != "bench":
        words += ["--data-dir", str(pictures28), "--num-classes", "3", "-j", "0"]
    with pytest.raises(Opened) as first:
        main([*words, "--device", device])
    assert first.value.args == (1,)
