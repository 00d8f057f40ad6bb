"""What the pages say, run: examples, the version, links."""

from __future__ import annotations

import importlib
import re
import shlex
from importlib.metadata import version
from pathlib import Path

import pytest
import timm
import torch

import irbin
from irbin.cli.app import main
from tests.conftest import write_pictures

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.slow
def test_the_python_page_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "DATA", 64, n_train=8, n_val=3)
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet18", num_classes=3).state_dict(), "model.pth")
    page = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 6
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert "BinaryConv2d" in capsys.readouterr().out


@pytest.mark.slow
def test_the_tables_on_accuracy_are_those_of_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """`docs/accuracy/tables.py` would write the page as it stands."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "accuracy")
    tables = importlib.import_module("tables")
    page = tables.PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- table: ") == page.count("<!-- end -->") >= 4
    assert tables.page(page) == page
    assert tables.page(page.replace(".", ",")) != page


@pytest.mark.slow
def test_the_page_on_checkpoints_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    state = timm.create_model("resnet18", num_classes=10).state_dict()
    torch.save(state, "model.pth")
    torch.save(
        {f"{i}.{n.rpartition('.')[2]}": t for i, (n, t) in enumerate(state.items())}, "renamed.pth"
    )
    body = {f"backbone.{n}": t for n, t in state.items() if not n.startswith("fc")}
    networks = {part: body | {"head.mlp.weight": torch.ones(2)} for part in ("student", "teacher")}
    torch.save(networks, "dino.pth")
    page = (ROOT / "docs" / "checkpoints.md").read_text()
    commands = re.findall(r"```sh\n(irbin .*)\n```", page)
    assert len(commands) == 5
    notes = {}
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, command
        notes[command] = capsys.readouterr().err
    (alone,) = notes[commands[0]].splitlines()
    assert alone.startswith("note: nobody stated how")  # no word on the weights
    (promised,) = re.findall(r"prints ``(.*) ``", page)
    assert promised.replace("…", str(tmp_path)) in notes[commands[1]]


@pytest.mark.slow
def test_the_page_on_your_own_network_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A block that begins with a file's name is written there; every other one runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    page = (ROOT / "docs" / "your-own-network.md").read_text()
    names: dict[str, object] = {}
    for language, block in re.findall(r"```(python|sh)\n(.*?)```", page, re.DOTALL):
        if language == "sh":
            for line in block.splitlines():
                assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
        elif file := re.match(r"# (\w+\.py)\n", block):
            Path(file[1]).write_text(block)
        else:
            exec(block, names)
    assert "('first', 'mix')" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_version_is_one() -> None:
    assert version("irbin") == irbin.__version__
    assert f"## [{irbin.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_readme_has_one_test_line_for_ci() -> None:
    text = (ROOT / "README.md").read_text()
    (line,) = re.findall(r"<!-- test line -->\n```sh\n(.*)\n```", text)
    assert line.endswith("-m pytest -n 2 --dist worksteal")
    assert '".[test]"' in line
