"""Progress on standard error: live at a terminal, plain lines elsewhere, nothing lost in either.

A log gets a line every few steps and one per epoch; a terminal gets one panel that moves, with the
finished epochs above it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import Timer
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from irbin.cli.console import is_first_process, lasting_notes, say, shared, silent
from irbin.records.training import EpochRecord, StepRecord
from irbin.report.training import (
    epoch_header,
    epoch_line,
    history_figures,
    stage_figure,
    step_figures,
    step_line,
    step_position,
    waiting_figure,
)
from irbin.report.units import DASH, count, duration


def step_panel(
    record: StepRecord, width: int, epochs: Sequence[EpochRecord] = ()
) -> RenderableType:
    """The moving part: position and bar, below it every figure; fits 80 columns.

    A third line has the validation's course, and the share of time spent waiting for images, once
    there is something to tell.

    Args:
        record: where training stands.
        width: columns of the screen.
        epochs: those that are done.
    """
    place = step_position(record)
    left = f"{duration(record.seconds_left)} left"
    bar = ProgressBar(
        total=max(record.n_steps, 1),
        completed=record.step,
        width=max(10, width - len(place) - len(left) - 6),
    )
    head = Table.grid(padding=(0, 2))
    head.add_row(Text(place, style="bold"), bar, left)
    course = [*stage_figure(record), *history_figures(epochs), *waiting_figure(record)]
    lines = [_labelled(figures) for figures in (step_figures(record), course) if figures]
    return Group(head, *lines)


def _labelled(figures: Sequence[tuple[str, str]]) -> Text:
    line = Text()
    for label, value in figures:
        line.append(f"{label} ", style="dim").append(f"{value}  ")
    return line


class TrainingDisplay:
    """Shows a training run while it goes; use as a context manager.

    Args:
        log_interval: least number of steps between plain lines where there is no terminal.
        console: where to; by default standard error, and nowhere in a process that is not the
            first of a `torchrun`.

    What is logged meanwhile, or printed to standard error by a library, appears above the panel.
    """

    LOG_INTERVAL = 50  # timm's

    def __init__(self, log_interval: int = LOG_INTERVAL, console: Console | None = None) -> None:
        if console is None:
            console = lasting_notes() if is_first_process() else silent()
        self.console = console
        self.log_interval = log_interval
        self.last_logged = 0
        self.epochs: list[EpochRecord] = []
        self.told: set[str] = set()
        self.live: Live | None = None
        self.held = ExitStack()
        self.slow = Patient(console)

    def __enter__(self) -> TrainingDisplay:
        self.held.enter_context(shared(self.console))
        if self.console.is_terminal and not self.console.quiet:
            self.live = Live(console=self.console, refresh_per_second=4, transient=True)
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.live is not None:
            self.live.stop()
        self.slow.done()
        self.held.close()

    def line(self, line: str) -> None:
        """Something to be known before the first step."""
        self.slow.done()
        say(self.console, line, style="dim")

    def stage(self, name: str, done: int, total: int) -> None:
        """To be called while something is made ready; `total` is 0 where nothing is counted.

        Where nothing can move, a line; for what is not counted, once it takes long.
        """
        if self.live is not None:
            self.live.update(Text(f"{name} {done:,}/{total:,}" if total else name, style="dim"))
        elif not total:
            self.slow.stage(name)
        elif name not in self.told:
            self.slow.done()
            self.told.add(name)
            say(self.console, name, style="dim")

    def step(self, record: StepRecord) -> None:
        """To be called after every step."""
        self.slow.done()
        if self.live is not None:
            self.live.update(step_panel(record, self.console.width, self.epochs))
            return
        global_step = record.epoch * record.n_steps + record.step
        if record.step == record.n_steps or global_step - self.last_logged >= self.log_interval:
            self.last_logged = global_step
            say(self.console, step_line(record))

    def epoch(self, record: EpochRecord) -> None:
        """To be called after every epoch."""
        if record.stage and (not self.epochs or self.epochs[-1].stage != record.stage):
            say(self.console, f"stage: {record.stage}", style="bold")
        if not self.epochs or self.live is None:
            say(self.console, epoch_header(), style="bold")
        self.epochs.append(record)
        say(self.console, epoch_line(record))


PATIENCE = 5.0
"""Seconds that work may take before a line says what it is, where nothing can move."""


class Patient:
    """Says what takes longer than `PATIENCE`, a line each; use as a context manager.

    Args:
        console: where to; what others do with standard error meanwhile does not concern it.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.name = ""
        self.timer: Timer | None = None

    def __enter__(self) -> Patient:
        return self

    def __exit__(self, *_: object) -> None:
        self.done()

    def stage(self, name: str, done: int = 0, total: int = 0) -> None:  # noqa: ARG002  # as others
        """To be called when something begins; what went on before is over."""
        if name == self.name:
            return
        self.done()
        self.name = name
        self.timer = Timer(PATIENCE, say, (self.console, f"{name} …", "dim"))
        self.timer.daemon = True
        self.timer.start()

    def done(self) -> None:
        """To be called when what was begun last is over."""
        self.name = ""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@contextmanager
def stages(patient: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A line for work in stages, with a count where a stage has one.

    Args:
        patient: where nothing can move, name only the stages that take longer than `PATIENCE`.

    Yields:
        a function to call with (stage, done, in all); 0 in all where nothing is counted.
    """
    console = lasting_notes()
    if not console.is_terminal and patient:
        with shared(console), Patient(console) as slow:
            yield slow.stage
        return
    if not console.is_terminal:
        told: set[str] = set()

        def tell(stage: str, *_: int) -> None:
            if stage not in told:
                say(console, stage)
                told.add(stage)

        yield tell
        return
    with shared(console), console.status("starting") as status:

        def show(stage: str, done: int, total: int) -> None:
            status.update(f"{stage} {done}/{total}" if total else stage)

        yield show


EVERY = 10.0
"""Seconds between two lines that say how far something has come, where nothing can move."""


class _Steady:
    """Says how far something has come, a line every `EVERY` seconds.

    Args:
        console: where to.
        label: what is being done.
        slow: says that it takes long; silent once there are lines.
    """

    def __init__(self, console: Console, label: str, slow: Patient) -> None:
        self.console, self.label, self.slow = console, label, slow
        self.begun = self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """To be called with what is done and how much there is; 0 in all where nobody knows."""
        now = time.monotonic()
        if now - self.last < EVERY or done >= total > 0:
            return
        self.last = now
        self.slow.done()
        rate = done / (now - self.begun)
        line = f"{self.label}: {done:,}"
        if total:
            left = duration((total - done) / rate) if done else DASH
            line += f" of {total:,}, {left} left"
        pace = f"{count(rate)} a second" if rate >= 1 or not done else f"{duration(1 / rate)} each"
        say(self.console, f"{line}, {pace}", style="dim")


@contextmanager
def counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work that counts; where standard error is no terminal, lines if it takes long.

    Args:
        label: what is being done.

    Yields:
        a function to call with (images done, images in all).
    """
    console = lasting_notes()
    if not console.is_terminal:
        with Patient(console) as slow:
            slow.stage(label)
            yield _Steady(console, label, slow)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with shared(console), Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield show
