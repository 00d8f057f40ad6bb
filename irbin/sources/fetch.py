"""Pretrained weights are fetched, never run; where that fails, the error says what was tried."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import constants

from irbin.errors import SourceError
from irbin.messages import with_class

_TRANSPORTS = {"httpx", "httpx2", "httpcore", "httpcore2", "huggingface_hub", "requests", "urllib3"}
"""Packages whose errors mean that a file could not be fetched; they have no common ancestor."""


def fetch_url(url: str, name: str) -> Path:
    """The file behind `url` in torch's hub cache, downloaded if it is not there yet.

    Args:
        url: ends in a file name that holds the start of its SHA-256, as torchvision's do.
        name: whose weights they are, for the message.

    Raises:
        SourceError: the file is not in the cache and cannot be downloaded.
    """
    file_name = url.rpartition("/")[2]
    path = cached_path(url)
    if path.is_file():
        return path
    match = re.search(r"-([a-f0-9]{8,})\.", file_name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), match[1] if match else None, progress=False)
    except (OSError, RuntimeError) as error:  # RuntimeError: the hash differs
        raise url_unreachable(name, url, error) from error
    return path


def cached_path(url: str) -> Path:
    """Where torch's hub keeps the file behind `url`."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def is_unreachable(error: BaseException) -> bool:
    """Whether an exception says that a file could not be fetched, not that it is no good."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _TRANSPORTS


def url_unreachable(name: str, url: str, error: Exception) -> SourceError:
    """The error for a plain URL: names it and torch's cache file."""
    places = f"`{url}` and the file `{cached_path(url)}`"
    reason = with_class(error)
    return _unreachable(name, places, reason, "TORCH_HOME", "give `pretrained=False`")


def hub_unreachable(name: str, repository: str, error: Exception) -> SourceError:
    """The error for a Hugging Face repository: names it and the hub's cache folder."""
    places = f"`{repository}` on the Hugging Face hub and in its cache `{constants.HF_HUB_CACHE}`"
    reason = with_class(error)
    if not hub_has_address():
        reason = f"the host of {constants.ENDPOINT} cannot be resolved"
    # without its repository not even the architecture of an `hf-hub:` name is known
    is_registered = not name.startswith("hf-hub:")
    way_out = (
        "give `pretrained=False`" if is_registered else "download it and name `local-dir:PATH`"
    )
    return _unreachable(name, places, reason, "HF_HOME", way_out)


def _unreachable(name: str, places: str, reason: str, variable: str, way_out: str) -> SourceError:
    return SourceError(
        f"`{name}` cannot be fetched: looked for {places} ({reason}); connect once, point "
        f"{variable} to a filled cache, or {way_out}"
    )


def hub_has_address() -> bool:
    """Whether the hub's host name resolves, or a proxy is there to resolve it."""
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
    except OSError:
        return False
    return True


@contextmanager
def asking_the_hub() -> Iterator[None]:
    """While it lasts, the hub's client may run, and nothing that it fetches can run code.

    Where its host has no address the client is told that it is offline: it then looks into its
    cache at once instead of after a minute of retries.
    """
    was_offline = constants.HF_HUB_OFFLINE
    if not hub_has_address():
        constants.HF_HUB_OFFLINE = True
    try:
        with refusing_code():
            yield
    finally:
        constants.HF_HUB_OFFLINE = was_offline


@contextmanager
def refusing_code() -> Iterator[None]:
    """While it lasts, every `torch.load` of this process refuses code, whoever calls it.

    Older releases of timm load some files with `weights_only=False`.
    """
    changes = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
