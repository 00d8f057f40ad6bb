"""What a packed folder holds: three files, and the manifest that `config.json` is.

`docs/format.md` is the specification; this file is its names and numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from irbin.artifact.decode import decode
from irbin.errors import ArtifactError
from irbin.program.types import TensorType
from irbin.records.feeding import fault_of
from irbin.records.json import JsonValue, changed_fields
from irbin.records.options import FloatDtype, SourceRecord
from irbin.records.plan import Plan

FORMAT: Final = "irbin-packed"
FORMAT_VERSION = 1
"""Raised whenever an older reader would misread a newer file; a reader takes its own alone."""

CONFIG_FILE = "config.json"
PROGRAM_FILE = "program.json"
TENSORS_FILE = "packed.safetensors"
FILES = (CONFIG_FILE, PROGRAM_FILE, TENSORS_FILE)
CARD_FILE = "README.md"
"""For people and hubs; nothing that runs the network reads it."""


def is_packed_folder(path: Path) -> bool:
    """Whether a folder is a packed one: its program tells it."""
    return (path / PROGRAM_FILE).is_file()


@dataclass(frozen=True)
class Manifest:
    """`config.json`. Made by `artifact.write`, read by `artifact.read`, kept by `PackedModel`."""

    irbin_version: str
    """Of the writer; nothing depends on it."""
    float_dtype: FloatDtype
    """How the program's float32 constants are stored."""
    source: SourceRecord
    """The float network: preprocessing, class names, where its weights came from."""
    plan: Plan
    """What was binarized, and why."""
    format: Literal["irbin-packed"] = FORMAT
    """Tells the folder from others with a `config.json`."""
    format_version: int = FORMAT_VERSION
    """See `FORMAT_VERSION`."""


def manifest_to_json(manifest: Manifest) -> dict[str, Any]:
    """Plain JSON values; fields of inner records that hold their default are left out."""
    changes: dict[str, Any] = changed_fields(manifest)
    return {"format": manifest.format, "format_version": manifest.format_version, **changes}


def manifest_from_json(value: JsonValue, where: str) -> Manifest:
    """The manifest behind JSON values.

    Args:
        value: what `json.load` gave.
        where: file name for messages.

    Raises:
        ArtifactError: another format or version, or a field is missing or has the wrong type.
    """
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ArtifactError(f"{where}: expected a packed folder's manifest (`format`: `{FORMAT}`)")
    version = value.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ArtifactError(
            f"{where}: expected format version {FORMAT_VERSION}, got {version!r}; read it with the "
            "irbin that wrote it, or export the network again"
        )
    try:
        manifest: Manifest = decode(Manifest, value, "")
    except ArtifactError as error:
        raise ArtifactError(f"{where}: {error}") from error
    if fault := fault_of(manifest.source.preprocessing):
        raise ArtifactError(f"{where}: at `source.preprocessing`: {fault}")
    return manifest


def stored_dtype(kind: TensorType, float_dtype: FloatDtype) -> str:
    """The element type in the file of a constant that is `kind` in the program."""
    return float_dtype if kind.dtype == "float32" else kind.dtype
