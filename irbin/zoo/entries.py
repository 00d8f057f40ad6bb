"""`zoo:NAME`: a network that came with irbin, packed or float, found and told of. Torch-free.

`python -m docs.maintain.zookeeper` makes the folders that lie beside this file.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from irbin.errors import SourceError, UsageError
from irbin.messages import N_NAMED, names_of, nearest_names
from irbin.records.given import check_is
from irbin.records.json import from_json
from irbin.records.zoo import ZooRecord

PREFIX = "zoo:"
ROOT = Path(__file__).parent
RECORD_FILE = "record.json"

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def is_name(text: str) -> bool:
    """Whether an entry may be called so: small letters and digits, words joined by hyphens."""
    return _NAME.fullmatch(text) is not None


def entry_names() -> tuple[str, ...]:
    """Names of all entries, sorted."""
    folders = (file.parent.name for file in ROOT.glob(f"*/{RECORD_FILE}"))
    return tuple(sorted(filter(is_name, folders)))  # not what is still being written


def is_entry(spec: object) -> bool:
    """Whether `spec` is written as the zoo's networks are: `zoo:NAME`."""
    return isinstance(spec, str | Path) and str(spec).startswith(PREFIX)


def located(spec: str | Path) -> Path:
    """The folder behind `zoo:NAME`; of anything else the path that it is.

    Raises:
        SourceError: the zoo has no such entry.
    """
    if not is_entry(spec):
        check_is("path", spec, (str, os.PathLike), "a folder's name or path")
        return Path(spec)
    return ROOT / _known(str(spec).removeprefix(PREFIX))


def read_record(name: str) -> ZooRecord:
    """How an entry was made and how good it is.

    Args:
        name: with or without `zoo:`.

    Raises:
        SourceError: there is no such entry, or its record is damaged.
    """
    file = ROOT / _known(name.removeprefix(PREFIX)) / RECORD_FILE
    try:
        return from_json(ZooRecord, json.loads(file.read_text(encoding="utf-8")), str(file))
    except (OSError, ValueError) as error:
        reason = str(error) if isinstance(error, UsageError) else f"{file}: {error}"
        raise SourceError(f"expected the record of an entry, got: {reason}") from error


def all_records() -> list[ZooRecord]:
    """Of every entry, by name."""
    return [read_record(name) for name in entry_names()]


def _known(name: str) -> str:
    known = entry_names()
    if name in known:
        return name
    near = nearest_names(name, known) or known[:N_NAMED]
    shown = names_of(f"{PREFIX}{one}" for one in near) if near else "none, it is empty"
    raise SourceError(f"the zoo has no `{PREFIX}{name}`; nearest: {shown}; `irbin zoo` lists all")
