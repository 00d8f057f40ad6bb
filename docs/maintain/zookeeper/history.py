"""Run folders → the records of how each came about, without any machine's paths."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from docs.maintain.zookeeper.begun import BegunRun, runs_behind
from docs.maintain.zookeeper.commands import commands, name_today
from docs.maintain.zookeeper.portable import portable, portable_folder
from irbin.records.training import EpochRecord
from irbin.records.zoo import Curve, ZooRun
from irbin.runs.tables import read_summary


def history(run: Path) -> tuple[ZooRun, ...]:
    """The run, after the runs that it began from, see `runs_behind`.

    Raises:
        SourceError: a file of a run is missing or damaged.
    """
    return tuple(_zoo_run(one) for one in runs_behind(run))


def _zoo_run(run: BegunRun) -> ZooRun:
    args, epochs = run.args, read_summary(run.folder)
    machine = {key: args[key] for key in ("device", "processes", "threads") if key in args}
    data = {**args["data"], "data_dir": portable_folder(args["data"].get("data_dir"))}
    return ZooRun(
        commands=tuple(shlex.join(words) for words in commands(run)),
        recipe=str(portable(name_today(run))),
        knobs=portable(args["recipe"]),
        seed=run.knobs.seed,
        epochs=len(epochs),
        seconds=round(sum(epoch.seconds for epoch in epochs), 1),
        started=str(args["started"]),
        machine=portable({**args["hardware"], **machine}),
        versions=portable(args["versions"]),
        git=args.get("git"),
        data=portable({**data, "fingerprint": args.get("data_fingerprint")}),
        curve=curve(epochs),
    )


def curve(epochs: Sequence[EpochRecord]) -> Curve:
    """The evaluated epochs of a run's table, as they are kept in a record."""
    done = [
        epoch
        for epoch in epochs
        if all(map(math.isfinite, (epoch.train_loss, epoch.eval_loss, epoch.eval_top1)))
    ]
    return Curve(
        epoch=tuple(epoch.epoch + 1 for epoch in done),
        train_loss=tuple(round(epoch.train_loss, 4) for epoch in done),
        eval_loss=tuple(round(epoch.eval_loss, 4) for epoch in done),
        top1=tuple(round(epoch.eval_top1, 2) for epoch in done),
    )
