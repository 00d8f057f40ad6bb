from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from irbin.cli.zoo import complete_entry
from irbin.records.json import from_json, to_json
from irbin.records.zoo import ZooRecord
from irbin.zoo import entries

PACKED, FLOAT = "resnet20-cifar10-1w1a", "resnet20-cifar10-float"


def test_the_list(run: Any) -> None:
    done = run("zoo")
    assert done.code == 0
    assert all(name in done.out for name in entries.entry_names())
    assert done.err == "next: irbin zoo NAME; irbin eval zoo:NAME --data-dir DATA\n"


def test_the_list_as_json(run: Any) -> None:
    done = run("zoo", "--json", "-")
    assert done.code == 0
    found = [from_json(ZooRecord, value, "-") for value in json.loads(done.out)]
    assert found == entries.all_records()


@pytest.mark.parametrize("name", [PACKED, f"zoo:{PACKED}", FLOAT])
def test_one(run: Any, name: str) -> None:
    record = entries.read_record(name)
    done = run("zoo", name)
    assert done.code == 0
    assert done.out.startswith(f"zoo:{record.name}\nnetwork ")
    for one in record.runs:
        for command in one.commands:
            assert f"\n  {command}\n" in done.out  # whole, to be copied
    assert done.err.startswith("next: irbin ")
    assert f"irbin eval zoo:{record.name} --data-dir DATA\n" in done.err


def test_one_as_json(run: Any, tmp_path: Path) -> None:
    done = run("zoo", FLOAT, "--json", str(tmp_path / "a.json"))
    assert done.code == 0
    assert "float-cifar10" in done.out
    value = json.loads((tmp_path / "a.json").read_text())
    assert value == json.loads(json.dumps(to_json(entries.read_record(FLOAT))))


def test_a_float_entry_is_to_be_converted(run: Any) -> None:
    assert run("zoo", FLOAT).err.startswith(f"next: irbin convert zoo:{FLOAT} -o converted; ")


def test_what_taught_an_entry_is_to_be_looked_up(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(entries.ROOT / PACKED, tmp_path / PACKED)
    file = tmp_path / PACKED / entries.RECORD_FILE
    value = json.loads(file.read_text()) | {"teacher": f"zoo:{FLOAT}", "teacher_top1": 89.86}
    file.write_text(json.dumps(value))
    monkeypatch.setattr(entries, "ROOT", tmp_path)
    done = run("zoo", PACKED)
    assert f"zoo:{FLOAT}: top-1 89.86 %" in done.out
    assert done.err.startswith(f"next: irbin zoo {FLOAT}; irbin eval zoo:{PACKED} ")


def test_an_unknown_name(run: Any) -> None:
    done = run("zoo", "resnet20-cifar10-1w1")
    assert done.code == 1
    assert done.out == ""
    assert done.err == (
        "irbin: the zoo has no `zoo:resnet20-cifar10-1w1`; nearest: `zoo:resnet20-cifar10-1w1a`, "
        "`zoo:resnet20-cifar10-1w32a`, `zoo:resnet18-cifar10-1w1a`; `irbin zoo` lists all\n"
    )


@pytest.mark.parametrize("command", [["eval", "--data-dir", "d"], ["inspect"], ["bench"]])
def test_an_unknown_source_is_said_by_every_command(run: Any, command: list[str]) -> None:
    done = run(*command, "zoo:nothing")
    assert done.code == 1
    assert done.err.startswith("irbin: the zoo has no `zoo:nothing`; nearest: ")
    assert done.err.count("\n") == 1


def test_a_damaged_record_is_one_line(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "ROOT", tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / entries.RECORD_FILE).write_text("{")
    for words in (["zoo"], ["zoo", "a"]):
        done = run(*words)
        assert done.code == 1
        assert done.err.startswith("irbin: expected the record of an entry, got: ")
        assert done.err.count("\n") == 1


def test_names_are_completed() -> None:
    assert complete_entry("") == list(entries.entry_names())
    assert complete_entry("resnet20-cifar10-f") == [FLOAT]
    assert complete_entry("x") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [PACKED, FLOAT])
def test_inspect_says_where_more_is_told(run: Any, name: str) -> None:
    done = run("inspect", f"zoo:{name}")
    assert done.code == 0
    assert f"zoo:{name}: " in done.out
    assert done.err == f"next: irbin zoo {name}\n"


def test_a_packed_entry_takes_no_plan(run: Any) -> None:
    done = run("inspect", f"zoo:{PACKED}", "--keep", "layer1")
    assert done.code == 2
    assert "is packed already" in done.err


def test_eval_tells_recorded_beside_measured(run: Any, verbs: Any) -> None:
    done = run("eval", f"zoo:{FLOAT}", "float", "--data-dir", "d")
    assert done.code == 0
    assert f"zoo:{FLOAT}: recorded 89.86 % on 10,000 images of cifar10\n" in done.out
    assert done.out.count("recorded") == 1
