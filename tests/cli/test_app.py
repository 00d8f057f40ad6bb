from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import irbin
from irbin import processes
from irbin.cli.app import COMMANDS, app, explain, main
from irbin.errors import SourceError, TrainingError, UsageError

ROOT = Path(irbin.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}


def python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT | environment,
    )


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["finetune", "--help"], ["--version"]])
def test_help_loads_no_torch(words: list[str]) -> None:
    code = (
        "import sys; from irbin.cli.app import main; code = main(sys.argv[1:]); "
        "print([m for m in ('torch', 'timm', 'torchvision', 'numpy') "
        "if m in sys.modules]); sys.exit(code)"
    )
    done = python("-c", code, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_python_m_irbin_is_irbin() -> None:
    done = python("-m", "irbin", "--version")
    assert (done.returncode, done.stdout) == (0, f"irbin {irbin.__version__}\n")
    assert python("-m", "irbin", "convrt").returncode == 2


@pytest.mark.slow
def test_the_shell_completes_commands_and_choices() -> None:
    def complete(line: str) -> str:
        return python(
            "-m",
            "irbin",
            _IRBIN_COMPLETE="complete_bash",
            COMP_WORDS=line,
            COMP_CWORD=str(len(line.split(" ")) - 1),
        ).stdout

    assert complete("irbin co").split() == ["compress", "convert"]
    assert complete("irbin convert --bits 1w3").split() == ["1w32a"]
    assert complete("irbin finetune --recipe paper-v").split() == ["paper-vgg-small-cifar10"]


@pytest.mark.slow
@pytest.mark.parametrize("command", [*COMMANDS, None])
def test_every_help_fits_80_columns(run, monkeypatch, command: str | None) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = run(*([command] if command else []), "--help")
    assert done.code == 0
    assert "…" not in "".join(line[:27] for line in done.out.splitlines())  # no name is cut
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("command", ["convert", "finetune", "eval", "export"])
def test_no_choice_is_broken_in_two(run, monkeypatch, command: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = run(command, "--help").out
    for choices in ("nearest|bilinear|bicubic|box|hamming|lanczos", "center|squash|border"):
        for choice in choices.split("|"):
            assert re.search(rf"[<| ]{choice}[|>]", shown), choice


def test_no_command_shows_the_help(run) -> None:
    assert run().out == run("--help").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["convrt"], "irbin: No such command 'convrt'. Did you mean 'convert'; see `irbin --help`"),
        (["convert", "net"], "irbin: Missing option '--output' / '-o'; see `irbin convert --help`"),
        (["inspect", "net", "--bits", "2"], "'2' is not one of '1w1a', '1w32a'"),
        (["inspect", "a", "b"], "unexpected extra argument"),
        (["export", "run", "-o", "p", "--float-dtype", "int8"], "'int8' is not one of"),
        (["eval", "net", "-b", "0"], "see `irbin eval --help`"),
        (["inspect"], "irbin: expected a SOURCE, got none"),
        (["inspect", "net", "--nonsense"], "No such option: --nonsense"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(run, words: list[str], message: str) -> None:
    done = run(*words)
    assert done.code == 2
    assert done.out == ""
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_file_whose_name_was_read_as_options_is_told(run, tmp_path, monkeypatch) -> None:
    """As a shell's pattern gives it."""
    monkeypatch.chdir(tmp_path)
    for name in ("-b0.png", "-x.png"):
        (tmp_path / name).touch()
        done = run("predict", "packed", name)
        assert done.code == 2
        assert done.err.endswith(
            f"; the file `{name}` was read as options: put such names last, behind `--`\n"
        )
    assert "read as options" not in run("predict", "packed", "-b1.png").err
    assert "read as options" not in run("inspect", "--bits", "2", "--", "-x.png").err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SourceError("no [such]\n file"), 1, "irbin: no [such] file\n"),
        (UsageError("`x`: expected 1, got 2"), 2, "irbin: `x`: expected 1, got 2\n"),
        (
            ZeroDivisionError("a\nb"),
            1,
            "irbin: unforeseen ZeroDivisionError: a b (`--traceback` shows where)\n",
        ),
        (
            OSError(28, "No space left on device", "f"),
            1,
            "irbin: No space left on device: f; make room, and give the same line again\n",
        ),
        (MemoryError("big"), 1, "irbin: out of memory (big)\n"),  # `inspect` has no batches
        (KeyboardInterrupt(), 130, "irbin: stopped by Ctrl-C\n"),
    ],
)
def test_an_error_is_one_line(run, verbs, error: BaseException, code: int, line: str) -> None:
    verbs.raises = error
    done = run("inspect", "net")
    assert (done.code, done.out, done.err) == (code, "", line)


@pytest.mark.parametrize(("error", "code"), [(SourceError("gone"), 1), (None, 0)])
def test_when_all_is_said_a_group_that_an_error_left_is_left_too(
    verbs, error: BaseException | None, code: int, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By no way that waits for the others, as the interpreter's own end would under NCCL."""
    left: list[tuple[int, str]] = []
    monkeypatch.setattr(
        processes, "leave", lambda code: left.append((code, capsys.readouterr().err))
    )
    verbs.raises = error
    assert main(["inspect", "net"]) == code
    assert left == [(code, "irbin: gone\n" if error else "")]


@pytest.mark.parametrize(
    "words", [["--traceback", "inspect", "net"], ["inspect", "net", "--traceback"]]
)
def test_the_traceback_is_shown_on_request(run, verbs, words: list[str]) -> None:
    verbs.raises = SourceError("gone")
    done = run(*words)
    assert done.code == 1
    assert "Traceback (most recent call last)" in done.err
    assert done.err.endswith("irbin: gone\n")


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_the_environment_asks_for_the_traceback(
    verbs, monkeypatch, capsys, value: str, shown: bool
) -> None:
    monkeypatch.setenv("IRBIN_TRACEBACK", value)
    verbs.raises = SourceError("gone")
    assert main(["inspect", "net"]) == 1
    assert ("Traceback" in capsys.readouterr().err) == shown


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "net"],
        ["export", "run", "-o", "packed"],
        ["eval", "run", "packed", "--data-dir", "d", "--device", "cpu"],
    ],
    ids=lambda words: words[0],
)
def test_json_is_alone_whatever_libraries_print(run, verbs, words: list[str]) -> None:
    verbs.chatty = True
    done = run(*words, "--json", "-")
    json.loads(done.out)
    assert "Files already downloaded" in done.err


def test_a_long_message_is_not_wrapped(run, verbs, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    verbs.raises = SourceError("x" * 300)
    assert run("inspect", "net").err == f"irbin: {'x' * 300}\n"


BATCHES = "; try a smaller `--batch-size`"


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["eval", "net"], BATCHES),
        (["finetune", "net"], BATCHES),
        (["inspect", "net"], ""),
        (["export", "run"], ""),
        ([], ""),
        (["nonsense"], ""),
    ],
)
def test_a_smaller_batch_is_advised_where_there_are_batches(words, advice):
    short = RuntimeError("DefaultCPUAllocator: can't allocate memory: big")
    for error in (MemoryError("big"), short):
        assert explain(error, words) == (f"out of memory{advice} ({error})", 1)


def full(path: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", path)


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["export", "run"], "give the same line again"),
        (["finetune", "net"], "give the same line again"),
        (["compress", "net"], "the same line with `--resume` goes on"),
        (["compress", "net", "--resume"], "give the same line again"),
    ],
)
def test_a_full_disk_says_what_to_do(words: list[str], advice: str) -> None:
    assert explain(full("out"), words) == (
        f"No space left on device: out; make room, and {advice}",
        1,
    )
    wrapped = SourceError("`out` cannot be written")
    wrapped.__cause__ = full()
    assert explain(wrapped, words)[0] == f"{wrapped}; make room, and {advice}"


def test_what_to_do_about_a_full_disk_is_said_once() -> None:
    told = TrainingError("not saved; make room, and `resume=True` goes on")
    told.__cause__ = full()
    assert explain(told, ["finetune"])[0] == str(told)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_cuts_no_name_at_80_columns(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert not re.findall(r"--[\w-]*…", text)
    declared = {
        name
        for parameter in typer.main.get_command(app).commands[command].params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    }
    assert {name for name in declared if not re.search(rf"{name}(?![\w-])", text)} == set()
