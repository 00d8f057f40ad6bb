"""Text from anywhere, made fit for a page."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What neither HTML nor XML may hold: control characters, and halves of characters, as stand in
names of files that are no text."""
_SHORT = 30
"""Characters of code that a line is not broken in."""
_APART = re.compile(r"(?<=\d) (?=(?:%|±|[kMGT]?B|[kMGT]|ms|µs)(?!\w))|(?<=±) (?=\d)")
"""Spaces between a number and what belongs to it."""
_CODE = re.compile("`([^`]+)`")


def printable(text: str) -> str:
    """The text with `\N{REPLACEMENT CHARACTER}` for what no page may hold."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def together(text: str) -> str:
    """A sentence in which no line ends between a number and its unit, or `±`."""
    return _APART.sub("\N{NO-BREAK SPACE}", text)


def sentence(text: str) -> str:
    """A line of a terminal's as a sentence: with a capital letter, and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def with_code(text: str) -> Markup:
    """A sentence, escaped, whose words in backticks are code."""
    parts = _CODE.split(printable(text))
    return Markup("").join(
        _code(part) if i % 2 else escape(together(part)) for i, part in enumerate(parts)
    )


def _code(words: str) -> Markup:
    short = Markup(' class="short"') if len(words) <= _SHORT else ""
    return Markup("<code{}>{}</code>").format(short, words)
