from __future__ import annotations

import re
import warnings
from xml.etree import ElementTree

import pytest

from irbin.html.svg import DASHES, SERIES, drawn, label, numbered


def line(name: str):
    def draw(axes) -> None:
        axes.plot([0, 1], [0, 1], "o-", color=SERIES[1])
        axes.set_title(label(name))

    return draw


def test_a_drawing_repeats_to_the_byte() -> None:
    assert drawn(line("a"), (200, 100)) == drawn(line("a"), (200, 100))


def test_nothing_of_matplotlibs_own_is_left() -> None:
    svg, width = drawn(line("a"), (200, 100))
    assert width == 260
    assert svg.startswith("<svg ")
    for word in ("http", "xmlns", "metadata", "<style", "<?xml", "DejaVu"):
        assert word not in svg
    assert "<text" in svg  # words, no outlines


def test_colors_are_the_pages() -> None:
    svg, _ = drawn(line("a"), (200, 100))
    assert "var(--s1)" in svg
    assert "currentColor" in svg
    assert set(re.findall("#[0-9a-f]{6}", svg)) <= {"#000000", "#ffffff"}


def test_two_drawings_that_look_alike_share_no_name() -> None:
    svg, _ = drawn(line("a"), (200, 100))
    first, second = (numbered(svg, i) for i in (1, 2))
    names = [set(re.findall(r'id="([^"]+)"', one)) for one in (first, second)]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', first))
    assert used == names[0] != set()
    assert not names[0] & names[1]
    assert all(re.fullmatch(r"d\d-\w+", name) for name in names[0] | names[1])


@pytest.mark.parametrize("name", ["<script>", "$x$ $", "a & b", "\x00\ud800", "貓", "_hidden", ""])
def test_any_name_can_be_drawn(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg, _ = drawn(line(name), (200, 100))
    words = "".join(ElementTree.fromstring(svg).itertext())
    assert label(name) in words


@pytest.mark.parametrize("length", [0, 1, 27, 28, 29, 200])
def test_labels_are_bounded_and_keep_both_ends(length: int) -> None:
    text = "".join(chr(ord("a") + i % 26) for i in range(length))
    short = label(text)
    assert len(short) == min(length, 28)
    assert (short == text) == (length <= 28)
    if length > 28:
        assert text.startswith(short.partition("…")[0])
        assert text.endswith(short.partition("…")[2])


def test_there_are_dashes_for_every_line() -> None:
    assert len(set(DASHES)) == len(DASHES)
