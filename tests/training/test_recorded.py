from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from irbin.errors import SourceError
from irbin.recipes.recipe import Recipe
from irbin.records.json import to_json
from irbin.records.plan import PlanOptions
from irbin.records.training import ClassAccuracy, EpochRecord, LayerDiagnostics
from irbin.runs.folder import write_classes, write_summary
from irbin.training.recorded import MAX_ARGS_BYTES, read_run
from irbin.watching.diagnostics import write_diagnostics

EPOCH = EpochRecord(0, 1.5, 50.0, 1.25, 60.0, 90.0, 0.1, 0.316, 3.16, 1000.0, 12.0)
EPOCHS = (EPOCH, replace(EPOCH, epoch=1, eval_top1=70.0), replace(EPOCH, epoch=2))
LAYERS = [LayerDiagnostics(i, "conv", *[0.5] * 8) for i in range(4)]
CLASSES = (ClassAccuracy('a, "b"', 50.0, 40.0), ClassAccuracy("<c>\n", 1.0, 2.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_summary(tmp_path, EPOCHS)
    write_diagnostics(tmp_path, LAYERS)
    write_classes(tmp_path, CLASSES)
    args = {
        "recipe": to_json(Recipe(epochs=3)),
        "source": {"num_classes": 2, "class_names": ["house cat", "dog"]},
        "command": {"recipe": None, "overrides": {"epochs": 3}},
    }
    (tmp_path / "args.yaml").write_text(yaml.safe_dump(args))
    plan = {"options": to_json(PlanOptions(bits="1w32a"))}
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "config.json").write_text(json.dumps({"irbin": {"plan": plan}}))
    return tmp_path


def test_a_run_is_read_as_it_was_written(folder) -> None:
    run = read_run(folder, "n")
    assert str(run.epochs) == str(EPOCHS)  # nan equals nothing
    assert run.recipe == Recipe(epochs=3)
    assert run.plan == PlanOptions(bits="1w32a")
    assert run.classes == CLASSES
    assert run.best.epoch == 1
    assert [row.epoch for row in run.layers] == [0, 1, 2]  # what a killed run wrote more is not


def test_what_is_not_there_is_none(folder) -> None:
    for name in ("diagnostics.csv", "classes.csv", "last/config.json"):
        (folder / name).unlink()
    run = read_run(folder, "n")
    assert (run.layers, run.classes, run.plan) == ((), (), None)


def test_options_are_words_by_dotted_name(folder) -> None:
    options = read_run(folder, "n").options()
    assert options["recipe.epochs"] == "3"
    assert options["plan.bits"] == "1w32a"
    assert options["plan.keep"] == options["command.recipe"] == "–"
    assert options["source.class_names"] == "house cat, dog"
    assert not any(name.startswith("command.overrides") for name in options)


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "{",
        "recipe: {epochs: many}",
        "recipe: 3",
        "",
        "a: !!python/object:os.system x",
        "\xff",
    ],
)
def test_damaged_arguments_are_one_line(folder, text: str) -> None:
    (folder / "args.yaml").write_bytes(text.encode("latin-1"))
    file = re.escape(str(folder / "args.yaml"))
    with pytest.raises(SourceError, match=f"^expected the options of a run in {file}, got.*$"):
        read_run(folder, "n")


def test_arguments_beyond_the_bound_are_not_read(folder) -> None:
    (folder / "args.yaml").write_bytes(b"#" * (MAX_ARGS_BYTES + 1))
    with pytest.raises(SourceError, match="more than 1,048,576 bytes"):
        read_run(folder, "n")


def test_a_folder_that_is_no_run_is_told(tmp_path) -> None:
    with pytest.raises(SourceError, match="expected a run folder"):
        read_run(tmp_path, "n")
    write_summary(tmp_path, EPOCHS)
    with pytest.raises(SourceError, match=r"cannot read .*args\.yaml"):
        read_run(tmp_path, "n")


def test_symptoms_are_told_when_they_begin(folder) -> None:
    (folder / "diagnostics.csv").unlink()
    losses = (1.0, 1.2, 1.4, 1.6, 1.8)
    write_summary(
        folder, [replace(EPOCH, epoch=i, train_loss=loss) for i, loss in enumerate(losses)]
    )
    args = {"recipe": to_json(Recipe(epochs=9)), "source": {"num_classes": 10}}
    (folder / "args.yaml").write_text(yaml.safe_dump(args))
    ((epoch, sentence),) = read_run(folder, "n").symptoms()
    assert epoch == 3
    assert sentence.startswith("the run diverges: the training loss rose 3 epochs in a row")
