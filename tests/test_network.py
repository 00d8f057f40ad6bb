"""Networks that earlier versions pickled whole are read: their classes are found by old names."""

from __future__ import annotations

import io
import pickle
import sys

import pytest
import torch

import irbin
from irbin import SourceOptions
from irbin.rewriting.further import Edits
from irbin.rewriting.installed import EditedForward, _new
from irbin.rewriting.shortcuts import ChannelBypass
from irbin.sources.paper import BasicBlock, CifarResNet, ImageNetResNet, PadShortcut, VggSmall

MOVED = {
    "further": (Edits,),
    "installed": (EditedForward, _new),
    "paper": (BasicBlock, CifarResNet, ImageNetResNet, PadShortcut, VggSmall),
    "shortcuts": (ChannelBypass,),
}
"""What such pickles name, by the module of `irbin.network` where it lay."""


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition("irbin.network")[1]]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("module", MOVED)
def test_what_lay_in_the_old_place_is_what_lies_in_the_new_one(module: str) -> None:
    for kind in MOVED[module]:
        stored = f"cirbin.network.{module}\n{kind.__name__}\n.".encode()
        assert pickle.loads(stored) is kind


@pytest.mark.slow
def test_a_network_saved_by_an_earlier_version_gives_its_answers() -> None:
    torch.manual_seed(0)
    untrained = SourceOptions(pretrained=False, num_classes=3)
    network = irbin.convert(
        "paper:resnet20", source_options=untrained, shortcut="bireal", activation="prelu"
    ).module.eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        answers = network(images)
    stored = pickle.dumps(network, protocol=2)  # names are lines there
    old = stored
    for module in MOVED:
        for room in ("rewriting", "sources"):
            old = old.replace(
                f"cirbin.{room}.{module}\n".encode(), b"cirbin.network.%b\n" % module.encode()
            )
    assert b"irbin.rewriting" not in old
    assert b"irbin.sources" not in old
    assert old.count(b"irbin.network.") >= 6
    with torch.no_grad():
        assert torch.equal(pickle.load(io.BytesIO(old))(images), answers)
