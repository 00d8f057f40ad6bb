from __future__ import annotations

import json
from pathlib import Path

from irbin.records import SourceOptions


def test_export_prints_predicted_and_actual_bytes(run, verbs) -> None:
    done = run("export", "run", "-o", "packed", "--float-dtype", "float16")
    assert verbs.calls == [
        ("export", ("run", Path("packed")), {
            "source_options": SourceOptions(), "float_dtype": "float16", "overwrite": False,
        })
    ]  # fmt: skip
    assert done.out.count("4,672 bytes") == 2
    assert "5,000 bytes" in done.out
    assert done.err == "next: irbin eval run packed --data-dir DATA\n"


def test_export_json(run, verbs) -> None:
    value = json.loads(run("export", "run", "-o", "packed", "--json", "-").out)
    assert value["predicted_bytes"] == value["tensor_bytes"] == 4672
    assert value["ratio"] == 147456 / 5000
