"""What the pages say, run: examples, the version, links."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import timm
import torch

import irbin
from tests.conftest import write_pictures

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


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
    assert line.endswith("-m pytest")
    assert '".[test]"' in line
