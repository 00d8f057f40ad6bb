"""Two gloo processes on this CPU, started by torchrun as a user starts them.

Where only what they compute matters, they are forked off a process that has imported torch, in the
environment that torchrun or Slurm makes.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.started import HUNG_S, Started

NETWORK = '''
"""A network with batch norm, and nothing that draws random numbers of its own."""

import os

import torch
from torch import nn

if os.environ.get("RANK") == os.environ.get("CANNOT_COMPILE", "none"):

    def compile_(module, mode=None):
        def fail(x):
            raise RuntimeError("no kernels here")

        return fail

    torch.compile = compile_


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.act = nn.Hardtanh()
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        x = self.act(self.bn1(self.stem(x)))
        return self.fc((self.bn2(self.conv(x)) + x).mean((2, 3)))


def net(num_classes=3, in_chans=3):
    return Net(num_classes)
'''


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    """A folder with a converted network; commands run there."""
    root = tmp_path_factory.mktemp("processes")
    (root / "tinynet.py").write_text(NETWORK)
    words = ["module:tinynet:net", "--num-classes", "3", "--input-size", "3", "8", "8"]
    printed(["convert", *words, "-o", "converted"], root)
    return root


@pytest.fixture(scope="session")
def two(place: Path, image_folder: Path) -> Path:
    """A run of two processes; not to be changed."""
    text = printed(finetune(image_folder, "two", 4, "--sync-bn"), place, by_torchrun)
    assert text.count("run folder") == 1  # one of them reports
    return place / "two"


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def command(words: list[str], root: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", *words]
    return subprocess.run(
        words,
        cwd=root,
        env=environment(root),
        capture_output=True,
        text=True,
        check=False,
        timeout=HUNG_S,
    )


def printed(
    words: list[str], root: Path, by: Callable[[int, str], dict[str, str]] | None = None
) -> str:
    """What `irbin WORDS` prints, in one process or in two that were started so."""
    port = str(free_port())
    each = [{}] if by is None else [by(rank, port) for rank in range(2)]
    started = [Started(words, root, variables) for variables in each]
    ended = [process.wait() for process in started]
    assert not any(one.returncode for one in ended), ended
    return "".join(one.stdout for one in ended)


def by_torchrun(rank: int, port: str) -> dict[str, str]:
    """The variables that torchrun gives the processes it starts."""
    ranks = {name: str(rank) for name in ("RANK", "LOCAL_RANK")}
    sizes = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "2")
    return {**ranks, **sizes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def by_srun(rank: int, port: str) -> dict[str, str]:
    """Those of the tasks of a Slurm step, and where they meet."""
    ranks = {name: str(rank) for name in ("SLURM_PROCID", "SLURM_LOCALID")}
    sizes = dict.fromkeys(("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"), "2")
    return {**ranks, **sizes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def torchrun(n_processes: int) -> list[str]:
    words = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(n_processes)]
    return [*words, "-m", "irbin"]


def finetune(data: Path, out: str, batch_size: int, *more: str, epochs: int = 2) -> list[str]:
    return [
        "finetune",
        "converted",
        "--data-dir",
        str(data),
        "-o",
        out,
        "--epochs",
        str(epochs),
        "-b",
        str(batch_size),
        "-j",
        "0",
        "--device",
        "cpu",
        "--amp",
        "off",
        "--no-distill",
        "--opt",
        "momentum",
        "--lr",
        "0.05",
        *more,
    ]


def losses(run: Path) -> list[tuple[float, float, float]]:
    rows = csv.DictReader((run / "summary.csv").read_text().splitlines())
    return [
        (float(row["train_loss"]), float(row["eval_loss"]), float(row["eval_top1"])) for row in rows
    ]


@pytest.mark.slow
def test_the_same_images_a_step_give_the_same_curve(
    place: Path, two: Path, image_folder: Path
) -> None:
    """One process with batches of 8, and two with 4 each."""
    printed(finetune(image_folder, "one", 8), place)
    for left, right in zip(losses(place / "one"), losses(two), strict=True):
        assert left == pytest.approx(right, abs=2e-4)
    left, right = (load_file(place / run / "last/model.safetensors") for run in ("one", "two"))
    for name in left:
        torch.testing.assert_close(left[name].float(), right[name].float(), rtol=0, atol=2e-3)
    assert "processes: 2" in (two / "args.yaml").read_text()


@pytest.mark.slow
def test_every_validation_image_is_seen_once(place: Path, image_folder: Path) -> None:
    """15 images over 2 processes: one has 8, the other 7."""
    words = ["eval", "converted", "--data-dir", str(image_folder), "-b", "4", "-j", "0"]
    words += ["--device", "cpu"]
    printed([*words, "--json", "alone.json"], place)
    printed([*words, "--json", "two.json"], place, by_torchrun)
    left, right = (json.loads((place / f"{name}.json").read_text()) for name in ("alone", "two"))
    assert left["n_images"] == right["n_images"] == 15
    for key in ("top1", "top5", "per_class"):
        assert left[key] == right[key]
    assert left["loss"] == pytest.approx(right["loss"], rel=1e-6)


@pytest.mark.slow
def test_several_networks_in_one_command(place: Path, image_folder: Path) -> None:
    """A trained and a packed one, by torchrun and as srun would: one group, one printer."""
    printed(["export", "converted", "-o", "packed"], place)
    words = ["eval", "converted", "packed", "--data-dir", str(image_folder), "-j", "0"]
    words += ["--device", "cpu"]
    alone = printed(words, place)
    together = command([*torchrun(2), *words], place)
    assert together.returncode == 0, together.stderr
    for text in (together.stdout, printed(words, place, by_srun)):
        assert text.count("packed against") == alone.count("packed against")
        assert len(text.splitlines()) == len(alone.splitlines())


def free_port() -> int:
    """One that no other process is given by its system: those begin at 32768, or at 49152."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(
    place: Path, two: Path, image_folder: Path
) -> None:
    shutil.copytree(two, place / "grown", symlinks=True)
    state = json.loads((place / "grown/last/training.json").read_text())
    # as if it had ended after its first epoch
    kept = place / "grown/recent/epoch-1"
    assert state["progress"]["epoch"] == 2
    (place / "grown/last").rename(place / "grown/second")
    kept.rename(place / "grown/last")
    printed(finetune(image_folder, "grown", 8, "--sync-bn", "--resume"), place)
    assert json.loads((place / "grown/last/training.json").read_text())["progress"]["epoch"] == 2
    left, right = (
        load_file(place / "grown" / run / "model.safetensors") for run in ("second", "last")
    )
    for name in left:
        torch.testing.assert_close(left[name].float(), right[name].float(), rtol=0, atol=2e-3)
    other = command([*torchrun(2), *finetune(image_folder, "grown", 8, "--resume")], place)
    assert other.returncode != 0
    assert other.stderr.count("irbin: expected the options grown began with") == 1


@pytest.mark.slow
def test_killing_one_process_ends_all_with_one_message(place: Path, image_folder: Path) -> None:
    words = [
        sys.executable,
        "-m",
        *torchrun(2),
        *finetune(image_folder, "killed", 4, "--no-compile", epochs=100_000),
    ]
    with (place / "killed.log").open("w") as log:
        run = subprocess.Popen(words, cwd=place, env=environment(place), stderr=log, stdout=log)
        try:
            until(lambda: (place / "killed/recent").is_dir() or run.poll() is not None)
            os.kill(worker(run.pid, rank=1), signal.SIGKILL)
            assert run.wait(timeout=HUNG_S) != 0
        finally:
            run.kill()
    text = (place / "killed.log").read_text()
    assert text.count("irbin: expected all processes of the run to stay, but one ended") == 1
    assert (place / "killed/last/training.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("n_processes", [1, 2])
def test_sigterm_to_all_processes_loses_nothing(
    n_processes: int, place: Path, image_folder: Path
) -> None:
    """As `timeout` sends it: to torchrun, which passes it on, or to the whole group."""
    out = f"stopped{n_processes}"
    with endless(out, n_processes, place, image_folder) as run:
        os.killpg(run.pid, signal.SIGTERM)
        run.wait(timeout=HUNG_S)
    check_stopped(place, out)


@pytest.mark.slow
@pytest.mark.parametrize("n_processes", [1, 2])
def test_nor_do_many_at_any_moment(n_processes: int, place: Path, image_folder: Path) -> None:
    """As `scancel` sends it: to each, workers included, and torchrun passes it on.

    Workers get it before as well, and the run does not notice.
    """
    out = f"hail{n_processes}"
    with endless(out, n_processes, place, image_folder) as run:
        ranks = [run.pid]
        if n_processes > 1:
            ranks = [worker(run.pid, rank) for rank in range(n_processes)]
        recent = place / out / "recent"
        names = set(os.listdir(recent))

        def worker_gets_it() -> bool:
            for rank in ranks:
                for child in children(rank):
                    send(os.kill, child)
            return run.poll() is not None or len(set(os.listdir(recent)) - names) >= 3

        until(worker_gets_it, pause=0.001)
        assert run.poll() is None
        os.kill(run.pid, signal.SIGTERM)  # torchrun gets it once: a second one ends its waiting

        def all_get_it() -> bool:
            for rank in ranks:
                send(os.killpg, rank)
            return run.poll() is not None

        until(all_get_it, pause=0.001)
    check_stopped(place, out)


@pytest.mark.slow
def test_where_one_cannot_compile_all_train_without(
    place: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With batch norm over both, whose exchanges in the warm-up nobody would answer."""
    monkeypatch.setenv("CANNOT_COMPILE", "1")
    with endless("uncompiled", 2, place, image_folder, "--sync-bn", compiles=True) as run:
        os.killpg(run.pid, signal.SIGTERM)
        run.wait(timeout=HUNG_S)
    check_stopped(place, "uncompiled")
    text = (place / "uncompiled.log").read_text()
    assert "not compiled (torch.compile failed)" in text


@contextmanager
def endless(
    out: str,
    n_processes: int,
    place: Path,
    image_folder: Path,
    *more: str,
    compiles: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has kept its first epoch, whose processes read images in others."""
    words = ["-j", "1", "--cache", "off", *([] if compiles else ["--no-compile"]), *more]
    words = finetune(image_folder, out, 4, *words, epochs=100_000)
    words = [*(torchrun(2) if n_processes == 2 else ["irbin"]), *words]
    with (place / f"{out}.log").open("w") as log:
        run = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=place,
            env=environment(place),
            stderr=log,
            stdout=log,
            start_new_session=True,
        )
        try:
            until(lambda: (place / out / "recent").is_dir() or run.poll() is not None)
            yield run
        finally:
            run.kill()


def check_stopped(place: Path, out: str) -> None:
    text = (place / f"{out}.log").read_text()
    assert text.count(f"{out}/last holds where. Go on with:") == 1, text
    for word in ("DataLoader worker", "irbin: ", "Error"):
        assert word not in text


def send(to: Callable[[int, int], None], process: int) -> None:
    """SIGTERM, to a process that may have ended."""
    with suppress(ProcessLookupError):
        to(process, signal.SIGTERM)


def children(parent: int) -> list[int]:
    """Process ids of those that a process has begun; none of one that has ended."""
    try:
        return list(map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()))
    except (FileNotFoundError, ProcessLookupError):
        return []


def until(done: Callable[[], bool], seconds: float = HUNG_S, pause: float = 0.1) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(pause)


def worker(parent: int, rank: int) -> int:
    """Process id of a child with that rank."""
    for child in children(parent):
        if f"\0RANK={rank}\0" in "\0" + Path(f"/proc/{child}/environ").read_text():
            return child
    raise AssertionError(f"no child of rank {rank} among {children(parent)}")
