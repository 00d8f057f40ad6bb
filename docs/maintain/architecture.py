"""The table of rooms in `docs/architecture.md`, and the imports that it speaks of.

A room is a folder of `irbin/`, or a file that lies there loose. The page lists them from the ground
floor up.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""


@dataclass(frozen=True)
class Room:
    """A row of the table."""

    name: str
    """As in imports: `files`, `kernels`, `__init__`."""
    is_folder: bool
    text: str
    """What lives there."""
    may_import: frozenset[str]
    """Other rooms."""


def rooms(page: str) -> list[Room]:
    """The rows of the table of rooms, in order.

    Args:
        page: `docs/architecture.md`.
    """
    found = []
    for name, text, imports in _rows(page, "room", 3):
        for one in _ticked(name):
            room = one.removesuffix("/").removesuffix(".py")
            found.append(Room(room, one.endswith("/"), text, frozenset(_ticked(imports))))
    return found


def never_imported(page: str) -> dict[str, frozenset[str]]:
    """The table of what is never imported: by a room or a file in one, modules with all below them.

    Args:
        page: `docs/architecture.md`.
    """
    found: dict[str, frozenset[str]] = {}
    for places, modules in _rows(page, "never in", 2):
        for place in _ticked(places):
            found[place.removesuffix("/")] = frozenset(_ticked(modules))
    return found


def _rows(page: str, title: str, n_columns: int) -> Iterator[list[str]]:
    """The cells below a table's head whose first cell is `title`."""
    lines = iter(page.splitlines())
    for line in lines:
        if line.startswith(f"| {title} |"):
            break
    next(lines, None)  # the rule below the head
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")][:n_columns]


def _ticked(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def sources(package: Path) -> list[Path]:
    """The Python files of a package."""
    return sorted(package.rglob("*.py"))


def room_of(path: Path, package: Path) -> str:
    """The room that a file lies in."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Every dotted name that a file imports, wherever in it, names of modules' contents too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def arrows(package: Path) -> dict[str, set[str]]:
    """Which other rooms each room imports from.

    Args:
        package: the folder `irbin`.
    """
    found: dict[str, set[str]] = {}
    for path in sources(package):
        room = room_of(path, package)
        to = {n.split(".")[1] for n in imports_of(path) if n.startswith(f"{package.name}.")}
        there = {room for room in to if _is_there(package, room)}
        found.setdefault(room, set()).update(there - {room})
    return found


def _is_there(package: Path, room: str) -> bool:
    return (package / room).is_dir() or (package / f"{room}.py").is_file()
