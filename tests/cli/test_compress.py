from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import irbin.compression
from irbin.errors import UsageError
from irbin.records.compression import Compression, CompressStep, Timing
from irbin.records.options import DataOptions, Preprocessing, SourceOptions
from irbin.records.results import Agreement, Evaluation, ExportRecord

LINE = ("compress", "net", "--data-dir", "d", "-o", "out dir", "--device", "cpu")
FORMS = (("float", 40_000), ("binary", 40_000), ("packed", 5_000))
RECORD = Compression(
    "out dir",
    {"source": "net"},
    proposed_keep=("layer4",),
    export=ExportRecord("out dir/packed", 4, 4, 5_000, 40_000, 1, 7, "float32"),
    evaluations={
        form: Evaluation(
            f"out dir/{form}", form, 10, 60.0, 90.0, 1.0, {}, 9.0, 9, size, Preprocessing()
        )
        for form, size in FORMS
    },  # type: ignore[arg-type]  # the forms are literals
    agreement=Agreement(10, 100.0, 0.001, (), ()),
    timing=Timing(0.5, 4.0, 1, "cpu", "2.14", "avx2", "bytes"),
    seconds=61.0,
)


class Fake(ModuleType):
    def __init__(self) -> None:
        super().__init__("irbin.compression.compress")
        self.raises: BaseException | None = None
        self.calls: list[tuple[Any, Any, dict[str, Any]]] = []

    def compress(self, source: Any, out: Any, *, watcher: Any, **given: Any) -> Compression:
        self.calls.append((source, out, given))
        watcher.on_step(CompressStep("convert", 1, 2, "finetune"))
        with watcher.stages() as stage:
            stage("tracing", 0, 0)
        watcher.on_step(CompressStep("convert", 1, 2, "finetune", "6 [of] 10"))
        with watcher.training() as told:
            told["say"]("in float32")
        with watcher.counting("evaluating") as report:
            report(1, 1)
        if self.raises is not None:
            raise self.raises
        return RECORD


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, as_real) -> Fake:
    module = Fake()
    module.compress = as_real("irbin.compression.compress")(module.compress)
    monkeypatch.setitem(sys.modules, "irbin.compression.compress", module)
    monkeypatch.setattr(irbin.compression, "compress", module, raising=False)
    return module


def test_steps_on_standard_error_and_results_on_output(run, fake) -> None:
    done = run(*LINE)
    assert done.code == 0
    assert done.err.splitlines() == [
        "1/2 planning, replacing layers, re-estimating batch norm",
        "    6 [of] 10; next: fine-tune",
        "in float32",
        "next: irbin predict 'out dir/packed' IMAGE",
    ]
    for part in ("60.00±", "8.00×", "equal top-1 on 100.00 %", "0.50 ms", "layer4", "took 1:01"):
        assert part in done.out


def test_options_arrive(run, fake) -> None:
    run(
        *LINE, "--num-classes", "3", "--mean", "0", "--keep", "layer4", "--recipe", "quick",
        "--epochs", "2", "--budget", "size=4MB", "--no-train-float", "--resume", "-b", "8",
    )  # fmt: skip  # a list of words
    assert fake.calls == [
        (
            "net",
            Path("out dir"),
            {
                "data": DataOptions(data_dir="d", batch_size=8),
                "source_options": SourceOptions(num_classes=3, mean=(0.0,)),
                "recipe": "quick",
                "overrides": {"epochs": 2},
                "budget": "size=4MB",
                "train_float": False,
                "resume": True,
                "device": "cpu",
                "keep": ("layer4",),
            },
        )
    ]


def test_json_alone(run, fake) -> None:
    done = run(*LINE, "--json", "-")
    value = json.loads(done.out)
    assert [one["kind"] for one in value["evaluations"]] == ["float", "binary", "packed"]
    assert value["evaluations"][2]["agreement"]["equal_top1"] == 100
    assert value["export"]["ratio"] == 8
    assert value["timing"]["float_ms"] == 4
    assert value["proposed_keep"] == ["layer4"]


def test_quietly_only_results_are_said(run, fake) -> None:
    done = run(*LINE, "-q")
    assert done.err == ""
    assert "60.00±" in done.out


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("resumed", [(), ("--resume",)])
def test_ctrl_c_says_how_to_go_on(run, fake, in_tmp: Path, resumed: tuple[str, ...]) -> None:
    fake.raises = KeyboardInterrupt()
    Path("out dir").mkdir()
    Path("out dir/compress.json").write_text("{}")
    done = run(*LINE, *resumed)
    assert done.code == 130
    assert done.out == ""
    assert done.err.splitlines()[-2:] == [
        "stopped by Ctrl-C; out dir keeps what is done. Go on with:",
        "irbin compress net --data-dir d -o 'out dir' --device cpu --resume",
    ]


def test_ctrl_c_before_anything_stands_there_does_not_say_that_it_is_kept(
    run, fake, in_tmp: Path
) -> None:
    fake.raises = KeyboardInterrupt()
    done = run(*LINE)
    assert done.code == 130
    assert done.err.splitlines()[-1] == (
        "stopped by Ctrl-C before anything was done; the same line begins again"
    )
    assert "keeps" not in done.err


def test_an_error_is_one_line_in_the_words_that_are_typed(run, fake) -> None:
    fake.raises = UsageError("`o` exists: `resume=True` goes on with it, `out=` names another")
    done = run(*LINE)
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        "irbin: `o` exists: `--resume` goes on with it, `--output` names another"
    )


def test_images_are_asked_for(run, fake) -> None:
    done = run("compress", "net", "-o", "out")
    assert done.code == 2
    assert "expected a data set, got none" in done.err
