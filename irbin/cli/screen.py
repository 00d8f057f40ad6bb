"""What is shown on a terminal: whatever a file holds, it does not steer the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.segment import Segment

_SHOWN = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\u2421",
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
}
"""Control characters (C0, DEL, C1) as pictures of them."""


class Screen(Console):
    """A console that shows control characters in texts, and sends none but its own.

    A class or a file may be named by a stranger; rich passes an escape sequence in a name through.
    """

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console.render`."""
        for segment in super().render(renderable, options):
            if segment.control is None:
                yield Segment(segment.text.translate(_SHOWN), segment.style)
            else:
                yield segment
