"""Words that messages share: names listed or guessed, what another error was."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches

N_NAMED = 3
"""Names that a message lists before it counts the rest."""

LONGEST = 300
"""Characters that a message shows of another one."""

_OPEN_FILE = re.compile(r" ?<(_io\.|[\w.]+ object at |[\w.]*ExFileObject ).*>")
"""How Python shows an object, as Pillow names what it reads; the path is beside it already."""

_HINT = re.compile(r"\s*\bHint: .*", re.DOTALL)
"""Advice that torch ends its errors with (`Hint: enable anomaly detection …`)."""


_PATH = re.compile(r"(local-dir:)?(?=[/\\~.]|[A-Za-z]:[/\\])(?:.*[/\\])?([^/\\]+)[/\\]*", re.DOTALL)

SET_FORWARD = (
    "its `forward` was set on the network itself (`net.forward = …`), which is in no graph of its "
    "class; define it in a subclass"
)


def names_of(names: Iterable[str]) -> str:
    """The first few names in backticks and how many more there are."""
    listed = list(names)
    rest = f" and {len(listed) - N_NAMED} more" if len(listed) > N_NAMED else ""
    return ", ".join(f"`{name}`" for name in listed[:N_NAMED]) + rest or "nothing"


def counted(n: int, noun: str) -> str:
    """`1 image`, `1,000 images`, `2 classes`; the noun is given as one of it is called."""
    ending = "" if n == 1 else "es" if noun.endswith(("s", "x", "tch")) else "s"
    return f"{n:,} {noun}{ending}"


def in_a_row(values: Iterable[object]) -> str:
    """Values of a list for a table: `0.9, 0.999`; those with a comma in quotes, as in a CSV."""
    words = [str(value) for value in values]
    return ", ".join(
        '"{}"'.format(word.replace('"', '""')) if "," in word or '"' in word else word
        for word in words
    )


def is_text(name: str) -> bool:
    """Whether it can be written as UTF-8: names of files may be bytes that are no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(name: str) -> str:
    """The same where it is text; else with an escape in the place of what is none."""
    return name.encode(errors="backslashreplace").decode()


def nearest_names(name: str, known: Iterable[str], cutoff: float = 0.5) -> list[str]:
    """The few of the known names that are most like `name`, the most like first.

    Args:
        name: what was typed.
        known: what may be typed.
        cutoff: likeness, as `difflib` measures it, that the least like has.
    """
    return get_close_matches(name, list(dict.fromkeys(known)), n=N_NAMED, cutoff=cutoff)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; nearest: ...` to put after an unknown name, or '' where nothing is near."""
    close = nearest_names(name, known)
    return f"; nearest: {names_of(close)}" if close else ""


def lacks_memory(error: BaseException) -> bool:
    """Whether an error is a lack of memory: Python's, torch's on the CPU, or a device's.

    It says nothing of the network that ran, so nobody may take it for a fault of its code.
    """
    is_torchs = "OutOfMemory" in type(error).__name__ or "can't allocate memory" in str(error)
    return is_torchs or isinstance(error, MemoryError)


def lacks_room(error: BaseException | None) -> bool:
    """Whether an error, or what it came of, is a disk that is full or a quota that is used up."""
    if error is None:
        return False
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    # libraries in Rust and C++ give words alone
    return is_full or "os error 28" in str(error) or lacks_room(error.__cause__)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class's name where it has none.

    Without torch's hints, which speak to those who debug torch.
    """
    lines = _HINT.sub("", _OPEN_FILE.sub("", str(error).strip())).splitlines()
    return _cut(lines[0]) if lines else type(error).__name__


def one_line(error: BaseException) -> str:
    """An error's whole message in one line, or its class's name where it has none."""
    text = _HINT.sub("", _OPEN_FILE.sub("", str(error)))
    return _cut(" ".join(text.split())) or type(error).__name__


def with_class(error: BaseException) -> str:
    """`ValueError: the first line of its message`, or the class's name alone."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


def system_says(error: OSError) -> str:
    """What the system said, without the file: messages name that themselves."""
    said = error.strerror or ""
    if error.errno is not None and "[errno" in said:  # a library's words around the system's
        return os.strerror(error.errno)
    return said or first_line(error)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def without_folders(text: str) -> str:
    """A path's last part, since the way there is nobody's business; other names as they are.

    `/home/me/net.pth` is `net.pth`, `local-dir:/home/me/net` is `local-dir:net`.
    """
    path = _PATH.fullmatch(text)
    return text if path is None else f"{path[1] or ''}{path[2]}"
