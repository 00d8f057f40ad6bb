"""The fast lane, `-m "not slow and not sweep"`, leaves no room out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LEFT_OUT = {"slow", "sweep"}
ONLY_LONG = {"sweep"}
"""Folders that hold nothing else."""


def marks(nodes: list[ast.expr]) -> set[str]:
    """Names of the marks in decorators, or in what `pytestmark` is."""
    found = {node for one in nodes for node in ast.walk(one) if isinstance(node, ast.Attribute)}
    return {node.attr for node in found if ast.unparse(node.value) == "pytest.mark"}


def fast_tests(body: list[ast.stmt]) -> Iterator[str]:
    """Names of the tests, those of classes too, that neither mark keeps out of the fast lane."""
    whole = [
        node.value
        for node in body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    if marks(whole) & LEFT_OUT:
        return
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        # marks among parameters keep out those alone
        own = [one for one in node.decorator_list if "parametrize" not in ast.unparse(one)]
        if marks(own) & LEFT_OUT:
            continue
        if isinstance(node, ast.ClassDef):
            yield from fast_tests(node.body)
        elif node.name.startswith("test_"):
            yield node.name


def folders() -> list[Path]:
    with_tests = {path.parent for path in TESTS.rglob("test_*.py")}
    return sorted(path for path in with_tests if path.name not in ONLY_LONG)


@pytest.mark.parametrize("folder", folders(), ids=lambda f: f.relative_to(TESTS.parent).as_posix())
def test_every_folder_has_tests_in_the_fast_lane(folder: Path) -> None:
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in folder.glob("test_*.py"))
    assert [name for tree in trees for name in fast_tests(tree.body)] != []


@pytest.mark.parametrize(
    ("code", "fast"),
    [
        ("def test_a(): ...", ["test_a"]),
        ("@pytest.mark.slow\ndef test_a(): ...\ndef test_b(): ...", ["test_b"]),
        ("@pytest.mark.slow\nclass TestA:\n    def test_a(): ...", []),
        ("class TestA:\n    @pytest.mark.sweep\n    def test_a(): ...", []),
        ("class TestA:\n    pytestmark = pytest.mark.slow\n    def test_a(): ...", []),
        ("pytestmark = [pytest.mark.skipif(x), pytest.mark.slow]\ndef test_a(): ...", []),
        (
            "@pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.slow), 2])\n"
            "def test_a(x): ...",
            ["test_a"],
        ),
        ("@slowly\ndef test_a(): ...\ndef helper(): ...", ["test_a"]),
    ],
)
def test_marks_are_read(code: str, fast: list[str]) -> None:
    assert list(fast_tests(ast.parse(code).body)) == fast
