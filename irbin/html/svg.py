"""Drawings by matplotlib as SVG inside of a page, whose colors are those of the page.

matplotlib knows no CSS: it draws in colors that stand for the page's, which are put in afterwards.
What it writes of itself (date, addresses, a style sheet) goes, and names are kept apart, so that
several drawings may stand in a page. The same drawing gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from irbin.html.words import printable

INK, MUTED, LINE, GROUND = "#010101", "#010102", "#010103", "#010104"
N_COLORS = 8
SERIES = tuple(f"#0102{i:02x}" for i in range(N_COLORS))
"""Lines and bars, the first for the network that a page is about."""
DASHES = ("-", "--", "-.", ":")
"""What tells lines apart where colors do not."""

_COLORS = {INK: "currentColor", MUTED: "var(--muted)", LINE: "var(--line)", GROUND: "var(--bg)"}
_COLORS |= {color: f"var(--s{i})" for i, color in enumerate(SERIES)}
_OWN = "\N{OBJECT REPLACEMENT CHARACTER}"
"""What names begin with until a page numbers its drawings."""
_SHOWN = 1.3
"""CSS pixels for each unit of a drawing, at most."""
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "irbin",
    "text.parse_math": False,  # a class may be called `$x$`
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "axes.formatter.useoffset": False,
}


def drawn(draw: Callable[[Any], None], size: tuple[float, float]) -> tuple[str, float]:
    """An `<svg>` element and how wide it is shown at most, CSS pixels.

    Args:
        draw: called with an axes of matplotlib's; words that it is given are made `label`s before.
        size: (width, height), points.
    """
    import matplotlib
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that its font lacks, and the browser's has
        figure: Any = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
        draw(figure.add_subplot())
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return _inlined(out.getvalue()), size[0] * _SHOWN


def label(text: str, longest: int = 28) -> str:
    """A name that a drawing has room for: without its middle where it is long."""
    text = " ".join(printable(text).split())
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[head + 1 - longest :]}"


def _inlined(content: bytes) -> str:
    root = ElementTree.fromstring(content)
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', content.decode()))
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {
            _local(name): _value(_local(name), value)
            for name, value in element.items()
            if name != "id" or value in used
        }
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("aria-hidden", "true")
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def numbered(svg: str, number: int) -> str:
    """A drawing whose names are its own in a page; two that look alike have the same before."""
    return svg.replace(_OWN, f"d{number}-")


def _value(name: str, value: str) -> str:
    if name == "id":
        return f"{_OWN}{value}"
    if name == "href" and value.startswith("#"):
        return f"#{_OWN}{value[1:]}"
    value = value.replace("url(#", f"url(#{_OWN}")
    if name == "style":
        value = re.sub(r"font: (?:[a-z]+ )*([\d.]+px)[^;]*", r"font-size: \1", value)
        value = re.sub(r"font-family: [^;]*;? ?", "", value)  # the page's own
    return re.sub("#[0-9a-f]{6}", lambda color: _COLORS.get(color[0], color[0]), value)
