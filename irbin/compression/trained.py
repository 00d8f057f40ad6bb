"""The trainings of `compress`: the float network's where it has to learn first; fine-tuning."""

from __future__ import annotations

from pathlib import Path

from irbin.compression.folder import CONVERTED, FLOAT, RUN
from irbin.compression.request import Work
from irbin.files import current, remove
from irbin.records.training import RunRecord
from irbin.report.units import percent
from irbin.sources.folder import recorded
from irbin.training.resume import finished_run
from irbin.verbs import finetune

_OF_BOTH = ("epochs", "seed", "amp", "channels_last", "compile", "log_interval", "val_interval")
"""Knobs that say the same of any training; the others are meant for the binary network."""
LR_OF_TRAINED = 0.01
"""Where a backbone is trained and its classifier new: the recipe's rate is for random weights, and
a tenth of it moves what the backbone knows less."""


def run_is_over(work: Work, name: str) -> bool:
    """Whether a run in OUT has nothing left to train."""
    return finished_run(work.out / name) is not None


def train_float(work: Work) -> str:
    """Trains the float network as it is, by the recipe `float`."""
    folder = work.out / FLOAT
    asked = work.request.overrides
    overrides = {name: asked[name] for name in _OF_BOTH if name in asked}
    if work.record.begins_trained:
        overrides["lr"] = LR_OF_TRAINED
    with work.watcher.training() as told:
        record = finetune(
            work.request.source,
            folder,
            data=work.data,
            source_options=work.request.source_options,
            recipe="float",
            overrides=overrides,
            resume=_goes_on(folder),
            device=work.device,
            **told,
        )
    return _outcome(record)


def tune(work: Work) -> str:
    """Fine-tunes the converted network, with the float one as its teacher."""
    folder = work.out / RUN
    with work.watcher.training() as told:
        record = finetune(
            work.out / CONVERTED,
            folder,
            data=work.data,
            recipe=work.request.file,
            overrides=work.request.overrides,
            teacher=_moved_teacher(work),
            resume=_goes_on(folder),
            device=work.device,
            **told,
        )
    return _outcome(record)


def _moved_teacher(work: Work) -> Path | None:
    """The float network in OUT, where OUT has moved since it was converted; None where not.

    The converted network names the old place.
    """
    if not work.record.trains_float or not work.request.recipe(converted=True).distill:
        return None
    return None if Path(recorded(work.out / CONVERTED).spec).exists() else work.out / FLOAT


def _goes_on(folder: Path) -> bool:
    """Whether a run can be resumed; one that was killed before it saved anything goes away."""
    if current(folder / "last") is not None:
        return True
    remove(folder)
    return False


def _outcome(record: RunRecord) -> str:
    """What came of a run.

    Raises:
        KeyboardInterrupt: it was stopped.
    """
    if record.interrupted:
        raise KeyboardInterrupt
    return f"top-1 {percent(record.best_top1)} in epoch {record.best_epoch + 1}"
