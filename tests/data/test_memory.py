from __future__ import annotations

from pathlib import Path

import pytest

from irbin.data import memory
from irbin.data.memory import free_bytes


def test_there_is_some_memory() -> None:
    assert free_bytes() > 2**20


@pytest.mark.parametrize(
    ("limit", "current", "files", "expected"),
    [("1000", "300", "0", 700), ("1000", "300", "200", 900), ("1000", "1200", "0", 0)],
)
def test_a_containers_limit_counts(
    limit: str,
    current: str,
    files: str,
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text(current + "\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {files}\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert free_bytes() == expected


def test_no_limit_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert free_bytes() > 2**20


@pytest.mark.parametrize("error", [OSError, RuntimeError, NotImplementedError])
def test_a_system_that_does_not_tell_has_none(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def memory_of_nothing() -> None:
        raise error

    monkeypatch.setattr(memory.psutil, "virtual_memory", memory_of_nothing)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert free_bytes() == 0
