from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from irbin import processes
from irbin.errors import LostProcessError, TrainingError, UsageError
from irbin.processes import ALONE, Group, _is_lost, joined, open_device


def test_alone_nothing_is_exchanged() -> None:
    tensor = torch.tensor([1.0, 2.0])
    for exchange in (ALONE.sum, ALONE.max, ALONE.share):
        assert exchange(tensor) is tensor
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.least([3, 1]) == [3, 1]
    ALONE.wait()
    assert ALONE.is_first
    assert not Group(1, 2).is_first


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    processes.leave(3)  # nothing was left open
    with joined("cpu") as group:
        assert (group.rank, group.size, group.device) == (0, 1, torch.device("cpu"))
    message = "`device`: expected one this torch can use, got `gpu`"
    with pytest.raises(UsageError, match=message), joined("gpu"):
        pass


NCCL = "NCCL error in: ProcessGroupNCCL.cpp:1, {}, NCCL version 2.27\n{}: Failed.\nLast error:\n{}"
GONE = dist.DistBackendError(
    NCCL.format("remote process exited", "ncclRemoteError", "socketProgress: Connection closed")
)
CLOSED = dist.DistBackendError(
    NCCL.format("internal error", "ncclInternalError", "Net : Connection closed by remote peer x")
)
TWICE = dist.DistBackendError(
    NCCL.format("invalid usage", "ncclInvalidUsage", "Duplicate GPU detected : rank 1 and rank 0")
)


def test_only_lost_connections_become_the_message_of_a_lost_process() -> None:
    assert _is_lost(RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer"))
    assert _is_lost(GONE)
    assert _is_lost(CLOSED)
    assert not _is_lost(TWICE)
    assert not _is_lost(RuntimeError("shape mismatch"))
    assert issubclass(LostProcessError, TrainingError)


class FakeGroup:
    """torch.distributed for two processes on GPUs, without the other one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first_error: Exception | None = None):
        self.events: list[str] = []
        self.first_error = first_error
        for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(processes, "_left_open", False)
        monkeypatch.setattr(processes, "open_device", torch.device)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(Group, "wait", self.wait)
        monkeypatch.setattr(dist, "is_initialized", lambda: "init" in self.events)
        monkeypatch.setattr(dist, "init_process_group", self.init)
        monkeypatch.setattr(dist, "destroy_process_group", lambda: self.events.append("destroy"))
        monkeypatch.setattr(processes.os, "_exit", lambda code: self.events.append(f"exit {code}"))

    def init(self, backend: str, **_: object) -> None:
        self.events += [backend, "init"]

    def wait(self, _group: Group | None = None) -> None:
        self.events.append("exchange")
        if self.first_error is not None:
            raise self.first_error


def test_one_group_carries_what_is_joined_within(monkeypatch: pytest.MonkeyPatch) -> None:
    """A packed network computes on the CPU beside one on the GPU."""
    fake = FakeGroup(monkeypatch)
    with joined("cuda") as outer:
        with joined("cpu") as inner:
            assert (inner.rank, inner.size, inner.device.type) == (1, 2, "cpu")
        with joined("cuda:0") as again:
            assert again == outer == Group(1, 2, torch.device("cuda:1"))
        assert "destroy" not in fake.events
    processes.leave(1)
    assert fake.events == ["cpu:gloo,cuda:nccl", "init", "exchange", "destroy"]


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (GONE, LostProcessError, r"one ended; .* \(NCCL's: socketProgress: Connection closed\)$"),
        (TWICE, TrainingError, r"^expected the .* got: Duplicate GPU detected : rank 1 and rank 0"),
        (KeyError("x"), KeyError, "x"),
    ],
)
def test_after_an_error_the_group_stays_and_the_process_leaves(
    error: Exception, raised: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeGroup(monkeypatch)
    with pytest.raises(raised, match=message) as found, joined("cuda"):
        raise error
    assert type(found.value) is raised
    assert "destroy" not in fake.events
    monkeypatch.setattr("sys.stdout", None)  # `>&-`
    processes.leave(1)
    assert fake.events[-1] == "exit 1"


def test_nobody_is_lost_before_tensors_were_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGroup(monkeypatch, GONE)
    with pytest.raises(UsageError, match=r"`device='cuda'`, got: socketProgress: Connection cl"):
        joined("cuda").__enter__()


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_a_process_that_is_shown_one_gpu_takes_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's --gpus-per-task=1: local number 1, and a single GPU, number 0."""
    FakeGroup(monkeypatch)
    monkeypatch.setattr(getattr(torch, kind), "device_count", lambda: 1)
    with joined(kind) as group:
        assert str(group.device) == f"{kind}:0"


@pytest.mark.parametrize(
    ("local_rank", "device"), [("0", "cuda:0"), ("1", "cuda:1"), ("5", "cuda:1")]
)
def test_a_process_that_is_shown_several_takes_one(
    local_rank: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's --gpus-per-task=2: any of them is its own."""
    FakeGroup(monkeypatch)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("SLURM_GPUS_PER_TASK", "2")
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    with joined("cuda") as group:
        assert str(group.device) == device


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGroup(monkeypatch)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("SLURM_GPUS_PER_TASK", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match=r"^expected a GPU .* process 3 where it sees 2 GPUs: st"):
        joined("cuda").__enter__()


@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("cuda:1", [1, "cuda:1"]),
        ("xpu:1", [1, "xpu:1"]),
        ("cuda", ["cuda"]),
        ("cpu", ["cpu"]),
    ],
)
def test_the_device_that_was_named_is_the_present_one(
    name: str, events: list[int | str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a tensor is made there: that would open the first GPU too."""
    found: list[int | str] = []
    monkeypatch.setattr(processes.torch, "empty", lambda _, device: found.append(str(device)))
    for backend in (torch.cuda, torch.xpu):
        monkeypatch.setattr(backend, "device_count", lambda: 2)
        monkeypatch.setattr(backend, "set_device", found.append)
    for variable in ("WORLD_SIZE", "RANK", "SLURM_NTASKS"):
        monkeypatch.delenv(variable, raising=False)
    with joined(name) as group:
        assert str(group.device) == name
    assert found == events


@pytest.mark.parametrize("name", ["cuda:2", "cuda:99"])
def test_a_gpu_that_is_not_there_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match=rf"^`device`: .* got `{name}`: this process sees 2 GPUs$"):
        open_device(name)


def test_alone_in_an_allocation_of_several_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    with pytest.raises(UsageError, match=r"^expected a process for each of .* 8 tasks, got this"):
        joined("cpu").__enter__()


class TestToldOnce:
    """Of several processes one tells an error: the first to come, by the store of torchrun."""

    @pytest.fixture
    def store(self, monkeypatch: pytest.MonkeyPatch) -> dist.TCPStore:
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(store.port))
        monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
        return store

    def test_the_first_to_come_tells_and_no_other(self, store: dist.TCPStore) -> None:
        told = []
        for _ in range(3):
            with processes.told_once() as is_first:
                told.append(is_first)
        assert told == [True, False, False]

    def test_a_new_attempt_tells_anew(
        self, store: dist.TCPStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for attempt in ("0", "1"):
            monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", attempt)
            with processes.told_once() as is_first:
                assert is_first

    def test_the_second_goes_on_when_the_first_has_told(self, store: dist.TCPStore) -> None:
        events = []

        def second() -> None:
            with processes.told_once() as is_first:
                events.append(f"second: {is_first}")

        with processes.told_once():
            other = threading.Thread(target=second)
            other.start()
            while store.add("irbin/0/told", 0) < 2:  # it has come, and waits
                pass
            events.append("first has told")
        other.join()
        assert events == ["first has told", "second: False"]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "value"),
        [("TORCHELASTIC_USE_AGENT_STORE", ""), ("MASTER_PORT", "x"), ("MASTER_PORT", "1")],
    )
    def test_without_a_store_nobody_counts(
        self, store: dist.TCPStore, name: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, value)
        monkeypatch.setattr(processes, "_PATIENCE", timedelta(milliseconds=1))
        with processes.told_once() as is_first:
            assert is_first is None

    def test_one_that_was_killed_on_the_way_keeps_nobody(
        self, store: dist.TCPStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.add("irbin/0/told", 1)
        monkeypatch.setattr(processes, "_PATIENCE", timedelta(milliseconds=100))
        with processes.told_once() as is_first:
            assert is_first is False
