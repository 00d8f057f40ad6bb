"""Settings that a rewritten forward decided once are told when they are set, each one once."""

from __future__ import annotations

import copy
import logging
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import irbin
from irbin import SourceOptions
from irbin.errors import TraceError

SIZE = (3, 8, 8)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.use_se, self.n_times, self.scale = True, 2, 3

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.n_times):
            x = self.norm(self.conv(F.relu(x)))
        if self.use_se:
            x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        if self.training:
            x = x + 1
        return x * self.scale


class Net(nn.Module):
    depth = 2

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 8, 1), Block(), nn.Linear(8, 4)

    def forward(self, x: Tensor, more: Tensor | None = None) -> Tensor:
        x = self.block(self.stem(x))
        if self.depth > 1:
            x = x.mean((2, 3))
        x = self.head(x)
        return x if more is None else x + more


def converted(source: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    how = SourceOptions(input_size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)
    return irbin.convert(source, source_options=how).module.eval()


X = torch.randn(4, *SIZE, generator=torch.Generator().manual_seed(1))


def line(name: str) -> str:
    return (
        f"setting `{name}` changes nothing: the conversion rewrote the forward of `Net` with what "
        "it decides, as it was; set it before converting"
    )


def test_setting_what_decided_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    source = Net()
    net = converted(source)
    before = net(X)
    caplog.clear()
    net.depth, net.block.use_se, net.block.n_times = 2, True, 2  # as they are
    assert caplog.messages == []
    net.depth, net.block.use_se = 0, False
    net.depth, net.block.use_se = 5, True
    net.block.n_times += 1
    assert caplog.messages == [line("depth"), line("block.use_se"), line("block.n_times")]
    assert torch.equal(net(X), before)
    caplog.clear()
    source.depth, source.block.use_se = 0, False
    assert caplog.messages == []
    assert type(source.block) is Block


def test_what_a_setting_changes_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    net = converted(Net())
    caplog.clear()
    net.block.scale = 0
    net.head, net.new = nn.Identity(), 3
    assert caplog.messages == []
    assert not net(X).any()


@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_tell_it_too(way, caplog: pytest.LogCaptureFixture) -> None:
    net = way(converted(Net()))
    caplog.clear()
    net.block.use_se = False
    assert caplog.messages == [line("block.use_se")]
    assert isinstance(net.block, Block)
    assert type(net.block).__name__ == "Block"


def test_graphs_made_later_decide_as_the_first_one_did() -> None:
    net, more = converted(Net()), torch.ones(4, 4)
    before = net(X)
    logging.getLogger("irbin").disabled = True
    try:
        net.block.n_times, net.block.use_se, net.depth = 3, False, 0
    finally:
        logging.getLogger("irbin").disabled = False
    torch.testing.assert_close(net(X, more), before + 1)
    assert (net.block.n_times, net.block.use_se, net.depth) == (3, False, 0)


@pytest.mark.parametrize("root", [True, False], ids=["trains", "evaluates"])
@pytest.mark.parametrize("part", [True, False], ids=["block trains", "block evaluates"])
def test_a_part_branches_on_its_own_mode(root: bool, part: bool) -> None:
    net = converted(Net())
    net.train(root).block.train(part)
    mean = net.block.norm.running_mean.clone()
    inner = net.block

    with torch.no_grad():
        y = net.stem(X)
        act = next(m for n, m in net.named_modules() if n.startswith("activation_"))
        for _ in range(2):
            y = inner.norm(inner.conv(act(y)))
        y = y * torch.sigmoid(y.mean((2, 3), keepdim=True))
        expected = net.head(((y + part) * inner.scale).mean((2, 3)))
        inner.norm.running_mean.copy_(mean)
        got = net(X)
    torch.testing.assert_close(got, expected)
    assert torch.equal(inner.norm.running_mean, mean) == (not part)
    with torch.no_grad():
        torch.testing.assert_close(net(X, torch.ones(4, 4)), got + 1)
        again = pickle.loads(pickle.dumps(net))
        torch.testing.assert_close(again(X), net(X))


def test_a_mode_in_which_other_activations_are_called_is_one_line() -> None:
    class Other(Block):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if self.training == self.other() else F.relu(x))

        def other(self) -> bool:
            return self.owner[0].training  # type: ignore[no-any-return]

    net = Net()
    net.block = Other()
    net.block.owner = (net,)
    net = converted(net)
    net.block.train()
    with pytest.raises(TraceError, match=r"^`Net`: its branches on `self.training` cannot .* mode"):
        net(X)
