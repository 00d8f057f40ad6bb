"""The rules of `docs/architecture.md`, read from the page and held against the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import irbin
from docs.maintain.architecture import arrows, imports_of, never_imported, room_of, rooms, sources
from docs.maintain.figures import functions, records_of

ROOT = Path(irbin.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = rooms(PAGE)
SOURCES = sources(ROOT)
arrows_of = cache(arrows)
names_of = cache(imports_of)
LISTS_NO_FILES = {"cli", "demo", "report"}
"""Rooms whose files are named by what they show or ask for."""


def test_the_page_lists_every_room_once_and_no_other() -> None:
    names = [room.name for room in ROOMS]
    assert len(names) == len(set(names))
    assert set(names) == {room_of(path, ROOT) for path in SOURCES}
    for room in ROOMS:
        assert (ROOT / room.name).is_dir() == room.is_folder, room.name


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_imports_what_the_page_says(room) -> None:
    assert arrows_of(ROOT)[room.name] == room.may_import


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_imports_run_one_way_on_the_floors(room) -> None:
    floors = [one.name for one in ROOMS]
    below = floors[: floors.index(room.name)]
    assert room.may_import <= set(below)


@pytest.mark.parametrize(
    "room",
    [one for one in ROOMS if one.is_folder and one.name not in LISTS_NO_FILES],
    ids=lambda room: room.name,
)
def test_the_page_names_every_file_of_a_room(room) -> None:
    files = {path.name for path in (ROOT / room.name).glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"`(\w+\.py)`", room.text)) == files


@pytest.mark.slow
@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_never_imported_is_not(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    for place, modules in never_imported(PAGE).items():
        assert (ROOT / place).exists(), place
        if name == place or name.startswith(f"{place}/"):
            for module in modules:
                bad = {n for n in names_of(path) if n == module or n.startswith(f"{module}.")}
                assert not bad


def test_the_page_tells_what_is_never_imported() -> None:
    told = never_imported(PAGE)
    assert len(told) >= 20
    assert told["kernels"] == {"torch"}
    assert "irbin.binary" in told["artifact"]


@pytest.mark.slow
def test_no_room_imports_itself_in_a_circle() -> None:
    edges = {
        ".".join(p.relative_to(ROOT.parent).with_suffix("").parts): names_of(p) for p in SOURCES
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join([*trail, module])
        if module not in done:
            for target in edges[module] & edges.keys():
                visit(target, (*trail, module))
            done.add(module)

    for module in edges:
        visit(module, ())


def test_files_hold_one_idea_and_stay_short() -> None:
    too_long = {
        str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 340
    }
    assert not too_long


def _own_layout(*folders: str) -> list[str]:
    """What stands behind each line that the formatter leaves alone."""
    root = Path(__file__).parents[1]
    return [
        match[1]
        for folder in folders
        for path in sources(root / folder)
        for line in path.read_text("utf-8").splitlines()
        if (match := re.search(r"# fmt: (?:skip|off)(.*)", line))
    ]


def test_the_formatter_lays_out_everything() -> None:
    assert _own_layout("irbin", "docs") == []


def test_the_few_tables_of_tests_that_it_does_not_say_why() -> None:
    reasons = _own_layout("tests")
    assert len(reasons) <= 10
    assert all(re.fullmatch(r"  # \w.+", reason) for reason in reasons)


@pytest.mark.slow
def test_functions_stay_under_sixty_lines() -> None:
    too_long = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                n_lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                if n_lines > 60:
                    too_long[f"{path.relative_to(ROOT)}:{node.name}"] = n_lines
    assert not too_long


OPERATORS = {"bconv2d", "_fake_bconv2d"}
"""Their parameters are those of an operator that files name."""


@pytest.mark.slow
def test_functions_take_eight_parameters_beside_records() -> None:
    records = records_of(SOURCES)
    many = {
        one.place: one.n_beside_records
        for path in SOURCES
        for one in functions(path, str(path.relative_to(ROOT)), records)
        if one.n_beside_records > 8 and one.place.rpartition(":")[2] not in OPERATORS
    }
    assert not many


@pytest.mark.slow
def test_functions_are_five_levels_deep() -> None:
    deep = {
        one.place: one.depth
        for path in SOURCES
        for one in functions(path, str(path.relative_to(ROOT)))
        if one.depth > 5
    }
    assert not deep


@pytest.mark.slow
def test_a_name_of_a_type_has_one_home() -> None:
    homes: dict[tuple[str, str], list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            match node:
                case ast.Assign([ast.Name(name)], ast.Subscript() | ast.BinOp() as meaning):
                    said = (name, ast.unparse(meaning))
                    homes.setdefault(said, []).append(str(path.relative_to(ROOT)))
    assert not {said: places for said, places in homes.items() if len(places) > 1}
    assert homes["Border", "tuple[int, int, int, int]"] == ["border.py"]


@pytest.mark.slow
def test_a_bound_has_one_home() -> None:
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text("utf-8")).body:
            match node:
                case ast.Assign([ast.Name(name)], _) if name.startswith("MAX_"):
                    homes.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert homes["MAX_RESIDUALS"] == ["bounds.py"]
    assert not {name: places for name, places in homes.items() if len(places) > 1}


@pytest.mark.slow
def test_no_local_says_only_that_it_was_found() -> None:
    called = {
        f"{path.relative_to(ROOT)}:{function.lineno}"
        for path in SOURCES
        for function in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if "found" in (getattr(node, "id", None), getattr(node, "arg", None))
    }
    assert not called


@pytest.mark.slow
def test_nothing_is_printed_outside_the_command_line() -> None:
    for path in SOURCES:
        if room_of(path, ROOT) not in {"cli", "__main__"}:
            calls = [
                n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)
            ]
            assert not [
                f for f in calls if isinstance(f, ast.Name) and f.id in {"print", "exit"}
            ], path


def test_import_irbin_loads_no_torch() -> None:
    code = "import irbin, sys; dir(irbin); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_all_there() -> None:
    for name in irbin.__all__:
        assert getattr(irbin, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = irbin.nothing  # type: ignore[attr-defined]
