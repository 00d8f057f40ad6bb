"""What a run keeps on the disk while it goes: `last`, `best`, recent epochs, and its tables.

A disk that is full ends no run: what could not be written is told, what stood there before stays,
and the next save tries again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError

from irbin.errors import TrainingError
from irbin.files import whole_folder
from irbin.messages import first_line
from irbin.records.results import Evaluation
from irbin.records.training import ClassAccuracy, EpochRecord, LayerDiagnostics, RunRecord
from irbin.rewriting.network import Network
from irbin.runs.folder import write_classes, write_result, write_summary
from irbin.runs.tables import CLASSES, has_table, read_classes
from irbin.sources.folder import fill_folder
from irbin.training.resume import Progress, keep_recent, save_last
from irbin.training.run import Run
from irbin.watching.diagnostics import read_diagnostics, write_diagnostics
from irbin.watching.symptoms import News, symptoms

SAVE_SECONDS = 600.0
"""Most of an epoch that is lost to a kill, unless `recovery_interval` says otherwise."""

_log = logging.getLogger("irbin")


class Keeper:
    """Writes a run's folder; in all processes but the first it does nothing.

    Args:
        run: what is kept.
        progress: where it stands; read whenever something is saved.
    """

    def __init__(self, run: Run, progress: Progress) -> None:
        self.run, self.progress = run, progress
        self._rows: list[LayerDiagnostics] = []
        self._classes: list[ClassAccuracy] = []
        self._news = News()
        if run.group.is_first:
            self._rows = list(read_diagnostics(run.out, progress.epoch))
            if progress.best_epoch >= 0 and has_table(run.out, CLASSES):
                self._classes = read_classes(run.out)
            self._told()
        self._saved_at, self._unsaved = time.monotonic(), ""

    def at_interval(self) -> bool:
        """Whether `recovery_interval` names this step; the same in all processes."""
        interval = self.run.recipe.recovery_interval
        return bool(interval) and self.progress.step % interval == 0

    def is_due(self) -> bool:
        """Whether `last` is to be written now, within an epoch; the first process decides."""
        if not self.run.group.is_first:
            return False
        if self.run.recipe.recovery_interval:
            return self.at_interval()
        return time.monotonic() - self._saved_at >= SAVE_SECONDS

    def save_last(self) -> None:
        """Writes `last`."""
        if self.run.group.is_first:
            if self._try("last", lambda: save_last(self.run, self.progress)):
                self._unsaved = ""
            self._saved_at = time.monotonic()

    def finish_epoch(
        self,
        record: EpochRecord,
        layers: Sequence[LayerDiagnostics],
        evaluation: Evaluation | None,
    ) -> None:
        """Moves on to the next epoch, writes everything, and tells what is wrong with the run."""
        better = self.progress.finish_epoch(record)
        if not self.run.group.is_first:
            return
        self._rows += layers
        if evaluation is not None and record.counts:
            self._classes = _moved_on(self._classes, evaluation.per_class, better)
        out, averaged = self.run.out, self.run.averaged
        # all before `last`: a run that is killed in between does this epoch, and all this, again
        self._try("the tables", self._write_tables)
        if better:
            self._try("best", lambda: _replace(out / "best", averaged))
        self.save_last()
        if not self._unsaved:
            n_kept, n_done = self.run.recipe.checkpoint_hist, self.progress.epoch
            self._try("recent", lambda: keep_recent(out, n_done, n_kept))
        for sentence in self._told():
            _log.warning("%s", sentence)

    def finish(self, interrupted: bool) -> RunRecord:
        """How the run went; written to run.json.

        Raises:
            TrainingError: the last save failed, so the run's end is lost.
        """
        record = self._record(interrupted)
        if self.run.group.is_first:
            self._try("run.json", lambda: write_result(self.run.out, record))
            if self._unsaved:
                raise TrainingError(
                    f"the run is over, but its end could not be saved in {self.run.out}: "
                    f"{self._unsaved}; make room, and `resume=True` computes it again from what is "
                    "there"
                )
        return record

    def _record(self, interrupted: bool) -> RunRecord:
        progress = self.progress
        return RunRecord(
            path=str(self.run.out),
            epochs=tuple(progress.records),
            best_epoch=progress.best_epoch,
            best_top1=progress.best_top1,
            interrupted=interrupted,
        )

    def _write_tables(self) -> None:
        write_summary(self.run.out, self.progress.records)
        write_diagnostics(self.run.out, self._rows)
        if self._classes:
            write_classes(self.run.out, self._classes)
        write_result(self.run.out, self._record(self.progress.epoch < self.run.n_epochs))

    def _told(self) -> list[str]:
        """What is newly wrong; after a resume, what was wrong before is not told again."""
        epoch = max(self.progress.epoch - 1, 0)
        stage = self.run.stage(epoch)  # a training of its own
        epochs = self.progress.records[stage.begin :]
        layers = [row for row in self._rows if row.epoch == epoch]
        network = self.run.network
        options = None if network.plan is None else network.plan.options
        present = symptoms(epochs, layers, network.source.num_classes, stage.n_epochs, options)
        return [symptom.sentence for symptom in self._news.fresh(present)]

    def _try(self, what: str, write: Callable[[], None]) -> bool:
        try:
            write()
        except (OSError, SafetensorError) as error:
            reason = first_line(error)
            if what == "last":
                self._unsaved = reason
            _log.warning(
                "cannot write %s in %s (%s); training goes on, and what was there before stays",
                what,
                self.run.out,
                reason,
            )
            return False
        return True


def _moved_on(
    before: Sequence[ClassAccuracy], now: Mapping[str, float], better: bool
) -> list[ClassAccuracy]:
    """Accuracies by class after an evaluation, which was the best so far or not."""
    best = {one.name: one.best for one in before}
    return [
        ClassAccuracy(name, top1 if better else best.get(name, math.nan), top1)
        for name, top1 in now.items()
    ]


def _replace(path: Path, network: Network) -> None:
    """Writes a network's folder in the place of the one that is there."""
    with whole_folder(path) as folder:
        fill_folder(network, folder)
