"""What Python gave as options, held against the types that their records declare; torch-free."""

from __future__ import annotations

import os
from functools import cache
from numbers import Integral, Real
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from irbin.errors import UsageError
from irbin.records.knob import Declared, knobs_of

LARGEST = 10**9
"""Of a number, where its knob says no other; nobody means more, and its products stay finite."""
_WORDS = {str: "a text", bool: "True or False", int: "a whole number", float: "a number"}


def check_record(record: object, *, values: bool = False) -> None:
    """Holds a record's knobs against their declarations, when it is made.

    Args:
        record: one whose fields carry a `Knob`.
        values: hold words and numbers against those that a command line takes, too; else whoever
            reads the record does.

    Raises:
        UsageError: a value of another type, or one that cannot be meant.
    """
    kind: Any = type(record)  # a cached function wants to see that it can be hashed
    for declared in _declared(kind):
        value, least = getattr(record, declared.name), declared.knob.least
        if value is declared.default:
            continue
        is_word = isinstance(value, str) and any(map(_is_words, declared.kinds))
        if not _fits(value, declared.kind) and (values or not is_word):
            raise UsageError(
                f"`{declared.name}`: expected {_in_words(declared.kind)}, got {_shown(value)}"
            )
        if not values or value is None:
            continue
        if least is not None and value < least:
            raise UsageError(f"`{declared.name}`: expected {least} or more, got {value}")
        most = declared.knob.most or LARGEST
        if isinstance(value, Integral) and int(value) > most:
            raise UsageError(f"`{declared.name}`: expected at most {most:,}, got {value}")


def check_is(name: str, value: object, kind: type | tuple[type, ...], how: str) -> None:
    """Refuses an argument that is no `kind`.

    Args:
        name: of the argument.
        value: what was given.
        kind: what it must be.
        how: how one is made, for the message.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(value, kind):
        raise UsageError(f"`{name}`: expected `{how}`, got {_shown(value)}")


def check_whole(name: str, value: object, *, least: int, most: int | None = None) -> None:
    """Refuses an argument that is neither None nor a whole number.

    Args:
        name: of the argument.
        value: what was given.
        least: smallest number that can be meant.
        most: largest one; None if there is none.

    Raises:
        UsageError: it is something else, or smaller, or larger.
    """
    if value is None:
        return
    is_whole = _fits(value, int) and value >= least  # type: ignore[operator]
    if not is_whole or (most is not None and value > most):  # type: ignore[operator]
        span = f"of {least} or more" if most is None else f"from {least} to {most}"
        raise UsageError(f"`{name}`: expected a whole number {span}, got {_shown(value)}")


@cache
def _declared(record: type[Any]) -> tuple[Declared, ...]:
    return knobs_of(record)


def _is_words(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _fits(value: object, kind: Any) -> bool:
    options = get_args(kind)
    if _is_words(kind):
        return value in options
    if get_origin(kind) is tuple:
        return isinstance(value, list | tuple) and all(_fits(item, options[0]) for item in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict)
    if options:
        return any(_fits(value, option) for option in options)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, (str, os.PathLike) if kind is str else kind)


def _in_words(kind: Any) -> str:
    options = get_args(kind)
    if _is_words(kind):
        return f"one of {', '.join(map(str, options))}"
    if get_origin(kind) is tuple:
        what = "whole numbers" if options[0] is int else "numbers"
        return f"{what} in a tuple" if ... in options else f"{len(options)} {what} in a tuple"
    if get_origin(kind) is dict:
        return "a dictionary"
    if options:
        return " or ".join(_in_words(option) for option in options if option is not NoneType)
    return _WORDS[kind]


def _shown(value: object) -> str:
    """A short value, or the name of its class."""
    if value is None:
        return "None"
    text = repr(value)
    if not isinstance(value, str | int | float | tuple | list) or len(text) > 60:
        return f"a `{type(value).__name__}`"
    return f"`{text}`"
