"""A float network that was trained, and `compress` of it, once for all tests here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import irbin
from irbin import DataOptions, SourceOptions
from irbin.compression.watcher import Watcher
from irbin.records.compression import Compression, CompressStep

SPEC = "module:irbin.demo.network:demo_net"
THREE = SourceOptions(num_classes=3)


@pytest.fixture(scope="session")
def images(pictures28: Path) -> DataOptions:
    return DataOptions(data_dir=str(pictures28), batch_size=9, workers=0)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, images: DataOptions) -> Path:
    """A float run, which is a source with weights."""
    run = tmp_path_factory.mktemp("trained") / "float"
    irbin.finetune(SPEC, run, data=images, source_options=THREE, overrides={"epochs": 1})
    return run


class Seen:
    """Remembers what a watcher is told; stops the work at a place.

    Args:
        stop: the step at whose beginning Ctrl-C comes.
        in_training: Ctrl-C comes after the first epoch.
        in_counting: the work at whose beginning it comes.
    """

    def __init__(self, stop: str = "", in_training: bool = False, in_counting: str = "") -> None:
        self.stop, self.in_training, self.in_counting = stop, in_training, in_counting
        self.steps: list[CompressStep] = []

    def on_step(self, step: CompressStep) -> None:
        self.steps.append(step)
        if step.outcome is None and step.name == self.stop:
            raise KeyboardInterrupt

    def watcher(self) -> Watcher:
        from contextlib import contextmanager

        @contextmanager
        def training() -> Any:
            def end(_: object) -> None:
                if self.in_training:
                    raise KeyboardInterrupt

            yield {"on_epoch": end}

        @contextmanager
        def counting(label: str) -> Any:
            if self.in_counting and self.in_counting in label:
                raise KeyboardInterrupt
            yield lambda *_: None

        return Watcher(on_step=self.on_step, training=training, counting=counting)


@pytest.fixture(scope="session")
def asked(images: DataOptions) -> dict[str, Any]:
    """The arguments of every `compress` here."""
    return {"data": images, "overrides": {"epochs": 2}, "shortcut": "bireal"}


@pytest.fixture(scope="session")
def whole(
    tmp_path_factory: pytest.TempPathFactory, trained: Path, asked: dict[str, Any]
) -> tuple[Path, Compression, list[CompressStep]]:
    """OUT of a call that nothing stopped, its record, and what it told."""
    out, seen = tmp_path_factory.mktemp("whole") / "out", Seen()
    record = irbin.compress(trained, out, **asked, watcher=seen.watcher())
    return out, record, seen.steps
