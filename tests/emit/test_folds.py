"""What a node folds is what torch gives, and what C cannot do is left."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irbin.emit.folds import FOLDS, fold_of
from irbin.kernels.tensor_reference import folded
from irbin.program.types import Node, Ref, TensorType

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


def node(op: str, *args, shape=(2, 4, 5), **kwargs) -> Node:
    return Node("y", f"aten.{op}", (Ref("x"), *args), kwargs, TensorType("float32", shape))


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("sum", node("sum.dim_IntList", (1,))),
        ("sum", node("sum.dim_IntList", (-3,), False)),
        ("mean", node("mean.dim", (1,))),
        ("vector_norm", node("linalg_vector_norm.default", 2, (1,))),
        ("var", node("var.dim", (1,))),
        ("var", node("var.correction", (1,), correction=1)),
        ("std", node("std.dim", (1,), True)),
        ("amax", node("amax.default", (1,))),
        ("amin", node("amin.default", (1,))),
    ],
    ids=lambda given: given if isinstance(given, str) else given.op,
)
def test_a_fold_is_torchs_but_for_rounding(name: str, one: Node) -> None:
    axis, made = fold_of(one, {"x": X})
    assert axis == 2
    to = np.empty((2, 4, 5), np.float32)
    fold = made(to)
    fold.to[...] = folded(*fold.arrays, fold.axes, fold.folding, fold.divisor)
    wanted = getattr(torch.linalg if name == "vector_norm" else torch, name)
    torchs = wanted(torch.from_numpy(X), dim=1)
    np.testing.assert_allclose(to, torchs, rtol=1e-5, atol=1e-6)
    by_definition = FOLDS[one.op](torch.from_numpy(X), *one.args[1:], **one.kwargs)
    assert np.array_equal(by_definition, to)


@pytest.mark.parametrize(
    "one",
    [
        node("linalg_vector_norm.default", 1, (1,)),
        node("sum.dim_IntList", (1, 1)),
        node("relu.default"),
        node("var.dim", (1,), shape=()),
    ],
    ids=str,
)
def test_other_nodes_are_left(one: Node) -> None:
    assert fold_of(one, {"x": X}) is None
    assert fold_of(one, {}) is None
