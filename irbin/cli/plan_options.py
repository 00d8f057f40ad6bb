"""Which layers become binary, and how, as flags; `records.plan.PlanOptions` declares them."""

from __future__ import annotations

from irbin.cli.record_flags import FROM_RECORD, Flags
from irbin.records.plan import PlanOptions


class PlanFlags(Flags, record=PlanOptions, defaults="shown"):
    """Which layers become binary, and how; the names are those of `PlanOptions`."""

    bits: FROM_RECORD
    keep: FROM_RECORD
    binarize: FROM_RECORD
