"""A page as one HTML file that holds all it shows: no address, no request, 2 kB of script at most.

Whatever is printed is escaped by Jinja. A content security policy forbids what a mistake there
would let through: scripts but our own, which is named by its digest, and whatever lies elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
from functools import cache
from pathlib import Path
from typing import Any

from irbin.errors import UsageError
from irbin.files import check_place, write_file
from irbin.html.blocks import Page
from irbin.html.svg import numbered
from irbin.html.words import printable, together, with_code
from irbin.version import __version__

FORMATS = (".html", ".htm")
GENERATOR = b'<meta name="generator" content="irbin">'
"""What every page of ours has among its first bytes."""
_HEAD_BYTES = 2048
_HERE = Path(__file__).parent


def html(page: Page) -> str:
    """The page as text; the same page gives the same text."""
    script = _read("sort.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    text: str = (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            number=itertools.count(1).__next__,
            policy=policy,
            style=_read("page.css"),
            script=script,
            version=__version__,
        )
    )
    return text.lstrip()


def write_page(path: Path, page: Page) -> None:
    """Writes a page whole or not at all."""
    write_file(path, html(page).encode())


def check_report(path: Path, flag: str) -> None:
    """Refuses a page that could not be written, before any long work.

    Args:
        path: where it is to be.
        flag: the option that said so.

    Raises:
        UsageError: it is a folder, has another ending, stands in a folder that does not exist or
            takes no files, or another file than a page of ours stands there; or matplotlib, which
            draws, is missing.
    """
    if path.is_dir():
        raise UsageError(f"`{flag}`: expected a file, got the folder {path}")
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"`{flag}`: expected a file ending in .html, got `{path}`")
    check_place(path)
    if not path.absolute().parent.is_dir():
        raise UsageError(f"`{flag}`: the folder of {path} does not exist; make it first")
    check_replaces(path, GENERATOR, flag, "report")
    check_drawing(flag)


def check_drawing(what: str) -> None:
    """Checks that there is what draws, before any long work that ends in a page.

    Args:
        what: option or command that asks for the page.

    Raises:
        UsageError: matplotlib is missing.
    """
    try:
        import matplotlib.figure  # noqa: F401  # a tenth of a second, asked before minutes
    except ImportError as error:
        raise UsageError(
            f"`{what}` needs matplotlib, which is not installed: pip install matplotlib"
        ) from error


def check_replaces(path: Path, mark: bytes, flag: str, what: str) -> None:
    """Refuses to replace a file that is not what is about to be written.

    Args:
        path: that is to be written.
        mark: what begins such a file.
        flag: the option that named it.
        what: it is, in a word.

    Raises:
        UsageError: another file stands there.
    """
    if not path.exists() and not path.is_symlink():
        return
    if path.is_file():
        with path.open("rb") as file:
            if mark in file.read(_HEAD_BYTES):
                return
    raise UsageError(
        f"`{flag}`: {path} exists and is no {what} of irbin's, so it stays; choose another file"
    )


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader  # a tenth of a second that help does not need

    made = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    made.filters |= {
        "code": with_code,
        "number": _number,
        "together": together,
        "numbered": numbered,
    }
    return made


def _number(value: float) -> str:
    """As a script reads it; what is none sorts first."""
    return f"{value:.6g}" if math.isfinite(value) else "-1e999"


@cache
def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8").strip()
