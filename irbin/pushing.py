"""The public function `push`: a packed or network folder to the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from irbin.artifact.read import read_artifact
from irbin.artifact.schema import CARD_FILE, FILES
from irbin.errors import SourceError, UsageError
from irbin.hub.reach import hub_has_address
from irbin.hub.repository import NETWORK_FILES, located
from irbin.messages import first_line, with_class
from irbin.records.given import check_is
from irbin.records.results import PushRecord
from irbin.sources.folder import folder_kind

_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_OFFLINE = "the hub's host has no address here; connect first"


def push(
    folder: str | Path, repository: str, *, private: bool = False, dry_run: bool = False
) -> PushRecord:
    """Sends a folder's network to a repository, which is made where there is none.

    Only the files that irbin reads and the model card are sent, in one commit. The token is the
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
    sizes = {name: (place / name).stat().st_size for name in names}
    record = PushRecord(str(folder), repository, sizes, private)
    if not dry_run:
        _send(place, record)
    return record


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
