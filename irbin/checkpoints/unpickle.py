"""torch's files read as data: what would run code is refused by name.

The one place that calls `torch.load`; `weights_only=True` is stated, so no environment variable
turns it off. Why a file is refused is found by reading opcodes, never by executing them.
"""

from __future__ import annotations

import argparse
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch

from irbin.errors import SourceError
from irbin.messages import first_line


def read_torch(path: Path, file: BinaryIO) -> object:
    """What `torch.load` gives, never running code from the file.

    Args:
        path: for messages.
        file: the same, open at its beginning.

    Raises:
        SourceError: the file is not torch's, is damaged, or would run code (the global is named).
    """
    head = file.read(4)
    is_zip, is_pickle = head == b"PK\x03\x04", head[:1] == b"\x80"
    if is_zip:
        _check_archive(path, file)
    if not (is_zip or is_pickle):
        raise SourceError(
            f"`{path}`: not a checkpoint; expected a file written by `torch.save` or safetensors"
        )
    file.seek(0)
    try:
        # timm's training checkpoints hold their arguments, a plain bag of values
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of foreign pickle protocols
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types on damaged files; no code of theirs ran
        raise SourceError(f"`{path}`: {_why_unreadable(path, is_zip, error)}") from error


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Refuses archives that `torch.save` did not write: NumPy's, scripts, what unpacks to more.

    Raises:
        SourceError: it says so.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RecursionError):
        return  # torch says what is wrong with it
    if members and all(one.filename.endswith(".npy") for one in members):
        raise SourceError(
            f"`{path}`: expected torch's weights or safetensors, got {len(members)} arrays of "
            "NumPy (.npz); save `{name: torch.from_numpy(array)}` with `torch.save`, under the "
            "network's names and in torch's order of axes"
        )
    if any(one.filename.endswith("/constants.pkl") for one in members):  # code is compressed there
        raise SourceError(f"`{path}`: {_SCRIPT}")
    packed = [one for one in members if one.file_size > one.compress_size]  # torch compresses none
    if packed:
        raise SourceError(
            f"`{path}`: expected an archive as `torch.save` writes it, `{packed[0].filename}` is "
            f"compressed from {packed[0].file_size} bytes to {packed[0].compress_size}; unpack it "
            "or save the checkpoint again"
        )


_SCRIPT = (
    "expected a state dict, got a TorchScript archive; save `model.state_dict()` of the network it "
    "came from"
)


def _why_unreadable(path: Path, is_zip: bool, error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        blocked = _blocked_global(path, is_zip, error)
        if blocked:
            return (
                f"would run code to unpickle `{blocked}`, which is refused; "
                "save `model.state_dict()` alone, or safetensors"
            )
        return "damaged, or not written by `torch.save`; expected a checkpoint"
    if "TorchScript" in str(error):
        return _SCRIPT
    return f"the checkpoint is cut short or damaged ({first_line(error)})"


def _blocked_global(path: Path, is_zip: bool, error: Exception) -> str | None:
    """The first global of the pickle that is not on torch's list of harmless ones."""
    if not is_zip and re.search(r"GLOBAL [\w.]+\. ", str(error)):
        return None  # a module without a name in it: the file is cut between the two
    match = re.search(r"(?:GLOBAL|class) ([\w.]+\.\w+)", str(error))
    if match:
        # a file cut inside a name that torch knows ends in one that it does not know, and torch
        # takes the last byte for the line's end
        name = match[1].rpartition(".")[2].encode()
        is_cut = not is_zip and _tail(path, len(name) + 1)[:-1] == name
        return None if is_cut else match[1]
    try:
        if is_zip:
            return min(torch.serialization.get_unsafe_globals_in_checkpoint(path), default=None)
        return _first_global(path)
    except Exception:  # damaged: then there is nothing to name
        return None


def _tail(path: Path, n_bytes: int) -> bytes:
    with path.open("rb") as file:
        file.seek(-n_bytes, os.SEEK_END)
        return file.read()


def _first_global(path: Path) -> str | None:
    """The first global that a plain pickle names, found by reading its opcodes, running none."""
    strings: list[str] = []
    with path.open("rb") as file:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if opcode.name == "STACK_GLOBAL":
                return ".".join(strings[-2:])
            if isinstance(argument, str):
                strings.append(argument)
    return None
