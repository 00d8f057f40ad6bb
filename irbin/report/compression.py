"""`compress` on the screen: its steps as they begin and end, and the time of an image."""

from __future__ import annotations

from irbin.messages import counted
from irbin.records.compression import Compression, CompressStep, StepName, Timing
from irbin.report.units import byte_size, digits, ratio

_DOING: dict[StepName, str] = {
    "train": "training the float network, which is random or has a new classifier",
    "analyze": "measuring which layers bear to be binary, for the budget",
    "convert": "planning, replacing layers, re-estimating batch norm",
    "finetune": "fine-tuning the binary network",
    "export": "packing its weights at one bit each",
    "evaluate": "evaluating float, binary and packed on every image",
}
_NEXT: dict[StepName, str] = {
    "train": "train the float network",
    "analyze": "analyze",
    "convert": "convert",
    "finetune": "fine-tune",
    "export": "export",
    "evaluate": "evaluate",
}


def step_line(step: CompressStep) -> str:
    """A line for a step that begins, has ended, or was done before; the latter say what is next."""
    place = f"{step.number}/{step.n_steps}"
    if step.outcome is None:
        return f"{place} {_DOING[step.name]}"
    following = f"; next: {_NEXT[step.following]}" if step.following else ""
    outcome = step.outcome or "done"
    if step.stood_there:
        return f"{place} {_NEXT[step.name]}: done before ({outcome}){following}"
    return f"    {outcome}{following}"


def speed_words(timing: Timing) -> str:
    """How many times as fast as torch, and whether that can be believed; '' without torch's time.

    Where other work takes the cores, torch's threads wait for each other and the packed network
    hardly does: such a ratio says little.
    """
    if timing.float_ms is None:
        return ""
    said = f"{ratio(timing.float_ms, timing.packed_ms)} torch's speed"
    return f"{said} (unsure: other work ran beside it)" if timing.is_busy else said


def timing_line(timing: Timing) -> str:
    """How long an image takes, and how long in torch."""
    line = f"one image on {counted(timing.n_threads, 'thread')}: {digits(timing.packed_ms)} ms"
    if timing.is_busy:
        line += " (other work ran beside it)"
    if timing.float_ms is None:
        return line
    return (
        f"{line}, the float network in torch {digits(timing.float_ms)} ms "
        f"({ratio(timing.float_ms, timing.packed_ms)}); `irbin bench` measures it for real"
    )


def budget_lines(record: Compression) -> list[str]:
    """What the budget made of the plan, and whether what was measured keeps it; none without."""
    if record.proposed_keep is None:
        return []
    kept = ", ".join(record.proposed_keep) or "nothing"
    return [f"kept float for the budget: {kept}", *filter(None, [_spent(record)])]


def _spent(record: Compression) -> str:
    """What was measured beside what was asked for; '' where it was not."""
    kind, _, amount = str(record.asked.get("budget")).partition(" ")
    limit, forms = float(amount or "nan"), record.evaluations
    if kind == "bytes" and record.export is not None:
        n_bytes, advice = record.export.total_bytes, "ask for less"
        return _held(n_bytes <= limit, f"{byte_size(n_bytes)} of files", byte_size(limit), advice)
    if kind == "latency" and record.timing is not None:
        ms, advice = record.timing.packed_ms, "the plan holds to an estimate; ask for less"
        return _held(ms <= limit, f"{digits(ms)} ms measured", f"{limit:g} ms", advice)
    if kind == "drop" and {"float", "packed"} <= forms.keys():
        lost = forms["float"].top1 - forms["packed"].top1
        advice = "the plan holds to a sample before fine-tuning; more epochs win back more"
        return _held(lost <= limit, f"{lost:.2f} points of top-1 lost", f"{limit:g}", advice)
    return ""


def _held(is_kept: bool, spent: str, limit: str, advice: str) -> str:
    ending = "" if is_kept else f"; {advice}"
    return f"the budget is {'' if is_kept else 'not '}kept: {spent}, of at most {limit}{ending}"
