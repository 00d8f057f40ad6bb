"""Convolutions of bytes, in every implementation, bit for bit as the reference has them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.errors import UsageError
from irbin.kernels.byte_convolution import ByteConvKernel
from irbin.kernels.convolution import FloatConvKernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.passes import PoolKernel
from irbin.kernels.steps import Step

pytestmark = pytest.mark.usefixtures("implementation")

MEAN, STD = (0.485, 0.456, 0.406, 0.5, 0.1), (0.229, 0.224, 0.225, 0.25, 0.3)

CASES = {
    "stem of ImageNet": (3, 64, Geometry((20, 21), (7, 7), (2, 2), (3, 3, 3, 3))),
    "stem of CIFAR": (3, 16, Geometry((9, 70), (3, 3), (1, 1), (1, 1, 1, 1))),
    "channels that fill no block": (3, 17, Geometry((5, 6), (3, 3), (1, 1), (1, 1, 1, 1))),
    "patches": (3, 48, Geometry((16, 16), (4, 4), (4, 4))),
    "1x1": (4, 32, Geometry((9, 5), (1, 1))),
    "1x1 of one channel": (1, 1, Geometry((1, 1), (1, 1))),
    "dilated": (3, 33, Geometry((9, 9), (3, 2), (1, 2), (0, 2, 5, 1), (2, 2))),
    "dilated down": (5, 16, Geometry((12, 12), (3, 2), (1, 1), (0, 1, 2, 0), (2, 1))),
    "wider than a strip": (2, 16, Geometry((3, 150), (3, 3), (1, 1), (1, 1, 1, 1))),
    "border wider than the image": (3, 32, Geometry((2, 2), (3, 3), (2, 2), (7, 8, 6, 5))),
}


def drawn(n_in, n_out, geometry, seed=0):
    random = np.random.default_rng(seed)
    weight = random.standard_normal((n_out, *geometry.kernel, n_in)).astype(np.float32)
    steps = (
        Step("multiply", random.standard_normal(n_out).astype(np.float32)),
        Step("add", random.standard_normal(n_out).astype(np.float32)),
        Step("residual"),
        Step("prelu", random.standard_normal(n_out).astype(np.float32)),
        Step("write"),
        Step("add", random.standard_normal(n_out).astype(np.float32)),
    )
    return weight, steps, random


def assert_as_defined(kernel, x, residuals=(), n_threads=1):
    shape = kernel._out_shape(len(x))
    wanted = np.empty(shape, np.float32)
    wanted_bits = np.empty((*shape[:-1], (shape[-1] + 7) // 8), np.uint8)
    kernel.define(x, residuals, wanted, wanted_bits)
    y, bits = np.full_like(wanted, np.nan), np.full_like(wanted_bits, 0xA5)
    kernel(x, residuals, y, bits, n_threads)
    assert np.array_equal(y, wanted)
    assert np.array_equal(bits, wanted_bits)
    y[...] = np.nan
    kernel(x, residuals, y, None, n_threads)
    assert np.array_equal(y, wanted)


@pytest.mark.parametrize(("n_in", "n_out", "geometry"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("n_images", [0, 1, 2])
def test_every_bit_is_the_references(n_in, n_out, geometry, n_images):
    weight, steps, random = drawn(n_in, n_out, geometry)
    kernel = ByteConvKernel(weight, MEAN[:n_in], STD[:n_in], geometry, steps)
    x = random.integers(0, 256, (n_images, *geometry.size, n_in), dtype=np.uint8)
    residual = random.standard_normal(kernel._out_shape(n_images)).astype(np.float32)
    assert_as_defined(kernel, x, [residual], n_threads=2)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_size_is_the_references(data):
    axes = []
    for _ in range(2):
        kernel, dilation = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 2))
        before, after = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
        reach = (kernel - 1) * dilation + 1
        size = data.draw(st.integers(max(1, reach - before - after), 12))
        axes.append((size, kernel, data.draw(st.integers(1, 3)), dilation, before, after))
    (h, kh, sh, dh, top, bottom), (w, kw, sw, dw, left, right) = axes
    geometry = Geometry((h, w), (kh, kw), (sh, sw), (left, right, top, bottom), (dh, dw))
    n_in, n_out = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([1, 15, 16, 17, 32, 40]))
    weight, steps, random = drawn(n_in, n_out, geometry, data.draw(st.integers(0, 99)))
    kernel = ByteConvKernel(weight, MEAN[:n_in], STD[:n_in], geometry, steps[:2])
    assert_as_defined(kernel, random.integers(0, 256, (2, h, w, n_in), dtype=np.uint8))


@pytest.mark.parametrize("byte", [0, 255])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sums_are_exact(byte, sign):
    """As large as 32 bits hold: sums on the way leave them and come back."""
    geometry = Geometry((40, 40), (40, 40), (1, 1), (3, 3, 3, 3))
    weight = np.full((16, 40, 40, 3), sign, np.float32)
    kernel = ByteConvKernel(weight, (0.0, 1.0, 0.5), (0.25,) * 3, geometry)
    assert_as_defined(kernel, np.full((1, 40, 40, 3), byte, np.uint8))


def test_the_result_is_near_the_float_convolution_of_normalized_images():
    geometry = Geometry((20, 21), (7, 7), (2, 2), (3, 3, 3, 3))
    weight, steps, random = drawn(3, 32, geometry)
    x = random.integers(0, 256, (1, 20, 21, 3), dtype=np.uint8)
    images = ((x / 255 - MEAN[:3]) / STD[:3]).astype(np.float32)
    wanted, found = (np.empty((1, 10, 11, 32), np.float32) for _ in range(2))
    FloatConvKernel(weight, geometry, steps[:2])(images, y=wanted)
    ByteConvKernel(weight, MEAN[:3], STD[:3], geometry, steps[:2])(x, y=found)
    assert np.abs(found - wanted).max() < 1e-3 * np.abs(wanted).max()
    assert not np.array_equal(found, wanted)


def test_a_pooling_computes_what_it_pools_from_bytes():
    first = Geometry((21, 20), (7, 7), (2, 2), (3, 3, 3, 3))
    weight, steps, random = drawn(3, 24, first)
    producer = ByteConvKernel(weight, MEAN[:3], STD[:3], first, steps[:2])
    pooled = Geometry(first.out_size, (3, 3), (2, 2), (1, 1, 1, 1))
    kernel = PoolKernel(pooled, 24, (), (Step("clamp", low=0.0, high=np.inf),), producer)
    x = random.integers(0, 256, (2, 21, 20, 3), dtype=np.uint8)
    assert_as_defined(kernel, x, n_threads=2)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((1, 5, 6, 3), np.float32),
        np.zeros((1, 3, 5, 6), np.uint8),
        np.zeros((1, 5, 6, 3), np.int8),
        np.zeros((5, 6, 3), np.uint8),
    ],
    ids=["floats", "channels first", "signed", "no batch"],
)
def test_another_array_is_told(x):
    kernel = ByteConvKernel(
        np.ones((8, 3, 3, 3), np.float32), MEAN[:3], STD[:3], Geometry((5, 6), (3, 3))
    )
    with pytest.raises(UsageError, match=r"`x`: expected uint8 \(any, 5, 6, 3\)"):
        kernel(x, y=np.empty((1, 3, 4, 8), np.float32))
