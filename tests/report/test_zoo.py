from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from irbin.records.results import Evaluation
from irbin.records.zoo import Curve, ZooRecord, ZooRun
from irbin.report.zoo import (
    curve_line,
    epochs,
    machine_name,
    record_table,
    recorded_line,
    zoo_table,
)

Render = Callable[..., str]
CURVE = Curve((1, 2), (2.0, 1.0), (2.0, 1.0), (40.0, 75.5))
RUN = ZooRun(
    commands=("irbin finetune a -o b",),
    recipe="paper-resnet20-cifar10",
    knobs={"epochs": 40, "cooldown_epochs": 0},
    seed=42,
    epochs=40,
    seconds=6305.7,
    started="2026-11-25T02:12:15+00:00",
    machine={"processor": "AMD EPYC", "cores": 2},
    versions={"irbin": "0.1.0", "torch": "2.14.1"},
    git=None,
    data={},
    curve=CURVE,
)
RECORD = ZooRecord(
    name="resnet20-cifar10-1w1a",
    network="paper:resnet20",
    bits="1w1a",
    dataset="cifar10",
    n_images=10_000,
    top1=75.12,
    top5=98.5,
    loss=0.7164,
    kept="best",
    kept_epoch=39,
    teacher=None,
    teacher_top1=None,
    size_bytes=76_850,
    tensor_bytes=44_424,
    float_bytes=1_079_400,
    added="2026-11-25",
    runs=(RUN,),
)


def shown(render: Render, record: ZooRecord, width: int = 100) -> dict[str, str]:
    """The facts of an entry by their labels, lines joined again."""
    facts: dict[str, str] = {}
    label = ""
    for line in render(record_table(record), width).splitlines():
        head, rest = line[:14].strip(), line.strip()
        if line[:1] != " " and head:
            label, _, rest = line.partition("  ")
            facts[label] = rest.strip()
        elif rest:
            facts[label] += " " + rest
    return facts


@pytest.mark.parametrize("width", [80, 120])
def test_the_list_fits(render: Render, width: int) -> None:
    floating = replace(RECORD, name="resnet20-cifar10-float", bits=None, size_bytes=558_840)
    text = render(zoo_table([RECORD, replace(floating, runs=(RUN, RUN))], width), width)
    lines = text.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= width
    assert lines[2].split()[:7] == [
        "resnet20-cifar10-1w1a",
        "paper:resnet20",
        "1w1a",
        "76.8",
        "kB",
        "75.12",
        "40",
    ]
    assert "float  " in lines[3]
    assert "40 + 40" in lines[3]
    assert ("AMD EPYC, 2 cores" in text) == (width == 120)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 120])
def test_names_are_whole_at_every_width(render: Render, width: int) -> None:
    long = replace(RECORD, name="resnet20-cifar10-1w1a-paper")
    lines = render(zoo_table([RECORD, long], width), width).splitlines()
    assert len(lines) == 4
    assert lines[3].startswith(long.name)
    assert max(map(len, lines)) <= width
    heads = lines[0].split("  ")
    assert ("hours" in lines[0]) == (width >= 100), heads
    assert ("75.12" in lines[2]) == (width >= 40)


def test_an_empty_list(render: Render) -> None:
    assert len(render(zoo_table([], 80), 80).splitlines()) == 2


def test_an_entrys_facts(render: Render) -> None:
    assert shown(render, RECORD) == {
        "network": "paper:resnet20, 1w1a",
        "accuracy": "top-1 75.12 %, top-5 98.50 %, loss 0.7164, on 10,000 images of cifar10",
        "kept": "epoch 39 of 40, the best on the validation images",
        "size": "76,850 bytes, of which tensors 44,424; 14.0× smaller than the float network",
        "training": "40 epochs, 1.8 hours, recipe paper-resnet20-cifar10, seed 42",
        "machine": "AMD EPYC, 2 cores",
        "started": "2026-11-25T02:12:15+00:00",
        "versions": "irbin 0.1.0, torch 2.14.1",
    }


@pytest.mark.parametrize(
    ("changes", "label", "value"),
    [
        ({"bits": None}, "network", "paper:resnet20, float"),
        (
            {"bits": None, "size_bytes": 558_840, "tensor_bytes": 548_904},
            "size",
            "558,840 bytes, of which tensors 548,904; 1.93× smaller than as float32",
        ),
        ({"kept": "last", "kept_epoch": 40}, "kept", "epoch 40 of 40, the last"),
        ({"teacher": "zoo:a", "teacher_top1": 89.86}, "float network", "zoo:a: top-1 89.86 %"),
    ],
    ids=str,
)
def test_a_fact(render: Render, changes: dict[str, Any], label: str, value: str) -> None:
    assert shown(render, replace(RECORD, **changes))[label] == value


@pytest.mark.parametrize("width", [40, 80])
def test_facts_fit_and_markup_is_only_text(render: Render, width: int) -> None:
    record = replace(RECORD, network="[bold]x[/bold]")
    text = render(record_table(record), width)
    assert "[bold]x[/bold], 1w1a" in text
    assert max(map(len, text.splitlines())) <= width
    assert "[bold]" in render(zoo_table([record], 80), 80)


def test_epochs_of_all_runs() -> None:
    assert epochs(RECORD) == "40"
    assert epochs(replace(RECORD, runs=(replace(RUN, epochs=80), RUN))) == "80 + 40"


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ({"processor": "AMD EPYC", "cores": 2}, "AMD EPYC, 2 cores"),
        ({"processor": "AMD EPYC", "cores": 2, "gpu": "NVIDIA H100"}, "NVIDIA H100"),
        ({"cores": 2}, "unknown, 2 cores"),
        ({}, "unknown, ? cores"),
    ],
)
def test_machine_name(machine: dict[str, Any], name: str) -> None:
    assert machine_name(replace(RUN, machine=machine)) == name


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "40 epochs in 1:45:06  ▁█  top-1 40.00 % to 75.50 %"),
        ({"epochs": 30}, "30 of 40 epochs in 1:45:06  ▁█  top-1 40.00 % to 75.50 %"),
        ({"epochs": 41}, "41 epochs in 1:45:06  ▁█  top-1 40.00 % to 75.50 %"),
        (
            {"epochs": 40, "knobs": {"epochs": 40, "cooldown_epochs": 5}},
            "40 of 45 epochs in 1:45:06  ▁█  top-1 40.00 % to 75.50 %",
        ),
        ({"knobs": {}}, "40 epochs in 1:45:06  ▁█  top-1 40.00 % to 75.50 %"),
        ({"curve": Curve((), (), (), ())}, "40 epochs in 1:45:06, never evaluated"),
    ],
    ids=str,
)
def test_curve_line(changes: dict[str, Any], line: str) -> None:
    assert curve_line(replace(RUN, **changes)) == line


def test_a_long_curve_fits_80_columns() -> None:
    top1 = tuple(10 + n / 5 for n in range(1, 401))
    run = replace(
        RUN, epochs=400, seconds=360_000.0, knobs={"epochs": 500}, curve=Curve((), (), (), top1)
    )
    assert len(curve_line(run)) <= 80


@pytest.mark.parametrize(
    ("n_images", "top1", "ending"),
    [
        (10_000, 75.12, ", measured 75.12 %: equal"),
        (10_000, 75.10, ", measured 75.10 %: 2 of 10,000 images apart"),
        (10_000, 75.13, ", measured 75.13 %: 1 of 10,000 images apart"),
        (100, 75.12, " on 10,000 images of cifar10"),
    ],
)
def test_recorded_beside_measured(
    evaluation: Callable[..., Evaluation], n_images: int, top1: float, ending: str
) -> None:
    line = recorded_line(RECORD, evaluation(n_images=n_images, top1=top1))
    assert line == "zoo:resnet20-cifar10-1w1a: recorded 75.12 %" + ending


def test_what_was_measured_from_bytes_is_told(evaluation: Callable[..., Evaluation]) -> None:
    from_bytes = evaluation(n_images=10_000, top1=75.15, input_type="bytes")
    line = recorded_line(RECORD, from_bytes)
    assert line.endswith("measured 75.15 % from bytes: 3 of 10,000 images apart")
