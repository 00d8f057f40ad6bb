"""Runs that are killed, wherever they happen to be, end as if they never had been."""

from __future__ import annotations

import csv
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from irbin.files import current
from irbin.recipes.recipe import Recipe
from irbin.records.options import DataOptions
from irbin.records.training import StepRecord
from irbin.rewriting.network import Network
from irbin.runs.listener import Listener
from irbin.training.loop import finetune

MakeNetwork = Callable[..., Network]

FRESH = "IRBIN_FRESH_PROCESS"
in_a_fresh_process = pytest.mark.skipif(
    FRESH not in os.environ, reason="torch's autograd cannot be forked once it has threads"
)

HARD = {
    "mixup": 0.3,
    "reprob": 0.5,
    "color_jitter": 0.2,
    "opt": "adamw",
    "model_ema": True,
    "channels_last": True,
}
"""All there is to be saved, and what draws random numbers; the network has dropout besides."""


def child(work: Callable[[], object], seconds: float | None = None) -> int | None:
    """Runs `work` in a forked process. Its exit code.

    Args:
        work: to be run.
        seconds: of processor time after which it dies on the spot, by a signal that nothing
            handles; a busy machine changes nothing.
    """

    def mortal() -> None:
        if seconds is not None:
            signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-6))
        work()

    process = multiprocessing.get_context("fork").Process(target=mortal)
    process.start()
    process.join()
    return process.exitcode


def traces(out: Path) -> dict[str, object]:
    """All that a run leaves, without what a clock measured."""
    rows = list(csv.DictReader((out / "summary.csv").read_text().splitlines()))
    for row in rows:
        for timed in ("seconds", "images_per_second", "waiting"):
            del row[timed]
    files = ("last/model", "last/training", "best/model")
    found: dict[str, object] = {f: (out / f"{f}.safetensors").read_bytes() for f in files}
    return found | {"rows": rows, "diagnostics": (out / "diagnostics.csv").read_text()}


@pytest.mark.slow
@pytest.mark.skipif(FRESH in os.environ, reason="this is it")
def test_everything_below_in_a_fresh_process() -> None:
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        words,
        env={**os.environ, FRESH: "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "7 passed" in done.stdout


@in_a_fresh_process
@pytest.mark.parametrize(("cache", "seed"), [("ram", 0), ("off", 1)])
def test_a_run_killed_anywhere_ends_with_the_same_bytes(
    cache: str,
    seed: int,
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
) -> None:
    hard = replace(recipe, epochs=12, recovery_interval=1, **HARD)
    loading = replace(data, cache=cache, workers=0)
    began = time.process_time()
    finetune(make_network(), loading, hard, tmp_path / "whole")
    whole = time.process_time() - began
    out, draw, n_kills = tmp_path / "cut", random.Random(seed), 0

    def go_on() -> None:
        torch.set_num_threads(1)
        begun = current(out / "last") is not None
        network = make_network(seed=n_kills if begun else 0)
        finetune(network, loading, hard, out, resume=begun)

    # most get a few steps on, some none
    while (code := child(go_on, draw.uniform(0, whole / 5) if n_kills < 12 else None)) != 0:
        assert code == -signal.SIGPROF, "it went wrong by itself"
        n_kills += 1
        if current(out / "last") is None and out.exists():
            shutil.rmtree(out)  # killed before its first save: begun again, as its message says
    assert n_kills > 0
    assert traces(out) == traces(tmp_path / "whole")


@in_a_fresh_process
@pytest.mark.parametrize("step", [1, 4, 9])
def test_a_run_killed_after_a_step_ends_with_the_same_bytes(
    step: int, make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    """Without saves within an epoch: what was done of it is done again."""
    out = tmp_path / "cut"
    finetune(make_network(), data, recipe, tmp_path / "whole")

    def die(record: StepRecord) -> None:
        if record.epoch * record.n_steps + record.step == step:
            signal.raise_signal(signal.SIGKILL)

    listener = Listener(report=die)
    assert child(lambda: finetune(make_network(), data, recipe, out, listener=listener)) == -9
    finetune(make_network(seed=5), data, recipe, out, resume=True)
    assert traces(out) == traces(tmp_path / "whole")


@in_a_fresh_process
@pytest.mark.parametrize("step", [3, 7])
def test_a_run_killed_at_or_within_a_stage_ends_with_the_same_bytes(
    step: int, make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    """Stages end after steps 3 and 6; one is killed before its epoch is saved."""
    staged = replace(
        recipe,
        epochs=4,
        float_epochs=1,
        activation_epochs=1,
        recu=True,
        weight_decay=0.1,
        final_weight_decay=0.0,
        calibrate_images=16,
        recovery_interval=1,
        **HARD,
    )
    out = tmp_path / "cut"
    finetune(make_network(), data, staged, tmp_path / "whole")

    def die(record: StepRecord) -> None:
        if record.epoch * record.n_steps + record.step == step:
            signal.raise_signal(signal.SIGKILL)

    listener = Listener(report=die)
    assert child(lambda: finetune(make_network(), data, staged, out, listener=listener)) == -9
    finetune(make_network(seed=5), data, staged, out, resume=True)
    assert traces(out) == traces(tmp_path / "whole")
