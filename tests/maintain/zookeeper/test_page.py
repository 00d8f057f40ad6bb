from __future__ import annotations

from dataclasses import replace

from docs.maintain.zookeeper.page import page
from irbin.zoo import entries


def test_page_of_nothing_is_its_head() -> None:
    assert page([]).endswith("|---|---|---|---|---|---|---|---|---|\n")


def test_every_entry_has_a_line_of_as_many_cells_as_the_head() -> None:
    records = entries.all_records()
    lines = page(records).splitlines()
    head = next(line for line in lines if line.startswith("| name"))
    rows = lines[lines.index(head) + 2 :]
    assert len(rows) == len(records)
    assert {row.count("|") for row in rows} == {head.count("|")}


def test_a_line_says_what_the_record_says() -> None:
    (record, *_) = entries.all_records()
    run = replace(record.runs[0], epochs=7, seconds=3600.0)
    record = replace(
        record,
        name="a",
        network="paper:b",
        bits=None,
        size_bytes=1_234_567,
        tensor_bytes=1000,
        top1=12.345,
        n_images=1000,
        dataset="d",
        runs=(run, replace(run, epochs=8)),
    )
    assert page([record]).splitlines()[-1] == (
        "| `a` | `paper:b` | float | 1,234.6 kB | 1.0 kB | 12.35 % | 1,000 of d | 7 + 8 | 2.0 |"
    ).replace("12.35", f"{12.345:.2f}")
