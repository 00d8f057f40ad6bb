"""What `--json` writes: plain JSON that any parser takes (nan and infinity become null)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from irbin.messages import is_text
from irbin.records.json import JsonValue, to_json
from irbin.records.options import FloatDtype, SourceRecord
from irbin.records.plan import Estimate, Plan
from irbin.records.results import Agreement, ExportRecord

FLOAT_DTYPES: tuple[FloatDtype, ...] = ("float32", "float16", "bfloat16")


def dumps(value: JsonValue) -> str:
    """Indented JSON with a final newline; nan and ±infinity are written as null."""
    finite = _finite(value)
    text = json.dumps(finite, indent=2, ensure_ascii=False, allow_nan=False)
    if not is_text(text):  # the name of a file; JSON can say it in ASCII
        text = json.dumps(finite, indent=2, allow_nan=False)
    return text + "\n"


def plan_json(source: str, plan: Plan, gains: Estimate) -> dict[str, JsonValue]:
    """A plan with the totals that its table shows, and what it gains."""
    return {
        "source": source,
        "totals": _totals(plan),
        "replaced_activations": list(plan.replaced_activations),
        "estimate": {"speed_up": gains.speed_up, **to_json(gains)},
        "plan": to_json(plan),
    }


def conversion_json(path: str, source: SourceRecord, plan: Plan) -> dict[str, JsonValue]:
    """What convert wrote: where, of which network, and the plan with its totals."""
    return {
        "path": path,
        "source": to_json(source),
        "totals": _totals(plan),
        "replaced_activations": list(plan.replaced_activations),
        "plan": to_json(plan),
    }


def _totals(plan: Plan) -> dict[str, JsonValue]:
    packed = {dtype: plan.packed_bytes(dtype) for dtype in FLOAT_DTYPES}
    return {
        "n_layers": len(plan.decisions),
        "n_binary": len(plan.binary_names),
        "binary_macs": plan.binary_macs,
        "float_macs": plan.float_macs,
        "float_bytes": plan.float_bytes,
        "packed_bytes": packed,
        "ratio": plan.float_bytes / packed["float32"] if packed["float32"] else None,
    }


def evaluation_json(
    timm_result: Mapping[str, JsonValue], agreement: tuple[str, Agreement] | None = None
) -> dict[str, JsonValue]:
    """One network's result, and how it agrees with the network it was made from.

    Args:
        timm_result: what `evaluation.accuracy.timm_result` gave.
        agreement: (name of the trained network, comparison) of a packed network.
    """
    result = dict(timm_result)
    if agreement is not None:
        name, comparison = agreement
        result["agreement"] = {"with": name, **to_json(comparison)}
    return result


def export_json(record: ExportRecord) -> dict[str, JsonValue]:
    """What export wrote, with the ratio that its table shows."""
    ratio = record.float_bytes / record.total_bytes if record.total_bytes else None
    return {**to_json(record), "ratio": ratio}


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
