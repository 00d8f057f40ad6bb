"""Windows of averages: torch's results, from torch's own words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.kernels import float_reference
from irbin.program.averages import average_spans, averaged_channels, averaged_neighbors
from irbin.program.types import Node, Ref, TensorType

POOL, ADAPTIVE, MEAN = (
    "aten.avg_pool2d.default",
    "aten.adaptive_avg_pool2d.default",
    "aten.mean.dim",
)


def spans(op, *args, size=(5, 7), kind=(), dtype="float32", **kwargs):
    image = TensorType(dtype, ("N", 3, *size))
    node = Node("y", op, (Ref("x"), *args), kwargs, TensorType("float32", ("N", 3, *kind)))
    return average_spans(node, {"x": image})


def averaged(found, x: torch.Tensor) -> np.ndarray:
    y = float_reference.averages(x.permute(0, 2, 3, 1).contiguous().numpy(), *found)
    return np.moveaxis(y, -1, 1)


@pytest.mark.slow
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    share=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    ceil=st.booleans(),
    counts_padding=st.booleans(),
    divisor=st.sampled_from((None, 1, 3, -2)),
)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_poolings_are_torchs(size, kernel, stride, share, ceil, counts_padding, divisor):
    padding = tuple(min(s, k // 2) for s, k in zip(share, kernel, strict=True))
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    args = (kernel, stride, padding, ceil, counts_padding, divisor)
    try:
        expected = F.avg_pool2d(x, *args)
    except RuntimeError:
        return  # no output
    found = spans(POOL, *args, size=size, kind=tuple(expected.shape[2:]))
    assert found is not None
    assert np.allclose(averaged(found, x), expected.numpy(), atol=1e-6)


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    out=st.tuples(st.integers(1, 11), st.integers(1, 11)),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_adaptive_poolings_are_torchs(size, out):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    found = spans(ADAPTIVE, out, size=size, kind=out)
    assert np.allclose(averaged(found, x), F.adaptive_avg_pool2d(x, out).numpy(), atol=1e-6)


@given(
    size=st.integers(1, 17),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    share=st.integers(0, 2),
    ceil=st.booleans(),
    counts_padding=st.booleans(),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_poolings_of_rows_are_torchs(size, kernel, stride, share, ceil, counts_padding):
    padding = min(share, kernel // 2)
    x = torch.randn(2, 3, size, generator=torch.Generator().manual_seed(0))
    args = (kernel, stride, padding, ceil, counts_padding)
    try:
        expected = F.avg_pool1d(x, *args)
    except RuntimeError:
        return  # no output
    kind = TensorType("float32", ("N", 3, expected.shape[2]))
    types = {"x": TensorType("float32", ("N", 3, size))}
    for given_args in (args, ((kernel,), (stride,), (padding,), ceil, counts_padding)):
        node = Node("y", "aten.avg_pool1d.default", (Ref("x"), *given_args), {}, kind)
        found = average_spans(node, types)
        assert averaged_channels(node, types) == 1
        y = float_reference.averages(x.permute(0, 2, 1)[:, :, None].contiguous().numpy(), *found)
        assert np.allclose(np.moveaxis(y[:, :, 0], -1, 1), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("axes", [(2, 3), (3, 2), (-1, -2), (-2, 3)])
def test_means_over_an_image_are_ours(axes):
    whole = (((0, 5, 5),), ((0, 7, 7),))
    assert spans(MEAN, axes) == whole
    assert spans(MEAN, axes, False) == whole
    assert spans(MEAN, axes, True, kind=(1, 1)) == whole
    assert spans(MEAN, axes, True) is None  # declared otherwise


@pytest.mark.parametrize(
    ("op", "args", "settings"),
    [
        (MEAN, ((1, 2),), {}),
        (MEAN, ((2,),), {}),
        (MEAN, ((3, -1),), {}),
        (MEAN, (None,), {}),
        (MEAN, ((2, 3),), {"dtype": "float64"}),
        (MEAN, ((2, 3), False), {"size": (5, "N")}),
        (POOL, ((2, 2), (2, 2)), {"kind": (2, 4)}),
        (POOL, ((2, 2), (2, 2), (0, 0), False, True, 0), {"kind": (2, 3)}),
        (ADAPTIVE, ((0, 1),), {"kind": (0, 1)}),
        (ADAPTIVE, ((None, 1),), {"kind": (5, 1)}),
        ("aten.mean.default", (), {}),
    ],
)
def test_others_are_torchs(op, args, settings):
    assert spans(op, *args, **settings) is None


def test_arguments_have_their_defaults():
    found = spans(POOL, (2,), kind=(2, 3))
    assert found == spans(POOL, (2, 2), (2, 2), (0, 0), False, True, None, kind=(2, 3))
    assert found is not None


@pytest.mark.parametrize(
    ("shape", "axes", "keeps"),
    [
        ((5, 7, 3), (1, 2), True),
        ((5, 7, 3), (-3, 2), False),
        ((7, 3), (1,), True),
        ((7, 3), (-2,), False),
        ((7, 3), (2,), False),
        ((3, 5, 7), (2, 3), False),
    ],
)
def test_means_over_all_axes_but_one_are_torchs(shape, axes, keeps):
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    expected = x.mean(axes, keepdim=keeps)
    kind = TensorType("float32", ("N", *expected.shape[1:]))
    node, types = Node("y", MEAN, (Ref("x"), axes, keeps), {}, kind), {}
    types["x"] = TensorType("float32", ("N", *shape))
    axis = averaged_channels(node, types)
    rows, columns = average_spans(node, types)
    in_rows = x.movedim(axis, -1).reshape(2, rows[0].end, columns[0].end, x.shape[axis])
    found = float_reference.averages(in_rows.contiguous().numpy(), rows, columns)
    assert np.allclose(found.reshape(2, -1), expected.reshape(2, -1), atol=1e-6)


@pytest.mark.parametrize("axes", [(1,), (3,), (0, 1, 2), (1, 3), (1, 1)])
def test_means_over_other_axes_are_torchs(axes):
    x = torch.zeros(2, 3, 5, 7)
    kind = TensorType("float32", ("N", *x.mean(tuple({*axes}), keepdim=True).shape[1:]))
    node = Node("y", MEAN, (Ref("x"), axes, True), {}, kind)
    assert average_spans(node, {"x": TensorType("float32", ("N", 3, 5, 7))}) is None


def of_neighbors(shape, size, axes=(2,), keeps=()):
    """What `averaged_neighbors` says of a reshape and a mean behind it."""
    x = TensorType("float32", ("N", *size))
    apart = Node(
        "r",
        "aten.reshape.default",
        (Ref("x"), ("N", *shape)),
        {},
        TensorType("float32", ("N", *shape)),
    )
    left = tuple(n for axis, n in enumerate(("N", *shape)) if axis not in axes)
    mean = Node("m", "aten.mean.dim", (Ref("r"), axes, *keeps), {}, TensorType("float32", left))
    return averaged_neighbors(mean, apart, {"x": x, "r": apart.type})


@pytest.mark.parametrize(
    ("shape", "size", "axes", "keeps", "count"),
    [
        ((4, 2, 5, 6), (8, 5, 6), (2,), (), 2),
        ((4, 2, 5, 6), (8, 5, 6), (2,), (False,), 2),
        ((1, 8, 5, 6), (8, 5, 6), (2,), (), 8),
        ((4, 2, 5, 6), (8, 5, 6), (1,), (), None),  # of channels far apart
        ((4, 2, 5, 6), (8, 5, 6), (2, 3), (), None),
        ((4, 2, 5, 6), (8, 5, 6), (2,), (True,), None),
        ((4, 2, 6, 5), (8, 5, 6), (2,), (), None),  # rows are cut otherwise
        ((8, 5, 2, 3), (8, 5, 6), (2,), (), None),
        ((2, 2, 5, 12), (8, 5, 6), (2,), (), None),
    ],
)
def test_means_of_neighboring_channels_are_known(shape, size, axes, keeps, count):
    assert of_neighbors(shape, size, axes, keeps) == count
