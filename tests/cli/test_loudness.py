from __future__ import annotations

import logging

import pytest

from irbin.cli.console import notes
from irbin.cli.live import counting
from irbin.cli.loudness import LEVELS, VARIABLE, loudness, speaking
from irbin.errors import UsageError


@pytest.mark.parametrize(
    ("words", "left", "level"),
    [
        (["zoo"], ["zoo"], logging.INFO),
        (["-q", "zoo"], ["zoo"], logging.ERROR),
        (["zoo", "--quiet", "x"], ["zoo", "x"], logging.ERROR),
        (["zoo", "-v"], ["zoo"], logging.DEBUG),
        (["--verbose", "zoo", "-v"], ["zoo"], logging.DEBUG),
        (["predict", "net", "--", "-q"], ["predict", "net", "--", "-q"], logging.INFO),
        (["-v", "predict", "--", "-q"], ["predict", "--", "-q"], logging.DEBUG),
        ([], [], logging.INFO),
    ],
)
def test_flags_are_taken_in_any_position(words: list[str], left: list[str], level: int) -> None:
    assert loudness(words) == (left, level)


@pytest.mark.parametrize("name", [*LEVELS, " Error ", ""])
def test_the_variable_names_a_level(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(VARIABLE, name)
    assert loudness([])[1] == LEVELS.get(name.strip().lower(), logging.INFO)
    assert loudness(["-v"])[1] == logging.DEBUG  # a flag goes before it


def test_what_cannot_be_meant_is_refused(run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="opposites"):
        loudness(["-q", "-v"])
    monkeypatch.setenv(VARIABLE, "loud")
    done = run("zoo")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "irbin: `IRBIN_LOG_LEVEL`: expected one of error, warning, info, debug, got `loud`\n"
    )


@pytest.mark.parametrize(
    ("level", "own", "theirs"),
    [
        (logging.DEBUG, ["debug", "info", "warning", "error"], ["info", "warning", "error"]),
        (logging.INFO, ["info", "warning", "error"], ["warning", "error"]),
        (logging.WARNING, ["warning", "error"], ["warning", "error"]),
        (logging.ERROR, [], []),
    ],
)
def test_what_is_shown_of_what_is_logged(level, own, theirs, capsys, monkeypatch) -> None:
    """But errors of the command itself, which are told after it."""
    log, library = logging.getLogger("irbin"), logging.getLogger("some.library")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    before = log.level, logging.getLogger().level, logging.lastResort
    log.setLevel(logging.INFO)
    with speaking(level):
        for logger in (log, library):
            for name in ("debug", "info", "warning", "error"):
                getattr(logger, name)(f"{logger.name[0]} {name}")
    log.setLevel(before[0])
    assert (logging.getLogger().level, logging.lastResort) == before[1:]
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("note: i")] == [f"note: i {n}" for n in own]
    assert [line for line in said if "some" in line] == [f"note: some: s {n}" for n in theirs]


def test_quiet_has_no_progress_and_errors_still(run, verbs, capsys, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with speaking(logging.ERROR), counting("evaluating") as report:
        report(1, 2)
        notes().print("a note")
    assert capsys.readouterr() == ("", "")
    verbs.raises = UsageError("no")
    monkeypatch.delenv("FORCE_COLOR")
    done = run("inspect", "net", "-q")
    assert (done.code, done.err) == (2, "irbin: no\n")
