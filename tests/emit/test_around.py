"""Padding and scattering as copies give what torch gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from irbin.emit.around import around_of
from irbin.program.types import Node, Ref, TensorType

X = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


def made(op: str, *args, result) -> np.ndarray:
    """What the copies of a node write."""
    kind = TensorType("float32", tuple(result.shape))
    arrays = {"x": X, "part": PART}
    _, copies = around_of(Node("y", op, (Ref("x"), *args), {}, kind), arrays, {})
    to = np.full(result.shape, np.nan, np.float32)
    for copy in copies(to):
        copy.to[...] = copy.x
    return to


PART = -np.arange(2 * 3 * 2 * 5, dtype=np.float32).reshape(2, 3, 2, 5)
MODES = ("constant", "reflect", "replicate", "circular")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "amounts", [(0, 0, 0, 0), (1, 0, 0, 1), (4, 3, 3, 2), (0, 4, 1, 3), (2, 2)]
)
def test_padding_is_torchs(mode: str, amounts: tuple[int, ...]) -> None:
    x = torch.from_numpy(X)
    x = x if len(amounts) == 4 else x.flatten(1, 2)  # torch pads the last axis of three so
    wanted = F.pad(x, amounts, mode).reshape(2, 3, -1, X.shape[3] + sum(amounts[:2]))
    assert np.array_equal(made("aten.pad.default", amounts, mode, result=wanted), wanted.numpy())


@pytest.mark.parametrize("amounts", [(-1, 0, 0, -2), (-2, 3, 1, -1), (1, 1, 0, 0, -1, 2)])
def test_padding_with_a_number_may_cut(amounts: tuple[int, ...]) -> None:
    wanted = F.pad(torch.from_numpy(X), amounts, value=-1.5)
    cut = made("aten.constant_pad_nd.default", amounts, -1.5, result=wanted)
    assert np.array_equal(cut, wanted.numpy())


def test_operators_that_name_their_mode_are_torchs() -> None:
    for name in ("reflection_pad2d", "replication_pad2d"):
        wanted = getattr(torch.ops.aten, name)(torch.from_numpy(X), (3, 1, 2, 0))
        assert np.array_equal(made(f"aten.{name}.default", (3, 1, 2, 0), result=wanted), wanted)


@pytest.mark.parametrize("at", [(2, 0, 2), (2, 2, 2**63 - 1), (2, 0, 4, 2), (-2, -2, None)])
def test_a_part_is_scattered_as_torch_does(at: tuple) -> None:
    wanted = torch.slice_scatter(torch.from_numpy(X), torch.from_numpy(PART), *at)
    assert np.array_equal(
        made("aten.slice_scatter.default", Ref("part"), *at, result=wanted), wanted
    )


def test_a_place_is_scattered_as_torch_does() -> None:
    part = X[:, :, 0].copy() * -1
    arrays = {"x": X, "part": part}
    wanted = torch.select_scatter(torch.from_numpy(X), torch.from_numpy(part), 2, -1)
    kind = TensorType("float32", X.shape)
    node = Node("y", "aten.select_scatter.default", (Ref("x"), Ref("part"), 2, -1), {}, kind)
    _, copies = around_of(node, arrays, {})
    to = np.full(X.shape, np.nan, np.float32)
    for copy in copies(to):
        copy.to[...] = copy.x
    assert np.array_equal(to, wanted)
