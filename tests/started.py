"""The command line in processes of its own, forked off one that has imported what it imports.

A new interpreter takes five seconds of a processor to import torch and timm. Where a test needs a
process, and not how its interpreter begins, it takes one of these.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

HUNG_S = 900
"""After which a process hangs, however busy the machine is; no test waits for it otherwise."""

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["irbin.cli.app", "irbin.verbs", "timm", "torchvision", "torch.distributed", "torch.export"]
)
_NUMBERS = count()


@dataclass(frozen=True)
class Ended:
    """What a process left."""

    returncode: int
    stdout: str
    stderr: str


class Started:
    """`irbin WORDS` in a process of its own."""

    def __init__(self, words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        """Starts it.

        Args:
            words: after `irbin`.
            folder: where it runs; its modules can be imported.
            environment: variables beside this process's own.
        """
        number = next(_NUMBERS)
        self._files = [folder / f".{os.getpid()}-{number}.{name}" for name in ("out", "err")]
        given = (list(words), folder, {**os.environ, **environment}, self._files)
        self._process = _SERVER.Process(target=_irbin, args=given)
        self._process.start()

    def wait(self) -> Ended:
        """What it left, when it has ended."""
        self._process.join(HUNG_S)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"{self._files[1].read_text()}\nis all it said in {HUNG_S} s")
        return Ended(self._process.exitcode, *(file.read_text() for file in self._files))


def _irbin(words: list[str], folder: Path, environment: dict[str, str], files: list[Path]) -> None:
    for descriptor, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = ["irbin", *words]
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    sys.exit(importlib.import_module("irbin.cli.app").main())
