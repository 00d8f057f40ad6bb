"""The public function `push`: a packed or network folder to the Hugging Face hub."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from irbin.artifact.read import read_artifact
from irbin.artifact.schema import CARD_FILE, CONFIG_FILE, FILES
from irbin.errors import SourceError, UsageError
from irbin.hub.reach import hub_has_address
from irbin.hub.repository import NETWORK_FILES, located
from irbin.messages import first_line, with_class, without_folders
from irbin.records.given import check_is
from irbin.records.results import PushRecord
from irbin.sources.folder import folder_kind

_MAY_BE_PATHS = ("spec", "weights", "model_kwargs", "model_args")
"""Fields of a `SourceRecord`, wherever a manifest holds one, and what timm calls the third."""
_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_OFFLINE = "the hub's host has no address here; connect first"


def push(
    folder: str | Path, repository: str, *, private: bool = False, dry_run: bool = False
) -> PushRecord:
    """Sends a folder's network to a repository, which is made where there is none.

    Only the files that irbin reads and the model card are sent, in one commit; of paths on this
    machine that the manifest holds (where the weights came from) the last part. The token is the
    one of the hub's own client (`hf auth login`, or `HF_TOKEN`); irbin neither asks for nor keeps
    any.

    Args:
        folder: a packed folder, one of the zoo's, or a network folder (`RUN/best`).
        repository: `OWNER/NAME`.
        private: for a new repository.
        dry_run: say what would be sent, and ask nobody.

    Returns:
        The files and their bytes.

    Raises:
        UsageError: it is no such folder, or the repository's name is none.
        SourceError, ArtifactError: a file is missing or damaged; or the hub refuses, or cannot be
            reached.
    """
    check_is("folder", folder, (str, Path), "a folder's path")
    check_is("repository", repository, str, "OWNER/NAME")
    if not _NAME.fullmatch(repository):
        raise UsageError(f"`repository`: expected OWNER/NAME, got `{repository}`")
    place = located(folder).expanduser()
    names = _checked(place, str(folder))
    with tempfile.TemporaryDirectory() as made:
        staged = Path(made)
        _stage(place, names, staged)
        sizes = {name: (staged / name).stat().st_size for name in names}
        record = PushRecord(str(folder), repository, sizes, private)
        if not dry_run:
            _send(staged, record)
    return record


def _stage(folder: Path, names: list[str], staged: Path) -> None:
    """Copies the files as they are to be sent."""
    for name in names:
        shutil.copyfile(folder / name, staged / name)
    manifest = json.loads((folder / CONFIG_FILE).read_bytes())
    told = _told(manifest)
    if told != manifest:
        (staged / CONFIG_FILE).write_text(json.dumps(told, indent=2) + "\n", "utf-8")


def _told(value: Any) -> Any:
    """A manifest without the folders in front of what was read."""
    if not isinstance(value, dict):
        return value
    return {
        name: _last_parts(held) if name in _MAY_BE_PATHS else _told(held)
        for name, held in value.items()
    }


def _last_parts(value: Any) -> Any:
    """Every text in a JSON value without the folders in front of it, where it is a path."""
    if isinstance(value, dict):
        return {name: _last_parts(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_last_parts(held) for held in value]
    return without_folders(value) if isinstance(value, str) else value


def _checked(folder: Path, told: str) -> list[str]:
    """The files to send, once they can be read.

    Raises:
        UsageError, SourceError, ArtifactError: see `push`.
    """
    kind, names = folder_kind(folder), list(FILES)
    if kind == "packed":
        read_artifact(folder)
    elif kind == "network":
        names = list(NETWORK_FILES)
        file = folder / NETWORK_FILES[1]
        try:
            with safe_open(file, "np"):
                pass
        except (OSError, SafetensorError) as error:
            raise SourceError(f"`{file}`: cannot be read ({first_line(error)})") from error
    else:
        raise UsageError(f"expected a packed or a network folder, got `{told}`{_hint(folder)}")
    return [*names, *([CARD_FILE] if (folder / CARD_FILE).is_file() else [])]


def _hint(folder: Path) -> str:
    """What to name instead."""
    if (folder / "packed").is_dir():
        return f"; give `{folder / 'packed'}`"
    if folder_kind(folder) == "run":
        return f", which is a run; give `{folder / 'best'}`, or what `irbin export` makes of it"
    return "" if folder.is_dir() else ", which is no folder"


def _send(folder: Path, record: PushRecord) -> None:
    """Makes the repository and commits the files.

    Raises:
        SourceError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi

    if not hub_has_address():
        raise SourceError(f"`{record.repository}` cannot be pushed: {_OFFLINE}")
    hub = HfApi(library_name="irbin")
    try:
        hub.create_repo(record.repository, private=record.private or None, exist_ok=True)
        hub.upload_folder(
            repo_id=record.repository,
            folder_path=folder,
            allow_patterns=list(record.files),
            commit_message="Pushed by irbin",
        )
    except Exception as error:  # the client and its transport have no common ancestor
        raise SourceError(
            f"`{record.repository}` cannot be pushed: {with_class(error)}; `hf auth login` or "
            "HF_TOKEN says who you are"
        ) from error
