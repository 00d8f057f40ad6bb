"""The hub's client asked: offline at once where it has no address, never with code that runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

from irbin.errors import SourceError
from irbin.messages import with_class

_TRANSPORTS = {"httpx", "httpx2", "httpcore", "httpcore2", "huggingface_hub", "requests", "urllib3"}
"""Packages whose errors mean that a file could not be fetched; they have no common ancestor."""


def is_unreachable(error: BaseException) -> bool:
    """Whether an exception says that a file could not be fetched, not that it is no good."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _TRANSPORTS


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
    return unreachable(name, places, reason, "HF_HOME", way_out)


def unreachable(name: str, places: str, reason: str, variable: str, way_out: str) -> SourceError:
    """The error for a file that is neither at hand nor to be had.

    Args:
        name: whose it is.
        places: where it was looked for.
        reason: why there was none.
        variable: of the environment that moves the cache.
        way_out: what else helps.
    """
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
