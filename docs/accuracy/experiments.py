"""What `experiments.yaml` says, and where each of its runs stands; torch-free.

A run is a folder RUNS/NAME-SEED. What it was converted from lies in RUNS/converted/NAME-SEED.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import yaml

from irbin.files import current
from irbin.recipes.request import resolve_recipe

HERE = Path(__file__).parent
FILE = "IRBIN_EXPERIMENTS"
"""Environment variable that names another file than `experiments.yaml`."""
QUEUE = "queue"
"""What `experiments.yaml` calls the list of what is to be run, in order."""
RECENT = 5
"""Epochs that tell how long the next ones take."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """One line of `experiments.yaml`, its group's settings filled in."""

    name: str
    group: str
    source: str | tuple[str, ...]
    """A source of irbin's; or another experiment, whose first seed it then starts from; or a run
    folder in RUNS. Of several the first that is there and finished when the run begins."""
    recipe: str
    seeds: tuple[int, ...]
    convert: dict[str, Any] | None = None
    """Fields of `PlanOptions`; None trains the source as it is."""
    set: dict[str, Any] = field(default_factory=dict)
    """Knobs that differ from the recipe's."""
    teacher: str | None = None
    """As `source`; None is the float network that was converted, if it had trained weights."""
    batch_size: int = 128
    hours: float | None = None
    """What a run is expected to take on one thread; for those that have not begun."""
    label: str = ""
    """For tables and pictures."""
    paper: str = ""
    """What the paper has, as it is to be printed."""
    compare: bool = True
    """Whether the runs of its group are to be told against the first."""
    signs: bool = False
    """Whether the table is to tell how many weights kept their sign."""

    @property
    def sources(self) -> tuple[str, ...]:
        """What it may start from, the best first."""
        return (self.source,) if isinstance(self.source, str) else self.source


def experiments() -> dict[str, Experiment]:
    """All of them by name, in the file's order."""
    groups = _file()
    groups.pop(QUEUE, None)
    return {e.name: e for group, body in groups.items() for e in _of_group(group, body)}


def _file() -> dict[str, Any]:
    file = Path(os.environ.get(FILE, HERE / "experiments.yaml"))
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content


def _of_group(group: str, body: dict[str, Any]) -> Iterator[Experiment]:
    common = {key: value for key, value in body.items() if key not in ("about", "runs")}
    for name, own in body["runs"].items():
        settings = common | (own or {})
        for key in ("convert", "set"):
            if key in common and own and key in own and own[key] is not None:
                settings[key] = common[key] | own[key]
        settings["seeds"] = tuple(settings["seeds"])
        if isinstance(settings["source"], list):
            settings["source"] = tuple(settings["source"])
        yield Experiment(name=name, group=group, **settings)


def folder(runs: Path, name: str, seed: int) -> Path:
    """Where a run lies."""
    return runs / f"{name}-{seed}"


@dataclass(frozen=True, eq=False)
class Task:
    """One run: an experiment with one of its seeds."""

    experiment: Experiment
    seed: int

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return f"{self.experiment.name}-{self.seed}"


def tasks(names: Sequence[str]) -> list[Task]:
    """The runs of experiments, groups or the whole queue, in this order, each once.

    Raises:
        ValueError: there is none of a name.
    """
    known, found = experiments(), {}
    for name in _unfolded(names):
        chosen = [e for e in known.values() if name in (e.name, e.group)]
        if not chosen:
            raise ValueError(
                f"expected an experiment, a group or `{QUEUE}`, got `{name}`; `--list` has them"
            )
        found |= {(e.name, seed): Task(e, seed) for e in chosen for seed in e.seeds}
    return list(found.values())


def _unfolded(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield from _file()[QUEUE] if name == QUEUE else (name,)


State = Literal["new", "begun", "finished"]


@dataclass(frozen=True)
class Standing:
    """How far a run is. Made by `standing`."""

    state: State
    n_done: int
    """Epochs that are finished and saved."""
    n_epochs: int
    """Of the whole run, cool-down included."""
    hours: float
    """That the finished epochs took to train."""
    hours_left: float | None
    """As the last epochs went; as expected where none is done; None where nothing is known."""
    is_measured: bool
    """Whether `hours_left` is by epochs of this run."""
    top1: float | None
    """Of the last evaluation, per cent."""


def standing(task: Task, runs: Path) -> Standing:
    """How far a run is, by what it saved itself.

    Its tables are written before its weights are, so they alone do not tell that it is finished.
    """
    out = folder(runs, task.experiment.name, task.seed)
    n_epochs, done = _n_epochs(task, out), _saved_epochs(out)
    if done is None or not done:
        state: State = "new" if done is None and nothing_saved(out) else "begun"
        return Standing(state, 0, n_epochs, 0.0, task.experiment.hours, False, None)
    seconds = [float(epoch["seconds"]) for epoch in done]
    tops = [float(epoch["eval_top1"]) for epoch in done if not isnan(float(epoch["eval_top1"]))]
    n_left = max(0, n_epochs - len(done))
    left = n_left * mean(seconds[-RECENT:]) / 3600
    return Standing(
        "begun" if n_left else "finished",
        len(done),
        n_epochs,
        sum(seconds) / 3600,
        left,
        True,
        tops[-1] if tops else None,
    )


def nothing_saved(out: Path) -> bool:
    """Whether a run folder has no weights to go on from: it was killed before its first step."""
    return current(out / "last") is None and not any(out.glob("recent/epoch-*"))


def _saved_epochs(out: Path) -> list[Mapping[str, Any]] | None:
    """The finished epochs of the weights that are saved; None if there are none, or damaged."""
    place = current(out / "last")
    if place is None:
        return None
    try:
        state = json.loads((place / "training.json").read_text(encoding="utf-8"))
        done: list[Mapping[str, Any]] = state["progress"]["records"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return done


def _n_epochs(task: Task, out: Path) -> int:
    experiment, begun = task.experiment, _begun_epochs(out)
    if begun is not None:
        return begun
    recipe = resolve_recipe(experiment.recipe, experiment.set, experiment.convert is not None)
    return recipe.epochs + recipe.cooldown_epochs


def _begun_epochs(out: Path) -> int | None:
    """How many epochs a run is to have, cool-down included; None if it does not say."""
    try:
        knobs = yaml.safe_load((out / "args.yaml").read_text(encoding="utf-8"))["recipe"]
        return int(knobs["epochs"] + knobs["cooldown_epochs"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


def start(task: Task, runs: Path) -> str | None:
    """The network that a run starts from, for `irbin.open_network`; None while none is finished.

    A run that was converted keeps what it was converted from, whatever is finished by now.
    """
    converted = runs / "converted" / task.name / "config.json"
    if converted.exists():
        spec = json.loads(converted.read_text(encoding="utf-8"))["irbin"]["source"]["spec"]
        return str(moved(spec, runs))
    places = (place(source, runs) for source in task.experiment.sources)
    return next((spec for spec in places if spec is not None), None)


def place(source: str, runs: Path) -> str | None:
    """A source of `experiments.yaml` for `irbin.open_network`; None where a run is not finished.

    Of a run it is the last epoch's weights: the best epoch would be picked on the test images.
    """
    known = experiments()
    if source in known:
        first = Task(known[source], known[source].seeds[0])
        is_finished = standing(first, runs).state == "finished"
        return str(runs / first.name / "last") if is_finished else None
    if ":" in source:
        return source
    n_done, n_epochs = _saved_epochs(runs / source), _begun_epochs(runs / source)
    is_finished = n_done is not None and n_epochs is not None and len(n_done) >= n_epochs
    return str(runs / source / "last") if is_finished else None


def moved(spec: str, runs: Path) -> str:
    """A run's weights where they lie now, if RUNS was elsewhere when it was named."""
    path = Path(spec)
    here = runs / Path(*path.parts[-2:])
    return str(here) if path.is_absolute() and here.is_dir() else spec


def waits_for(task: Task) -> list[str]:
    """The experiments that a run may start from or learn from."""
    known, experiment = experiments(), task.experiment
    wanted = (*experiment.sources, experiment.teacher or "")
    return [name for name in wanted if name in known]
