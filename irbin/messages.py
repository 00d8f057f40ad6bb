"""Words that messages share: names listed or guessed, the first line of another error."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

N_NAMED = 3
"""Names that a message lists before it counts the rest."""


def names_of(names: Iterable[str]) -> str:
    """The first few names in backticks and how many more there are."""
    listed = list(names)
    rest = f" and {len(listed) - N_NAMED} more" if len(listed) > N_NAMED else ""
    return ", ".join(f"`{name}`" for name in listed[:N_NAMED]) + rest or "nothing"


def nearest(name: str, known: Iterable[str]) -> str:
    """`; nearest: ...` to put after an unknown name, or '' where nothing is near."""
    close = get_close_matches(name, list(dict.fromkeys(known)), n=N_NAMED, cutoff=0.5)
    return "; nearest: " + ", ".join(f"`{match}`" for match in close) if close else ""


def first_line(error: Exception) -> str:
    """The first line of a message, or the error's type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
