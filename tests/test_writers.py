"""Of several writers of one place one wins whole, and nobody's finished folder is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from irbin.errors import UsageError
from irbin.files import beside, whole_folder, write_file
from irbin.writers import claimed_file, sole_writer

HOLD = """
import sys
from pathlib import Path
from irbin.files import whole_folder
from irbin.writers import claimed_file, sole_writer
out = Path(sys.argv[2])
file = lambda out: claimed_file(out.with_name(out.name + ".partial"), out, waits=False)
with {"folder": whole_folder, "run": sole_writer, "file": file}[sys.argv[1]](out) as inside:
    if sys.argv[1] == "folder":
        (inside / "mine").write_text("mine")
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held_elsewhere(kind: str, out: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process writes `out` until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, kind, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.communicate("\n")
            assert process.returncode == 0


def test_a_folder_that_another_process_fills_is_refused_and_becomes_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with held_elsewhere("folder", out):
        refused = pytest.raises(UsageError, match="/out` is being written by another process: wait")
        with refused, whole_folder(out) as partial:
            (partial / "yours").write_text("yours")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with held_elsewhere("folder", out) as process:
        process.kill()
        process.wait()
    assert [path.name for path in beside(out).iterdir()] == ["mine"]
    with whole_folder(out) as partial:
        assert not list(partial.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_finished_after_the_first_look_is_not_replaced_unasked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out) as partial:
        (partial / "first").write_text("first")
    refused = pytest.raises(UsageError, match="exists; choose another folder")
    with refused, whole_folder(out, overwrite=False):
        pass
    assert [path.name for path in out.iterdir()] == ["first"]
    with whole_folder(out, overwrite=True):
        pass
    assert not list(out.iterdir())


def test_whatever_stands_where_a_folder_is_written_goes(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    beside(out).symlink_to(elsewhere)
    with whole_folder(out):
        pass
    beside(out).write_text("a file")
    with whole_folder(out):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "out"]
    assert (elsewhere / "kept").exists()


def test_a_run_has_one_writer(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run"
    with held_elsewhere("run", run):
        with (
            pytest.raises(UsageError, match="is being written by another process"),
            ExitStack() as s,
        ):
            s.enter_context(sole_writer(run, make=False))
        write_file(run / "args.yaml", b"seed: 1")  # a report beside it, say
    with sole_writer(run, make=False) as is_new:
        assert not is_new
    assert [path.name for path in run.iterdir()] == ["args.yaml"]


def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "runs" / "run") as is_new:
        assert is_new
        assert (tmp_path / "runs" / "run").is_dir()
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with sole_writer(tmp_path / "file" / "run") as is_new:  # whoever writes there tells
        assert not is_new


def test_a_file_of_rows_has_one_writer(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    refused = pytest.raises(UsageError, match=r"rows.csv` is being written by another process")
    with held_elsewhere("file", rows), refused, claimed_file(beside(rows), rows, waits=False):
        pass
    with claimed_file(beside(rows), rows, waits=False):
        assert beside(rows).read_bytes() == b""
