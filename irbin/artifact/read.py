"""A packed folder to a program and its tensors, every rule of the format checked on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irbin.artifact.schema import (
    CONFIG_FILE,
    FILES,
    PROGRAM_FILE,
    TENSORS_FILE,
    Manifest,
    manifest_from_json,
    stored_dtype,
)
from irbin.artifact.tensors import Stored, read_stored
from irbin.bits import tail_is_zero
from irbin.errors import ArtifactError
from irbin.files import (
    MAX_POINTER_BYTES,
    not_fetched,
    pointer_size,
    read_json,
    refuse_doubled_names,
)
from irbin.messages import counted, first_line, system_says
from irbin.program.own import binary_weight
from irbin.program.program import Node, Program
from irbin.program.types import TensorType
from irbin.records.options import FloatDtype, SourceRecord


@dataclass(frozen=True, eq=False)
class Artifact:
    """A packed folder in memory. Made by `read_artifact`, read by `runtime`."""

    path: str
    """Folder it came from."""
    manifest: Manifest
    """What it is."""
    program: Program
    """What it computes."""
    tensors: dict[str, Any]
    """The program's constants, floats widened to float32: arrays, or tensors of torch's; what is
    read of a folder is tensors only in bfloat16, which NumPy has not."""


def read_artifact(path: Path) -> Artifact:
    """Reads and checks a packed folder; runs nothing and unpickles nothing.

    Args:
        path: a folder that `write_artifact` made.

    Raises:
        ArtifactError: a file is missing, cut short or damaged, the version is another, or a rule
            of `docs/format.md` is broken; the message says which.
    """
    if not path.is_dir():
        raise ArtifactError(f"`{path}`: expected a packed folder, found no folder there")
    for name in FILES:
        if not (path / name).is_file():
            stands = (path / name).exists() or (path / name).is_symlink()
            lacks = f"what is called `{name}` in it is no file" if stands else f"it has no `{name}`"
            raise ArtifactError(f"`{path}`: expected a packed folder, but {lacks}")
        _refuse_pointer(path / name)
    manifest = manifest_from_json(_read_json(path / CONFIG_FILE), str(path / CONFIG_FILE))
    content = _read_json(path / PROGRAM_FILE)
    try:
        program = Program.from_json(content)
    except ArtifactError as error:
        raise ArtifactError(f"{path / PROGRAM_FILE}: {error}") from error
    if fault := _misfit(manifest.source, program) or _other_size(manifest.source, program):
        raise ArtifactError(f"{path / CONFIG_FILE}: at `source`: {fault}")
    try:
        refuse_doubled_names(path / TENSORS_FILE)
        stored = read_stored(path / TENSORS_FILE)
    except Exception as error:  # safetensors lets a dozen types through; nothing of the file ran
        why = first_line(error)
        raise ArtifactError(f"{path / TENSORS_FILE}: cut short or damaged: {why}") from error
    try:
        tensors = check_tensors(program, stored, manifest.float_dtype)
    except ArtifactError as error:
        raise ArtifactError(f"{path / TENSORS_FILE}: {error}") from error
    return Artifact(str(path), manifest, program, tensors)


def _misfit(source: SourceRecord, program: Program) -> str:
    """What the manifest says of classes that the program does not; '' if nothing."""
    n_classes, names = source.num_classes, source.class_names
    n_answers = _n_answers(program)
    if n_classes < 0 or (n_classes and n_answers not in (None, n_classes)):
        expected = "0 or more" if n_answers is None else f"{n_answers}, as the program answers"
        return f"`num_classes`: expected {expected}, got {n_classes}"
    if n_classes and names is not None and len(names) != n_classes:
        return f"`class_names`: expected {counted(n_classes, 'name')}, got {len(names)}"
    return ""


def _other_size(source: SourceRecord, program: Program) -> str:
    """What the manifest says of the images' size that the program does not; '' if nothing."""
    ((_, images),) = program.inputs.items()
    size, taken = source.preprocessing.input_size, images.shape[1:]
    pairs = zip(size, taken, strict=False)
    if len(taken) == len(size) and all(t == s for s, t in pairs if isinstance(t, int)):
        return ""
    return (
        f"`preprocessing.input_size`: expected {list(taken)}, as the program takes, got "
        f"{list(size)}"
    )


def _n_answers(program: Program) -> int | None:
    """Numbers of an image's answer where the program gives one list of them."""
    types = {**program.inputs, **program.constants, **{n.name: n.type for n in program.nodes}}
    kinds = [types[name] for name in program.outputs]
    if len(kinds) > 1 or not isinstance(kinds[0], TensorType) or len(kinds[0].shape) != 2:
        return None
    n = kinds[0].shape[1]
    return n if isinstance(n, int) else None


def check_tensors(
    program: Program, stored: Mapping[str, Stored], float_dtype: FloatDtype
) -> dict[str, Any]:
    """Holds a file's tensors against the program that names them.

    Args:
        program: its constants are what the file must hold, no more and no less.
        stored: as in the file.
        float_dtype: how float32 constants are stored.

    Returns:
        The tensors as the program's types say, see `Artifact`.

    Raises:
        ArtifactError: a tensor is missing, unknown, of another shape or type, or has tail bits set.
    """
    for name in stored:
        if name not in program.constants:
            raise ArtifactError(f"tensor `{name}` is not a constant of the program")
    for name, kind in program.constants.items():
        if name not in stored:
            raise ArtifactError(f"tensor `{name}` is missing")
        tensor = stored[name]
        dtype = stored_dtype(kind, float_dtype)
        if (tensor.shape, tensor.dtype) != (kind.shape, dtype):
            shape = ",".join(map(str, kind.shape))
            raise ArtifactError(f"tensor `{name}`: expected {dtype}[{shape}], got {tensor}")
    for node in program.nodes:
        _check_bits(node, stored)
    kinds = program.constants
    return {name: stored[name].as_dtype(kinds[name].dtype) for name in kinds}


def _check_bits(node: Node, stored: Mapping[str, Stored]) -> None:
    """Refuses weight bits beyond the last channel, and exponents that float32 cannot hold."""
    own = binary_weight(node)
    if own is None:
        return
    bits, scale_log2 = own.weight_bits.name, own.scale_log2
    if not tail_is_zero(stored[bits].array(), own.depth):
        raise ArtifactError(
            f"tensor `{bits}`: a tail bit is set beyond input channel {own.depth - 1}; "
            "all of them must be zero"
        )
    if scale_log2 is not None and bool((stored[scale_log2.name].array() < -126).any()):
        raise ArtifactError(f"tensor `{scale_log2.name}`: expected exponents from −126 to 127")


def _refuse_pointer(path: Path) -> None:
    """Says so where git has left the note that stands for a large file."""
    try:
        with path.open("rb") as file:
            size = pointer_size(file.read(MAX_POINTER_BYTES))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {system_says(error)}") from error
    if size is not None:
        raise ArtifactError(f"{path}: expected a packed folder's file, got {not_fetched(size)}")


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except ValueError as error:
        raise ArtifactError(f"{path}: cut short or damaged: {error}") from error
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {system_says(error)}") from error
