from __future__ import annotations

from pathlib import Path

import pytest

from irbin.records import DataOptions, SourceOptions

LINE = ("finetune", "conv dir", "--data-dir", "d", "-o", "run")


def test_finetune_overrides_only_what_was_given(run, verbs) -> None:
    done = run(*LINE, "--device", "cpu")
    assert done.code == 0
    assert verbs.calls == [
        ("finetune", ("conv dir", Path("run")), {
            "data": DataOptions(data_dir="d"), "source_options": SourceOptions(), "recipe": None,
            "overrides": {}, "teacher": None, "resume": False, "device": "cpu",
        })
    ]  # fmt: skip


def test_timms_flags_turn_the_recipes_knobs(run, verbs) -> None:
    run(
        *LINE, "-c", "quick", "-b", "32", "-j", "0", "--epochs", "3", "--opt", "sgd", "--lr", "0.1",
        "--no-distill", "--amp", "bfloat16", "--channels-last", "--compile", "--mixup", "0.2",
        "--t-min", "0.001", "--seed", "7", "--scale", "0.5", "1", "--teacher", "t", "--resume",
    )  # fmt: skip
    assert verbs.keywords["overrides"] == {
        "epochs": 3, "opt": "sgd", "lr": 0.1, "distill": False, "amp": "bfloat16",
        "channels_last": True, "compile": True, "mixup": 0.2, "t_min": 0.001, "seed": 7,
        "scale": (0.5, 1.0),
    }  # fmt: skip
    assert verbs.keywords["recipe"] == "quick"
    assert verbs.keywords["teacher"] == "t"
    assert verbs.keywords["resume"] is True
    assert (verbs.keywords["data"].batch_size, verbs.keywords["data"].workers) == (32, 0)


def test_progress_is_on_standard_error_and_the_result_on_output(run, verbs) -> None:
    done = run(*LINE)
    assert done.err.splitlines()[0].split() == (
        [
            "epoch",
            "loss",
            "top-1",
            "val",
            "loss",
            "val",
            "top-1",
            "top-5",
            "lr",
            "t",
            "k",
            "img/s",
            "time",
        ]
    )
    assert "60.00 % in epoch 1" in done.out
    assert "next: irbin eval run --data-dir d; irbin export run -o PACKED" in done.err


@pytest.mark.parametrize("resumed", [(), ("--resume",)])
def test_an_interrupted_run_says_how_to_go_on(run, verbs, resumed: tuple[str, ...]) -> None:
    verbs.interrupted = True
    done = run(*LINE, *resumed)
    assert done.code == 1
    assert done.err.splitlines()[-2:] == [
        "stopped by Ctrl-C; run/last holds where. Go on with:",
        "irbin finetune 'conv dir' --data-dir d -o run --resume",
    ]


def test_data_must_be_named(run, verbs) -> None:
    done = run("finetune", "net", "-o", "run")
    assert (done.code, verbs.calls) == (2, [])
    assert "give `--data-dir` or `--dataset`" in done.err
