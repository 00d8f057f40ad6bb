from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest

import irbin
from irbin.records.results import PushRecord

FILES = {"config.json": 1200, "README.md": 34}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, as_real) -> list[tuple[Any, ...]]:
    seen: list[tuple[Any, ...]] = []
    fake = ModuleType("irbin.pushing")

    def push(folder: Any, repository: str, *, private: bool, dry_run: bool) -> PushRecord:
        seen.append((str(folder), repository, private, dry_run))
        return PushRecord(str(folder), repository, FILES, private)

    fake.push = as_real("irbin.pushing")(push)  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "irbin.pushing", fake)
    monkeypatch.setattr(irbin, "pushing", fake, raising=False)
    return seen


def test_files_and_where_they_went(run, calls) -> None:
    done = run("push", "packed", "me/net", "--private")
    assert calls == [("packed", "me/net", True, False)]
    for part in ("config.json", "1,200 bytes", "1,234 bytes", "sent to me/net"):
        assert part in done.out
    assert done.err == "next: irbin inspect hf-hub:me/net\n"


def test_a_dry_run_says_that_nothing_was_sent(run, calls) -> None:
    done = run("push", "packed", "me/net", "--dry-run", "--json", "-")
    assert calls == [("packed", "me/net", False, True)]
    value = json.loads(done.out)
    assert value["files"] == FILES
    assert value["sent"] is False
    assert "nothing was sent" in done.err
