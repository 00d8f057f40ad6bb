"""What the hub's client may do, and for how long it tries."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from irbin.hub.reach import asking_the_hub, hub_has_address, refusing_code

SWITCHES = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_foreign_loaders_cannot_unpickle_code(tmp_path: Path) -> None:
    path, target = tmp_path / "a.pth", tmp_path / "made by code"
    torch.save(Evil(target), path)
    with refusing_code(), pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=False)  # as some releases of timm do
    assert not target.exists()


@pytest.mark.parametrize("before", [None, "1"])
def test_switches_are_put_back(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    if before is not None:
        monkeypatch.setenv(SWITCHES[1], before)

    def fail() -> None:
        with refusing_code():
            assert os.environ[SWITCHES[0]] == "1"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert os.environ.get(SWITCHES[0]) is None
    assert os.environ.get(SWITCHES[1]) == before


def test_hub_client_is_offline_only_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://no-such-host.invalid")
    monkeypatch.setattr("irbin.hub.reach.getproxies", dict)
    with asking_the_hub():
        assert constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is False
    monkeypatch.setattr("irbin.hub.reach.getproxies", lambda: {"https": "http://proxy"})
    assert hub_has_address()  # the proxy resolves names
    with asking_the_hub():
        assert constants.HF_HUB_OFFLINE is False
