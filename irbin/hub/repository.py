"""`hf-hub:OWNER/NAME[@REVISION]`: a repository that irbin pushed, as a folder of the hub's cache.

What a repository holds is told by its `config.json`; one that is not irbin's is left to timm. Only
JSON and safetensors are fetched, and nothing is imported that a repository names. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irbin.artifact.schema import CARD_FILE, FILES, FORMAT
from irbin.artifact.schema import CONFIG_FILE as CONFIG
from irbin.errors import SourceError
from irbin.files import read_json
from irbin.messages import with_class
from irbin.zoo.entries import located as located_here

PREFIXES = ("hf-hub:", "hf_hub:")
NETWORK_FILES = (CONFIG, "model.safetensors")
"""Of a network folder; a packed one's are `artifact.schema.FILES`."""

_fetched: dict[str, Path] = {}
"""Folders by name, found in this process: the hub is asked once."""


def is_on_hub(spec: object) -> bool:
    """Whether `spec` is written as the hub's repositories are."""
    return isinstance(spec, str | Path) and str(spec).startswith(PREFIXES)


def located(spec: str | Path) -> Path:
    """The folder behind `zoo:NAME` or a repository of irbin's; of anything else the path it is.

    Raises:
        SourceError: the zoo has no such entry, or the repository's files cannot be fetched or name
            code to be imported.
    """
    folder = folder_of(str(spec)) if is_on_hub(spec) else None
    return located_here(spec) if folder is None else folder


def folder_of(spec: str) -> Path | None:
    """A repository's files in the hub's cache, fetched where they are not there.

    Args:
        spec: as `hf-hub:OWNER/NAME`, perhaps with `@REVISION`.

    Returns:
        None where it is not irbin's, or nobody can say: timm then tells what it is, or why not.

    Raises:
        SourceError: see `located`.
    """
    if spec in _fetched:
        return _fetched[spec]
    from huggingface_hub import hf_hub_download, snapshot_download

    from irbin.hub.reach import asking_the_hub

    repository, _, revision = spec.partition(":")[2].partition("@")
    where: dict[str, Any] = {"repo_id": repository, "revision": revision or None}
    try:
        with asking_the_hub():
            config = read_json(Path(hf_hub_download(filename=CONFIG, **where)))
    except Exception:  # the hub's client and its transport have no common ancestor
        return None
    names = _files(spec, config)
    if names is None:
        return None
    try:
        with asking_the_hub():
            folder = Path(snapshot_download(allow_patterns=[*names, CARD_FILE], **where))
    except Exception as error:
        raise _out_of_reach(spec, repository, error) from error
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise SourceError(
            f"`{spec}`: expected {', '.join(f'`{name}`' for name in names)} there, found no "
            f"`{missing[0]}`; push it again, or name another revision"
        )
    _fetched[spec] = folder
    return folder


def _files(spec: str, config: Any) -> tuple[str, ...] | None:
    """What to fetch of a repository with this `config.json`; None where it is not irbin's.

    Raises:
        SourceError: it names code, which is imported for those alone who name it themselves.
    """
    if not isinstance(config, Mapping):
        return None
    if config.get("format") == FORMAT:
        return FILES
    ours = config.get("irbin")
    if not isinstance(ours, Mapping):
        return None
    source = ours.get("source")
    architecture = source.get("architecture") if isinstance(source, Mapping) else None
    if isinstance(architecture, str) and architecture.startswith("module:"):
        raise SourceError(
            f"`{spec}` is built by code that it names (`{architecture}`), which is not imported "
            "for what comes from the hub; download it, look at it, and name its folder"
        )
    return NETWORK_FILES


def _out_of_reach(spec: str, repository: str, error: Exception) -> SourceError:
    from irbin.hub.reach import hub_unreachable, is_unreachable

    if is_unreachable(error):
        return hub_unreachable(spec, repository, error)
    return SourceError(f"`{spec}` cannot be fetched: {with_class(error)}")
