"""Progress on standard error: live at a terminal, plain lines elsewhere, nothing lost in either.

A log gets a line every few steps and one per epoch; a terminal gets one panel that moves, with the
finished epochs above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from irbin.cli.console import notes, say
from irbin.records import EpochRecord, StepRecord
from irbin.report.training import (
    epoch_header,
    epoch_line,
    step_figures,
    step_line,
    step_position,
)
from irbin.report.units import duration


def step_panel(record: StepRecord, width: int) -> RenderableType:
    """The moving part: position and bar, below it every figure; fits 80 columns."""
    place = step_position(record)
    left = f"{duration(record.seconds_left)} left"
    bar = ProgressBar(
        total=max(record.n_steps, 1),
        completed=record.step,
        width=max(10, width - len(place) - len(left) - 6),
    )
    head = Table.grid(padding=(0, 2))
    head.add_row(Text(place, style="bold"), bar, left)
    figures = Text()
    for label, value in step_figures(record):
        figures.append(f"{label} ", style="dim").append(f"{value}  ")
    return Group(head, figures)


class TrainingDisplay:
    """Shows a training run while it goes; use as a context manager.

    Args:
        log_interval: least number of steps between plain lines where there is no terminal.
        console: where to; standard error by default.
    """

    LOG_INTERVAL = 50  # timm's

    def __init__(self, log_interval: int = LOG_INTERVAL, console: Console | None = None) -> None:
        self.console = notes() if console is None else console
        self.log_interval = log_interval
        self.last_logged = 0
        self.n_epochs_shown = 0
        self.live: Live | None = None

    def __enter__(self) -> TrainingDisplay:
        if self.console.is_terminal:
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

    def step(self, record: StepRecord) -> None:
        """To be called after every step."""
        if self.live is not None:
            self.live.update(step_panel(record, self.console.width))
            return
        global_step = record.epoch * record.n_steps + record.step
        if record.step == record.n_steps or global_step - self.last_logged >= self.log_interval:
            self.last_logged = global_step
            say(self.console, step_line(record))

    def epoch(self, record: EpochRecord) -> None:
        """To be called after every epoch."""
        if self.n_epochs_shown == 0 or self.live is None:
            say(self.console, epoch_header(), style="bold")
        self.n_epochs_shown += 1
        say(self.console, epoch_line(record))


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """A line for work in stages, with a count where a stage has one.

    Yields:
        a function to call with (stage, done, in all); 0 in all where nothing is counted.
    """
    console = notes()
    if not console.is_terminal:
        told: set[str] = set()

        def tell(stage: str, *_: int) -> None:
            if stage not in told:
                say(console, stage)
                told.add(stage)

        yield tell
        return
    with console.status("starting") as status:

        def show(stage: str, done: int, total: int) -> None:
            status.update(f"{stage} {done}/{total}" if total else stage)

        yield show


def _silent(done: int, total: int) -> None:  # the signature is the caller's
    """What counts where nobody watches."""


@contextmanager
def counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work that counts images; silent where standard error is not a terminal.

    Args:
        label: what is being done.

    Yields:
        a function to call with (images done, images in all).
    """
    console = notes()
    if not console.is_terminal:
        yield _silent
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield show
