"""`compress` on the screen: its steps as they begin and end, and the time of an image."""

from __future__ import annotations

from irbin.messages import counted
from irbin.records.compression import Compression, CompressStep, StepName, Timing
from irbin.report.units import digits, ratio

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


def kept_line(record: Compression) -> str:
    """What the budget made of the plan; '' where there was none."""
    if record.proposed_keep is None:
        return ""
    return f"kept float for the budget: {', '.join(record.proposed_keep) or 'nothing'}"
