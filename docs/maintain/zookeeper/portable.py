"""What of a folder's name may leave the machine: its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath

from irbin.records.json import JsonValue


def portable(value: JsonValue) -> JsonValue:
    """JSON values whose strings name no folder of a machine: of an absolute path the end is left.

    That is its last name, and for a run's `best` or `last` the run's too.
    """
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    if not isinstance(value, str):
        return value
    if is_absolute(value):
        parts = PureWindowsPath(value).parts  # which takes both kinds of slash
        return "/".join(parts[-2:] if parts[-1] in ("best", "last") else parts[-1:])
    kind, colon, rest = value.partition(":")
    return f"{kind}:{portable(rest)}" if colon and is_absolute(rest) else value


def is_absolute(text: str) -> bool:
    """Whether this is a path from the root or a home folder, as any system writes it."""
    if text.startswith("//") and not text.startswith("///"):  # what follows `https:`
        return False
    here = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return here or text.startswith("~")


def portable_folder(typed: str | None) -> str | None:
    """Of an absolute folder of images the last name, behind `data/` where it lies in such a one."""
    if not typed or not is_absolute(typed):
        return typed
    parts = PureWindowsPath(typed).parts
    return "/".join(parts[-2:] if parts[-2:-1] == ("data",) else parts[-1:])
