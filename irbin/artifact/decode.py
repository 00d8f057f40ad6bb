"""JSON values to the frozen records of a manifest, types checked; by hand, since loading is quick.

pydantic would do it in a line and costs a packed network four fifths of its loading time.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from irbin.bounds import TO_THE_END
from irbin.errors import ArtifactError
from irbin.program.types import shortened

_NUMBERS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def decode(kind: Any, value: object, place: str) -> Any:
    """The value of a type behind JSON.

    Args:
        kind: a record class, `int`, `float`, `str`, `bool`, `None`, `Any`, a `Literal`, or a
            union, `tuple` or `dict` of these.
        value: what `json.load` gave. Unknown keys of an object are ignored.
        place: dotted path for the message.

    Raises:
        ArtifactError: it is not one; the message says where.
    """
    origin = get_origin(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _record(kind, value, place)
    if origin in (Union, UnionType):
        return _union(get_args(kind), value, place)
    if origin is Literal:
        return _check(value in get_args(kind), value, f"one of {get_args(kind)}", place)
    if origin is tuple:
        return _tuple(get_args(kind), value, place)
    if origin is dict:
        inner = get_args(kind)[1]
        _check(isinstance(value, dict), value, "an object", place)
        assert isinstance(value, dict), "just checked"
        return {str(key): decode(inner, item, f"{place}.{key}") for key, item in value.items()}
    return _plain(kind, value, place)


def _record(kind: Any, value: object, place: str) -> Any:
    _check(isinstance(value, dict), value, "an object", place)
    assert isinstance(value, dict), "just checked"
    values = {}
    for name, (hint, is_required) in _hints(kind).items():
        inside = f"{place}.{name}" if place else name
        if name in value:
            values[name] = decode(hint, value[name], inside)
        elif is_required:
            raise ArtifactError(f"at `{inside}`: it is missing")
    return kind(**values)


@cache
def _hints(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Type and necessity of every field."""
    hints = get_type_hints(kind)
    return {
        f.name: (hints[f.name], f.default is MISSING and f.default_factory is MISSING)
        for f in fields(kind)
    }


def _union(kinds: tuple[Any, ...], value: object, place: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    (kind,) = (k for k in kinds if k is not NoneType)  # records have no other unions
    return decode(kind, value, place)


def _tuple(kinds: tuple[Any, ...], value: object, place: str) -> tuple[Any, ...]:
    _check(isinstance(value, list | tuple), value, "a list", place)
    assert isinstance(value, list | tuple), "just checked"
    if kinds[1:] != (...,):
        _check(len(value) == len(kinds), value, f"{len(kinds)} of them", place)
    else:
        kinds = kinds[:1] * len(value)
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(decode(kind, item, f"{place}.{i}") for i, (kind, item) in pairs)


def _plain(kind: Any, value: object, place: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        # Python's integers know no bound, floats do
        return float(_check(abs(value) <= TO_THE_END, value, _NUMBERS[float], place))  # type: ignore[arg-type]
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    return _check(fits, value, _NUMBERS[kind], place)


def _check(fits: bool, value: object, wanted: str, place: str) -> object:
    if not fits:
        raise ArtifactError(f"at {shortened(place)}: expected {wanted}, got {str(value)[:80]!r}")
    return value
