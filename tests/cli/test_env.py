from __future__ import annotations

import json
import re


def test_a_line_a_fact_and_json_of_the_same(run) -> None:
    done, value = run("env"), json.loads(run("env", "--json", "-").out)
    lines = dict(re.split(r" {2,}", line, maxsplit=1) for line in done.out.splitlines())
    assert {name: str(value) for name, value in value.items()}.keys() == lines.keys()
    assert lines["irbin"] == value["irbin"]
