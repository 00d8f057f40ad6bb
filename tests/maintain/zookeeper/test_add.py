from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import irbin
from docs.maintain.zookeeper import add as adding
from docs.maintain.zookeeper.__main__ import main
from docs.maintain.zookeeper.add import add, text
from docs.maintain.zookeeper.page import page
from irbin.errors import DataError, SourceError, UsageError
from irbin.records.json import to_json
from irbin.records.options import DataOptions
from irbin.records.results import Evaluation
from irbin.sources.opened import open_network
from irbin.zoo import entries
from tests.maintain.zookeeper.conftest import options

pytestmark = pytest.mark.slow  # a folder that was trained for them

Change = Callable[[Path, Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def data(pictures28: Path) -> DataOptions:
    return options(pictures28)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty zoo of the test's own."""
    root = tmp_path / "zoo"
    root.mkdir()
    monkeypatch.setattr(entries, "ROOT", root)
    return root


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_binary_run_becomes_a_packed_entry(runs: Path, zoo: Path, data: DataOptions) -> None:
    record = add(runs / "way", "small-1w1a", data)
    assert names_in(zoo) == ["README.md", "small-1w1a"]
    folder = zoo / "small-1w1a"
    assert names_in(folder) == ["config.json", "packed.safetensors", "program.json", "record.json"]
    assert entries.read_record("small-1w1a") == record
    assert (record.bits, record.n_images, record.dataset) == ("1w1a", 18, "28")
    assert [run.recipe for run in record.runs] == ["float", "mine.yaml"]
    assert record.teacher == "float/best"
    assert record.teacher_top1 == irbin.evaluate(runs / "float", data=data).top1
    again = irbin.evaluate("zoo:small-1w1a", data=data)
    assert (again.kind, again.top1, again.loss) == ("packed", record.top1, record.loss)
    assert again.size_bytes == record.size_bytes
    assert (zoo / "README.md").read_text() == page([record])


def test_a_float_run_becomes_a_float_entry(runs: Path, zoo: Path, data: DataOptions) -> None:
    record = add(runs / "float", "small-float", data)
    assert names_in(zoo / "small-float") == ["config.json", "model.safetensors", "record.json"]
    assert (record.bits, record.teacher, record.teacher_top1) == (None, None, None)
    assert len(record.runs) == 1
    again = irbin.evaluate("zoo:small-float", data=data)
    assert (again.kind, again.top1, again.loss) == ("float", record.top1, record.loss)
    stored = load_file(zoo / "small-float" / "model.safetensors")
    assert record.tensor_bytes == sum(tensor.nbytes for tensor in stored.values())
    assert record.size_bytes == (zoo / "small-float" / "model.safetensors").stat().st_size
    assert record.size_bytes < 0.6 * record.float_bytes


def test_weights_are_stored_in_half_and_norms_are_not(
    runs: Path, zoo: Path, data: DataOptions
) -> None:
    add(runs / "float", "small-float", data)
    stored = load_file(zoo / "small-float" / "model.safetensors")
    kinds = {name: t.dtype for name, t in stored.items() if t.is_floating_point()}
    halves = {name for name, kind in kinds.items() if kind == torch.float16}
    assert halves == {name for name in kinds if stored[name].dim() > 1}
    trained = open_network(runs / "float").module.state_dict()
    opened = open_network("zoo:small-float").module.state_dict()
    for name, tensor in opened.items():
        expected = trained[name].half().float() if name in halves else trained[name]
        assert torch.equal(tensor, expected), name
        assert tensor.dtype == trained[name].dtype


def test_storing_leaves_the_network_as_it_is() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    half = adding._in_half(module)
    assert half[0].weight.dtype == torch.float16
    assert half[1].running_var.dtype == torch.float32
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_a_float_entry_starts_and_teaches(
    runs: Path, zoo: Path, data: DataOptions, tmp_path: Path
) -> None:
    """And what began with it says so, and stops there."""
    add(runs / "float", "small-float", data)
    irbin.convert("zoo:small-float", tmp_path / "converted")
    irbin.finetune(
        tmp_path / "converted",
        tmp_path / "run",
        data=data,
        teacher="zoo:small-float",
        overrides={"epochs": 1, "compile": False},
    )
    record = add(tmp_path / "run", "small-1w1a", data)
    assert record.teacher == "zoo:small-float"
    assert record.teacher_top1 == entries.read_record("small-float").top1
    (run,) = record.runs
    convert, finetune = run.commands
    assert convert == "irbin convert zoo:small-float -o run-converted"
    assert finetune.startswith("irbin finetune run-converted --teacher zoo:small-float ")
    config = json.loads((zoo / "small-1w1a" / "config.json").read_text())
    assert config["source"]["spec"] == "zoo:small-float"
    assert names_in(zoo) == ["README.md", "small-1w1a", "small-float"]


@pytest.mark.parametrize("run", ["float", "way", "step"])
def test_no_path_of_the_machine_goes_with_an_entry(
    runs: Path, zoo: Path, data: DataOptions, run: str
) -> None:
    add(runs / run, "small", data)
    for file in (zoo / "small").iterdir():
        content = file.read_bytes()
        assert str(runs).encode() not in content, file.name
        if file.suffix == ".json":
            assert not re.search(r'"(/|~|[a-z-]+:/)', content.decode()), file.name


def test_best_is_kept_else_last(runs: Path, zoo: Path, data: DataOptions) -> None:
    assert add(runs / "float", "small", data).kept == "best"
    assert add(runs / "float", "small", data, last=True).kept == "last"
    shutil.rmtree(runs / "float" / "best")
    record = add(runs / "float", "small", data)
    assert (record.kept, record.kept_epoch) == ("last", 1)


def test_the_epoch_kept_is_the_first_of_the_best_that_count(runs: Path) -> None:
    file = runs / "way" / "summary.csv"
    head, row = file.read_text().splitlines()
    names, cells = head.split(","), row.split(",")

    def line(epoch: int, top1: str, stage: str) -> str:
        values = dict(zip(names, cells, strict=True))
        return ",".join(
            (values | {"epoch": str(epoch), "eval_top1": top1, "stage": stage}).values()
        )

    rows = [
        line(0, "99", "activations"),
        line(1, "50", "binary"),
        line(2, "70", "binary"),
        line(3, "70", "binary"),
        line(4, "nan", "binary"),
    ]
    file.write_text("\n".join([head, *rows]) + "\n")
    assert adding._kept(runs / "way", "best") == ("best", 3)
    assert adding._kept(runs / "way", "last") == ("last", 5)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """From now on every evaluation gives these figures."""
    real = adding.verbs.evaluate

    def replaced(**figures: float) -> None:
        def fake(*args: Any, **kwargs: Any) -> Evaluation:
            return replace(real(*args, **kwargs), **figures)

        monkeypatch.setattr(adding.verbs, "evaluate", fake)

    return replaced


def test_a_worse_network_is_refused_unless_wanted(
    runs: Path, zoo: Path, data: DataOptions, answers: Callable[..., None]
) -> None:
    answers(top1=80.0)
    add(runs / "float", "small", data)
    before = {file: file.read_bytes() for file in zoo.rglob("*.*") if file.is_file()}
    answers(top1=79.99)
    with pytest.raises(
        UsageError, match=r"^`zoo:small` has 80.00 % top-1, this run 79.99 %; `--re"
    ):
        add(runs / "float", "small", data)
    assert {file: file.read_bytes() for file in zoo.rglob("*.*") if file.is_file()} == before
    assert names_in(zoo) == ["README.md", "small"]
    assert add(runs / "float", "small", data, replace_better=True).top1 == 79.99
    answers(top1=80.0)
    assert add(runs / "float", "small", data).top1 == 80.0  # as good is good enough


def test_a_network_that_answers_with_nan_is_refused(
    runs: Path, zoo: Path, data: DataOptions, answers: Callable[..., None]
) -> None:
    answers(loss=float("nan"))
    with pytest.raises(UsageError, match="expected a network that answers, got a loss of nan"):
        add(runs / "float", "small", data)
    assert names_in(zoo) == []


@pytest.mark.parametrize("name", ["", "A", "a_b", "a b", "a/b", "../a", "a.partial", "-a", "a--b"])
def test_names_that_are_refused(runs: Path, zoo: Path, data: DataOptions, name: str) -> None:
    with pytest.raises(UsageError, match="expected a name of small letters, digits and hyphens"):
        add(runs / "way", name, data)
    assert names_in(zoo) == []


@pytest.mark.parametrize("what", ["converted/step", "way/best", "nothing"])
def test_only_runs_are_taken(runs: Path, zoo: Path, data: DataOptions, what: str) -> None:
    with pytest.raises(UsageError, match=r"expected the folder of a run with a `best` or `last`"):
        add(runs / what, "small", data)


def test_a_teacher_that_is_gone(runs: Path, zoo: Path, data: DataOptions) -> None:
    shutil.rmtree(runs / "float")
    with pytest.raises(SourceError, match=r"^the float network of `.*way` is gone: `.*float/best"):
        add(runs / "way", "small", data)
    assert names_in(zoo) == []


def test_no_images(runs: Path, zoo: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        add(runs / "way", "small", DataOptions(data_dir=str(tmp_path / "no")))
    assert names_in(zoo) == []


def test_a_record_is_text_with_a_curve_a_line() -> None:
    record = entries.all_records()[0]
    written = text(record)
    assert json.loads(written) == to_json(record)
    assert re.search(r'"top1": \[\d.*\]', written)
    assert written.endswith("}\n")
    with pytest.raises(ValueError, match="Out of range"):
        text(replace(record, loss=float("nan")))


def test_the_program(
    runs: Path, zoo: Path, pictures28: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data-dir", str(pictures28), "--workers", "0"]
    assert main([str(runs / "float"), "small", *words]) == 0
    record = entries.read_record("small")
    said = f"best, {record.top1:.2f} % top-1 on 18 images, {record.size_bytes:,} bytes\n"
    assert capsys.readouterr().out == f"zoo:small: {said}"
    assert main([str(runs / "way"), "tiny", "--last", *words]) == 0
    assert capsys.readouterr().out.startswith("zoo:tiny: last, ")
    assert main([str(runs / "nothing"), "small", *words]) == 2
    assert capsys.readouterr().err.startswith("zookeeper: expected the folder of a run")
