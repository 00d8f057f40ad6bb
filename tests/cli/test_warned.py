from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.nn.functional as F
from torch import nn, ones

from irbin.cli.warned import own_warnings_as_notes


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], None]:
    """Runs code as that of a file of one's own."""

    def go(code: str) -> None:
        path = tmp_path / "net.py"
        names: dict[str, Any] = {"warnings": warnings, "F": F, "nn": nn, "ones": ones}
        exec(compile(code, path, "exec"), names)

    return go


@pytest.fixture(autouse=True)
def _as_python_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])


def shown(capsys: pytest.CaptureFixture[str], act: Callable[[], None]) -> list[str]:
    with warnings.catch_warnings(), own_warnings_as_notes():
        warnings.simplefilter("always")
        act()
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_words_of_the_networks_own_are_a_note_once(own, capsys) -> None:
    code = "x = 1\nfor _ in range(3): warnings.warn('old style\\n  of input')"
    lines = shown(capsys, lambda: own(code))
    assert [line.split("/")[-1] for line in lines] == ["net.py:2 warns: old style of input"]
    assert lines[0].startswith("note: ")


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("F.softmax(ones(2, 3))", "Implicit dimension"),
        (
            "nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, norm_first=True), 1)",
            "enable_nested_tensor",
        ),
        ("ones(2, dtype=__import__('torch').complex64).float()", "discards the imaginary"),
    ],
    ids=["names the line that called", "made", "from C++"],
)
def test_a_librarys_words_are_not_shown(code: str, match: str, own, capsys) -> None:
    with pytest.warns(UserWarning, match=match):
        own(code)
    capsys.readouterr()
    assert shown(capsys, lambda: own(code)) == []


def test_who_asked_python_for_warnings_gets_them(own, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with pytest.warns(UserWarning, match="old style"), own_warnings_as_notes():
        own("warnings.warn('old style')")


@pytest.mark.parametrize("before", [None, ""])
def test_a_process_that_is_started_shows_none(before, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONWARNINGS", before)
    command = [sys.executable, "-c", "import warnings; warnings.warn('of a worker')"]
    with own_warnings_as_notes():
        within = subprocess.run(command, capture_output=True, text=True, check=True)
    after = subprocess.run(command, capture_output=True, text=True, check=True)
    assert within.stderr == ""
    assert "of a worker" in after.stderr
    assert os.environ.get("PYTHONWARNINGS") == before


def test_a_command_shows_no_page_of_torch(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "warning_net.py").write_text(
        "import warnings\n"
        "from torch import autocast, nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3)\n"
        "        self.head = nn.Linear(32, 4)\n"
        "    def forward(self, x):\n"
        "        warnings.warn('not my best work')\n"
        "        with autocast('cuda'):\n"
        "            return self.head(self.b(self.a(x)).mean((2, 3)))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = run("inspect", "module:warning_net:Net", "--input-size", "3", "8", "8")
    assert done.code == 0, done.err
    assert "".join(done.err.splitlines()).count("warns: ") == 1
    assert done.err.splitlines()[-1].endswith("warning_net.py:9 warns: not my best work")
    assert "CUDA" not in done.err
