"""What a user can turn, declared once: a record's field carries its `Knob`.

Flags and their help, `docs/cli.md`, the tables of `docs/python.md` and the lines of
`irbin recipes show` are made from these declarations; nothing is typed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

NETWORK, IMAGES, DATA, RUN, PLAN = "Network", "Images", "Data", "Run", "Plan"
SCHEDULE, OPTIMIZER, METHOD = "Schedule", "Optimizer", "Method"
CROPS, AUGMENTATION = "Crops and flips", "Augmentation"
BUDGET = "Budget"

_Record = TypeVar("_Record")


@dataclass(frozen=True)
class Knob:
    """How a field is shown to people; stands in the `Annotated` of the field's type."""

    panel: str | None
    """Under which heading it is listed; None among what a command has anyway."""
    help: str
    """What it does, in one sentence with its full stop; other knobs stand in backticks."""
    metavar: str | None = None
    """What stands for a value; None lists the words that can be meant."""
    shown: str | None = None
    """What is said of the default, where that is not the field's default itself."""
    typed: type | None = None
    """Type of the word on a command line, where the field's own cannot be one."""
    least: int | None = None
    """Smallest number that a command line takes, where the record does not check it."""
    most: int | None = None
    """Largest one, likewise."""
    named: str | None = None
    """Its name on a command line, without dashes, where it is not the field's."""
    also: tuple[str, ...] = ()
    """Further names on a command line, without dashes; one letter is a short one."""
    off: str | None = None
    """Name that turns a switch off, where it is not `no-` and its own."""
    why: str = ""
    """Why the default is what it is."""


@dataclass(frozen=True)
class Declared:
    """One knob of a record. Made by `knobs_of`."""

    name: str
    """Of the field."""
    kind: Any
    """Its type without `Annotated`, at any depth."""
    default: Any
    """Of the field; None where it has none."""
    knob: Knob
    """What was declared."""

    @property
    def flag(self) -> str:
        """Its first name on a command line, without dashes."""
        return self.knob.named or self.name.replace("_", "-")

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types of a union, without None; else the type alone."""
        return tuple(kind for kind in _arms(self.kind) if kind is not NoneType)

    @property
    def values(self) -> tuple[str, ...]:
        """What can be meant, as written in Python: words in quotes, else types."""
        return tuple(text for kind in _arms(self.kind) for text in _texts(kind))


def knobs_of(record: type[Any]) -> tuple[Declared, ...]:
    """The knobs of a record class, in the order of its fields; fields without a `Knob` are none."""
    hints = get_type_hints(record, include_extras=True)
    return tuple(
        Declared(field.name, plain(hint), _default(field), knob)
        for field in fields(record)
        for hint in (hints[field.name],)
        for knob in _metadata(hint)
        if isinstance(knob, Knob)
    )


def taken(record: type[_Record], options: Mapping[str, Any]) -> tuple[_Record, dict[str, Any]]:
    """A record of those keyword arguments that are its knobs, and the other arguments."""
    names = {declared.name for declared in knobs_of(record)}
    own = {name: value for name, value in options.items() if name in names}
    return record(**own), {name: value for name, value in options.items() if name not in own}


def plain(kind: Any) -> Any:
    """A type without `Annotated`, at any depth."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return plain(inner[0])
    if origin is Literal or not inner:
        return kind
    bare = tuple(part if part is ... else plain(part) for part in inner)
    return reduce(or_, bare) if origin in (Union, UnionType) else origin[bare]


def _metadata(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__metadata__", ())


def _arms(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _texts(kind: Any) -> tuple[str, ...]:
    """How a type's values are written: each word of a `Literal`, or the type."""
    if get_origin(kind) is Literal:
        return tuple(f'"{word}"' for word in get_args(kind))
    if kind is NoneType:
        return ("None",)
    return (str(kind).replace("typing.", "") if get_args(kind) else kind.__name__,)


def _default(field: Any) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default
