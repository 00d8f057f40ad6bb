from __future__ import annotations

import base64
import hashlib
import os
import re

import pytest

from irbin.errors import UsageError
from irbin.html.blocks import Cell, Command, Folded, Link, Page, Section, Words, table
from irbin.html.page import GENERATOR, check_replaces, check_report, html, write_page
from tests.html.conftest import SCRIPT, read

PAGE = Page(
    "A <page>",
    "of `code`",
    (
        Section(
            "One",
            (
                Words("said", "good"),
                table(
                    "Of `things`",
                    ("name", "n"),
                    [("a", Cell("1 k", 1000)), ("b", Cell("–", float("nan")))],
                    numbers=("n",),
                ),
                Folded("more", (Command(f"irbin x '{SCRIPT}'"), Link("a b%.csv", "a b%.csv"))),
            ),
        ),
    ),
    ("made `here`",),
)


def test_the_policy_allows_our_script_alone() -> None:
    text = html(PAGE)
    reader = read(text)
    (policy,) = (one["content"] for one in reader.all("meta") if "http-equiv" in one)
    (script,) = reader.words("script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert len(script.encode()) <= 2048


def test_a_table_says_what_it_is_sorted_by() -> None:
    cells = read(html(PAGE)).all("td")
    assert [one["data-v"] for one in cells] == ["1000", "-1e999"]
    assert float("-1e999") == float("-inf")


def test_rows_and_columns_have_heads() -> None:
    heads = read(html(PAGE)).all("th")
    assert [one["scope"] for one in heads] == ["col", "col", "row", "row"]


def test_links_are_addresses_beside_the_page() -> None:
    links = [one["href"] for one in read(html(PAGE)).all("a")]
    assert links[-1] == "a%20b%25.csv"


def test_a_page_is_written_whole_and_may_be_replaced(tmp_path) -> None:
    path = tmp_path / "r.html"
    for _ in range(2):
        check_report(path, "--report")
        write_page(path, PAGE)
    assert path.read_text("utf-8") == html(PAGE)
    assert GENERATOR in path.read_bytes()[:2048]
    assert os.listdir(tmp_path) == ["r.html"]


def refused(path, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        check_report(path, "--report")


def test_a_page_that_cannot_be_written_is_refused_before(tmp_path) -> None:
    (tmp_path / "mine.html").write_text("my notes")
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").touch()
    refused(
        tmp_path / "r.txt", f"`--report`: expected a file ending in .html, got `{tmp_path}/r.txt`"
    )
    refused(
        tmp_path / "folder.html",
        f"`--report`: expected a file, got the folder {tmp_path}/folder.html",
    )
    refused(
        tmp_path / "no" / "r.html",
        f"`--report`: the folder of {tmp_path}/no/r.html does not exist; make it first",
    )
    refused(
        tmp_path / "file" / "r.html",
        f"`{tmp_path}/file/r.html` cannot be made: `{tmp_path}/file` is no folder; choose another "
        "place",
    )
    refused(
        tmp_path / "mine.html",
        f"`--report`: {tmp_path}/mine.html exists and is no report of irbin's, so it stays; choose "
        "another file",
    )
    assert (tmp_path / "mine.html").read_text() == "my notes"


def test_a_dangling_link_is_not_followed(tmp_path) -> None:
    (tmp_path / "r.html").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is no report"):
        check_replaces(tmp_path / "r.html", GENERATOR, "--report", "report")


def test_names_in_commands_are_escaped() -> None:
    text = html(PAGE)
    assert SCRIPT not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_halves_of_characters_do_not_stop_a_page(tmp_path) -> None:
    page = Page("\udcff\x00", "", (Section("\ud800", (Words("`\udcff`"),)),))
    write_page(tmp_path / "r.html", page)
    assert "\N{REPLACEMENT CHARACTER}" in (tmp_path / "r.html").read_text("utf-8")
