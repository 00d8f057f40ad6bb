"""`docs/site`: links that leave a page, and the site built from all pages, strictly."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import irbin

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs" / "site"
REPOSITORY = "https://example.org/irbin/"

has_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None,
    reason="without MkDocs and its theme: `pip install '.[docs]'`",
)


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", SITE / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@has_mkdocs
@pytest.mark.parametrize(
    ("link", "here", "leads"),
    [
        ("docs/zoo.md", "README.md", "zoo.md"),
        ("docs/images/a.png", "README.md", "images/a.png"),
        ("zoo.md", "docs/export.md", "zoo.md"),
        ("../README.md", "docs/export.md", "index.md"),
        ("../CHANGELOG.md", "docs/export.md", "changelog.md"),
        ("../irbin/zoo/README.md", "docs/zoo.md", REPOSITORY + "blob/main/irbin/zoo/README.md"),
        ("docs/coverage.csv", "README.md", REPOSITORY + "blob/main/docs/coverage.csv"),
        ("nowhere.md", "docs/zoo.md", "nowhere.md"),
    ],
)
def test_a_link_leads_to_its_page_or_into_the_repository(
    pages: ModuleType, link: str, here: str, leads: str
) -> None:
    known = {"index.md", "changelog.md", "zoo.md", "images/a.png"}
    assert pages.target(link, here, known, REPOSITORY) == leads


@has_mkdocs
@pytest.mark.slow
def test_the_site_is_built_from_all_pages_without_a_complaint(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    done = subprocess.run(
        [*command, "-f", str(SITE / "mkdocs.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = {page.parent.name for page in tmp_path.glob("*/index.html")}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= made
    assert "1-bit" in (tmp_path / "index.html").read_text("utf-8")
    names = (tmp_path / "api" / "index.html").read_text("utf-8")
    missing = [name for name in irbin.__all__ if f".{name}" not in names and name[0] != "_"]
    assert not missing
    needed = [
        address
        for page in tmp_path.rglob("*.html")
        for address in re.findall(
            r'<(?:script|link|img)[^>]* (?:src|href)="([^"#?]+)', page.read_text("utf-8")
        )
        if not _is_there(address, page.parent, tmp_path)
    ]
    assert not needed
    asks_for_stars = 'data-md-component="source"'  # at api.github.com, by the theme's script
    assert not any(asks_for_stars in page.read_text("utf-8") for page in tmp_path.rglob("*.html"))
    shutil.rmtree(tmp_path)


def _is_there(address: str, folder: Path, site: Path) -> bool:
    """Whether what a page loads lies on the site itself."""
    if address.startswith("https://OWNER.github.io/irbin"):
        return True  # its own, canonical address
    if address.startswith("/irbin/"):
        return (site / address.removeprefix("/irbin/")).exists()
    return (folder / address).exists()
