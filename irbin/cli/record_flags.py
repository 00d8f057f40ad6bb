"""A record's knobs as flags: names, types, defaults and help come from the record's fields."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeAlias,
    get_args,
    get_origin,
    get_type_hints,
)

import typer

from irbin.errors import UsageError
from irbin.records.knob import Declared, knobs_of

Defaults = Literal["set", "shown", "hidden"]
"""`set`: a flag that is not given has the field's default. Else it is None, since something else
may say: the field's default is shown, or it is not."""


FROM_RECORD: TypeAlias = Any
"""Annotation of a flag that is listed before others; the record declares it."""


class Flags:
    """A group of flags; a subclass names the record that they are the knobs of.

    What the subclass annotates itself comes first: a field of the record's as `FROM_RECORD`, which
    says nothing but its place, and flags that are no field with a `typer.Option` of their own.
    """

    knobs: ClassVar[dict[str, Declared]]
    """What the record declares."""

    if TYPE_CHECKING:  # fields come from the record

        def __init__(self, **values: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

    def __init_subclass__(
        cls,
        *,
        record: type[Any],
        defaults: Defaults = "set",
        only: Sequence[str] | None = None,
        panel: str | None = None,
        shown: str = "",
    ) -> None:
        """Makes the subclass a frozen dataclass, a field a flag.

        Args:
            record: declares the knobs.
            defaults: see `Defaults`.
            only: names of the knobs that are flags of this group; None takes all.
            panel: heading of them all; None takes each knob's own.
            shown: with `panel`, what is said of every default.
        """
        cls.knobs = {
            declared.name: declared
            for declared in knobs_of(record)
            if only is None or declared.name in only
        }
        own = get_type_hints(cls, include_extras=True) if "__annotations__" in vars(cls) else {}
        own.pop("knobs", None)
        annotations = {}
        for name in (*own, *(name for name in cls.knobs if name not in own)):
            if name in cls.knobs:
                annotations[name], default = _flag(cls.knobs[name], defaults)
                if panel is not None:
                    option = elsewhere(annotations[name], panel, shown)
                    annotations[name] = Annotated[annotations[name].__origin__, option]
                setattr(cls, name, default)
            else:
                annotations[name] = own[name]
        cls.__annotations__ = annotations
        dataclass(frozen=True)(cls)

    def values(self) -> dict[str, Any]:
        """What was typed, by field of the record and as the record has it; None is left out.

        Raises:
            UsageError: words that are not what the field takes.
        """
        typed = {name: getattr(self, name) for name in self.knobs}
        return {
            name: _read(self.knobs[name], value)
            for name, value in typed.items()
            if value is not None
        }


def elsewhere(flag: Any, panel: str, shown: str | bool) -> Any:
    """A flag's option as another command lists it: in another panel, with another default.

    Args:
        flag: `Annotated` with a `typer.Option`, see `flag_of`.
        panel: its heading there.
        shown: what is said of its default there.
    """
    option = copy.copy(next(one for one in flag.__metadata__ if hasattr(one, "show_default")))
    option.rich_help_panel, option.show_default = panel, shown
    return option


def flag_of(record: type[Any], name: str) -> Any:
    """One knob of a record as a flag that may be left out, `Annotated` for Typer."""
    (declared,) = (one for one in knobs_of(record) if one.name == name)
    return _flag(declared, "hidden")[0]


def _flag(declared: Declared, defaults: Defaults) -> tuple[Any, Any]:
    """A flag's annotation for Typer, and its default."""
    knob, kind = declared.knob, typed_as(declared)
    is_some = declared.default not in (None, (), {})
    default = declared.default if defaults == "set" and is_some else None
    shown: bool | str = defaults != "hidden"
    if defaults == "shown" and is_some:
        shown = str(declared.default)
    option: Any = typer.Option(
        *flag_names(declared, one_sided=default is False),
        metavar=knob.metavar,
        min=knob.least,
        max=knob.most,
        rich_help_panel=knob.panel,
        show_default=shown if knob.shown is None or defaults == "hidden" else knob.shown,
        help=help_of(declared),
    )
    return Annotated[kind if default is not None else kind | None, option], default


def typed_as(declared: Declared) -> Any:
    """The type of what is typed for a knob, as Typer reads it.

    Raises:
        TypeError: nothing that is typed has the field's type; then its `Knob` must say `typed`.
    """
    if declared.knob.typed is not None:
        return declared.knob.typed
    if bool in declared.kinds:
        return bool
    if len(declared.kinds) != 1:
        raise TypeError(f"`{declared.name}`: expected one type or `typed`, got {declared.kind}")
    (kind,) = declared.kinds
    if get_origin(kind) is dict:
        return list[str]
    if get_origin(kind) is tuple and get_args(kind)[-1] is ...:
        return list[get_args(kind)[0]]  # type: ignore[misc]  # a type of its own for Typer alone
    return kind


def flag_names(declared: Declared, *, one_sided: bool) -> Sequence[str]:
    """A flag's names with their dashes; none where Typer makes the only one itself.

    Args:
        declared: the knob.
        one_sided: whether a switch only turns on.
    """
    name = declared.flag
    names = [f"--{name}"]
    if typed_as(declared) is bool and not one_sided:
        names = [f"--{name}/--{declared.knob.off or f'no-{name}'}"]
    names += [("-" if len(word) == 1 else "--") + word for word in declared.knob.also]
    typers_own = len(names) == 1 and typed_as(declared) is not bool and not declared.knob.named
    return () if typers_own else names


def help_of(declared: Declared) -> str:
    """A flag's help: other knobs as flags, and whether it may be repeated."""
    text = re.sub(r"`(\w+)`", lambda word: "--" + word[1].replace("_", "-"), declared.knob.help)
    if get_origin(typed_as(declared)) is list:
        return text.removesuffix(".") + "; repeatable."
    return text


def _read(declared: Declared, value: Any) -> Any:
    """What was typed, as the record has it."""
    flag = f"--{declared.flag}"
    origins = [get_origin(kind) for kind in declared.kinds]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list):
        return parse_pairs(value, flag) if dict in origins else tuple(value)
    if isinstance(value, str) and tuple in origins:
        return parse_numbers(value, flag)
    if isinstance(value, str) and int in declared.kinds and value.isdecimal():
        return int(value)
    return value


def parse_numbers(text: str, flag: str) -> tuple[float, ...]:
    """Numbers between spaces or commas; `1/255` is one.

    Raises:
        UsageError: there is something else.
    """
    numbers = []
    for word in text.replace(",", " ").split():
        above, slash, below = word.partition("/")
        try:
            numbers.append(float(above) / float(below) if slash else float(above))
        except (ValueError, ZeroDivisionError):
            raise UsageError(f"`{flag}`: expected numbers, got `{word}`") from None
    if not numbers:
        raise UsageError(f"`{flag}`: expected numbers, got none")
    return tuple(numbers)


def parse_pairs(pairs: list[str], flag: str) -> dict[str, Any]:
    """`KEY=VALUE` strings as a dictionary; a value that is a Python literal is taken as one.

    Raises:
        UsageError: a pair has no `=` or no key.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"`{flag}`: expected KEY=VALUE, got `{pair}`")
        try:
            values[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[key] = text
    return values
