"""Lines of a network's own code, told from torch's and irbin's."""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

import irbin
from irbin.lines import line_of_error, line_running, own_line, where_they_part

TORCH, IRBIN = torch.nn.__file__, irbin.__file__


def test_the_innermost_line_that_is_nobody_elses() -> None:
    frames = [("/a/run.py", 1), ("/home/me/net.py", 7), (TORCH, 8), (IRBIN, 9), ("<string>", 1)]
    assert own_line(frames) == "me/net.py:7"
    assert own_line([(TORCH, 8), ("/a/notes.txt", 1)]) == own_line([]) == ""
    installed = str(Path(contextlib.__file__).parent / "site-packages" / "nets" / "net.py")
    assert own_line([(installed, 3), (contextlib.__file__, 1)]) == "nets/net.py:3"


def test_the_line_of_an_error_past_torchs_code() -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(x, torch.zeros(2, 5))  # here

    with pytest.raises(RuntimeError) as caught:
        Net()(torch.zeros(2, 3))
    frames = traceback.extract_tb(caught.value.__traceback__)
    number = next(f.lineno for f in frames if "# here" in (f.line or ""))
    assert line_of_error(caught.value) == f"tests/test_lines.py:{number}"
    assert line_of_error(ValueError("never raised")) == ""


def test_the_line_that_runs() -> None:
    number = traceback.extract_stack()[-1].lineno
    assert line_running() == f"tests/test_lines.py:{(number or 0) + 1}"


def test_the_line_where_two_runs_part() -> None:
    def answer(n: int) -> str:
        word = str(n)
        return word if n == 1 else word + "s"  # here

    number = answer.__code__.co_firstlineno + 2
    where = where_they_part(lambda: answer(1), lambda: answer(2))
    assert where == f" (tests/test_lines.py:{number})"
    assert where_they_part(lambda: answer(2), lambda: answer(3)) == ""


def test_runs_that_part_may_fail() -> None:
    def divide(n: int) -> float:
        return 1 / n

    number = divide.__code__.co_firstlineno + 1
    where = where_they_part(lambda: divide(0), lambda: divide(1))
    assert where in {"", f" (tests/test_lines.py:{number})"}
