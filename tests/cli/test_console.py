from __future__ import annotations

import errno
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from irbin.cli.app import main
from irbin.cli.console import (
    check_json_target,
    logged_as_notes,
    notes,
    results,
    say,
    speak_in_any_encoding,
    write_json,
)
from irbin.errors import UsageError

FULL = "irbin: No space left on device: standard output; make room, and give the same line again"


def test_results_give_way_to_json_on_standard_output(capsys) -> None:
    say(results(None), "a")
    say(results("-"), "b")
    say(notes(), "c")
    assert capsys.readouterr() == ("a\n", "b\nc\n")


def test_say_prints_as_is(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    say(results(), "[bold]x[/] :smile: " + "y" * 30)
    assert capsys.readouterr().out == "[bold]x[/] :smile: " + "y" * 30 + "\n"


def test_pipes_are_wide(monkeypatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert results().width == 200
    monkeypatch.setenv("COLUMNS", "90")
    assert results().width == 90


def test_json_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    write_json({"a": 1}, str(target))
    assert json.loads(target.read_text()) == {"a": 1}
    with pytest.raises(TypeError):
        write_json({"a": object()}, str(target))
    assert json.loads(target.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_no_target_writes_nothing(capsys) -> None:
    write_json({"a": 1}, None)
    assert capsys.readouterr() == ("", "")


def test_a_target_is_checked_before_the_work(tmp_path: Path) -> None:
    check_json_target(None)
    check_json_target("-")
    check_json_target(str(tmp_path / "new.json"))
    with pytest.raises(UsageError, match=r"^`--json`: expected a file or `-`, got the folder"):
        check_json_target(str(tmp_path))
    with pytest.raises(UsageError, match=r"does not exist; make it first$"):
        check_json_target(str(tmp_path / "no" / "new.json"))
    (tmp_path / "a.csv").write_text("1")
    with pytest.raises(UsageError, match=r"a\.csv` is no folder; choose another place$"):
        check_json_target(str(tmp_path / "a.csv" / "new.json"))


def test_json_goes_into_a_pipe_and_leaves_it_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        check_json_target(str(pipe))
        write_json({"a": 1}, str(pipe))
        assert json.loads(os.read(reader, 100)) == {"a": 1}
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_what_irbin_logs_is_a_line_on_standard_error(capsys) -> None:
    log = logging.getLogger("irbin")
    with logged_as_notes():
        log.warning("%s", "[bold]`a.pth`: 2 left unused")
    assert capsys.readouterr() == ("", "note: [bold]`a.pth`: 2 left unused\n")
    assert log.handlers == []


def test_what_irbin_logs_again_is_not_told_again_in_the_same_command(capsys) -> None:
    log = logging.getLogger("irbin")
    for _ in range(2):  # of each command
        with logged_as_notes():
            for path in ("a", "b", "a"):
                log.warning("%s: 2 files left out", path)
        told = [f"note: {path}: 2 files left out" for path in ("a", "b")]
        assert capsys.readouterr().err.splitlines() == told


def test_what_a_library_logs_is_a_line_too_and_only_from_warnings_on(capsys) -> None:
    log, before = logging.Logger("timm.models", logging.DEBUG), logging.lastResort
    with logged_as_notes():
        log.warning("No weights\nexist")
        log.info("Loading")
    assert capsys.readouterr() == ("", "note: timm: No weights exist\n")
    assert logging.lastResort is before


@pytest.mark.parametrize("name", ["config.json", "program.json", "w.index.json", "model.pth"])
def test_json_does_not_replace_what_a_command_reads(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match="belongs to a network; choose another file"):
        check_json_target(str(tmp_path / name), None, str(tmp_path / "model.pth"))
    check_json_target(str(tmp_path / "eval.json"), str(tmp_path / "model.pth"))


def ascii_stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)


def test_no_character_ends_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = ascii_stream()
    monkeypatch.setattr("sys.stdout", stream)
    speak_in_any_encoding()
    say(results(), "11.2× smaller – or so")
    assert stream.buffer.getvalue() == b"11.2? smaller ? or so\n"


def test_json_keeps_every_character(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = ascii_stream()
    monkeypatch.setattr("sys.stdout", stream)
    write_json({"per_class": {"muñeca": 1.0}}, "-")
    assert json.loads(stream.buffer.getvalue()) == {"per_class": {"muñeca": 1.0}}


def test_where_nobody_listens_nothing_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)  # `>&-`
    assert main(["zoo"]) == 0
    assert main(["recipes", "show", "demo"]) == 0
    assert sys.stdout is None


def test_json_on_a_standard_output_that_is_closed_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert main(["kernels", "--json", "-"]) == 2
    expected = "irbin: `--json -`: standard output is closed; name a file\n"
    assert capsys.readouterr().err == expected
    with pytest.raises(UsageError, match="standard output is closed"):
        check_json_target("-")


@pytest.mark.parametrize(
    "words", [["zoo"], ["recipes"], ["--help"], ["zoo", "--json", "-"], ["recipes", "show", "demo"]]
)
@pytest.mark.parametrize("buffered", [False, True])
def test_where_the_reader_has_gone_a_command_ends_quietly(
    words: list[str],
    buffered: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with io.TextIOWrapper(open(writer, "wb"), write_through=not buffered) as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert main(words) == 141
    said = capsys.readouterr().err.splitlines()  # beside JSON, what a reader sees
    assert not [line for line in said if line.startswith(("irbin:", "Traceback"))]


def test_a_pipe_that_breaks_elsewhere_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("irbin.cli.app.app", lambda **_: broken())
    assert main(["kernels"]) == 1
    assert capsys.readouterr().err == "irbin: Broken pipe\n"


class Full(io.RawIOBase):
    """A disk without room."""

    room = 0

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return memoryview(content).nbytes  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("write_through", [False, True], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "words",
    [
        ["zoo"],
        ["zoo", "--json", "-"],
        ["recipes"],
        ["recipes", "show", "default"],
        ["--help"],
        ["--version"],
        ["kernels"],
        ["kernels", "--json", "-"],
    ],
    ids=" ".join,
)
def test_a_full_standard_output_is_named(
    words: list[str],
    write_through: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk = Full()
    buffered = io.BufferedWriter(disk, 1 if write_through else 100_000)
    stream = io.TextIOWrapper(buffered, encoding="utf-8", write_through=write_through)
    monkeypatch.setattr("sys.stdout", stream)
    assert main(words) == 1
    assert capsys.readouterr().err.endswith(f"{FULL}\n")
    assert sys.stdout is stream
    disk.room = 1
    stream.close()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_python_does_not_complain_of_it_again(unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "irbin", "zoo", "--json", "-"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (
        1,
        [FULL],
    )
