"""Pages in a browser: what a reader meets, where chromium, playwright and axe-core are installed.

`.ci/run` installs them where it can. By hand: `apt-get install chromium`,
`pip install playwright axe-playwright-python`, and `pytest -m browser tests/html`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from irbin.html.analysis import analysis_page
from irbin.html.bench import bench_page
from irbin.html.comparison import comparison_page
from irbin.html.evaluation import evaluation_page
from irbin.html.page import write_page
from irbin.html.plan import plan_page
from irbin.html.run import run_page
from irbin.planning.estimate import estimate
from tests.html.test_analysis import record as analysis
from tests.html.test_bench import record as bench
from tests.html.test_comparison import other
from tests.html.test_plan import plan

__all__ = ["analysis", "bench", "plan"]  # fixtures

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGES = ("evaluation", "names", "run", "comparison", "plan", "analysis", "bench")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or importlib.util.find_spec("playwright") is None,
        reason="chromium or playwright is not installed",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of playwright's own
]

OUTSIDE = """() => [...document.querySelectorAll("svg text")].filter((text) => {
  const own = text.getBoundingClientRect(), all = text.ownerSVGElement.getBoundingClientRect();
  return own.width && (own.left < all.left - 1 || own.right > all.right + 1
    || own.top < all.top - 1 || own.bottom > all.bottom + 1);
}).map((text) => text.textContent)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def files(
    evaluations, agreements, pixels, recorded, plan, analysis, bench, tmp_path
) -> dict[str, Path]:
    """Every page, written."""
    runs = [recorded, other(recorded, "b" * 60, seed=7)]
    pages = {
        "evaluation": evaluation_page(evaluations, agreements, pixels, "e-images.csv"),
        "names": evaluation_page(evaluations, agreements, None, "e-images.csv"),
        "run": run_page(recorded),
        "comparison": comparison_page(runs),
        "plan": plan_page("n", plan, estimate(plan), "irbin convert " + "n" * 200),
        "analysis": analysis_page(analysis, "irbin convert n"),
        "bench": bench_page(bench),
    }
    assert tuple(pages) == PAGES
    for name, page in pages.items():
        write_page(tmp_path / f"{name}.html", page)
    return {name: tmp_path / f"{name}.html" for name in pages}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_asked_for_said_cut_off_or_wider_than_the_screen(
    browser, files, width: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    for name, file in files.items():
        tab, heard = context.new_page(), []
        tab.on("console", lambda said, heard=heard: heard.append(said.text))
        tab.on("pageerror", lambda error, heard=heard: heard.append(str(error)))
        tab.on("request", lambda asked, heard=heard: heard.append(asked.url))
        tab.on("dialog", lambda dialog, heard=heard: heard.append(dialog.message))
        tab.goto(file.as_uri())
        asked = [one for one in heard if not one.startswith("data:")]
        assert asked == [file.as_uri()], name
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
        assert tab.evaluate(OUTSIDE) == [], name
        tab.close()
    context.close()


def _axe() -> str | None:
    """axe-core's source: `IRBIN_AXE` names the file, else a package that holds it is looked for."""
    named = os.environ.get("IRBIN_AXE")
    if named:
        return Path(named).read_text(encoding="utf-8")
    found = importlib.util.find_spec("axe_playwright_python")
    places = [] if found is None else list(found.submodule_search_locations or ())
    scripts = [script for place in places for script in Path(place).rglob("axe.min.js")]
    return scripts[0].read_text(encoding="utf-8") if scripts else None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, files, scheme: str) -> None:
    axe = _axe()
    if axe is None:
        pytest.skip("axe-core is not installed: `IRBIN_AXE` names its file")
    context = browser.new_context(color_scheme=scheme)
    for name, file in files.items():
        tab = context.new_page()
        tab.goto(file.as_uri())
        tab.evaluate(axe)
        answer = tab.evaluate("axe.run(document)")
        wrong = [(one["id"], one["nodes"][0]["html"]) for one in answer["violations"]]
        assert wrong == [], name
        assert len(answer["passes"]) > 10
        tab.close()
    context.close()


def test_a_head_sorts_its_table_both_ways(browser, files) -> None:
    tab = browser.new_page()
    tab.goto(files["bench"].as_uri())
    table = tab.locator("table.sortable").first
    button = table.locator("thead button").nth(4)
    cells = table.locator("tbody td:nth-child(5)")
    for direction, wanted in (("ascending", sorted), ("descending", lambda x: sorted(x)[::-1])):
        button.press("Enter")
        shown = [float(text) for text in cells.all_text_contents()]
        assert shown == list(wanted(shown))
        head = table.locator("thead th").nth(4)
        assert head.get_attribute("aria-sort") == direction
    tab.close()


def test_everything_can_be_read_without_scripts(browser, files) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(files["evaluation"].as_uri())
    assert tab.locator("thead button").count() == 0
    assert tab.locator("h2").count() == 9
    context.close()


def test_every_page_prints(browser, files, tmp_path) -> None:
    for file in files.values():
        tab = browser.new_page()
        tab.goto(file.as_uri())
        printed = tab.pdf(format="A4")
        assert printed.startswith(b"%PDF")
        assert len(printed) > 5_000
        tab.close()


def test_heads_of_tables_are_printed_on_every_page(browser, files: dict[str, Path]) -> None:
    """Chromium repeats a head that no page break divides, but leaves out what is a box in it."""
    tab = browser.new_page()
    tab.emulate_media(media="print")
    for file in files.values():
        tab.goto(file.as_uri())
        for what, name, value in (
            ("thead", "breakInside", "avoid"),
            ("th button", "display", "contents"),
            ("figcaption", "breakInside", "avoid"),
        ):
            found = f"[...document.querySelectorAll({what!r})].map(e => getComputedStyle(e).{name})"
            assert set(tab.evaluate(found)) <= {value}
    tab.close()
