"""The folder that `compress` fills, and `compress.json` in it: what was asked, how far it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irbin.errors import UsageError
from irbin.files import read_json, traces, write_file
from irbin.records.compression import Compression
from irbin.records.json import JsonValue, from_json, to_json
from irbin.report.jsonout import dumps

STATE_FILE = "compress.json"
EVALUATION_FILE = "evaluation.json"
REPORT_FILE = "report.html"
FLOAT, CONVERTED, RUN, PACKED = "float", "converted", "run", "packed"

_DECIDED = (
    "path",
    "asked",
    "trains_float",
    "begins_trained",
    "beside_bytes",
    "proposed_keep",
    "outcomes",
    "seconds",
)
"""What a damaged measurement does not take away."""


def began(out: Path) -> Compression | None:
    """How far an earlier call has come in `out`; None where there was none.

    Raises:
        UsageError: something else stands there, or the file that says it is damaged.
    """
    file = out / STATE_FILE
    if file.is_file():
        return _read(file)
    if out.is_dir() and {path.name for path in out.iterdir()} <= traces(file):
        return None
    if out.exists() or out.is_symlink():
        raise UsageError(f"`{out}` exists and is no folder of `compress`; choose another folder")
    return None


def keep(record: Compression) -> None:
    """Writes how far it has come, whole or not at all."""
    write_file(Path(record.path) / STATE_FILE, dumps(to_json(record)).encode())


def check_same(record: Compression, asked: dict[str, JsonValue], out: Path) -> None:
    """Checks that a call asks for what was begun.

    Raises:
        UsageError: it does not; names what differs.
    """
    old, new = _flat(record.asked), _flat(asked)
    changed = [
        f"`{name}` was {_told(old, name)}, is {_told(new, name)}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    if changed:
        raise UsageError(
            f"`{out}` was begun with other arguments: {'; '.join(changed[:3])}; give the same, or "
            "another `out=`"
        )


def _read(file: Path) -> Compression:
    try:
        value: Any = read_json(file)
        asked = value["asked"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"`{file}` is damaged ({error}), so nothing can go on with it; choose another folder"
        ) from error
    if not isinstance(asked, dict):
        raise UsageError(_DAMAGED.format(file=file, error="`asked` is no object"))
    value["path"] = str(file.parent)  # the folder may have moved
    try:
        return from_json(Compression, value, str(file))
    except UsageError:  # a loss that is no number, say: it is measured again
        known = {name: value[name] for name in _DECIDED if name in value}
        return from_json(Compression, known, str(file))


_DAMAGED = "`{file}` is damaged ({error}), so nothing can go on with it; choose another folder"


def _flat(asked: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Arguments that were given by name, those of records among them."""
    flat: dict[str, JsonValue] = {}
    for name, value in asked.items():
        flat.update(value if isinstance(value, dict) else {name: value})
    return {name: value for name, value in flat.items() if value not in (None, [], "", {})}


def _told(arguments: dict[str, JsonValue], name: str) -> str:
    if name not in arguments:
        return "not given"
    value = arguments[name]
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_LONGEST = 80
"""Characters of a value in a message."""
