"""What was evaluated as a page of HTML with its file of images beside it: stages composed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from irbin.data import pixels_at
from irbin.files import write_file
from irbin.html.evaluation import evaluation_page, wanted_images
from irbin.html.page import check_replaces, check_report, write_page
from irbin.html.verdict import subject_of
from irbin.records.options import DataOptions
from irbin.records.results import Agreement, Evaluation
from irbin.report.labelled import labelled_csv

_HEAD = b"file,index,class"
"""What every file of images begins with."""


def images_file(path: Path) -> Path:
    """The file with every image that belongs to a page: `report.html` has `report-images.csv`."""
    return path.with_name(f"{path.stem}-images.csv")


def check_evaluation_report(path: Path, flag: str) -> None:
    """Refuses a page, or its file of images, that could not be written, before any long work.

    Raises:
        UsageError: see `html.page.check_report`.
    """
    check_report(path, flag)
    check_replaces(images_file(path), _HEAD, flag, "table of images")


def write_evaluation_report(
    path: Path,
    evaluations: Sequence[Evaluation],
    agreements: Mapping[str, tuple[str, Agreement]],
    data: DataOptions,
    *,
    with_images: bool = True,
) -> None:
    """Writes a page of networks side by side, and beside it a CSV of all images.

    Args:
        path: of the page; its CSV is `images_file`.
        evaluations: of the same images, with answers: `verbs.evaluate(…, predictions=5)`.
        agreements: packed network's name → (trained network's name, comparison).
        data: that they were evaluated on; images are read again to be shown, some dozens.
        with_images: whether any is shown; else their names are.

    Raises:
        DataError: the data set cannot be opened any more.
    """
    shown = None
    if with_images:
        seen = evaluations[subject_of(evaluations)].preprocessing
        shown = pixels_at(data, seen, wanted_images(evaluations))
    beside = images_file(path)
    page = evaluation_page(evaluations, agreements, shown, beside.name)
    rows = labelled_csv(evaluations).encode(errors="surrogateescape")  # names of files, as they are
    write_file(beside, rows)
    write_page(path, page)
