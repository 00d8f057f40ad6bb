from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from irbin.cli.live import TrainingDisplay, counting, step_panel
from irbin.records import EpochRecord, StepRecord

STEP = StepRecord(2, 100, 124, 391, 12345.6, 12.3456, 100.0, 0.000123, 0.001, 1000.0, 359999.0)
EPOCH = EpochRecord(0, 1.5, 50.0, 1.25, 60.0, 90.0, 0.1, 0.316, 3.16, 1000.0, 12.0)


def screen(width: int, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, force_terminal=terminal, highlight=False), out


@pytest.mark.parametrize("width", [80, 120])
def test_the_panel_is_two_lines_with_every_figure(width: int) -> None:
    console, out = screen(width, terminal=False)
    console.print(step_panel(STEP, width))
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("epoch   3/100  step 124/391")
    assert lines[0].rstrip().endswith("99:59:59 left")
    for part in ("12.3 k", "12.3456", "100.00 %", "0.000123", "t 0.001", "k 1,000"):
        assert part in lines[1]


def test_a_log_gets_a_line_now_and_then_and_the_last_of_each_epoch() -> None:
    console, out = screen(80, terminal=False)
    with TrainingDisplay(log_interval=40, console=console) as display:
        for epoch in (0, 1):
            for step in range(1, 101):
                display.step(replace(STEP, epoch=epoch, step=step, n_steps=100))
            display.epoch(EPOCH)
    lines = out.getvalue().splitlines()
    steps = [line.split()[3] for line in lines if line.startswith("epoch ") and "step" in line]
    assert steps == ["40/100", "80/100", "100/100"] * 2
    assert sum("val top-1" in line for line in lines) == 2


def test_reports_that_come_seldom_are_all_logged() -> None:
    console, out = screen(80, terminal=False)
    with TrainingDisplay(log_interval=10, console=console) as display:
        for step in (20, 40, 60):
            display.step(replace(STEP, step=step))
    assert len(out.getvalue().splitlines()) == 3


def test_a_terminal_keeps_the_epochs_and_one_head() -> None:
    console, out = screen(80, terminal=True)
    with TrainingDisplay(console=console) as display:
        display.step(STEP)
        display.epoch(EPOCH)
        display.step(STEP)
        display.epoch(EPOCH)
        time.sleep(0.3)
    text = out.getvalue()
    assert text.count("val top-1") == 1
    assert text.count("  60.00  90.00") == 2
    assert "step 124/391" in text


def test_the_display_leaves_when_training_fails() -> None:
    console, _ = screen(80, terminal=True)
    display = TrainingDisplay(console=console)
    with pytest.raises(ZeroDivisionError), display:
        raise ZeroDivisionError
    assert display.live is not None
    assert not display.live.is_started


def test_counting_is_silent_in_a_pipe(capsys) -> None:
    with counting("evaluating") as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")


def test_counting_shows_images_at_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with counting("evaluating [x]") as report:
        report(3, 4)
        time.sleep(0.3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "evaluating [x]" in err
    assert "3/4" in err
