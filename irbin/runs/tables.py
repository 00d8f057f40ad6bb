"""What a run folder says of its epochs, read back as the records that `training` wrote.

A run that is still going on can be read: its files are replaced whole.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from irbin.errors import SourceError
from irbin.messages import system_says
from irbin.records.training import ClassAccuracy, EpochRecord, LayerDiagnostics

SUMMARY, DIAGNOSTICS, CLASSES = "summary.csv", "diagnostics.csv", "classes.csv"

_Row = TypeVar("_Row", EpochRecord, LayerDiagnostics, ClassAccuracy)
_TYPES: dict[Any, type[int] | type[float] | type[str]] = {"int": int, "float": float, "str": str}


def read_summary(run: str | Path) -> list[EpochRecord]:
    """The epochs of a run so far; columns that an older irbin did not write are nan.

    Args:
        run: run folder.

    Raises:
        SourceError: it is none, no epoch is done yet, or a row is damaged.
    """
    return _read(Path(run), SUMMARY, EpochRecord)


def read_diagnostics(run: str | Path) -> list[LayerDiagnostics]:
    """A row for every epoch and binary layer of a run so far.

    Args:
        run: run folder.

    Raises:
        SourceError: it is none, nothing was diagnosed yet, or a row is damaged.
    """
    return _read(Path(run), DIAGNOSTICS, LayerDiagnostics)


def read_classes(run: str | Path) -> list[ClassAccuracy]:
    """A row for every class of a run's validation images; a run of an older irbin has none.

    Args:
        run: run folder.

    Raises:
        SourceError: it is none, nothing was evaluated yet, or a row is damaged.
    """
    return _read(Path(run), CLASSES, ClassAccuracy)


def has_table(run: str | Path, name: str) -> bool:
    """Whether a run has one of its tables: `SUMMARY`, `DIAGNOSTICS` or `CLASSES`."""
    return (Path(run) / name).is_file()


def run_names(runs: Sequence[str | Path]) -> list[str]:
    """Short names that tell run folders apart: of each as many last parts as no other ends in.

    Args:
        runs: different folders.
    """
    parts = [Path(os.path.abspath(run)).parts for run in runs]
    return [_name(own, [other for other in parts if other != own]) for own in parts]


def _name(own: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    ends = (own[-n:] for n in range(1, len(own)))
    alone = (end for end in ends if all(other[-len(end) :] != end for other in others))
    return str(Path(*next(alone, own)))


def _read(run: Path, name: str, kind: type[_Row]) -> list[_Row]:
    file = run / name
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            reader = csv.DictReader(opened)
            rows = [_row(kind, row, f"{file}, line {reader.line_num}") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"expected a table of epochs in {file}, got: {error}") from error
    except OSError as error:
        raise SourceError(_missing(run, name, error)) from error
    if not rows:
        raise SourceError(f"{file} has no epoch yet; wait until the run's first one is done")
    return rows


def _row(kind: type[_Row], cells: dict[Any, Any], where: str) -> _Row:
    if None in cells:  # where csv puts what has no head
        raise SourceError(f"{where}: expected {len(cells) - 1} cells, got more")
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name not in cells and field.default is not MISSING:
            continue
        text = cells.get(field.name)
        try:
            if text is None:
                raise ValueError
            values[field.name] = _TYPES[field.type](text)
        except ValueError:
            got = "nothing" if text is None else f"`{text}`"
            raise SourceError(
                f"{where}: expected a number under `{field.name}`, got {got}"
            ) from None
    return kind(**values)


def _missing(run: Path, name: str, error: OSError) -> str:
    if not run.is_dir():
        return f"expected a run folder, got {run}, which is no folder"
    if not isinstance(error, FileNotFoundError):
        return f"cannot read {run / name}: {system_says(error)}"
    if name == DIAGNOSTICS and (run / SUMMARY).is_file():
        return f"{run} has no {name}: it trained a float network, or an older irbin trained it"
    if (run / "args.yaml").is_file():
        return f"{run} has no {name} yet; wait until its first epoch is done"
    return f"expected a run folder of `irbin finetune`, got {run}, which has no {name}"
