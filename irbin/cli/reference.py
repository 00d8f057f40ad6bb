"""Writes `docs/cli.md` from the commands themselves: `python -m irbin.cli.reference > docs/cli.md`.

`python -m irbin.cli.reference docs/python.md` writes that page's tables of options from the
records. A test compares both pages with what this gives, so neither can change alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from inspect import Parameter, cleandoc, signature
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

from irbin.cli.app import COMMANDS, PURPOSE
from irbin.cli.demo import JOURNEY
from irbin.cli.flags import docstring, reflow
from irbin.files import write_file
from irbin.recipes.recipe import Recipe
from irbin.records.analysis import AnalysisOptions
from irbin.records.bench import TimingOptions
from irbin.records.compression import CompressOptions
from irbin.records.in_c import COptions
from irbin.records.knob import knobs_of
from irbin.records.options import DataOptions, SourceOptions
from irbin.records.plan import PlanOptions
from irbin.records.prediction import PredictOptions

GENERAL = "Options"
HEAD = """\
# Command line

<!-- Written by `python -m irbin.cli.reference > docs/cli.md`: change the commands instead. -->

{purpose}

| | |
|---|---|
| `irbin --version` | prints the version |
| `irbin COMMAND --help` | lists a command's options |
| `irbin --install-completion` | completes commands and options in your shell |
| `python -m irbin` | is the same program |
| `--traceback`, `IRBIN_TRACEBACK=1` | shows where an error came from |
| `-q`, `IRBIN_LOG_LEVEL=error` | says nothing but results and errors |
| `-v`, `IRBIN_LOG_LEVEL=debug` | says what libraries say too |
| `irbin env` | says what a bug report needs; [environment variables](environment.md) |

A network's journey:

```
{journey}
```

Flags have timm's names and meanings wherever timm has them. Errors are one line on standard error:
what was expected, what came, what to do.

| exit code | |
|---|---|
| 0 | done |
| 1 | something went wrong: a file, a network, the data |
| 2 | the command line cannot be meant |
| 130 | Ctrl-C, or SIGTERM in training |
| 141 | nobody reads what is printed any more (`irbin zoo \\| head -1`); nothing is said |

Results go to standard output, progress and errors to standard error. With `--json -`, standard
output has the JSON and nothing else; everything else moves to standard error.

What takes longer than five seconds is named there, without a terminal too. Of Python's warnings
those are shown, a line each, that the network's own code gives by `warnings.warn`; with
`PYTHONWARNINGS=default` all are, torch's too. What a library logs, from warnings on, is a note that
names the library.

## What names a network

Every command takes the same things as SOURCE:

| SOURCE | is |
|---|---|
| `resnet18`, `timm:resnet18`, `resnet18.a1_in1k` | a timm model, with or without a tag |
| `hf-hub:owner/name`, `local-dir:path` | a model on the hub, or a folder that timm wrote |
| `hf-hub:owner/name@revision` | also what `irbin push` sent there: a packed or a network folder |
| `torchvision:resnet18` | a torchvision model |
| `paper:resnet20`, `paper:resnet18`, `paper:vgg-small` | the paper's CIFAR networks, untrained |
| `paper:resnet18-imagenet`, `paper:resnet34-imagenet` | its ImageNet networks, untrained |
| `module:package.mod:factory` | what your own function returns |
| `weights.pth`, `.pt`, `.tar`, `.bin`, `.safetensors` | a checkpoint, perhaps with `--model` |
| a folder that `irbin convert` wrote | the converted network |
| a run folder of `irbin finetune` | its `best`, else its `last` |
| a folder that `irbin export` wrote | the packed network (`inspect` and `eval`) |

As with timm, `--checkpoint FILE` gives the weights and SOURCE or `--model` the architecture.
"""


def reference() -> str:
    """The whole page."""
    parts = [HEAD.format(purpose=reflow(PURPOSE), journey="\n".join(JOURNEY))]
    parts += [section(name, command) for name, command in COMMANDS.items()]
    return "\n".join(parts)


def section(name: str, command: Callable[..., None]) -> str:
    """One command: usage, what it does, a table of options for each panel."""
    lines = [f"## irbin {name}", "", "```", _usage(name, command), "```", ""]
    lines += [cleandoc(docstring(command)), ""]
    panels: dict[str, list[str]] = {GENERAL: []}
    for parameter, info in _options(command):
        panel = info.rich_help_panel
        panels.setdefault(panel if isinstance(panel, str) else GENERAL, []).append(
            _row(parameter, info)
        )
    for panel, rows in panels.items():
        lines += [f"**{panel}**", "", "| option | | default |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _usage(name: str, command: Callable[..., None]) -> str:
    words, arguments = ["irbin", name], []
    for parameter in signature(command).parameters.values():
        info = parameter.annotation.__metadata__[0]
        if isinstance(info, ArgumentInfo):
            arguments.append(str(info.metavar))
        elif parameter.default is Parameter.empty:
            words.append(f"{_names(parameter, info)[-1]} {info.metavar}")
    return " ".join([*words[:2], *arguments, *words[2:], "[OPTIONS]"])


def _options(command: Callable[..., None]) -> Iterator[tuple[Parameter, OptionInfo]]:
    for parameter in signature(command).parameters.values():
        info = parameter.annotation.__metadata__[0]
        if isinstance(info, OptionInfo):
            yield parameter, info


def _names(parameter: Parameter, info: OptionInfo) -> list[str]:
    """As declared, or as Typer derives them from the parameter's name."""
    # In `Annotated`, typer.Option keeps its first name in `default`.
    first = (info.default,) if isinstance(info.default, str) else ()
    declared = [*first, *(info.param_decls or ())]
    return declared or ["--" + parameter.name.replace("_", "-")]


def _row(parameter: Parameter, info: OptionInfo) -> str:
    names = [name.replace("/", "`, `") for name in _names(parameter, info)]
    value = info.metavar or "|".join(_choices(parameter.annotation.__origin__))
    shown = ", ".join(f"`{name}`" for name in names) + (f" {value}" if value else "")
    cells = (shown, (info.help or "").replace("\\[", "["), _default(parameter, info))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _choices(kind: Any) -> tuple[str, ...]:
    """The words of a `Literal`, also inside `… | None`."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return next((choices for part in get_args(kind) if (choices := _choices(part))), ())


def _default(parameter: Parameter, info: OptionInfo) -> str:
    if parameter.default is Parameter.empty:
        return "required"
    if isinstance(info.show_default, str):
        return info.show_default
    if parameter.default is True:
        return "on"
    return str(parameter.default) if parameter.default not in (None, False, "") else ""


RECORDS: dict[str, type[Any]] = {
    record.__name__: record
    for record in (
        PlanOptions,
        SourceOptions,
        COptions,
        DataOptions,
        AnalysisOptions,
        CompressOptions,
        TimingOptions,
        PredictOptions,
        Recipe,
    )
}
"""Whose knobs a page may list, by the name in its `<!-- options: NAME -->`."""


def options_table(record: type[Any]) -> str:
    """A record's knobs for Python: name, what it does, what it takes, default."""
    rows = []
    for declared in knobs_of(record):
        values = ", ".join(f"`{value}`" for value in declared.values)
        default = "`" + repr(declared.default).replace("'", '"') + "`"
        if declared.knob.shown is not None:
            default += f": {declared.knob.shown}"
        cells = (f"`{declared.name}`", declared.knob.help, values, default)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(["| option | | takes | default |", "|---|---|---|---|", *rows])


def with_tables(page: str) -> str:
    """A page with the tables between `<!-- options: NAME -->` and `<!-- end -->` made again."""

    def made(match: re.Match[str]) -> str:
        return f"{match[1]}\n{options_table(RECORDS[match[2]])}\n<!-- end -->"

    marks = r"(<!-- options: (\w+) -->)\n.*?<!-- end -->"
    return re.sub(marks, made, page, flags=re.DOTALL)


def main(pages: Sequence[str]) -> None:
    """Prints the command line's page; or writes the tables of the pages that are named."""
    for name in pages:
        page = Path(name)
        write_file(page, with_tables(page.read_text("utf-8")).encode())
    if not pages:
        sys.stdout.write(reference())


if __name__ == "__main__":
    main(sys.argv[1:])
