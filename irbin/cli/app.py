"""The program `irbin`: its commands, and how errors become one line and an exit code.

No torch is loaded here: every command imports what it needs when it runs.
"""

from __future__ import annotations

import inspect as inspect_module
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from irbin.cli.analyze import analyze
from irbin.cli.bench import bench
from irbin.cli.compress import compress
from irbin.cli.console import (
    STANDARD_OUTPUT,
    Stopped,
    finish_output,
    named_output,
    notes,
    say,
    speak_in_any_encoding,
    telling,
)
from irbin.cli.convert import convert
from irbin.cli.demo import demo
from irbin.cli.env import env
from irbin.cli.eval import evaluate
from irbin.cli.export import export
from irbin.cli.finetune import finetune
from irbin.cli.flags import Command, docstring, reflow
from irbin.cli.inspect import inspect
from irbin.cli.kernels import kernels
from irbin.cli.loudness import QUIET, VERBOSE, loudness, speaking
from irbin.cli.plot import plot
from irbin.cli.predict import predict
from irbin.cli.push import push
from irbin.cli.recipes import recipes
from irbin.cli.report import report
from irbin.cli.spelling import speak_for
from irbin.cli.warned import own_warnings_as_notes
from irbin.cli.zoo import zoo
from irbin.errors import IrbinError
from irbin.interrupt import held_to_the_end
from irbin.messages import lacks_memory, lacks_room, system_says
from irbin.version import __version__

TRACEBACK_FLAG, TRACEBACK_VARIABLE = "--traceback", "IRBIN_TRACEBACK"
FAILED = 1
"""Exit code of anything that went wrong; `UsageError` and Typer's own say 2."""
INTERRUPTED = 130
"""What Typer makes of Ctrl-C when it is not the one to exit, and a shell of SIGINT."""
NOBODY_READS = 141
"""What a shell makes of a program that SIGPIPE ended (`irbin zoo | head -1`)."""
LONGEST_MESSAGE = 500
"""Characters shown of an unforeseen error's message, which may be a page."""

PURPOSE = """Turn a pretrained network into a 1-bit IR-Net one.

The journey in one command: compress; step by step: inspect, convert, finetune, eval, export. To
watch it all on embedded data: irbin demo.
"""

app = typer.Typer(
    name="irbin",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "compress": compress,
    "inspect": inspect,
    "analyze": analyze,
    "convert": convert,
    "finetune": finetune,
    "recipes": recipes,
    "plot": plot,
    "report": report,
    "eval": evaluate,
    "predict": predict,
    "export": export,
    "push": push,
    "bench": bench,
    "zoo": zoo,
    "kernels": kernels,
    "env": env,
    "demo": demo,
}
for _name, _command in COMMANDS.items():
    app.command(name=_name, cls=Command, help=reflow(docstring(_command)))(_command)
speak_for(app, {command.__name__: name for name, command in COMMANDS.items()})


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"irbin {__version__}")
        raise typer.Exit


@app.callback(help=reflow(PURPOSE))
def top(
    version: Annotated[  # its callback prints
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
    with_traceback: Annotated[  # `main` takes it out of the command line
        bool,
        typer.Option(TRACEBACK_FLAG, help="Show where an error came from; works in any position."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option(*QUIET, help="Results and errors alone; works in any position.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option(*VERBOSE, help="What libraries say too; works in any position.")
    ] = False,
) -> None:
    """Options of the program itself; the commands have theirs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code; an error becomes one line on standard error.

    Args:
        arguments: words after the program's name; None takes them from the process.
    """
    speak_in_any_encoding()
    words = list(sys.argv[1:] if arguments is None else arguments)
    wants_traceback = os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0")
    if TRACEBACK_FLAG in words:
        wants_traceback = True
        words = [word for word in words if word != TRACEBACK_FLAG]
    with held_to_the_end():
        with named_output():
            code = _run(words, wants_traceback)
        if "irbin.processes" in sys.modules:  # else no group was joined, nor torch loaded for it
            sys.modules["irbin.processes"].leave(code)
    return code


def _run(words: Sequence[str], wants_traceback: bool) -> int:
    """The exit code of a command line, whose errors are printed."""
    try:
        words, level = loudness(words)
        with speaking(level), own_warnings_as_notes():
            code = app(args=words or ["--help"], prog_name="irbin", standalone_mode=False)
            finish_output()
    except Stopped:
        return INTERRUPTED
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (SystemExit, BrokenPipeError) as error:
        code = _code_of_broken_pipe(error, words)
    except Exception as error:
        if wants_traceback:
            traceback.print_exception(error)
        message, code = explain(error, words)
        with telling(error) as speaks:
            if speaks:
                say(notes(), f"irbin: {message}", style="red")
    if code == INTERRUPTED:
        say(notes(), "irbin: stopped by Ctrl-C", style="red")
    return code if isinstance(code, int) else 0


def _code_of_broken_pipe(error: SystemExit | BrokenPipeError, words: Sequence[str]) -> int:
    """The exit code where whoever read what is printed has gone, which ends a command quietly.

    Raises:
        SystemExit: it is another one.
    """
    # Typer and Rich leave by SystemExit while they handle a pipe's error
    pipe = error.__context__ if isinstance(error, SystemExit) else error
    if not isinstance(pipe, BrokenPipeError):
        raise error
    if pipe.filename != STANDARD_OUTPUT:
        try:
            say(notes(), f"irbin: {explain(pipe, words)[0]}", style="red")
        except (SystemExit, OSError):  # it was standard error that nobody reads
            return NOBODY_READS
        return FAILED
    return NOBODY_READS


def explain(error: Exception, words: Sequence[str]) -> tuple[str, int]:
    """One line for an error, and the exit code.

    Args:
        error: whatever a command raised.
        words: the command line, to name the help that would have told.
    """
    if isinstance(error, IrbinError):
        return _one_line(str(error)) + _room(error, words), error.exit_code
    if isinstance(error, typer.TyperException):
        named = [word for word in words[:1] if word in COMMANDS]
        helper = " ".join(["irbin", *named, "--help"])
        text = _one_line(error.format_message()).rstrip(".?").replace("Value error, ", "")
        return f"{text}; see `{helper}`{_dashed(words)}", error.exit_code
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{system_says(error)}{where}{_room(error, words)}", FAILED
    text = _one_line(str(error))[:LONGEST_MESSAGE]
    if lacks_memory(error):
        return f"out of memory{_advice(words)} ({text})", FAILED
    kind = type(error).__name__
    return f"unforeseen {kind}: {text} (`{TRACEBACK_FLAG}` shows where)", FAILED


def _dashed(words: Sequence[str]) -> str:
    """What to do where a file's name was read as options, as a shell's pattern gives it."""
    before = words[: words.index("--")] if "--" in words else words
    dashed = [word for word in before if word.startswith("-") and os.path.lexists(word)]
    if not dashed:
        return ""
    return f"; the file `{dashed[0]}` was read as options: put such names last, behind `--`"


def _room(error: Exception, words: Sequence[str]) -> str:
    """What to do about a full disk, where the message does not say it."""
    if not lacks_room(error) or "make room" in str(error):
        return ""
    goes_on = words[:1] == ["compress"] and "--resume" not in words
    again = "the same line with `--resume` goes on" if goes_on else "give the same line again"
    return f"; make room, and {again}"


def _advice(words: Sequence[str]) -> str:
    """What to do about a lack of memory, where the command has something."""
    command = COMMANDS.get(words[0]) if words else None
    named = inspect_module.signature(command).parameters if command is not None else {}
    has_batches = "batch_size" in named or "-b" in words or "--batch-size" in words
    return "; try a smaller `--batch-size`" if has_batches else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
