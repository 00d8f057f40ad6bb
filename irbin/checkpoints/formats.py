"""The file formats of weights: torch's, safetensors, and indices of sharded ones, read as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from safetensors.torch import load_file
from torch import Tensor

from irbin.checkpoints.unpickle import read_torch
from irbin.errors import SourceError
from irbin.files import (
    MAX_POINTER_BYTES,
    not_fetched,
    pointer_size,
    read_json,
    refuse_doubled_names,
)
from irbin.interrupt import interrupt_after
from irbin.messages import as_text, first_line, is_text, system_says

INDEX_SUFFIX = ".index.json"
"""Ends the name of the file that says which shard holds which tensor."""

INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""What the Hugging Face hub's programs call it."""


_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
"""Whole weights, as timm looks for them in a folder."""


class Content(NamedTuple):
    """What a checkpoint file holds. Made by `read_content`."""

    entries: Mapping[Any, Any]
    """As saved, whatever wraps the weights."""
    is_ordered: bool
    """Whether tensors stand in the order in which they were saved: safetensors sorts them by type
    and name, an index of shards by name."""


def read_content(path: Path) -> Content:
    """The mapping that a checkpoint file holds; the content decides, not the name.

    A file of torch's is opened once, so that what was checked is what is read.

    Args:
        path: .pth, .pt, .tar, .bin, .ckpt (torch), .safetensors, or an index of shards.

    Raises:
        SourceError: the file is missing, empty, cut short, not a checkpoint, or would run code; of
            an index, also a shard that is missing, lies elsewhere, or lacks a tensor.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return Content(_read_shards(path), is_ordered=False)
    with _opened(path) as file:
        head = _head(path, file)
        if not (path.suffix == ".safetensors" or head[8:9] == b"{"):
            content = read_torch(path, file)
            if not isinstance(content, Mapping):
                raise SourceError(
                    f"`{path}`: expected a state dict, got a {type(content).__name__}; "
                    "save `model.state_dict()`"
                )
            return Content(content, is_ordered=True)
    return Content(_read_safetensors(path), is_ordered=False)


def index_in(folder: Path) -> Path | None:
    """The index of shards in a folder; None where there is none."""
    return next((folder / name for name in INDEX_FILES if (folder / name).is_file()), None)


def weights_in(folder: Path) -> Path | None:
    """The weights file of a folder, the one that timm would take; None where there is none."""
    files = [folder / name for name in (*_WEIGHT_FILES, *INDEX_FILES)]
    for pattern in ("*.safetensors", "*.pth", "*.pth.tar", "*.bin"):
        files += sorted(folder.glob(pattern))
    return next((file for file in files if file.is_file()), None)


def _opened(path: Path) -> BinaryIO:
    """A file that exists."""
    if path.is_dir():
        raise SourceError(f"`{path}`: expected a checkpoint file, got a folder")
    if path.exists() and not path.is_file():
        raise SourceError(f"`{path}`: expected a checkpoint file, got a device or a pipe")
    if not path.is_file():
        raise SourceError(f"`{path}`: no such file; expected a checkpoint")
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceError(f"`{path}`: cannot be read: {system_says(error)}") from error


def _head(path: Path, file: BinaryIO) -> bytes:
    """The first bytes of a file that is not empty, and no pointer of git's; it is wound back."""
    try:
        head = file.read(16)
    except OSError as error:
        raise SourceError(f"`{path}`: cannot be read: {system_says(error)}") from error
    if not head:
        raise SourceError(f"`{path}`: expected a checkpoint, the file is empty")
    if head.startswith(b"version https://"):
        _refuse_pointer(path, head + file.read(MAX_POINTER_BYTES))
    file.seek(0)
    return head


def _refuse_pointer(path: Path, note: bytes) -> None:
    """Says so where git has left the note that stands for a large file."""
    size = pointer_size(note)
    if size is not None:
        raise SourceError(f"`{path}`: expected a checkpoint, got {not_fetched(size)}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with interrupt_after():
            refuse_doubled_names(path)
            return load_file(path, device="cpu")
    except Exception as error:  # safetensors lets a dozen types through; nothing of the file ran
        if not is_text(str(path)):
            raise SourceError(
                f"`{as_text(str(path))}`: expected a path in UTF-8, safetensors reads no other; "
                "rename its folder"
            ) from error
        raise SourceError(
            f"`{path}`: expected a safetensors file, this one is cut short or damaged "
            f"({first_line(error)})"
        ) from error


def _read_shards(index: Path) -> dict[str, Tensor]:
    """Every tensor that an index names, from the shards beside it."""
    place = _weight_map(index)
    shards: dict[str, Mapping[Any, Any]] = {}
    for shard in dict.fromkeys(place.values()):
        if not (index.parent / shard).is_file():
            raise SourceError(f"`{index}`: its shard `{shard}` is missing; download it again")
        shards[shard] = read_content(index.parent / shard).entries
    tensors = {}
    for name, shard in place.items():
        tensor = shards[shard].get(name)
        if not isinstance(tensor, Tensor):
            raise SourceError(
                f"`{index}`: expected the tensor `{name}` in its shard `{shard}`, found none"
            )
        tensors[name] = tensor
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor → file name of its shard, which lies beside the index."""
    with _opened(index) as file:
        _head(index, file)
    try:
        content = read_json(index)
    except (ValueError, OSError) as error:
        raise SourceError(
            f"`{index}`: expected JSON, the file is cut short or damaged ({first_line(error)})"
        ) from error
    place = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(place, dict) or not place:
        raise SourceError(f"`{index}`: expected an index of shards with `weight_map`, found none")
    for shard in place.values():
        if not isinstance(shard, str) or not _is_plain(shard):
            raise SourceError(
                f"`{index}`: expected shards beside it, got `{shard}`; only file names are read"
            )
    return place


def _is_plain(name: str) -> bool:
    """Whether `name` is that of a weights file in the same folder, and nothing that leads out."""
    leads_out = name in ("", "..") or "\\" in name or Path(name).name != name
    return not leads_out and not name.endswith(INDEX_SUFFIX)
