"""Figures of the source: how long functions and files are, who imports whom, what tests take.

    python -m docs.maintain.figures [CHECKOUT] [--junit FILE]

`pytest --junitxml FILE` writes the times.
"""

from __future__ import annotations

import argparse
import ast
import re
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from docs.maintain.architecture import ROOT, arrows, rooms, sources

LONG = 300
"""Lines of a file that are many."""
N_SHOWN = 10
"""Files and tests that are named."""
_NESTING = (
    ast.If,
    ast.For,
    ast.While,
    ast.With,
    ast.Try,
    ast.Match,
    ast.AsyncFor,
    ast.AsyncWith,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
)
_MARKS = {
    "fmt: skip": re.compile(r"#\s*fmt: skip"),
    "type: ignore": re.compile(r"#\s*type: ignore"),
    "noqa": re.compile(r"#\s*noqa"),
}


@dataclass(frozen=True)
class Function:
    """A function or method of a file."""

    place: str
    """FILE:NAME."""
    n_lines: int
    """From its first statement to its last, without the docstring."""
    n_parameters: int
    """Without `self` and `cls`."""
    n_beside_records: int
    """Of these, parameters that are no records."""
    depth: int
    """Statements around the innermost one, the function itself counted."""


def functions(path: Path, name: str, records: Collection[str] = ()) -> Iterator[Function]:
    """All functions of a file, those inside others too.

    Args:
        path: of Python.
        name: of the file, to be shown.
        records: names of classes whose instances do not count as parameters.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            n_lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            given = _parameters(node)
            others = [one for one in given if not _is_record(one.annotation, records)]
            yield Function(f"{name}:{node.name}", n_lines, len(given), len(others), _depth(node))


def records_of(files: Iterable[Path]) -> set[str]:
    """Names of the frozen dataclasses, and groups of flags, that are defined in files."""
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                is_frozen = any("frozen=True" in ast.unparse(one) for one in node.decorator_list)
                is_flags = any(ast.unparse(base) == "Flags" for base in node.bases)
                found |= {node.name} if is_frozen or is_flags else set()
    return found


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    given = node.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    more = [one for one in (given.vararg, given.kwarg) if one is not None]
    return [one for one in [*parameters, *more] if one.arg not in ("self", "cls")]


def _is_record(kind: ast.expr | None, records: Collection[str]) -> bool:
    """Whether an annotation is a record, or one that may be left out."""
    arms = [] if kind is None else [arm.strip() for arm in ast.unparse(kind).split("|")]
    return bool(arms) and all(arm in records for arm in arms if arm != "None")


def _depth(node: ast.AST) -> int:
    """`elif` is no deeper than its `if`."""
    deepest = 0
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        is_elif = field == "orelse" and isinstance(node, ast.If) and len(children) == 1
        for child in children:
            if isinstance(child, ast.AST):
                inner = _depth(child)
                deepest = max(deepest, inner - (is_elif and isinstance(child, ast.If)))
    return deepest + isinstance(node, _NESTING)


def marks(path: Path) -> Counter[str]:
    """How many comments of each kind switch a tool off."""
    found: Counter[str] = Counter()
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                found.update(kind for kind, mark in _MARKS.items() if mark.search(token.string))
    return found


def spread(values: Iterable[int]) -> str:
    """Median, ninth tenth and largest of whole numbers."""
    ordered = sorted(values)
    if not ordered:
        return "none"
    p90 = ordered[min(len(ordered) - 1, round(0.9 * (len(ordered) - 1)))]
    return f"median {statistics.median(ordered):g}, p90 {p90}, max {ordered[-1]}"


def source_lines(root: Path) -> list[str]:
    """Functions, files and comments of `irbin/`, and of the tests where that says something."""
    package = root / "irbin"
    files = {path.relative_to(root).as_posix(): path for path in sources(package)}
    records = records_of(files.values())
    found = [one for name, path in files.items() for one in functions(path, name, records)]
    lines = [
        f"files: {len(files)}, functions: {len(found)}",
        f"lines of a function: {spread(f.n_lines for f in found)}"
        f"{_named(found, [f.n_lines for f in found])}",
        f"parameters: {spread(f.n_parameters for f in found)}"
        f"{_named(found, [f.n_parameters for f in found])}",
        f"depth: {spread(f.depth for f in found)}{_named(found, [f.depth for f in found])}",
        f"functions deeper than 5: {sum(f.depth > 5 for f in found)}, "
        f"with more than 8 parameters: {sum(f.n_parameters > 8 for f in found)} "
        f"({sum(f.n_beside_records > 8 for f in found)} beside records), "
        f"longer than 60 lines: {sum(f.n_lines > 60 for f in found)}",
    ]
    lengths = {n: len(p.read_text(encoding="utf-8").splitlines()) for n, p in files.items()}
    long = sorted(((n, name) for name, n in lengths.items() if n > LONG), reverse=True)
    lines.append(f"files over {LONG} lines: {len(long)}")
    lines += [f"  {n} {name}" for n, name in long]
    for part in ("irbin", "tests"):
        total: Counter[str] = Counter()
        for path in sources(root / part):
            total += marks(path)
        lines.append(f"{part}: " + ", ".join(f"{kind} {total[kind]}" for kind in _MARKS))
    return lines


def _named(found: list[Function], values: list[int]) -> str:
    """Whose value is the largest."""
    return f" ({found[values.index(max(values))].place})" if found else ""


def room_lines(root: Path) -> list[str]:
    """Rooms, arrows between them, and how they run on the floors of `docs/architecture.md`."""
    package = root / "irbin"
    out = arrows(package)
    page = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    floors = list(dict.fromkeys(room.name for room in rooms(page)))
    loose = [room for room in out if (package / f"{room}.py").is_file()]
    against = [
        f"{one} → {other}"
        for one, others in sorted(out.items())
        for other in sorted(others)
        if one in floors and other in floors and floors.index(one) < floors.index(other)
    ]
    unlisted = sorted(set(out) - set(floors) - {"__init__", "__main__"})
    lines = [
        f"rooms: {len(out)}, of which loose files: {len(loose)}",
        f"arrows: {sum(map(len, out.values()))}, against the floors: {len(against)}",
        *(f"  {arrow}" for arrow in against),
        f"rooms that the page does not list: {', '.join(unlisted) or 'none'}",
        "imports of a room: rooms that it imports, rooms that import it, files",
    ]
    for room in sorted(out, key=lambda room: (floors.index(room) if room in floors else 99, room)):
        n_in = sum(room in others for others in out.values())
        n_files = len(sources(package / room)) if room not in loose else 1
        lines.append(f"  {room}: {len(out[room])} out, {n_in} in, {n_files} files")
    return lines


def time_lines(report: Path) -> list[str]:
    """What tests took, by folder, and the slowest.

    Args:
        report: what `pytest --junitxml` wrote.
    """
    cases = [
        (float(case.get("time", "0")), case.get("classname", ""), case.get("name", ""))
        for case in ElementTree.parse(report).getroot().iter("testcase")
    ]
    folders: Counter[str] = Counter()
    for seconds, place, _ in cases:
        parts = place.removeprefix("tests.").split(".")
        folders[parts[0]] += seconds  # type: ignore[assignment]  # seconds, not counts
    lines = [f"tests: {len(cases)}, {sum(seconds for seconds, _, _ in cases):.0f} s"]
    lines += [f"  {seconds:.1f} s {folder}" for folder, seconds in folders.most_common()]
    lines.append("slowest:")
    slowest = sorted(cases, reverse=True)[:N_SHOWN]
    return [*lines, *(f"  {seconds:.1f} s {place}::{name}" for seconds, place, name in slowest)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    parser = argparse.ArgumentParser(
        "python -m docs.maintain.figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkout", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--junit", type=Path, help="what `pytest --junitxml` wrote")
    given = parser.parse_args(arguments)
    if given.junit is not None and not given.junit.is_file():
        parser.error(f"`--junit`: expected a file that pytest wrote, got `{given.junit}`")
    lines = [*source_lines(given.checkout), *room_lines(given.checkout)]
    if given.junit is not None:
        lines += time_lines(given.junit)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
