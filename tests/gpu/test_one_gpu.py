"""The programs of `docs/gpu`, as far as a CPU can run them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import irbin

PROGRAMS = Path(__file__).parents[2] / "docs" / "gpu"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(PROGRAMS)
    monkeypatch.setattr(irbin, "convert", lambda *_, **__: None)  # these checks train nothing
    return importlib.import_module("one_gpu")


def lines(
    program: ModuleType,
    words: list[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[int, list[str]]:
    """What `one_gpu.py` leaves with and prints."""
    out = [str(place / "data"), str(place / "out"), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["one_gpu.py", *out, *words])
    return program.main(), capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_a_line_says_what_passed(
    program: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, found = lines(program, ["--only", "crops", "waits"], tmp_path, monkeypatch, capsys)
    assert code == 0
    assert found[:-1] == [f"PASS padding {n}: 0 bytes unlike the CPU's" for n in (4, 0)]
    assert found[-1] == "SKIP calls that wait for the GPU"


def test_a_check_that_cannot_run_failed(
    program: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, found = lines(program, ["--only", "answers"], tmp_path, monkeypatch, capsys)
    assert code == 1
    assert len(found) == 1
    assert found[0].startswith("FAIL answers: ")


def test_the_program_for_two_says_how_it_is_called() -> None:
    done = subprocess.run(
        ["bash", str(PROGRAMS / "two_gpus.sh")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "bash docs/gpu/two_gpus.sh data/cifar10 /tmp/two-gpus cpu" in done.stdout
