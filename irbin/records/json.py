"""Records as plain JSON values and back; types are checked on the way in, by pydantic."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from irbin.errors import UsageError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

JsonValue = Any


_T = TypeVar("_T")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # a tenth of a second that `irbin --help` does not need

    return TypeAdapter(kind)


def to_json(record: object) -> JsonValue:
    """Plain JSON values (dict, list, str, int, float, bool, None) of a record."""
    kind: Any = type(record)
    return _adapter(kind).dump_python(record, mode="json")


def changed_fields(record: object) -> JsonValue:
    """As `to_json`, without fields that hold their default."""
    kind: Any = type(record)
    return _adapter(kind).dump_python(record, mode="json", exclude_defaults=True)


def from_json(kind: type[_T], value: JsonValue, where: str) -> _T:
    """The record of type `kind` behind JSON values.

    Args:
        kind: a record class of this room.
        value: what `json.load` gave.
        where: file name for the message.

    Raises:
        UsageError: a field is missing or has the wrong type. Unknown fields are ignored.
    """
    from pydantic import ValidationError

    try:
        key: Any = kind  # a cached function wants to see that it can be hashed
        record: _T = _adapter(key).validate_python(value)
        return record
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top level"
        raise UsageError(f"{where}: at `{place}`: {first['msg']}") from error
