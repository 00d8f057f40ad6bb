"""Runs the experiments of `experiments.yaml` one after the other, each exactly resumable.

    python docs/accuracy/run.py --data-dir data/cifar10 --runs runs NAME...

NAME is an experiment or a group; none lists them. A run is a folder RUNS/NAME-SEED; a finished one
is left alone, an interrupted one goes on. `tables.py` reads the folders.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

import yaml

import irbin
from irbin.records import DataOptions, EpochRecord, SourceOptions

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Experiment:
    """One line of `experiments.yaml`, its group's settings filled in."""

    name: str
    group: str
    source: str
    """A source of irbin's, or another experiment, whose first seed it then starts from."""
    recipe: str
    seeds: tuple[int, ...]
    convert: dict[str, Any] | None = None
    """Fields of `PlanOptions`; None trains the source as it is."""
    set: dict[str, Any] = field(default_factory=dict)
    """Knobs that differ from the recipe's."""
    teacher: str | None = None
    """As `source`; None is the float network that was converted, if it had trained weights."""
    batch_size: int = 128
    label: str = ""
    """For tables and pictures."""
    paper: str = ""
    """What the paper has, as it is to be printed."""
    compare: bool = True
    """Whether the runs of its group are to be told against the first."""
    signs: bool = False
    """Whether the table is to tell how many weights kept their sign."""


def experiments() -> dict[str, Experiment]:
    """All of them by name, in the file's order."""
    groups = yaml.safe_load((HERE / "experiments.yaml").read_text(encoding="utf-8"))
    return {e.name: e for group, body in groups.items() for e in _of_group(group, body)}


def _of_group(group: str, body: dict[str, Any]) -> Iterator[Experiment]:
    common = {key: value for key, value in body.items() if key not in ("about", "runs")}
    for name, own in body["runs"].items():
        settings = common | (own or {})
        for key in ("convert", "set"):
            if key in common and own and key in own and own[key] is not None:
                settings[key] = common[key] | own[key]
        settings["seeds"] = tuple(settings["seeds"])
        yield Experiment(name=name, group=group, **settings)


def folder(runs: Path, name: str, seed: int) -> Path:
    """Where a run lies."""
    return runs / f"{name}-{seed}"


def run(experiment: Experiment, seed: int, runs: Path, data_dir: str, val_split: str) -> None:
    """Converts and trains, or goes on where it stopped."""
    known = experiments()

    def place(spec: str) -> str:
        return str(folder(runs, spec, known[spec].seeds[0])) if spec in known else spec

    out = folder(runs, experiment.name, seed)
    data = DataOptions(data_dir=data_dir, val_split=val_split, batch_size=experiment.batch_size)
    source: str | Path = place(experiment.source)
    if experiment.convert is not None:
        converted = runs / "converted" / out.name
        if not converted.exists():
            irbin.convert(
                source, converted, data=data, calibrate=1024,
                source_options=SourceOptions(seed=seed), **experiment.convert,
            )  # fmt: skip
        source = converted

    def tell(epoch: EpochRecord) -> None:
        top1 = "not evaluated" if isnan(epoch.eval_top1) else f"{epoch.eval_top1:.2f} %"
        print(f"{out.name}: epoch {epoch.epoch + 1}, {top1}", flush=True)

    irbin.finetune(
        source, out, data=data, source_options=SourceOptions(seed=seed), recipe=experiment.recipe,
        overrides={**experiment.set, "seed": seed}, resume=(out / "last").is_dir(),
        teacher=place(experiment.teacher) if experiment.teacher else None, on_epoch=tell,
        say=lambda line: print(f"{out.name}: {line}", flush=True),
    )  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data-dir", default="data/cifar10")
    parser.add_argument("--val-split", default="val")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    asked = parser.parse_args()
    known = experiments()
    if not asked.names:
        for e in known.values():
            print(f"{e.group:12} {e.name:24} seeds {', '.join(map(str, e.seeds))}  {e.label}")
    for name in asked.names:
        chosen = [e for e in known.values() if name in (e.name, e.group)]
        if not chosen:
            parser.error(f"expected an experiment or a group, got {name}; they are listed without")
        for experiment in chosen:
            for seed in experiment.seeds:
                run(experiment, seed, asked.runs, asked.data_dir, asked.val_split)


if __name__ == "__main__":
    main()
