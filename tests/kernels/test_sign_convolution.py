"""Convolutions of floats with signs: every implementation gives the reference's bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.bits import pack
from irbin.errors import UsageError
from irbin.kernels import sign_reference
from irbin.kernels.geometry import Geometry
from irbin.kernels.passes import PoolKernel
from irbin.kernels.sign_convolution import SignConvKernel
from irbin.kernels.steps import Step

pytestmark = pytest.mark.usefixtures("implementation")

CASES = {
    "a block": (64, 64, Geometry((6, 9), (3, 3), (1, 1), (1, 1, 1, 1))),
    "of ResNet-20": (16, 16, Geometry((9, 70), (3, 3), (1, 1), (1, 1, 1, 1))),
    "channels that fill no block": (8, 17, Geometry((5, 6), (3, 3), (1, 1), (1, 1, 1, 1))),
    "channels that fill no four": (7, 33, Geometry((5, 6), (3, 3), (2, 1), (1, 1, 1, 1))),
    "one channel": (1, 1, Geometry((1, 1), (1, 1))),
    "1x1, stride": (36, 32, Geometry((9, 5), (1, 1), (2, 2))),
    "dilated down": (5, 16, Geometry((12, 12), (3, 2), (1, 1), (0, 1, 2, 0), (2, 1))),
    "wider than a strip": (2, 16, Geometry((3, 150), (3, 3), (1, 1), (1, 1, 1, 1))),
    "border wider than the image": (3, 32, Geometry((2, 2), (3, 3), (2, 2), (7, 8, 6, 5))),
    "more than a piece": (64, 16, Geometry((30, 64), (3, 3), (1, 1), (1, 1, 1, 1))),
}


def drawn(n_in, n_out, geometry, seed=0):
    random = np.random.default_rng(seed)
    weight = np.where(random.random((n_out, *geometry.kernel, n_in)) < 0.5, -1, 1)
    steps = (
        Step("multiply", random.standard_normal(n_out).astype(np.float32)),
        Step("add", random.standard_normal(n_out).astype(np.float32)),
        Step("residual"),
        Step("prelu", random.standard_normal(n_out).astype(np.float32)),
        Step("write"),
        Step("add", random.standard_normal(n_out).astype(np.float32)),
    )
    return weight.astype(np.float32), steps, random


def assert_as_defined(kernel, x, residuals=(), n_threads=1):
    shape = kernel._out_shape(len(x))
    wanted = np.empty(shape, np.float32)
    wanted_bits = np.empty((*shape[:-1], (shape[-1] + 7) // 8), np.uint8)
    kernel.define(x, residuals, wanted, wanted_bits)
    y, bits = np.full_like(wanted, np.nan), np.full_like(wanted_bits, 0xA5)
    kernel(x, residuals, y, bits, n_threads)
    assert np.array_equal(y, wanted, equal_nan=True)
    assert np.array_equal(bits, wanted_bits)


@pytest.mark.parametrize(("n_in", "n_out", "geometry"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("n_images", [0, 1, 2])
def test_every_bit_is_the_references(n_in, n_out, geometry, n_images):
    weight, steps, random = drawn(n_in, n_out, geometry)
    kernel = SignConvKernel(pack(weight), n_in, geometry, steps)
    x = random.standard_normal((n_images, *geometry.size, n_in)).astype(np.float32)
    residual = random.standard_normal(kernel._out_shape(n_images)).astype(np.float32)
    assert_as_defined(kernel, x, [residual], n_threads=2)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_size_is_the_references(data):
    axes = []
    for dilations in (2, 1):
        kernel, stride = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
        dilation = data.draw(st.integers(1, dilations))
        before, after = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
        reach = (kernel - 1) * dilation + 1
        size = data.draw(st.integers(max(1, reach - before - after), 12))
        axes.append((size, kernel, stride, before, after, dilation))
    (h, kh, sy, top, bottom, dy), (w, kw, sx, left, right, dx) = axes
    geometry = Geometry((h, w), (kh, kw), (sy, sx), (left, right, top, bottom), (dy, dx))
    n_in, n_out = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 50))
    weight, steps, random = drawn(n_in, n_out, geometry)
    x = random.standard_normal((2, h, w, n_in)).astype(np.float32)
    kernel = SignConvKernel(pack(weight), n_in, geometry, steps)
    residual = random.standard_normal(kernel._out_shape(2)).astype(np.float32)
    assert_as_defined(kernel, x, [residual], n_threads=data.draw(st.integers(1, 3)))


def test_odd_numbers_are_the_references():
    geometry = Geometry((4, 6), (3, 3), (1, 1), (1, 1, 1, 1))
    weight, _, random = drawn(8, 32, geometry)
    x = random.standard_normal((1, 4, 6, 8)).astype(np.float32)
    x[0, 0, 0, 0], x[0, 3, 5, 1], x[0, 2, :, 3] = np.inf, np.nan, -0.0
    x[0, 1, 3] = 1e38
    assert_as_defined(SignConvKernel(pack(weight), 8, geometry), x)


def test_a_pooled_one_is_the_references():
    geometry = Geometry((9, 9), (3, 3), (1, 1), (1, 1, 1, 1))
    weight, steps, random = drawn(12, 32, geometry)
    producer = SignConvKernel(pack(weight), 12, geometry, steps[:2])
    kernel = PoolKernel(Geometry((9, 9), (3, 3), (2, 2)), 32, (), (), producer)
    x = random.standard_normal((2, 9, 9, 12)).astype(np.float32)
    assert_as_defined(kernel, x, n_threads=3)


def test_what_is_defined_is_a_convolution():
    geometry = Geometry((7, 6), (3, 2), (2, 1), (1, 0, 2, 1), (2, 1))
    weight, _, random = drawn(6, 5, geometry)
    x = random.integers(-1000, 1000, (2, 7, 6, 6)).astype(np.float32)  # sums are exact
    left, right, top, bottom = geometry.border
    padded = F.pad(torch.from_numpy(x).permute(0, 3, 1, 2), (left, right, top, bottom))
    kernel = torch.from_numpy(weight).permute(0, 3, 1, 2)
    wanted = F.conv2d(padded, kernel, None, geometry.stride, 0, geometry.dilation)
    found = sign_reference.sign_conv2d(
        x, weight, geometry.stride, geometry.border, geometry.dilation
    )
    assert np.array_equal(found, wanted.permute(0, 2, 3, 1).numpy())


def test_four_channels_are_added_in_pairs():
    x = np.array([1, 2.0**-24, 2.0**-24, 2.0**-24], np.float32).reshape(1, 1, 1, 4)
    ones = np.ones((1, 1, 1, 4), np.float32)
    # one after the other none of the small ones would count
    assert sign_reference.sign_conv2d(x, ones).item() == np.float32(1 + 2.0**-23)


def test_sizes_that_do_not_fit_are_told():
    bits = np.zeros((3, 1, 1, 1), np.uint8)
    with pytest.raises(UsageError, match="`weight_bits`"):
        SignConvKernel(bits, 9, Geometry((4, 4), (1, 1)))
    with pytest.raises(UsageError, match="`weight_bits`"):
        SignConvKernel(bits, 8, Geometry((4, 4), (2, 1)))
    wide = np.zeros((3, 1, 2, 1), np.uint8)
    with pytest.raises(UsageError, match="expected columns of 1, got 2"):
        SignConvKernel(wide, 8, Geometry((4, 4), (1, 2), dilation=(1, 2)))
