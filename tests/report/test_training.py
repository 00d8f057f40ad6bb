from __future__ import annotations

import math
from dataclasses import replace

from irbin.records.training import EpochRecord, RunRecord, StepRecord
from irbin.report.training import (
    epoch_header,
    epoch_line,
    history_figures,
    run_table,
    stage_figure,
    step_figures,
    step_line,
    step_position,
    waiting_figure,
)


def test_a_step_has_every_figure(step: StepRecord) -> None:
    assert [label for label, _ in step_figures(step)] == [
        "images/s",
        "loss",
        "top-1",
        "lr",
        "t",
        "k",
    ]
    assert step_position(step) == "epoch   3/100  step 124/391"
    assert step_line(step).endswith("t 0.001  k 1,000  left 99:59:59")


def test_a_float_network_has_no_t_and_k(step: StepRecord) -> None:
    line = step_line(replace(step, t=math.nan, k=math.nan))
    assert " t " not in line
    assert "nan" not in line


def test_blurred_targets_give_a_dash(step: StepRecord) -> None:
    assert "top-1 –" in step_line(replace(step, top1=math.nan))


def test_the_position_does_not_jump(step: StepRecord) -> None:
    lengths = {
        len(step_position(replace(step, epoch=e, step=s))) for e in (0, 99) for s in (1, 391)
    }
    assert len(lengths) == 1


def test_waiting_is_told_from_one_per_cent(step: StepRecord) -> None:
    for share in (0.0, 0.0099, math.nan):
        assert waiting_figure(replace(step, waiting=share)) == []
    line = step_line(replace(step, waiting=0.125))
    assert "k 1,000  waiting for images 12 %  left" in line


def test_the_course_needs_two_evaluated_epochs(epoch: EpochRecord) -> None:
    unknown = replace(epoch, eval_top1=math.nan)
    assert history_figures([epoch, unknown]) == []
    course = [replace(epoch, eval_top1=50.0), unknown, replace(epoch, eval_top1=75.0)]
    assert history_figures(course) == [("val top-1", "▁█ 75.00 %")]


def test_flips_are_per_cent(epoch: EpochRecord) -> None:
    line = epoch_line(replace(epoch, flip_ratio=0.03214))
    heads = epoch_header().replace("val ", "val_").split()
    assert dict(zip(heads, line.split(), strict=True))["flips"] == "3.21"
    assert len(line) < 80


def test_an_epoch_stands_under_its_heads_within_80_columns(epoch: EpochRecord) -> None:
    header, line = epoch_header(), epoch_line(epoch)
    assert len(line) < 80
    assert len(header) == len(line)
    assert len(line.split()) == 11
    assert line.split()[0] == "100"


def test_what_was_not_measured_is_a_dash(epoch: EpochRecord) -> None:
    nan = math.nan
    line = epoch_line(replace(epoch, eval_loss=nan, eval_top1=nan, eval_top5=nan, t=nan, k=nan))
    assert "nan" not in line
    assert line.split().count("–") == 5  # and the flips, of which the record knows nothing


def test_a_run_tells_best_and_last(epoch: EpochRecord, render) -> None:
    text = render(run_table(RunRecord("run", (epoch,), 99, 61.25, False)), 80)
    assert "61.25 % in epoch 100" in text
    assert "1:08:45" in text
    assert "last top-1   100.00 %" in [line.rstrip() for line in text.splitlines()]
    both = (replace(epoch, eval_top1=50.0), epoch)
    text = render(run_table(RunRecord("run", both, 1, 1.0, False)), 80)
    assert "last top-1   100.00 %  ▁█" in text


def test_a_run_without_an_epoch_has_no_accuracy(render) -> None:
    text = render(run_table(RunRecord("run", (), -1, math.nan, True)), 80)
    assert "top-1" not in text
    assert "epochs done  0" in text


def test_a_stage_is_named_and_compared_with_itself(epoch: EpochRecord, step: StepRecord) -> None:
    assert stage_figure(step) == []
    assert step_line(replace(step, stage="float")).split("  left")[0].endswith("stage float")
    floats = [replace(epoch, stage="float", eval_top1=90.0)] * 2
    binary = replace(epoch, stage="binary", eval_top1=70.0)
    assert history_figures(floats)
    assert history_figures([*floats, binary]) == []
    record = RunRecord("run", tuple(floats), -1, 0.0, True)
    cells = [list(column.cells) for column in run_table(record).columns]
    table = dict(zip(*cells, strict=True))
    assert table["last top-1"].startswith("90.00 %  (stage float)")
    assert "best top-1" not in table
