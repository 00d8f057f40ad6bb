"""Which nodes are walks, and that they make what torch makes of the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.artifact.read import Artifact
from irbin.artifact.schema import Manifest
from irbin.kernels import native
from irbin.program.fused import Fused
from irbin.program.graph import Graph
from irbin.program.lower import lower
from irbin.program.types import Node, Ref, TensorType
from irbin.program.walks import walk_of
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.runtime.arrays import as_array
from irbin.runtime.calls import runs_torch
from irbin.runtime.engine import Engine

SIZE = (3, 6, 10)
SOURCE = SourceRecord("s", "timm:s", 2, Preprocessing(input_size=SIZE))
MANIFEST = Manifest("0", "float32", SOURCE, Plan(PlanOptions(), (), SIZE, 0, 0, 0))


class Net(nn.Module):
    """A convolution to 16 channels, then what is tried."""

    def __init__(self, does: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.does = nn.Conv2d(3, 16, 3, padding=1), does
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 61, 16))
        self.grid = nn.Parameter(torch.randn(6, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, self.stem(x))


def tokens(net: Net, x: Tensor) -> Tensor:
    x = x.flatten(2).transpose(1, 2)
    return torch.cat((net.token.expand(x.shape[0], -1, -1), x), 1) + net.places


def scattered(_: Net, x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 3:7] = x[:, 3:7] * x[:, 9:13]
    return y


def windows(_: Net, x: Tensor) -> Tensor:
    """As networks take that attend within windows, moved, and put together again."""
    x = x.permute(0, 2, 3, 1).roll((1, -2), (1, 2))
    x = x.reshape(-1, 3, 2, 5, 2, 16).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 16)
    x = x - x.flip(1)
    x = x.reshape(-1, 3, 5, 2, 2, 16).permute(0, 1, 3, 2, 4, 5).reshape(-1, 6, 10, 16)
    return x.permute(0, 3, 1, 2)


MOVES: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "nearest pixels": lambda _, x: F.interpolate(x, scale_factor=2),
    "nearest pixels by two factors": lambda _, x: F.interpolate(x, scale_factor=(3, 2)),
    "class token and places": tokens,
    "stacked": lambda _, x: torch.stack((x, x.neg()), 1),
    "mirrored": lambda _, x: x.flip(3),
    "mirrored twice": lambda _, x: x.flip((1, 2)),
    "rolled": lambda _, x: x.roll((2, -3), (2, 3)),
    "repeated": lambda _, x: x.repeat(1, 2, 1, 3),
    "pixels from channels": lambda _, x: F.pixel_shuffle(x, 2),
    "channels from pixels": lambda _, x: F.pixel_unshuffle(x, 2),
    "channels shuffled": lambda _, x: x.reshape(-1, 2, 8, 6, 10).transpose(1, 2).flatten(1, 2),
    "in torch's order": lambda _, x: x.flatten(1),
    "mirrored border": lambda _, x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
    "repeated border": lambda _, x: F.pad(x, (1, 0, 0, 2), mode="replicate"),
    "less than no border": lambda _, x: F.pad(x, (-1, 1, -1, 2)),
    "border of rows": lambda _, x: F.pad(x.flatten(2), (1, 2), value=-1.5),
    "part replaced": scattered,
    "rows joined": lambda _, x: torch.cat((x, x[:, :, :2]), 2),
    "windows": windows,
}
MEETINGS: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "pixels of each, and one channel": lambda _, x: x * x[:, 3:4],
    "rows and columns": lambda _, x: x[:, :, :1] * x[:, :, :, 2:3],
    "channels and pixels": lambda _, x: x.mean((2, 3), keepdim=True) * x[:, :1],
    "a constant's rows": lambda net, x: x + net.grid,
    "quotient": lambda _, x: x / (x[:, :1].abs() + 1),
    "one over": lambda _, x: (x.abs() + 1).reciprocal(),
    "number less": lambda _, x: 1.5 - x,
    "squares": lambda _, x: x[:, 2:4].square(),
    "larger": lambda _, x: torch.maximum(x, x[:, :, 1:2]),
    "smaller": lambda _, x: torch.minimum(x, x[:, :, 1:2]),
    "two added": lambda _, x: torch.stack((x, x * x[:, :1]), 1).sum(1),
    "two added, axis kept": lambda _, x: x.reshape(-1, 2, 8, 6, 10).sum(1, keepdim=True),
    "with what follows": lambda _, x: F.relu(x * x[:, 3:4] * 0.5 + 0.25),
}
SUMS: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "several added": lambda _, x: x.sum(2),
    "softmax of channels": lambda _, x: x.softmax(1),
    "softmax of rows": lambda _, x: x.flatten(2).softmax(-1),
    "split attention": lambda _, x: (
        x.reshape(-1, 2, 8, 6, 10) * x.reshape(-1, 2, 8, 6, 10)[:, :, :, :1, :1].softmax(1)
    ).sum(1),
}
EVERYTHING = {**MOVES, **MEETINGS, **SUMS}


def artifact_of(does: Callable[[Net, Tensor], Tensor]) -> Artifact:
    lowered = lower(Net(does).eval(), SIZE)
    return Artifact("", MANIFEST, lowered.program, lowered.tensors)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, *SIZE)).astype(np.float32)


def answers(engine: Engine, x: np.ndarray) -> list[np.ndarray]:
    return [as_array(y) for y in engine.run(x)]


@pytest.mark.parametrize("name", EVERYTHING)
def test_nothing_is_left_to_torch(name):
    engine = Engine(artifact_of(EVERYTHING[name]), float_convs=True)
    left = [i.op for i in engine.work.items if isinstance(i, Node) and runs_torch(i)]
    assert left == []
    assert any(isinstance(i, Fused) and i.kind == "walk" for i in engine.work.items)


@pytest.mark.parametrize("name", {**MOVES, **MEETINGS})
def test_numbers_are_those_of_torch(name):
    artifact = artifact_of(EVERYTHING[name])
    engine = Engine(artifact, float_convs=True)
    plain = Engine(artifact, float_convs=True, walks=False)
    for n in (1, 2, 3):
        for y, wanted in zip(answers(engine, images(n)), answers(plain, images(n)), strict=True):
            assert np.array_equal(y, wanted)


@pytest.mark.parametrize("name", SUMS)
def test_sums_are_near_those_of_torch(name):
    artifact = artifact_of(SUMS[name])
    (y,) = answers(Engine(artifact, float_convs=True), images(2))
    (wanted,) = answers(Engine(artifact, float_convs=True, walks=False), images(2))
    assert np.allclose(y, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", EVERYTHING)
def test_all_implementations_and_batches_give_the_same_bits(name, monkeypatch):
    artifact, x = artifact_of(EVERYTHING[name]), images(3)
    wanted = None
    for one in native.implementations():
        if not one.supported:
            continue
        with native.using(one.name):
            engine = Engine(artifact, float_convs=True)
            for n_threads in (1, 2):
                monkeypatch.setattr("irbin.runtime.engine.kernel_threads", lambda n=n_threads: n)
                (y,) = answers(engine, x)
                wanted = y if wanted is None else wanted
                assert np.array_equal(y, wanted)
            n_rows = len(y) // len(x)
            for i in range(3):
                (alone,) = answers(engine, x[i : i + 1])
                assert np.array_equal(alone, y[i * n_rows : (i + 1) * n_rows])


@pytest.mark.parametrize("fusions", [(), ("transform",), ("pack",), ("transform", "pack")])
@pytest.mark.parametrize("name", ["with what follows", "split attention", "windows"])
def test_fusions_change_nothing(name, fusions):
    artifact = artifact_of(EVERYTHING[name])
    (y,) = answers(Engine(artifact, fusions, float_convs=True), images(2))
    (wanted,) = answers(Engine(artifact, float_convs=True), images(2))
    assert np.array_equal(y, wanted)


@pytest.mark.parametrize(
    "op",
    [
        ("aten.flip.default", (0,)),
        ("aten.roll.default", (1,), (0,)),
        ("aten.softmax.int", 0),
        ("aten.softmax.int", -4),
        ("aten.sum.dim_IntList", (0,)),
        ("aten.sum.dim_IntList", (1, 2)),
        ("aten.repeat.default", (2, 1, 1, 1)),
        ("aten.flip.default", (7,)),
        ("aten.add.Tensor", 10**400),
        ("aten.roll.default", 3, 1),
    ],
    ids=str,
)
def test_images_stay_apart_and_what_has_no_order_is_left(op):
    name, *args = op
    kind = TensorType("float32", ("N", *SIZE))
    node = Node("y", name, (Ref("x"), *args), {}, kind)
    graph = Graph([node], {"x": kind, "y": kind}, (), ("y",))
    assert walk_of(graph, node) is None


@pytest.mark.parametrize(
    "op",
    [
        ("aten.roll.default", (1,), (2,)),
        ("aten.upsample_nearest2d.vec", None, (2.0, 2.0)),
        ("aten.pixel_shuffle.default", 0),
        ("aten.softmax.int", 1),
    ],
    ids=str,
)
def test_images_without_pixels_are_left(op):
    name, *args = op
    kind = TensorType("float32", ("N", 3, 0, 5))
    node = Node("y", name, (Ref("x"), *args), {}, kind)
    graph = Graph([node], {"x": kind, "y": kind}, (), ("y",))
    assert walk_of(graph, node) is None


def test_elementwise_steps_behind_a_kernel_stay_steps():
    engine = Engine(artifact_of(lambda net, x: (x * 0.5 + 1) - net.token.reshape(16, 1, 1)))
    assert [i.kind for i in engine.work.items if isinstance(i, Fused)] == ["conv"]
