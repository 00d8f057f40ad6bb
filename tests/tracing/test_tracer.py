"""The tracer: every layer a node, nothing frozen, nothing left behind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from irbin.errors import TraceError
from irbin.tracing.trace import trace_graph
from irbin.tracing.tracer import has_layers, is_norm, trace_symbolically, traced_constants


def targets(traced: fx.GraphModule) -> list[str]:
    return [str(n.target) for n in traced.graph.nodes if n.op == "call_module"]


class OwnConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * 2, self.bias)


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
        x = self.fc(x) * scale
        return x if mask is None else x * mask


class Branching(nn.Module):
    """Cannot be traced by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y if x.sum() > 0 else y + 1


class Caching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.cache: dict[str, Tensor] = {}
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.cache["x"] = self.last = self.conv(x)
        return self.last + torch.arange(3.0).view(1, 3, 1, 1)


def test_subclasses_of_layers_are_leaves() -> None:
    traced, _ = trace_symbolically(nn.Sequential(OwnConv(3, 3, 1), nn.ReLU()), training=True)
    assert targets(traced) == ["0", "1"]


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_byobnet", "test_vit"])
def test_every_layer_of_a_timm_network_is_a_node(name: str) -> None:
    network = timm.create_model(name)
    traced, opaque = trace_symbolically(network, training=True)
    layers = {n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert layers <= set(targets(traced))
    assert not opaque


def test_norms_are_leaves_so_training_still_updates_them() -> None:
    network = timm.create_model("test_efficientnet")
    traced, _ = trace_symbolically(network, training=True)
    norms = {n for n, m in network.named_modules() if is_norm(m)}
    assert norms
    assert norms <= set(targets(traced))


def test_optional_arguments_keep_their_defaults() -> None:
    traced, _ = trace_symbolically(Optional(), training=True)
    assert [n.op for n in traced.graph.nodes].count("placeholder") == 1
    assert not any("is_" in str(n.target) for n in traced.graph.nodes)


def test_an_untraceable_submodule_is_opaque_and_says_where() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), Branching(), nn.Conv2d(3, 3, 1))
    traced, opaque = trace_symbolically(network, training=True)
    assert targets(traced) == ["0", "1", "2"]
    assert "control flow" in opaque["1"]
    assert "tracing/test_tracer.py:" in opaque["1"]


def test_an_undone_trace_leaves_no_dangling_parameter_nodes() -> None:
    class Late(Branching):
        def __init__(self, gain: nn.Parameter) -> None:
            super().__init__()
            self.gain = gain

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * self.gain)

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))
            self.late = Late(self.gain)

        def forward(self, x: Tensor) -> Tensor:
            return self.late(x) * self.gain

    traced, _ = trace_symbolically(Root(), training=True)
    traced.graph.lint()
    assert traced(torch.ones(1, 3, 2, 2)).shape == (1, 3, 2, 2)


def test_untraceable_root_names_the_reason_and_the_line() -> None:
    with pytest.raises(
        TraceError, match=r"cannot trace `Branching.forward`: .*control flow.*:\d+\)"
    ):
        trace_symbolically(Branching(), training=True)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    network = nn.Sequential(Caching(), nn.Dropout(), nn.BatchNorm2d(3))
    network[1].eval()
    before = copy.deepcopy([dict(m.__dict__) for m in network.modules()])
    traced, _ = trace_symbolically(network, training=training)
    after = [dict(m.__dict__) for m in network.modules()]
    assert [sorted(d) for d in after] == [sorted(d) for d in before]
    assert [d["training"] for d in after] == [d["training"] for d in before]
    assert network[0].cache == {}
    assert network[0].last is None
    assert next(iter(traced_constants(network, traced).values())).flatten().tolist() == [0, 1, 2]


def test_functional_dropout_follows_the_mode_again() -> None:
    class Drops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(F.dropout(x, 0.5, self.training), p=0.5, training=self.training)

    traced, _ = trace_symbolically(Drops(), training=True)
    x = torch.ones(1000)
    assert torch.equal(traced.eval()(x), x)
    assert not torch.equal(traced.train()(x), x)


@pytest.mark.parametrize(
    "drop",
    [
        lambda x, on: torch.dropout(x, 0.5, on),
        lambda x, on: torch.dropout(x, p=0.5, train=on),
        lambda x, on: torch.dropout_(x + 0, 0.5, on),
        lambda x, on: torch.feature_dropout(x, 0.5, on),
        lambda x, on: torch.alpha_dropout(x, 0.5, on),
        lambda x, on: torch.feature_alpha_dropout(x, 0.5, on),
        lambda x, on: torch.rrelu(-x, 0.1, 0.3, on),
        lambda x, on: torch.rrelu_(-x, 0.1, 0.3, training=on),
    ],
)
def test_built_in_functions_follow_the_mode_again(drop: Callable[[Tensor, bool], Tensor]) -> None:
    class Drops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return drop(x, self.training)

    x = torch.ones(100, 10)
    for training in (True, False):
        traced, _ = trace_symbolically(Drops(), training=training)
        assert torch.equal(traced.eval()(x), drop(x, False))
        torch.manual_seed(0)
        dropped = traced.train()(x)
        torch.manual_seed(0)
        assert torch.equal(dropped, drop(x, True))


def test_flags_that_are_not_the_mode_stay() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.rrelu(F.dropout(x, 0.5, False))

    traced, _ = trace_symbolically(Fixed(), training=True)
    x = torch.linspace(-1, 1, 100)
    assert torch.equal(traced.train()(x), F.rrelu(x))


def test_has_layers_looks_inside() -> None:
    assert has_layers(nn.Linear(1, 1))
    assert has_layers(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(1, 1, 1))))
    assert not has_layers(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(1)))


def test_is_norm_knows_timm_norms_and_not_wrappers() -> None:
    class PreNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.fn = nn.LayerNorm(4), nn.Linear(4, 4)

    assert is_norm(timm.layers.BatchNormAct2d(4))
    assert is_norm(timm.layers.LayerNorm2d(4))
    assert is_norm(timm.layers.FrozenBatchNormAct2d(4))
    assert not is_norm(PreNorm())
    assert not is_norm(nn.ReLU())


class _Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)


class DependsOnData(_Odd):
    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0:
            x = 2 * x
        return self.conv(x)


class RunsOverTheBatch(_Odd):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(len(x)):
            x = x + 1
        return self.conv(x)


class CallsNumpy(_Odd):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x + float(np.asarray(x).mean()))


class LeavesTorch(_Odd):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.from_numpy(x.numpy()))


class IsANumber(_Odd):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x * float(x.mean()))


class TakesPlainTensors(_Odd):
    def forward(self, x: Tensor) -> Tensor:
        x = torch.vmap(torch.relu)(x)
        return self.conv(x)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            TakesPlainTensors,
            "a call that cannot be followed, as `torch.vmap`, takes a tensor: `x =",
        ),
        (
            DependsOnData,
            "control flow (`if`, `while`, `assert`) depends on a tensor or its shape: "
            "`if x.mean() > 0:`",
        ),
        (
            RunsOverTheBatch,
            "`len` of a tensor is taken, which differs from batch to batch: "
            "`for _ in range(len(x)):`",
        ),
        (CallsNumpy, "NumPy is given a tensor that depends on the image: `return self.conv("),
        (LeavesTorch, "a tensor that depends on the image goes through NumPy: `return self."),
        (IsANumber, "a tensor is made a Python number: `return self.conv(x * float(x.mean()))`"),
    ],
)
def test_why_tracing_failed_is_said_in_words_and_with_the_line(
    kind: type[nn.Module], words: str
) -> None:
    with pytest.raises(TraceError) as caught:
        trace_symbolically(kind(), training=True)
    line = kind.forward.__code__.co_firstlineno + 1
    text = str(caught.value)
    assert text.startswith(f"cannot trace `{kind.__name__}.forward`: {words}")
    assert f" (at tracing/test_tracer.py:{line}); expected a forward" in text


class Parts(nn.Module):
    """A loop over parts of the channels, as many as `cut` says."""

    def __init__(self, cut: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.outer, self.cut = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), cut

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.cat([F.gelu(part) for part in self.cut(self.inner(x))], 1))


@pytest.mark.parametrize(
    "cut",
    [
        lambda y: y.chunk(2, 1),
        lambda y: torch.chunk(y, chunks=2, dim=1),
        lambda y: torch.chunk(y, 4, 1),
        lambda y: y.chunk(1, 1),
    ],
)
def test_a_loop_over_chunks_is_seen_through(cut: Callable[[Tensor], Any]) -> None:
    network, x = Parts(cut).eval(), torch.randn(2, 3, 4, 4)
    traced, opaque = trace_symbolically(network, training=False)
    assert opaque == {}
    assert torch.equal(traced(x), network(x))


def test_a_loop_over_parts_that_nobody_counts_is_not() -> None:
    with pytest.raises(TraceError, match="a loop runs over a tensor"):
        trace_symbolically(Parts(lambda y: y.split(2, 1)), training=False)


def test_fewer_chunks_than_the_code_says_are_no_graph() -> None:
    network = Parts(lambda y: y.chunk(3, 1))  # of four channels: two parts of two
    with pytest.raises(TraceError):
        trace_graph(network, (3, 4, 4))
