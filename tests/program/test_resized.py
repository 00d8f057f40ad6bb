"""Bilinear interpolation: torch's results, from torch's own words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.kernels import float_reference
from irbin.program.resized import BILINEAR, places_between
from irbin.program.types import Node, Ref, TensorType


def places(args, size, kind, dtype="float32"):
    node = Node("y", BILINEAR, (Ref("x"), *args), {}, TensorType("float32", ("N", 3, *kind)))
    return places_between(node, {"x": TensorType(dtype, ("N", 3, *size))})


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    out=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    corners=st.booleans(),
)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_sizes_are_torchs(size, out, corners):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(x, out, mode="bilinear", align_corners=corners)
    found = places((out, corners, None), size, out)
    y = float_reference.resized(x.permute(0, 2, 3, 1).contiguous().numpy(), *found)
    assert np.allclose(np.moveaxis(y, -1, 1), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("factors", [(2.0, 2.0), (1.5, 3.0), (0.5, 0.75)])
def test_factors_are_torchs(factors):
    x = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(x, scale_factor=factors, mode="bilinear")
    found = places((None, False, factors), (8, 12), tuple(expected.shape[2:]))
    y = float_reference.resized(x.permute(0, 2, 3, 1).contiguous().numpy(), *found)
    assert np.allclose(np.moveaxis(y, -1, 1), expected.numpy(), atol=1e-5)


def test_what_is_left_to_torch():
    assert places((None, False, (2.0, 2.0)), (4, 4), (8, 8)) is not None
    assert places((None, False, (2.0, 2.0)), (4, 4), (8, 8), dtype="float64") is None
    assert places((None, False, (-2.0, 2.0)), (4, 4), (8, 8)) is None
    assert places((None, False, (2.0, 2.0)), (4, "H"), (8, 8)) is None
    assert places((None, Ref("x"), (2.0, 2.0)), (4, 4), (8, 8)) is None
