from __future__ import annotations

import json
from pathlib import Path

import pytest

from irbin.cli import console
from irbin.errors import SourceError
from irbin.records.options import DataOptions, SourceOptions
from irbin.records.training import EpochRecord, StepRecord

LINE = ("finetune", "conv dir", "--data-dir", "d", "-o", "run")


def test_finetune_overrides_only_what_was_given(run, verbs) -> None:
    done = run(*LINE, "--device", "cpu")
    assert done.code == 0
    assert verbs.calls == [
        (
            "finetune",
            ("conv dir", Path("run")),
            {
                "data": DataOptions(data_dir="d"),
                "source_options": SourceOptions(),
                "recipe": None,
                "overrides": {},
                "teacher": None,
                "resume": False,
                "device": "cpu",
            },
        )
    ]


def test_timms_flags_turn_the_recipes_knobs(run, verbs) -> None:
    run(
        *LINE, "-c", "quick", "-b", "32", "-j", "0", "--epochs", "3", "--opt", "sgd", "--lr", "0.1",
        "--no-distill", "--amp", "bfloat16", "--channels-last", "--compile", "--mixup", "0.2",
        "--t-min", "0.001", "--seed", "7", "--scale", "0.5", "1", "--teacher", "t", "--resume",
    )  # fmt: skip  # a list of words
    assert verbs.keywords["overrides"] == {
        "epochs": 3,
        "opt": "sgd",
        "lr": 0.1,
        "distill": False,
        "amp": "bfloat16",
        "channels_last": True,
        "compile": True,
        "mixup": 0.2,
        "t_min": 0.001,
        "seed": 7,
        "scale": (0.5, 1.0),
    }
    assert verbs.keywords["recipe"] == "quick"
    assert verbs.keywords["teacher"] == "t"
    assert verbs.keywords["resume"] is True
    assert (verbs.keywords["data"].batch_size, verbs.keywords["data"].workers) == (32, 0)


def test_progress_is_on_standard_error_and_the_result_on_output(run, verbs) -> None:
    done = run(*LINE)
    lines = done.err.splitlines()
    assert lines[:2] == ["decoding images", "training in float32"]
    heads = "epoch loss top-1 val loss val top-1 top-5 lr t flips img/s time"
    assert lines[2].split() == heads.split()
    assert "60.00 % in epoch 1" in done.out
    assert "next: irbin eval run --data-dir d; irbin export run -o PACKED" in done.err


@pytest.mark.parametrize("resumed", [(), ("--resume",)])
def test_an_interrupted_run_says_how_to_go_on(run, verbs, resumed: tuple[str, ...]) -> None:
    verbs.interrupted = True
    done = run(*LINE, *resumed)
    assert done.code == 130
    assert done.err.splitlines()[-2:] == [
        "stopped by Ctrl-C; run/last holds where. Go on with:",
        "irbin finetune 'conv dir' --data-dir d -o run --resume",
    ]


def test_json_is_the_run(run, verbs) -> None:
    value = json.loads(run(*LINE, "--json", "-").out)
    assert value["path"] == "run"
    assert value["epochs"][0]["eval_top1"] == 60.0
    assert value["interrupted"] is False


def test_without_a_source_the_recipe_must_name_it(run, verbs) -> None:
    run("finetune", "--recipe", "paper-resnet20-cifar10", "--data-dir", "d", "-o", "run")
    assert verbs.calls[-1][1] == (None, Path("run"))
    done = run("finetune", "--data-dir", "d", "-o", "run")
    assert (done.code, len(verbs.calls)) == (2, 1)
    assert done.err.startswith("irbin: expected a SOURCE, got none; ")


def test_data_must_be_named(run, verbs) -> None:
    done = run("finetune", "net", "-o", "run")
    assert (done.code, verbs.calls) == (2, [])
    assert "give `--data-dir` or `--dataset`" in done.err


class SpyLog:
    """Remembers what it is told."""

    def __init__(self, kind: str, out: Path) -> None:
        self.kind, self.out, self.heard = kind, out, []

    def step(self, record: StepRecord) -> None:
        self.heard.append("step")

    def epoch(self, record: EpochRecord) -> None:
        self.heard.append("epoch")

    def __enter__(self) -> SpyLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.heard.append("end")


@pytest.fixture
def logs(monkeypatch) -> list[SpyLog]:
    """The logs that were opened."""
    opened: list[SpyLog] = []

    def open_log(kind: str, out: Path) -> SpyLog:
        opened.append(SpyLog(kind, out))
        return opened[-1]

    monkeypatch.setattr("irbin.runs.logs.open_log", open_log)
    return opened


def test_every_log_is_told_what_the_screen_shows(run, verbs, logs) -> None:
    done = run(*LINE, "--log", "tensorboard", "--log", "wandb", "--log", "wandb")
    assert [(log.kind, log.out) for log in logs] == [
        ("tensorboard", Path("run")),
        ("wandb", Path("run")),
    ]
    assert all(log.heard == ["step", "epoch", "end"] for log in logs)
    assert "60.00" in done.err


def test_an_unknown_log_is_told_before_training(run, verbs) -> None:
    done = run(*LINE, "--log", "mlflow")
    assert (done.code, verbs.calls) == (2, [])
    assert done.err == "irbin: `--log`: expected tensorboard or wandb, got `mlflow`\n"


def test_of_several_processes_the_first_alone_shows_and_logs(run, verbs, logs, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    done = run(*LINE, "--log", "tensorboard")
    assert (done.code, done.out, done.err, logs) == (0, "", "", [])
    verbs.interrupted = True
    done = run(*LINE)
    assert (done.code, done.out, done.err) == (130, "", "")
    verbs.raises = SourceError("gone")
    monkeypatch.setattr(console, "GRACE_SECONDS", 0)
    assert run(*LINE).err == "irbin: gone\n"


@pytest.mark.parametrize("plan", ["null", "{}"])
def test_what_comes_next_can_be_typed(run, verbs, tmp_path, plan: str) -> None:
    """After a float run convert, after a binary one export; with the data options of this line."""
    (tmp_path / "r" / "last").mkdir(parents=True)
    text = '{"irbin": {"plan": PLAN}}'.replace("PLAN", plan)
    (tmp_path / "r" / "last" / "config.json").write_text(text)
    out, given = str(tmp_path / "r"), ["--data-dir", "d", "--val-split", "test", "-j", "0"]
    last = run("finetune", "net", *given, "-o", out, "--device", "cpu").err.splitlines()[-1]
    flags = "--data-dir d --val-split test --workers 0"
    then = f"irbin export {out} -o PACKED"
    if plan == "null":
        then = f"irbin convert {out} {flags} -o CONVERTED"
    assert last == f"next: irbin eval {out} {flags}; {then}"
