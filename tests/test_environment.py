from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import irbin
from irbin.environment import NEEDED, VARIABLES, environment
from irbin.kernels import native

ROOT = Path(irbin.__file__).parent


def test_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    value = environment()
    assert value["irbin"] == irbin.__version__
    assert value["kernels"] == native.in_words()
    assert value["OMP_NUM_THREADS"] == "3"
    assert all(value[package] != "missing" for package in NEEDED)


def test_nobody_is_named() -> None:
    shown = str(environment())
    for private in (str(Path.home()), os.getcwd(), os.uname().nodename, str(ROOT)):
        assert len(private) < 4 or private not in shown


def test_every_variable_that_irbin_reads_is_on_its_page() -> None:
    page = Path(__file__).parents[1] / "docs" / "environment.md"
    read = {
        name
        for path in ROOT.rglob("*.py")
        if "emit" not in path.parts
        for name in re.findall(r"\"(IRBIN_[A-Z_]+)\"", path.read_text("utf-8"))
    }
    assert {"IRBIN_KERNELS", "IRBIN_TRACEBACK", "IRBIN_LOG_LEVEL"} <= read
    named = set(re.findall(r"`([A-Z_]+)`", page.read_text("utf-8")))
    assert read <= named
    assert set(VARIABLES) <= named | {"MKL_NUM_THREADS"}
