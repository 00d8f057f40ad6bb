"""Runs the experiments of `experiments.yaml` one after the other; can be left alone.

    python docs/accuracy/run.py queue --data-dir data/cifar10 --runs ../runs
    python docs/accuracy/run.py --status

NAME is an experiment, a group, or `queue`: what that list of the file names, in its order. A run
that is finished is left alone, one that was begun goes on exactly where it stopped. It may be ended
at any moment, by Ctrl-C, SIGTERM or SIGKILL: the same command goes on. RUNS is outside the
checkout, so that it outlives it; RUNS/queue.log has a line a minute.

On a machine with a GPU, the two large networks side by side, each after its float network:

    python docs/accuracy/run.py large-long --device cuda --parallel 2 --threads 4 --runs ../runs
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from irbin.errors import IrbinError
from irbin.files import remove, write_file

from experiments import (  # isort: skip
    HERE,
    Task,
    experiments,
    folder,
    nothing_saved,
    place,
    standing,
    start,
    tasks,
    waits_for,
)
from queueing import BusyError, Ender, Log, locked, side_by_side, status  # isort: skip

if TYPE_CHECKING:
    from irbin.records.training import EpochRecord, StepRecord

MINUTE = 60.0


@dataclass(frozen=True)
class Where:
    """What all runs of a call share."""

    runs: Path
    data_dir: str
    val_split: str
    device: str = "cpu"
    threads: int = 1


def run(task: Task, where: Where, log: Log) -> bool:
    """Converts and trains, or goes on where it stopped; whether it came to its end.

    Raises:
        IrbinError: see `irbin.convert` and `irbin.finetune`.
        KeyboardInterrupt: before the first step; in training it is `False` that comes back.
    """
    import irbin
    from irbin.recipes.request import resolve_recipe
    from irbin.records.options import DataOptions, SourceOptions

    experiment, runs = task.experiment, where.runs
    out = folder(runs, experiment.name, task.seed)
    if out.exists() and nothing_saved(out):
        remove(out)
    data = DataOptions(
        data_dir=where.data_dir, val_split=where.val_split, batch_size=experiment.batch_size
    )
    begins_with = start(task, runs)
    assert begins_with is not None, "whoever calls has looked"
    source: str | Path = begins_with
    if experiment.convert is not None:
        source = runs / "converted" / task.name
        if not source.exists():
            log(f"{task.name}: converts {begins_with}")
            irbin.convert(
                begins_with,
                source,
                data=data,
                calibrate=1024,
                source_options=SourceOptions(seed=task.seed),
                **experiment.convert,
            )
    settings = resolve_recipe(experiment.recipe, experiment.set, experiment.convert is not None)
    teacher = None
    if settings.distill and experiment.teacher is not None:
        teacher = place(experiment.teacher, runs)
    elif settings.distill and Path(begins_with).is_dir():  # where it lies now
        teacher = begins_with
    heart, parent = Heartbeat(task.name, log), os.getppid()

    def report(step: StepRecord) -> None:
        heart.beat(step)
        if os.getppid() != parent:  # whoever started this is gone, and with it who would end it
            raise KeyboardInterrupt

    record = irbin.finetune(
        source,
        out,
        data=data,
        source_options=SourceOptions(seed=task.seed),
        recipe=experiment.recipe,
        overrides={**experiment.set, "seed": task.seed},
        resume=out.exists(),
        teacher=teacher,
        device=where.device,
        report=report,
        on_epoch=heart.epoch,
        say=lambda line: log(f"{task.name}: {line}"),
    )
    return not record.interrupted


class Heartbeat:
    """A line for every evaluation, and one a minute of what is under way.

    Args:
        name: of the run.
        log: where to.
    """

    def __init__(self, name: str, log: Log) -> None:
        self._name, self._log, self._told = name, log, -MINUTE

    def beat(self, step: StepRecord) -> None:
        """Told of every step."""
        now = time.monotonic()
        if now - self._told < MINUTE:
            return
        self._told = now
        self._log(
            f"{self._name}: epoch {step.epoch + 1} of {step.n_epochs}, step {step.step} of "
            f"{step.n_steps}, loss {step.loss:.3f}, {step.images_per_second:.0f} images/s, "
            f"{step.seconds_left / 3600:.1f} h left"
        )

    def epoch(self, epoch: EpochRecord) -> None:
        """Told of every epoch."""
        if not isnan(epoch.eval_top1):
            self._log(f"{self._name}: epoch {epoch.epoch + 1}, {epoch.eval_top1:.2f} %")


def attempt(task: Task, where: Where, log: Log) -> bool:
    """One run of a queue; whether it is finished now. What goes wrong is told, and stays a file.

    Raises:
        KeyboardInterrupt: it was asked to end.
    """
    failed = where.runs / f"{task.name}.failed"
    if standing(task, where.runs).state == "finished":
        return True
    if start(task, where.runs) is None or _teacher_is_missing(task, where.runs):
        log(f"{task.name}: left out, it needs a finished {' or '.join(waits_for(task))}")
        return False
    failed.unlink(missing_ok=True)
    try:
        ended = run(task, where, log)
    except Exception as error:  # the others need not suffer
        reason = " ".join(str(error).split()) or type(error).__name__
        log(f"{task.name}: failed: {reason}")
        text = reason if isinstance(error, IrbinError) else traceback.format_exc()
        write_file(failed, f"{text}\n".encode())
        return False
    finally:
        _forget()
    if not ended:
        raise KeyboardInterrupt
    log(f"{task.name}: finished")
    return True


def _teacher_is_missing(task: Task, runs: Path) -> bool:
    teacher = task.experiment.teacher
    return teacher is not None and place(teacher, runs) is None


def _forget() -> None:
    """What torch.compile keeps of a network, of which it keeps a few only."""
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
    gc.collect()


def one_by_one(chosen: list[Task], where: Where, log: Log) -> int:
    """Runs them in order; the exit code."""
    with Ender() as ender:
        try:
            n_left = 0
            for task in chosen:
                n_left += not attempt(task, where, log)
                ender.check()
        except KeyboardInterrupt:
            log("asked to end: what was begun is saved, the same command goes on")
            return 128 + signal.SIGINT
    log("nothing left to do" if not n_left else f"{n_left} not finished")
    return 1 if n_left else 0


def main(words: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--data-dir", default="data/cifar10")
    parser.add_argument("--val-split", default="val")
    parser.add_argument("--runs", type=Path, default=HERE.parents[1].parent / "runs")
    parser.add_argument("--status", action="store_true", help="where each stands, what is left")
    parser.add_argument("--list", action="store_true", help="all experiments")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--nice", type=int, default=19, help="19 is the lowest priority")
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")
    parser.add_argument("--lock-held", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.list:
        for e in experiments().values():
            print(f"{e.group:16} {e.name:28} seeds {', '.join(map(str, e.seeds))}  {e.label}")
        return 0
    try:
        chosen = tasks(asked.names or ["queue"])
    except ValueError as error:
        parser.error(str(error))
    if asked.status:
        print(status(chosen, asked.runs))
        return 0
    if asked.only:
        chosen = [task for task in tasks(list(experiments())) if task.name == asked.only]
    elif not asked.names:
        parser.error("expected a NAME; `queue` is all that is to be run, `--list` has the others")
    runs = asked.runs.absolute()
    where = Where(runs, asked.data_dir, asked.val_split, asked.device, asked.threads)
    runs.mkdir(parents=True, exist_ok=True)
    log = Log(runs / "queue.log")
    try:
        with locked(runs, held=asked.lock_held) as lock:
            _be_modest(asked.threads, asked.nice)
            if asked.parallel > 1:
                return side_by_side(chosen, runs, log, lock, asked.parallel, _told(asked, where))
            return one_by_one(chosen, where, log)
    except BusyError as error:
        print(error, file=sys.stderr)
        return 1


def _be_modest_as_a_group(nice: int, entry: Path = Path("/proc/self/autogroup")) -> None:
    """Linux shares processors among sessions first (sched(7), "The autogroup feature").

    A process that has a session to itself takes its whole share, whatever its own nice value is.
    """
    try:
        if nice > 0 and os.getsid(0) == os.getpid():  # else it would slow the shell it was typed in
            entry.write_text(str(nice), encoding="ascii")
    except OSError:  # another system, or a kernel without it
        return


def _told(asked: argparse.Namespace, where: Where) -> list[str]:
    """What each of several processes is told."""
    names = ("data_dir", "val_split", "runs", "device", "threads")
    options = {name: getattr(where, name) for name in names} | {"nice": asked.nice}
    return [w for name, v in options.items() for w in (f"--{name.replace('_', '-')}", str(v))]


def _be_modest(threads: int, nice: int) -> None:
    """Before torch is imported, which reads the variables then."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(threads)
    os.nice(max(0, nice - os.nice(0)))
    _be_modest_as_a_group(nice)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


if __name__ == "__main__":
    sys.exit(main())
