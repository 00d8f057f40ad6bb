from __future__ import annotations

import pytest
import torch

from irbin import processes
from irbin.errors import LostProcessError, TrainingError, UsageError
from irbin.processes import ALONE, Group, _is_lost, joined


def test_alone_nothing_is_exchanged() -> None:
    tensor = torch.tensor([1.0, 2.0])
    for exchange in (ALONE.sum, ALONE.max, ALONE.share):
        assert exchange(tensor) is tensor
    assert ALONE.any(True)
    assert not ALONE.any(False)
    ALONE.wait()
    assert ALONE.is_first
    assert not Group(1, 2).is_first


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    with joined("cpu") as group:
        assert (group.rank, group.size, group.device) == (0, 1, torch.device("cpu"))
    message = "`device`: expected one this torch can use, got `gpu`"
    with pytest.raises(UsageError, match=message), joined("gpu"):
        pass


def test_only_lost_connections_become_the_message_of_a_lost_process() -> None:
    assert _is_lost(RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer"))
    assert not _is_lost(RuntimeError("shape mismatch"))
    assert issubclass(LostProcessError, TrainingError)


@pytest.mark.parametrize(("name", "set_to"), [("cuda:1", [1]), ("cuda", []), ("cpu", [])])
def test_the_device_that_was_named_is_the_present_one(
    name: str, set_to: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[torch.device] = []
    monkeypatch.setattr(processes.torch, "empty", lambda *_, **__: None)
    monkeypatch.setattr(torch.cuda, "set_device", found.append)
    for variable in ("WORLD_SIZE", "RANK", "SLURM_NTASKS"):
        monkeypatch.delenv(variable, raising=False)
    with joined(name) as group:
        assert str(group.device) == name
    assert [device.index for device in found] == set_to
