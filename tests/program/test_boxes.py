"""Slices and paddings as boxes: torch's results, alone and one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.kernels.lines import CropKernel
from irbin.program.boxes import Box, box_of
from irbin.program.types import Node, Ref, TensorType

SLICE, PAD, CONSTANT = "aten.slice.Tensor", "aten.pad.default", "aten.constant_pad_nd.default"
END = 2**63 - 1


def boxed(op, *args, shape=(4, 5, 7), kind, **kwargs):
    types = {"x": TensorType("float32", ("N", *shape))}
    return box_of(
        Node("y", op, (Ref("x"), *args), kwargs, TensorType("float32", ("N", *kind))), types
    )


def cut(box: Box, x: torch.Tensor) -> torch.Tensor:
    channels, y, across = box.axes
    kernel = CropKernel((y, across, channels), box.value)
    made = kernel._plain(x.permute(0, 2, 3, 1).numpy(), ())
    return torch.from_numpy(np.moveaxis(made, -1, 1).copy())


IMAGE = torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(0))


@given(
    axis=st.integers(1, 3),
    start=st.integers(-9, 9),
    end=st.integers(-9, 9),
    step=st.integers(1, 3),
)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_slices_are_torchs(axis, start, end, step):
    expected = torch.ops.aten.slice.Tensor(IMAGE, axis, start, end, step)
    box = boxed(SLICE, axis, start, end, step, kind=tuple(expected.shape[1:]))
    assert boxed(SLICE, axis - 4, start, end, step, kind=tuple(expected.shape[1:])) == box
    if expected.numel() == 0:
        assert box is None
    else:
        assert torch.equal(cut(box, IMAGE), expected)


@given(axis=st.integers(1, 3), start=st.integers(-9, 9), step=st.integers(1, 3))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_slices_of_images_whose_channels_are_last_are_torchs(axis, start, step):
    expected = torch.ops.aten.slice.Tensor(IMAGE, axis, start, END, step)
    args = (Ref("x"), axis, start, END, step)
    kind = TensorType("float32", ("N", *expected.shape[1:]))
    node = Node("y", SLICE, args, {}, kind)
    box = box_of(node, {"x": TensorType("float32", ("N", 4, 5, 7))}, 3)
    if expected.numel() == 0:
        assert box is None
        return
    channels, y, across = box.axes
    made = CropKernel((y, across, channels), box.value)._plain(IMAGE.numpy(), ())
    assert torch.equal(torch.from_numpy(made), expected)


@given(around=st.lists(st.integers(0, 3), min_size=0, max_size=6), value=st.floats(-2, 2, width=32))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_paddings_are_torchs(around, value):
    around = tuple(around[: len(around) // 2 * 2])
    expected = F.pad(IMAGE, around, value=value)
    for box in (
        boxed(PAD, around, "constant", value, kind=tuple(expected.shape[1:])),
        boxed(CONSTANT, around, value, kind=tuple(expected.shape[1:])),
    ):
        assert torch.equal(cut(box, IMAGE), expected)


def test_a_box_of_a_box_is_a_box():
    rows = boxed(SLICE, 2, 1, END, 2, kind=(4, 2, 7))
    columns = boxed(SLICE, 3, 0, END, 3, shape=(4, 2, 7), kind=(4, 2, 3))
    padded = boxed(PAD, (0, 0, 1, 0, 2, 3), shape=(4, 2, 3), kind=(9, 3, 3))
    whole = rows.then(columns).then(padded)
    expected = F.pad(IMAGE[:, :, 1::2, ::3], (0, 0, 1, 0, 2, 3))
    assert torch.equal(cut(whole, IMAGE), expected)
    assert padded.then(rows) is None  # what reaches beyond is no part of the image


def test_all_images_are_the_image_and_some_are_not_ours():
    whole = boxed(SLICE, 0, 0, END, kind=(4, 5, 7))
    assert whole.is_whole
    assert boxed(SLICE, 0, 0, 3, kind=(4, 5, 7)) is None
    assert not boxed(SLICE, 1, 1, END, kind=(3, 5, 7)).is_whole


@pytest.mark.parametrize(
    ("op", "args", "kind"),
    [
        (PAD, ((1, 1), "reflect"), (4, 5, 9)),
        (PAD, ((-1, 0),), (4, 5, 6)),
        (PAD, ((0, 0, 0, 0, 0, 0, 1, 0),), (4, 5, 7)),
        (PAD, ((1, 1),), (4, 5, 8)),
        (SLICE, (2, 1, 3), (4, 3, 7)),
        (SLICE, (2, Ref("n"), 3), (4, 2, 7)),
        ("aten.relu.default", (), (4, 5, 7)),
    ],
)
def test_others_are_torchs(op, args, kind):
    assert boxed(op, *args, kind=kind) is None
