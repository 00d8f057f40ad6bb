"""Who is told how far something has come."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[int, int], None]
"""Told how much is done, and of how much."""
