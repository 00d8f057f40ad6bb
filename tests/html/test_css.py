"""Text on colored cells can be read, over the whole scale, in both themes and on paper."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

CSS = (files("irbin.html") / "page.css").read_text("utf-8")
LIGHT, DARK = (dict(re.findall(r"--(\w+):([^;}]+)", block)) for block in CSS.splitlines()[:2])
READABLE = 4.5
"""WCAG 2, level AA, text of ordinary size."""


def rgb(color: str) -> tuple[float, ...]:
    """`#fff`, `#1c1f23` or `168 35 28` → parts of 1."""
    if not color.startswith("#"):
        return tuple(int(part) / 255 for part in color.split())
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    return tuple(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))


def luminance(color: tuple[float, ...]) -> float:
    """https://www.w3.org/TR/WCAG21/#dfn-relative-luminance"""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def strongest() -> float:
    """How much of a cell's color is seen where `--p` is 1."""
    strengths = set(
        re.findall(r"\.heat[^{]*\{background:rgb\(var\(--\w+\)/calc\(var\(--p\)\*([\d.]+)\)", CSS)
    )
    assert len(strengths) == 1, strengths
    return float(strengths.pop())


def test_contrast_knows_the_ends_of_its_scale() -> None:
    assert contrast(rgb("#fff"), rgb("0 0 0")) == pytest.approx(21)
    assert contrast(rgb("#777"), rgb("#fff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("color", ["hot", "cool"])
@pytest.mark.parametrize("behind", ["bg", "panel"])
def test_heat_can_be_read_over_the_whole_scale(
    theme: dict[str, str], color: str, behind: str
) -> None:
    ink, heat, page = rgb(theme["ink"]), rgb(theme[color]), rgb(theme[behind])
    ratios = {}
    for step in range(101):
        share = step / 100 * strongest()
        cell = tuple(share * a + (1 - share) * b for a, b in zip(heat, page, strict=True))
        ratios[step] = contrast(ink, cell)
    assert min(ratios.values()) >= READABLE, min(ratios.items(), key=lambda item: item[1])


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "muted", "accent", "good", "bad", "note"])
@pytest.mark.parametrize("behind", ["bg", "panel"])
def test_words_in_every_color_can_be_read(theme: dict[str, str], name: str, behind: str) -> None:
    assert contrast(rgb(theme[name]), rgb(theme[behind])) >= READABLE
