"""A program of its own: the best network of a run becomes an entry of the zoo.

    python -m irbin.zookeeper RUN NAME --data-dir data/cifar10

exports it, evaluates the packed folder on the whole validation split, and writes `irbin/zoo/NAME`
and the line of `irbin/zoo/README.md`. No path of the machine goes with it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from irbin import verbs
from irbin.errors import IrbinError, UsageError
from irbin.files import write_file
from irbin.history import history, portable, teacher_of_run
from irbin.network.folder import folder_kind, whole_folder
from irbin.network.open import reopen
from irbin.records import (
    DataOptions,
    Evaluation,
    Plan,
    SourceRecord,
    ZooRecord,
    ZooRun,
    from_json,
    to_json,
)
from irbin.sources import open_network
from irbin.zoo import entries


def add(
    run: str | Path,
    name: str,
    data: DataOptions,
    *,
    replace_better: bool = False,
) -> ZooRecord:
    """Makes `irbin/zoo/NAME`, whole or not at all, and the zoo's page.

    Args:
        run: folder of a finished run of a binary network; its `best` is taken.
        name: of the entry, such as `resnet20-cifar10-1w1a`.
        data: images to evaluate on.
        replace_better: also replace an entry whose top-1 is higher.

    Raises:
        UsageError: no name, not the run of a binary network, or what is there is better.
        SourceError: the run, or the float network it came from, cannot be read.
    """
    if not entries.is_name(name):
        raise UsageError(
            f"expected a name of small letters, digits and hyphens, such as "
            f"`resnet20-cifar10-1w1a`, got `{name}`"
        )
    run = Path(run)
    network = open_network(run)
    if network.plan is None or folder_kind(run) != "run":
        raise UsageError(f"expected a run folder of a binary network, got `{run}`")
    runs = history(run)
    with whole_folder(entries.ROOT / name) as folder:
        source = from_json(SourceRecord, portable(to_json(network.source)), "source")
        verbs.export(replace(network, source=source), folder, overwrite=True)
        measured = verbs.evaluate(folder, data=data)
        if not replace_better:
            _refuse_worse(name, measured.top1)
        teacher = _teacher(run, network.source, data)
        record = _record(name, network.source, network.plan, data, measured, teacher, runs)
        (folder / entries.RECORD_FILE).write_text(_text(record), encoding="utf-8")
    write_file(entries.ROOT / "README.md", page(entries.all_records()).encode())
    return record


def _refuse_worse(name: str, top1: float) -> None:
    if name in entries.entry_names() and (old := entries.read_record(name).top1) > top1:
        raise UsageError(
            f"`{entries.PREFIX}{name}` has {old:.2f} % top-1, this run {top1:.2f} %; "
            "`--replace` takes it all the same"
        )


def _teacher(run: Path, source: SourceRecord, data: DataOptions) -> tuple[str, float] | None:
    """The name and top-1 of the trained float network that the run learned from or began with.

    Raises:
        SourceError: it is gone.
    """
    named = teacher_of_run(run)
    if named is None and not source.trained:
        return None
    network = reopen(source) if named is None else open_network(named)
    return portable(named or source.spec), verbs.evaluate(network, data=data).top1


def _record(
    name: str, source: SourceRecord, plan: Plan, data: DataOptions, measured: Evaluation,
    teacher: tuple[str, float] | None, runs: tuple[ZooRun, ...],
) -> ZooRecord:  # fmt: skip
    return ZooRecord(
        name=name,
        network=source.architecture,
        bits=plan.options.bits,
        dataset=Path(data.dataset or data.data_dir or "").name,
        n_images=measured.n_images,
        top1=measured.top1,
        top5=measured.top5,
        loss=measured.loss,
        teacher=teacher[0] if teacher else None,
        teacher_top1=teacher[1] if teacher else None,
        size_bytes=measured.size_bytes,
        float_bytes=plan.float_bytes,
        added=datetime.now(UTC).date().isoformat(),
        runs=runs,
    )


def _text(record: ZooRecord) -> str:
    """Indented JSON, a curve's numbers on one line."""
    text = json.dumps(to_json(record), indent=1, ensure_ascii=False, allow_nan=False)
    numbers = re.compile(r"\[([\d\s,.e+-]+)\]")
    return numbers.sub(lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"


_HEAD = """# The zoo

<!-- Written by `python -m irbin.zookeeper`; do not edit. -->

Packed networks that come with irbin. `irbin eval zoo:NAME --data-dir DATA` runs one, `irbin zoo
NAME` tells how it was made.

| name | network | bits | size | top-1 | images | epochs | hours |
|---|---|---|---|---|---|---|---|
"""


def page(records: Sequence[ZooRecord]) -> str:
    """The entries as a Markdown page, a line each."""
    return _HEAD + "".join(_line(record) for record in records)


def _line(record: ZooRecord) -> str:
    cells = (
        f"`{record.name}`", f"`{record.network}`", record.bits, f"{record.size_bytes / 1e3:.1f} kB",
        f"{record.top1:.2f} %", f"{record.n_images:,} of {record.dataset}",
        " + ".join(str(run.epochs) for run in record.runs), f"{record.hours:.1f}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    parser = argparse.ArgumentParser("python -m irbin.zookeeper", description=__doc__)
    parser.add_argument("run", help="run folder of a binary network; its best is taken")
    parser.add_argument("name", help="such as resnet20-cifar10-1w1a")
    parser.add_argument("--data-dir", help="folder of the data set")
    parser.add_argument("--dataset", default="", help="timm's data set string")
    parser.add_argument("--val-split", default=DataOptions.val_split)
    parser.add_argument("--workers", type=int, default=DataOptions.workers)
    parser.add_argument("--replace", action="store_true", help="also a better entry")
    given = parser.parse_args(arguments)
    data = DataOptions(
        data_dir=given.data_dir, dataset=given.dataset, val_split=given.val_split,
        workers=given.workers,
    )  # fmt: skip
    try:
        record = add(given.run, given.name, data, replace_better=given.replace)
    except IrbinError as error:
        sys.stderr.write(f"zookeeper: {error}\n")
        return error.exit_code
    sys.stdout.write(
        f"{entries.PREFIX}{record.name}: {record.top1:.2f} % top-1 on {record.n_images:,} images, "
        f"{record.size_bytes:,} bytes\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
