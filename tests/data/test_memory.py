from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


VM_STAT = """\
Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10.
Pages active:                          50000.
Pages inactive:                          200.
Pages speculative:                      3000.
Pages throttled:                           0.
Pages wired down:                      70000.
Pages purgeable:                       40000.
"Translation faults":                  99999.
"""


class TestMacos:
    @pytest.fixture(autouse=True)
    def _macos(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory.sys, "platform", "darwin")

    def said(self, monkeypatch: pytest.MonkeyPatch, text: str) -> int:
        done = subprocess.CompletedProcess([], 0, text, "")
        monkeypatch.setattr(memory.subprocess, "run", lambda *_, **__: done)
        return free_bytes()

    def test_what_can_be_had_without_swapping_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.said(monkeypatch, VM_STAT) == 16384 * (10 + 200 + 3000 + 40000)

    @pytest.mark.parametrize("text", ["", "Pages free: 10.", "(page size of 16384 bytes)"])
    def test_other_words_are_not_guessed_at(self, monkeypatch: pytest.MonkeyPatch, text) -> None:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        assert self.said(monkeypatch, text) == whole

    def test_without_vm_stat_all_memory_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        assert free_bytes() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class TestWindows:
    @pytest.fixture(autouse=True)
    def _windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory.sys, "platform", "win32")

    def test_the_system_fills_in_what_is_free(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fill(reference: Any) -> int:
            status = reference._obj
            assert status.size == ctypes.sizeof(status) == 64  # of MEMORYSTATUSEX
            status.physical, status.free = 8 << 30, 3 << 30
            return 1

        kernel = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=fill))
        monkeypatch.setattr(ctypes, "windll", kernel, raising=False)
        assert free_bytes() == 3 << 30

    def test_where_it_does_not_nothing_is_free(self) -> None:
        assert free_bytes() == 0


@pytest.mark.parametrize("error", [AttributeError, ValueError, OSError])
def test_a_system_without_sysconf_does_not_fail(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def sysconf(_: str) -> int:
        raise error

    monkeypatch.setattr(memory.os, "sysconf", sysconf)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert free_bytes() >= 0
