"""Options in messages as they are typed: irbin's errors and notes name them as Python does.

`data_dir=` becomes `--data-dir`, `bits='1w32a'` `--bits 1w32a`, `keep=['conv1']` `--keep 'conv1'`,
`irbin.convert(reparameterize=True)` `irbin convert --reparameterize`, and the argument that a
message begins with `--std` where it was `std`. Only what stands in backticks and names flags of a
command is changed.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Mapping
from functools import cache

import typer

_CODE = re.compile(r"`(irbin\.\w+\([^`]*\)|[a-z]\w*=(?!=)[^`]*)`")
"""A call of a public function, or keyword arguments."""

_REFUSED = re.compile(r"^((?:irbin|note): )?`([a-z_]+)`(?=: (?:expected|Input should) )")
"""The argument whose value is refused, behind what the line begins with."""


def as_typed(text: str) -> str:
    """A message whose options are those of the command line."""
    text = _REFUSED.sub(_flag, text)
    return _CODE.sub(lambda code: f"`{_command_line(code[1])}`", text)


def _flag(name: re.Match[str]) -> str:
    """An argument's flag in backticks; what stands there where it has none."""
    known = flags()
    return f"{name[1] or ''}`{known[name[2]][0]}`" if name[2] in known else name[0]


def _command_line(code: str) -> str:
    """What is typed for a piece of Python; the piece itself where nothing is."""
    known, commands = flags(), _Program.commands
    if code.endswith("=") and code[:-1] in known:
        return known[code[:-1]][0]
    call = code if code.startswith("irbin.") else f"irbin.none({code})"
    try:
        parsed = ast.parse(call, mode="eval").body
    except SyntaxError:
        return code
    if not isinstance(parsed, ast.Call) or not isinstance(parsed.func, ast.Attribute):
        return code
    words = []
    if parsed.func.attr in commands:
        words.append(f"irbin {commands[parsed.func.attr]}")
    elif call is code:
        return code
    for keyword in parsed.keywords:
        if keyword.arg not in known or not (typed := _typed(known[keyword.arg], keyword, call)):
            return code
        words.append(typed)
    return code if parsed.args else " ".join(words)


def _typed(names: tuple[str, str], keyword: ast.keyword, call: str) -> str:
    """A flag with its value; '' where a switch has no name that turns it off."""
    on, off = names
    try:
        value = ast.literal_eval(keyword.value)
    except ValueError:  # `1/255`
        return f"{on} {ast.get_source_segment(call, keyword.value)}"
    if isinstance(value, bool):
        return on if value else off
    if isinstance(value, list):
        return " ".join(f"{on} '{item}'" for item in value)
    parts = value if isinstance(value, tuple) else (value,)
    return " ".join([on, *(shlex.quote(str(part)) for part in parts)])


class _Program:
    app: typer.Typer | None = None
    """Whose flags are spoken of; None until there is one."""
    commands: Mapping[str, str] = {}
    """Public functions → their commands."""


def speak_for(app: typer.Typer, commands: Mapping[str, str]) -> None:
    """Says which program's flags messages name.

    Args:
        app: its commands are read when a message first names an option.
        commands: names of public functions → names of their commands.
    """
    _Program.app, _Program.commands = app, commands
    flags.cache_clear()


@cache
def flags() -> dict[str, tuple[str, str]]:
    """Parameters → the flags that set them and turn them off, the latter '' where there is none."""
    spelled: dict[str, tuple[str, str]] = {}
    if _Program.app is None:
        return spelled
    for command in typer.main.get_command(_Program.app).commands.values():  # type: ignore[attr-defined]
        for option in command.params:
            if option.opts[0].startswith("--"):
                off = option.secondary_opts[0] if option.secondary_opts else ""
                on, known_off = spelled.get(option.name, (option.opts[0], off))
                spelled[option.name] = (on, known_off or off)
    return spelled
