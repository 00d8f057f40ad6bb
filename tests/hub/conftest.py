"""A hub on this machine: repositories are folders, and what is fetched is counted."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from irbin.hub import reach, repository
from irbin.zoo.entries import located

PACKED, FLOAT = "zoo:resnet20-cifar10-1w1a", "zoo:resnet20-cifar10-float"


class Hub:
    """Stands in for the client's functions; `ROOT/OWNER/NAME` is a repository, `…@REV` another."""

    def __init__(self, root: Path) -> None:
        self.root = root / "hub"
        self.cache = root / "cache"
        self.asked: list[str] = []
        self.unreachable = False
        self.made: list[tuple[str, bool | None]] = []
        self.refuses: Exception | None = None

    def place(self, repo_id: str, revision: str | None = None) -> Path:
        return self.root / f"{repo_id}@{revision}" if revision else self.root / repo_id

    def has(self, spec: str, name: str) -> Path:
        """Puts a folder of the zoo there; returns the repository."""
        shutil.copytree(located(spec), self.root / name)
        (self.root / name / "record.json").unlink()
        return self.root / name

    def download(self, *, repo_id: str, revision: str | None, filename: str) -> str:
        self.asked.append(filename)
        if self.unreachable:
            raise OSError("no route to host")
        file = self.place(repo_id, revision) / filename
        if not file.is_file():
            raise huggingface_hub.errors.EntryNotFoundError("404")
        return str(file)

    def snapshot(self, *, repo_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        self.asked.append("snapshot")
        place, out = self.place(repo_id, revision), self.cache / f"{repo_id}@{revision}"
        out.mkdir(parents=True, exist_ok=True)
        for file in place.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, out)
        return str(out)

    def api(self, **_: Any) -> Hub:
        return self

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> None:
        if self.refuses is not None:
            raise self.refuses
        assert exist_ok
        self.made.append((repo_id, private))

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], commit_message: str
    ) -> None:
        assert commit_message
        self.root.joinpath(repo_id).mkdir(parents=True)
        for file in folder_path.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, self.root / repo_id)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    one = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", one.download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", one.snapshot)
    monkeypatch.setattr(huggingface_hub, "HfApi", one.api)
    monkeypatch.setattr(reach, "hub_has_address", lambda: True)
    monkeypatch.setattr("irbin.pushing.hub_has_address", lambda: True)
    monkeypatch.setattr(repository, "_fetched", {})
    return one
