"""Figures of a tiny source that can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.maintain.figures import functions, main, marks, records_of, spread, time_lines

CODE = '''
def short(a, b=1, *rest, c, **more):
    """Told."""


class Thing:
    def method(self, x):
        """Told."""
        if x:  # noqa
            return 1
        elif x is None:
            for _ in ():
                with x:
                    pass
        y = "#  fmt: skip"
        return y  # type: ignore[x]
'''


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("irbin/low", "irbin/high", "docs", "tests"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "irbin" / "base.py").write_text("from irbin.high import thing\n")
    (tmp_path / "irbin" / "low" / "code.py").write_text(CODE)
    (tmp_path / "irbin" / "high" / "thing.py").write_text(
        "import irbin.base\nfrom irbin.low.code import short\n" + "x = 1\n" * 300
    )
    (tmp_path / "docs" / "architecture.md").write_text(
        "| room | text | imports |\n|---|---|---|\n| `base.py` | . | . |\n| `low/` | . | . |\n"
        "| `high/` | . | . |\n"
    )
    return tmp_path


def test_functions_are_measured_without_docstring_and_self(checkout: Path) -> None:
    short, method = functions(checkout / "irbin" / "low" / "code.py", "f")
    assert (short.place, short.n_lines, short.n_parameters, short.depth) == ("f:short", 0, 5, 1)
    assert (method.place, method.n_lines, method.n_parameters) == ("f:method", 8, 1)
    assert method.depth == 4  # the function, if, for, with; elif is no deeper than if


def test_records_do_not_count_as_parameters(checkout: Path) -> None:
    path = checkout / "irbin" / "low" / "records.py"
    path.write_text(
        "@dataclass(frozen=True)\nclass One: ...\nclass Two(Flags, record=One): ...\n"
        "@dataclass\nclass Three: ...\ndef f(a: One, b: Two | None, c: Three, d: One | int, e): ..."
    )
    (f,) = functions(path, "f", records_of([path]))
    assert (f.n_parameters, f.n_beside_records) == (5, 3)


def test_marks_are_comments_and_no_texts(checkout: Path) -> None:
    assert marks(checkout / "irbin" / "low" / "code.py") == {"noqa": 1, "type: ignore": 1}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([], "none"),
        ([3], "median 3, p90 3, max 3"),
        (range(11), "median 5, p90 9, max 10"),
        ([2, 1], "median 1.5, p90 2, max 2"),
    ],
)
def test_spread(values, told: str) -> None:
    assert spread(values) == told


def test_arrows_against_the_floors_are_named(checkout: Path, capsys) -> None:
    assert main([str(checkout)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "rooms: 3, of which loose files: 1" in lines
    at = lines.index("arrows: 3, against the floors: 1")
    assert lines[at + 1] == "  base → high"
    assert "  high: 2 out, 1 in, 1 files" in lines
    at = lines.index("files over 300 lines: 1")
    assert lines[at + 1] == "  302 irbin/high/thing.py"


def test_times_are_summed_by_folder(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(
        '<testsuites><testsuite><testcase classname="tests.a.test_x" name="one" time="1.5"/>'
        '<testcase classname="tests.a.test_y.TestY" name="two" time="2"/>'
        '<testcase classname="tests.test_z" name="three" time="0.25"/></testsuite></testsuites>'
    )
    assert time_lines(tmp_path / "r.xml") == [
        "tests: 3, 4 s",
        "  3.5 s a",
        "  0.2 s test_z",
        "slowest:",
        "  2.0 s tests.a.test_y.TestY::two",
        "  1.5 s tests.a.test_x::one",
        "  0.2 s tests.test_z::three",
    ]
