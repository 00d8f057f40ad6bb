"""Pretrained weights are fetched, never run; where that fails, the error says what was tried."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from irbin.errors import SourceError
from irbin.hub.reach import unreachable
from irbin.messages import with_class


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


def url_unreachable(name: str, url: str, error: Exception) -> SourceError:
    """The error for a plain URL: names it and torch's cache file."""
    places = f"`{url}` and the file `{cached_path(url)}`"
    reason = with_class(error)
    return unreachable(name, places, reason, "TORCH_HOME", "give `pretrained=False`")
