from __future__ import annotations

from dataclasses import fields

from irbin.cli.plan_options import PlanFlags
from irbin.records.plan import PlanOptions


def test_every_plan_option_has_its_flag() -> None:
    assert {f.name for f in fields(PlanFlags)} == {f.name for f in fields(PlanOptions)}
