from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from irbin.hardware import n_cores, processor
from irbin.runs.provenance import git_revision, hardware


def test_hardware_is_named() -> None:
    found = hardware(torch.device("cpu"))
    assert found["processor"] == processor() != ""
    assert found["cores"] == n_cores() >= 1
    assert "gpu" not in found


def test_git_revision_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_revision() is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    first = git_revision()
    assert first is not None
    assert len(str(first["revision"])) == 40
    assert first["modified"] is False
    (tmp_path / "file").write_text("2")
    second = git_revision()
    assert second == {"revision": first["revision"], "modified": True}


def test_without_git_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_revision() is None
