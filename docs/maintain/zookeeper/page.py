"""The zoo's entries as `irbin/zoo/README.md`."""

from __future__ import annotations

from collections.abc import Sequence

from irbin.records.zoo import ZooRecord

_HEAD = """# The zoo

<!-- Written by `python -m docs.maintain.zookeeper`; do not edit. -->

Networks that come with irbin: packed ones, and the float ones that they came from. `irbin eval
zoo:NAME --data-dir DATA` runs one, `irbin zoo NAME` tells how it was made. Top-1 is that of the
stored files. Their size is counted as `irbin eval` counts it; beside the tensors a packed network
has their names, its program and its plan.

| name | network | bits | size | of which tensors | top-1 | images | epochs | hours |
|---|---|---|---|---|---|---|---|---|
"""


def page(records: Sequence[ZooRecord]) -> str:
    """The entries as a Markdown page, a line each."""
    return _HEAD + "".join(_line(record) for record in records)


def _line(record: ZooRecord) -> str:
    cells = (
        f"`{record.name}`",
        f"`{record.network}`",
        record.bits or "float",
        f"{record.size_bytes / 1e3:,.1f} kB",
        f"{record.tensor_bytes / 1e3:,.1f} kB",
        f"{record.top1:.2f} %",
        f"{record.n_images:,} of {record.dataset}",
        " + ".join(str(run.epochs) for run in record.runs),
        f"{record.hours:.1f}",
    )
    return "| " + " | ".join(cells) + " |\n"
