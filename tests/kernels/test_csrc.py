"""The C++ is laid out as `.clang-format` says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for path in (ROOT / "irbin" / "kernels" / "csrc").iterdir()
    if path.suffix in {".cpp", ".h", ".inl"}
)
EXTRAS = (ROOT / "pyproject.toml").read_text("utf-8")


def _formatter() -> str | None:
    """clang-format of the version that `irbin[test]` brings: others lay out otherwise."""
    beside = Path(sys.executable).parent / "clang-format"  # an environment need not be on the PATH
    path = str(beside) if beside.exists() else shutil.which("clang-format")
    wanted = re.search(r"clang-format==([\d.]+)", EXTRAS)
    if path is None or wanted is None:
        return None
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    return path if wanted[1] in told else None


def test_the_sources_are_there() -> None:
    assert len(SOURCES) > 20
    assert "clang-format==" in EXTRAS


def test_every_feature_has_words() -> None:
    """Without them `irbin kernels` says of what needs it that it needs nothing."""
    contract = (ROOT / "irbin" / "kernels" / "csrc" / "contract.h").read_text("utf-8")
    features = re.search(r"enum Feature : uint32_t \{(.+?)\};", contract, re.DOTALL)
    named = re.search(r"kFeatureNames\[\] = \{(.+?)\n\};", contract, re.DOTALL)
    assert features is not None
    assert named is not None
    told = re.findall(r"\{(k\w+), \"[^\"]+\"\}", named[1])
    assert told == re.findall(r"(k\w+) = \d+", features[1])


def test_the_page_tells_every_implementation_in_its_order() -> None:
    listed = (ROOT / "irbin" / "kernels" / "csrc" / "implementations.cpp").read_text("utf-8")
    names = re.findall(r"^      &(\w+),$", listed, re.MULTILINE)
    page = (ROOT / "docs" / "kernels.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [*names, "reference"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_a_source_is_laid_out_as_said(source: Path) -> None:
    formatter = _formatter()
    if formatter is None:
        pytest.skip("no clang-format of the version in pyproject.toml")
    done = subprocess.run(
        [formatter, "--style=file", "--dry-run", "-Werror", str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
