"""Messages speak Python; the command line says them as they are typed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import irbin
from irbin.cli.app import main
from irbin.cli.spelling import as_typed, flags

ROOT = Path(irbin.__file__).parent
OF_THE_COMMAND_LINE = {"cli", "report", "html"}
"""Rooms that print commands to type."""
PIP = {"--no-cache-dir", "--force-reinstall", "--no-deps"}
NO_FLAGS = PIP | {"--porcelain", "--gpus-per-task", "--nproc-per-node", "--help"}
"""Of other programs, or of all of them."""
OF_LIBRARIES = {"weights_only", "training", "inplace"}
"""Arguments of torch that comments and messages on it name."""


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("give `data_dir=`", "give `--data-dir`"),
        ("`bits='1w32a'` or `lr=0.1`", "`--bits 1w32a` or `--lr 0.1`"),
        ("`keep=['conv1', 'a.b']`", "`--keep 'conv1' --keep 'a.b'`"),
        ("`pretrained=False`, `overwrite=True`", "`--no-pretrained`, `--overwrite`"),
        ("`input_size=(3, 32, 32)`", "`--input-size 3 32 32`"),
        ("`mean=0, std=1/255`", "`--mean 0 --std 1/255`"),
        ("`model='NAME'`", "`--model NAME`"),
        ("`dataset='a b'`", "`--dataset 'a b'`"),
        ("`out=`", "`--output`"),
        ("`irbin.convert(reparameterize=True)`", "`irbin convert --reparameterize`"),
        ("`irbin.convert()` with", "`irbin convert` with"),
        ("`irbin.evaluate()`", "`irbin eval`"),
        ("`std`: expected a number above 0", "`--std`: expected a number above 0"),
        ("irbin: `std`: expected a number above 0", "irbin: `--std`: expected a number above 0"),
        ("irbin: `lr`: Input should be", "irbin: `--lr`: Input should be"),
        ("irbin: `scale`: its gradient", "irbin: `scale`: its gradient"),
        ("note: `a`: expected `std`", "note: `a`: expected `std`"),
        (
            "`class_map`: expected a; `std`: expected 1",
            "`--class-map`: expected a; `std`: expected 1",
        ),
        ("`odd`: expected 1, got 2", "`odd`: expected 1, got 2"),
        ("`std` is 0: expected 1", "`std` is 0: expected 1"),
        # what is no option of a command stays as it is
        ("`bias=True` of `a`", "`bias=True` of `a`"),
        ("`overwrite=False`", "`overwrite=False`"),
        ("`lr=0.1` in `x = f(lr=0.1)`", "`--lr 0.1` in `x = f(lr=0.1)`"),
        ("`lr=`, `x==1`, `lr=(`, `irbin.load(3)`", "`--lr`, `x==1`, `lr=(`, `irbin.load(3)`"),
        ("`odd`lr=0.1`", "`odd`--lr 0.1`"),
        ("nothing, `--lr`", "nothing, `--lr`"),
    ],
)
def test_options_are_said_as_they_are_typed(text: str, typed: str) -> None:
    assert as_typed(text) == typed


def _strings() -> list[tuple[str, str]]:
    """The string constants outside the rooms of the command line, and where they stand."""
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno}", node.value)
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[0] not in OF_THE_COMMAND_LINE
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


@pytest.mark.slow
def test_flags_are_spelled_on_the_command_line_alone() -> None:
    found = [
        (where, flag)
        for where, text in _strings()
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)
        if flag not in NO_FLAGS
    ]
    assert found == []


@pytest.mark.slow
def test_every_option_that_a_message_names_is_a_flag() -> None:
    named = {
        (where, name)
        for where, text in _strings()
        for name in re.findall(r"`([a-z]\w*)=(?:['\"\[\d(`TF]|$)", text)
        if name not in OF_LIBRARIES
    }
    assert len(named) > 40
    assert {(where, name) for where, name in named if name not in flags()} == set()


def test_python_and_the_command_line_each_speak_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(irbin.IrbinError, match=r"^`calibrate` needs images: give `data_dir=`$"):
        irbin.convert("resnet18", calibrate=8)
    assert main(["convert", "no-such-file.pt", "-o", "out", "--calibrate"]) != 0
    assert "=`" not in capsys.readouterr().err
