"""Nearest names, for messages about a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

N_NAMED = 3


def nearest(name: str, known: Iterable[str]) -> str:
    """`; nearest: ...` to put after an unknown name, or '' where nothing is near."""
    close = get_close_matches(name, list(dict.fromkeys(known)), n=N_NAMED, cutoff=0.5)
    return "; nearest: " + ", ".join(f"`{match}`" for match in close) if close else ""
