from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from irbin.errors import DataError, TrainingError
from irbin.processes import ALONE
from irbin.records.options import Preprocessing
from irbin.records.results import Evaluation
from irbin.training.meter import Meter, epoch_record
from irbin.training.resume import Progress
from irbin.training.waits import Waits

LOGITS = torch.eye(3)
LABELS = torch.tensor([0, 1, 0])


class FakeLoader:
    dataset = SimpleNamespace(place="nowhere")

    def __iter__(self):
        return iter([(LOGITS, LABELS)])


def make_meter(progress: Progress, n_epochs: int = 1, n_steps: int = 1) -> Meter:
    return Meter(progress, n_epochs, n_steps, ALONE, Waits(FakeLoader()))


def count(meter: Meter, loss: float, logits: torch.Tensor, targets: torch.Tensor) -> None:
    meter.add(torch.tensor(loss), logits, targets)
    meter.progress.step += 1


EVALUATION = Evaluation("x", "float", 3, 50.0, 100.0, 1.5, {}, 1.0, 1, 1, Preprocessing())


def test_sums_weigh_images_and_go_on_where_they_were_settled() -> None:
    progress = Progress()
    meter = make_meter(progress, n_epochs=2, n_steps=2)
    count(meter, 1.0, LOGITS, LABELS)
    meter.settle()
    meter = make_meter(progress, n_epochs=2, n_steps=2)
    count(meter, 5.0, LOGITS[:1], LABELS[:1])
    step = meter.read(0.1, 0.2, 5.0)
    assert (step.loss, step.top1) == (2.0, 75.0)
    assert (step.epoch, step.n_epochs, step.step, step.n_steps) == (0, 2, 2, 2)
    assert (step.lr, step.t, step.k) == (0.1, 0.2, 5.0)
    assert step.seconds_left > 0
    meter.settle()
    record = epoch_record(progress, EVALUATION, (), 0.1, 0.2, 5.0)
    assert (record.train_loss, record.train_top1) == (2.0, 75.0)
    assert (record.eval_loss, record.eval_top1, record.eval_top5) == (1.5, 50.0, 100.0)


def test_mixed_targets_have_no_accuracy_but_a_loss() -> None:
    meter = make_meter(Progress())
    count(meter, 1.0, LOGITS, torch.full((3, 3), 1 / 3))
    step = meter.read(0.1, math.nan, math.nan)
    assert math.isnan(step.top1)
    assert step.loss == 1.0
    assert step.seconds_left == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_losses_that_are_not_finite_are_told(value: float) -> None:
    meter = make_meter(Progress(epoch=4), 9, 7)
    count(meter, value, LOGITS, LABELS)
    for read in (lambda: meter.read(0.1, 0.1, 10.0), meter.settle):
        with pytest.raises(TrainingError, match="in epoch 4 at step 1 of 7; what was saved before"):
            read()
    progress = Progress(n_seen=1, epoch=4)
    with pytest.raises(TrainingError, match=r"validation split is (nan|inf|-inf) after epoch 4"):
        epoch_record(progress, replace(EVALUATION, loss=value), (), 0.1, 0.1, 10.0)


@pytest.mark.parametrize(
    ("interval", "due"), [(1, [1, 2, 3, 4]), (2, [2, 4]), (3, [3, 4]), (9, [4])]
)
def test_reports_are_due_every_interval_and_at_the_end(interval: int, due: list[int]) -> None:
    meter = make_meter(Progress(), 1, 4)
    seen = []
    for step in range(1, 5):
        count(meter, 1.0, LOGITS, LABELS)
        if meter.is_due(interval):
            seen.append(step)
    assert seen == due


def test_the_best_epoch_is_the_first_of_equals_and_never_one_without_evaluation() -> None:
    progress = Progress()
    better = []
    for top1 in (math.nan, 40.0, 40.0, 39.0, 41.0):
        progress.n_seen = 1
        evaluation = None if math.isnan(top1) else replace(EVALUATION, top1=top1)
        better.append(progress.finish_epoch(epoch_record(progress, evaluation, (), 0.1, 0.1, 10.0)))
    assert better == [False, True, False, False, True]
    assert (progress.best_epoch, progress.best_top1, progress.epoch) == (4, 41.0, 5)
    assert (progress.step, progress.n_seen, progress.loss_sum) == (0, 0, 0.0)


def test_waiting_is_a_share_of_the_epochs_time_and_ends_with_it() -> None:
    progress = Progress(seconds=1.0, waiting=0.5)
    meter = make_meter(progress)
    meter.waits.seconds = 0.25
    count(meter, 1.0, LOGITS, LABELS)
    assert 0.5 < meter.read(0.1, 1.0, 1.0).waiting < 0.75
    meter.settle()
    assert progress.waiting == 0.75
    assert meter.waits.seconds == 0.0
    assert 0.5 < epoch_record(progress, None, (), 0.1, 1.0, 1.0).waiting < 0.75
    progress.finish_epoch(epoch_record(progress, None, (), 0.1, 1.0, 1.0))
    assert progress.waiting == 0.0


def test_a_loader_that_ends_too_early_is_told() -> None:
    waits = Waits(FakeLoader())
    next(waits)
    with pytest.raises(DataError, match=r"^expected more images in nowhere, which ended in the "):
        next(waits)
    waits.close()
