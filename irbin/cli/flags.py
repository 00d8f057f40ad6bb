"""Groups of options as frozen dataclasses, so that a flag shared by commands is written once.

Typer wants every option as a parameter of the command function. `flat` gives it that: a command
that takes `source: SourceFlags` gets one flat parameter for each field of `SourceFlags`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, cleandoc, getsource, signature, unwrap
from textwrap import dedent
from typing import Any, get_type_hints

import typer
from rich.console import Console
from typer.core import TyperOption


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """The same command under the flat signature that Typer reads.

    Args:
        command: parameters annotated with a dataclass are groups; all others stay as they are. A
        group's fields are `Annotated` with `typer.Option`, and their defaults are the options'.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {}
    parameters: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        kind = hints[parameter.name]
        if is_dataclass(kind) and isinstance(kind, type):
            groups[parameter.name] = kind
            parameters.extend(_field_parameters(kind))
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=kind))

    @wraps(command)
    def flattened(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{f.name: values.pop(f.name) for f in fields(kind)})
        command(**values)

    flattened.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # inspect's protocol
    flattened.__annotations__ = {p.name: p.annotation for p in parameters}
    return flattened


def _field_parameters(group: type[Any]) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for f in fields(group):
        default = Parameter.empty if f.default is MISSING else f.default
        yield Parameter(f.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[f.name])


NARROW = 100
"""Columns up to which long choices take several lines, so that none is broken in two."""
CHOICES_WIDTH = 20
"""Columns of such a line."""


class Command(typer.core.TyperCommand):
    """A command whose `--mean` and `--std` take all numbers that follow, as timm's do."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As Typer's; on a narrow screen a list of choices is broken between them."""
        if Console().width <= NARROW:
            for param in self.params:
                shown = param.display_type_rich(ctx) if isinstance(param, TyperOption) else None
                if shown is not None and "|" in shown:
                    param.metavar = choice_lines(shown)
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Joins the numbers by commas before anything else is read."""
        return super().parse_args(ctx, joined_numbers(args))


def choice_lines(choices: str) -> str:
    """`<a|b|c>` with a new line before a choice that `CHOICES_WIDTH` does not hold."""
    lines = [""]
    for piece in re.findall(r"[^|]+\|?", choices):
        if lines[-1] and len(lines[-1] + piece) > CHOICES_WIDTH:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def joined_numbers(words: list[str]) -> list[str]:
    """`--mean 0.5 0.5 0.5` as `--mean 0.5,0.5,0.5`."""
    joined: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        joined.append(word)
        numbers = []
        while word in _MANY_NUMBERS and rest and _NUMBERS.fullmatch(rest[0]):
            numbers.append(rest.pop(0))
        if numbers:
            joined.append(",".join(numbers))
    return joined


_MANY_NUMBERS = ("--mean", "--std")
_NUMBERS = re.compile(r"[-+.\d][-+.,/\de]*")


def given(group: Any, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields that the user set: those that are not None, tuples for lists.

    Args:
        group: instance of a group dataclass whose defaults are None.
        without: names of fields to leave out.
    """
    values = {f.name: getattr(group, f.name) for f in fields(group) if f.name not in without}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None
    }


def words(group: Any, *, without: tuple[str, ...] = ()) -> list[str]:
    """The words that set a group's fields on a command line: those that are not the defaults.

    Args:
        group: instance of a group dataclass, each flag named as its field.
        without: names of fields to leave out.
    """
    arguments: list[str] = []
    for f in fields(group):
        value = getattr(group, f.name)
        if f.name in without or value == f.default:
            continue
        flag = f.name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            arguments += [word for item in value for word in (f"--{flag}", str(item))]
        else:
            parts = value if isinstance(value, tuple) else (value,)
            arguments += [f"--{flag}", *map(str, parts)]
    return arguments


def docstring(command: Callable[..., Any]) -> str:
    """A function's docstring, also where `python -OO` threw it away: then its source tells."""
    if command.__doc__:
        return command.__doc__
    try:
        parsed = ast.parse(dedent(getsource(unwrap(command)))).body[0]
    except (OSError, SyntaxError):  # installed without sources
        return ""
    return ast.get_docstring(parsed) or "" if isinstance(parsed, ast.FunctionDef) else ""


def reflow(text: str) -> str:
    """A docstring with each paragraph on one line, so that help is broken where the screen ends."""
    paragraphs = cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
