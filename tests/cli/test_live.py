from __future__ import annotations

import io
import logging
import re
import sys
from contextlib import redirect_stderr
from dataclasses import replace
from threading import Timer
from typing import ClassVar

import pytest
from rich.console import Console

from irbin.cli import live
from irbin.cli.console import is_first_process, logged_as_notes, notes, say
from irbin.cli.live import TrainingDisplay, counting, stages, step_panel
from irbin.records.training import EpochRecord, StepRecord

STEP = StepRecord(2, 100, 124, 391, 12345.6, 12.3456, 100.0, 0.000123, 0.001, 1000.0, 359999.0)
EPOCH = EpochRecord(0, 1.5, 50.0, 1.25, 60.0, 90.0, 0.1, 0.316, 3.16, 1000.0, 12.0)


def screen(width: int, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, force_terminal=terminal, highlight=False), out


def on_screen(sent: str) -> list[str]:
    """What stands on a terminal after all that was sent to it: the sequences that rich uses."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", sent):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b") and part != "\r":
            lines[row] += part
    return [line.rstrip() for line in lines if line.strip()]


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


@pytest.mark.parametrize("width", [80, 120])
def test_a_third_line_has_the_course_and_what_is_waited_for(width: int) -> None:
    console, out = screen(width, terminal=False)
    epochs = [replace(EPOCH, epoch=e, eval_top1=100.0 - 90 * 0.9**e) for e in range(200)]
    console.print(step_panel(replace(STEP, waiting=0.999), width, epochs))
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    assert re.fullmatch(r"val top-1 ▁[▂-█]{23} 99.99 %  waiting for images 100 %", lines[2].strip())


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
        display.step(STEP)
    text = out.getvalue()
    assert text.count("loss val top-1") == 1
    assert text.count("  60.00  90.00") == 2
    assert "step 124/391" in text
    assert "▅▅ 60.00 %" in text  # the course of both


def test_the_display_leaves_when_training_fails() -> None:
    console, _ = screen(80, terminal=True)
    display = TrainingDisplay(console=console)
    with pytest.raises(ZeroDivisionError), display:
        raise ZeroDivisionError
    assert display.live is not None
    assert not display.live.is_started


def test_what_is_logged_or_printed_stands_above_the_panel(monkeypatch) -> None:
    console, out = screen(80, terminal=True)
    monkeypatch.setattr(sys, "stderr", out)
    with logged_as_notes(), TrainingDisplay(console=console) as display:
        for step in (1, 2, 3):
            display.step(replace(STEP, step=step))
            assert display.live is not None
            display.live.refresh()
            logging.getLogger("irbin.training").warning("note %d", step)
            print(f"library {step}", file=sys.stderr)  # noqa: T201  # as libraries do
            say(notes(), f"said {step}")
        display.epoch(EPOCH)
        display.live.refresh()
        shown = on_screen(out.getvalue())
    above = [f"{who} {n}" for n in (1, 2, 3) for who in ("note: note", "library", "said")]
    assert shown[:9] == above
    assert len(shown) == 9 + 2 + 2  # the epoch under its head, the panel
    assert shown[11].startswith("epoch   3/100  step   3/391")
    assert on_screen(out.getvalue()) == shown[:11]  # the panel is gone at the end


def test_notes_are_anybodys_again_afterwards() -> None:
    console, _ = screen(80, terminal=False)
    with TrainingDisplay(console=console):
        assert notes() is console
    assert notes() is not console


def test_what_is_logged_while_something_is_counted_stands_above_it(capsys, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    for moving in (counting("evaluating"), stages()):
        with logged_as_notes(), moving:
            assert notes() is notes()  # the one that something moves on
            logging.getLogger("irbin").warning("seen")
        assert "note: seen" in on_screen(capsys.readouterr().err)[0]


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "3", "LOCAL_RANK": "0"}, False),  # the first of another machine
        ({"LOCAL_RANK": "1"}, False),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, False),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, True),
    ],
    ids=["alone", "first", "second machine", "local", "srun", "first of srun"],
)
def test_only_the_first_process_shows(capsys, monkeypatch, environment, first: bool) -> None:
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() == first
    with logged_as_notes(), TrainingDisplay() as display:
        display.step(replace(STEP, step=391))
        display.epoch(EPOCH)
        logging.getLogger("irbin").warning("seen")
    shown = capsys.readouterr().err
    assert ("391/391" in shown, "note: seen" in shown) == (first, first)
    say(notes(), "an error")
    assert capsys.readouterr().err == "an error\n"


def test_a_silent_process_draws_nothing_at_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with TrainingDisplay() as display:
        display.step(STEP)
    assert display.live is None
    assert capsys.readouterr() == ("", "")


def test_counting_is_silent_in_a_pipe(capsys) -> None:
    with counting("evaluating") as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")


class Clock(Timer):
    """A timer that goes off when it is told to."""

    running: ClassVar[list[Clock]] = []

    def start(self) -> None:
        self.running.append(self)

    def cancel(self) -> None:
        self.running.remove(self)

    @classmethod
    def pass_by(cls) -> list[float]:
        for clock in cls.running:
            clock.function(*clock.args)
        return [clock.interval for clock in cls.running]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(live, "Timer", Clock)
    monkeypatch.setattr(Clock, "running", [])
    return Clock


def test_only_what_takes_long_is_named_in_a_pipe(clock: type[Clock], capsys) -> None:
    with stages(patient=True) as stage:
        stage("reading the network", 0, 0)
        stage("checking", 0, 0)
        with redirect_stderr(io.StringIO()):  # as `program.lower` does, from libraries
            assert clock.pass_by() == [live.PATIENCE]
        stage("calibrating", 1, 4)
        stage("calibrating", 2, 4)  # the same work: it has begun once
        assert clock.pass_by() == [live.PATIENCE]
    assert clock.running == []
    assert capsys.readouterr() == ("", "checking …\ncalibrating …\n")


def test_counting_that_takes_long_is_named_in_a_pipe(clock: type[Clock], capsys) -> None:
    with counting("evaluating"):
        assert capsys.readouterr().err == ""
        clock.pass_by()
    assert (clock.running, capsys.readouterr().err) == ([], "evaluating …\n")


def test_a_count_that_takes_long_says_how_far_it_is(clock, monkeypatch, capsys) -> None:
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    with counting("evaluating") as report:
        for done in (100, 200, 300, 1000):
            now[0] += live.EVERY * 0.6
            report(done, 1000)
        now[0] += live.EVERY
        report(7, 0)
    assert capsys.readouterr().err.splitlines() == [
        "evaluating: 200 of 1,000, 0:48 left, 17 a second",
        "evaluating: 7, 0:05 each",
    ]


def test_a_run_names_what_takes_long_before_its_first_step(clock: type[Clock]) -> None:
    console, out = screen(80, terminal=False)
    with TrainingDisplay(console=console) as display:
        display.stage("tracing the network", 0, 0)
        display.stage("compiling the network", 0, 0)
        clock.pass_by()
        display.stage("decoding images", 1, 2)
        assert clock.running == []
        display.stage("compiling the network", 0, 0)
        display.step(STEP)
        assert clock.running == []
    assert out.getvalue().splitlines()[:2] == ["compiling the network …", "decoding images"]


def test_what_takes_long_moves_at_a_terminal_whatever_libraries_turn_off(
    capsys, monkeypatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with stages(patient=True) as stage, redirect_stderr(io.StringIO()) as swallowed:
        stage("checking", 0, 0)
        notes().print("above")
    assert "checking" in (err := capsys.readouterr().err)
    assert "above" in err
    assert swallowed.getvalue() == ""


def test_counting_shows_images_at_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with counting("evaluating [x]") as report:
        report(3, 4)
    out, err = capsys.readouterr()
    assert out == ""
    assert "evaluating [x]" in err
    assert "3/4" in err
