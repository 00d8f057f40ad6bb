"""What bytes and folded weights mean: normalized images times the weights, zeros outside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.errors import UsageError
from irbin.kernels import byte_reference
from irbin.kernels.reference import patches

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalized_sums(x, weight, mean, std, border):
    """In float64, zeros outside the image: what a network means by its first layer."""
    left, right, top, bottom = border
    images = (x / 255 - np.array(mean)) / np.array(std)
    padded = np.pad(images, ((0, 0), (top, bottom), (left, right), (0, 0)))
    kernel = weight.shape[1:3]
    shape = (padded.shape[1] - kernel[0] + 1, padded.shape[2] - kernel[1] + 1, *kernel)
    windows = patches(padded, shape, (1, 1), (1, 1))
    return np.tensordot(windows, weight.astype(np.float64), ((3, 4, 5), (1, 2, 3)))


def drawn(n_out, kernel, n_in, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal((n_out, *kernel, n_in)).astype(np.float32)


@pytest.mark.parametrize("border", [(0, 0, 0, 0), (1, 1, 1, 1), (3, 0, 1, 5)], ids=str)
def test_sums_are_those_of_normalized_images(border):
    weight = drawn(5, (3, 3), 3)
    x = np.random.default_rng(1).integers(0, 256, (2, 9, 8, 3), dtype=np.uint8)
    folded = byte_reference.fold(weight, MEAN, STD)
    found = byte_reference.conv2d(x, folded.weight, folded.constants, border=border) * folded.scale
    wanted = normalized_sums(x, weight, MEAN, STD, border)
    # a weight is off by less than one step, a constant by half of one, float32 by its own
    steps = (255 * 27 + 27) * folded.scale
    assert (np.abs(found - wanted) <= steps).all()
    assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()


def test_padding_is_zero_after_normalization():
    """A border of zero bytes would be a border of black pixels."""
    folded = byte_reference.fold(drawn(4, (3, 3), 3), MEAN, STD)
    x = np.zeros((1, 1, 1, 3), np.uint8)
    found = byte_reference.conv2d(x, folded.weight, folded.constants, border=(1, 1, 1, 1))
    assert np.array_equal(found[0, 0, 0], folded.constants[:, 1, 1].astype(np.float32))


def test_errors_of_neighbors_cancel():
    """On a plane of one color the sum of a channel's weights counts alone."""
    weight = drawn(16, (7, 7), 3)
    q = byte_reference.fold(weight, MEAN, STD)
    real = weight.astype(np.float64) / (255 * np.array(STD)) / q.scale[:, None, None, None]
    assert np.abs(q.weight - real).max() < 1
    assert (np.abs((q.weight - real).sum(axis=(1, 2))) <= 0.5 + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 5),
    st.floats(-3, 4),
    st.floats(1e-3, 10),
    st.sampled_from(["usual", "all alike", "one large", "tiny"]),
    st.integers(0, 9),
)
def test_no_sum_leaves_32_bits(n_in, kernel, n_out, mean, std, kind, seed):
    weight = drawn(n_out, (kernel, kernel), n_in, seed)
    if kind == "all alike":
        weight[...] = 1
    elif kind == "one large":
        weight[:, 0, 0, 0] = 1e6
    elif kind == "tiny":
        weight *= np.float32(1e-40)
    means, stds = (mean,) * n_in, (std,) * n_in
    folded = byte_reference.fold(weight, means, stds)
    assert byte_reference.largest_sum(folded, means) <= byte_reference.MOST
    assert np.abs(folded.weight.astype(int)).max() <= 32767
    assert (folded.scale > 0).all()


def test_many_taps_take_a_larger_scale():
    weight = np.ones((1, 40, 40, 3), np.float32)
    folded = byte_reference.fold(weight, (0.5,) * 3, (0.25,) * 3)
    # the least scale, or one up to a quarter larger
    assert byte_reference.largest_sum(folded, (0.5,) * 3) > byte_reference.MOST * 0.79
    assert folded.weight.max() < 32767


def test_a_channel_of_zeros_gives_zeros():
    folded = byte_reference.fold(np.zeros((2, 3, 3, 3), np.float32), MEAN, STD)
    assert not folded.weight.any()
    assert not folded.constants.any()


@pytest.mark.parametrize(
    ("value", "mean", "std"),
    [
        (np.nan, MEAN, STD),
        (np.inf, MEAN, STD),
        (3e38, MEAN, (1e-10, 1e-10, 1e-10)),
        (1.0, MEAN, (0.0, 1.0, 1.0)),
        (1.0, MEAN, (-1.0, 1.0, 1.0)),
        (1.0, (np.nan, 0.0, 0.0), STD),
        (1.0, (1e9, 0.0, 0.0), STD),
        (1.0, (0.5,), (0.5,)),
    ],
)
def test_what_cannot_be_folded_is_told(value, mean, std):
    weight = np.ones((2, 3, 3, 3), np.float32)
    weight[1, 1, 1, 1] = value
    with pytest.raises(UsageError, match="expected"):
        byte_reference.fold(weight, mean, std)


def test_expected_errors_are_those_of_correlated_pixels():
    errors = np.random.default_rng(0).standard_normal((2, 5, 3, 4, 2))
    taps = [(y, x, c) for y in range(3) for x in range(4) for c in range(2)]
    alike = [
        [0.95 ** (abs(a[0] - b[0]) + abs(a[1] - b[1]) + (a[2] != b[2])) for b in taps] for a in taps
    ]
    flat = errors.reshape(2, 5, -1)
    wanted = np.einsum("nki,ij,nkj->nk", flat, np.array(alike), flat)
    np.testing.assert_allclose(byte_reference.expected_error(errors), wanted, rtol=1e-12)


def test_errors_on_images_are_less_than_with_the_least_scale(monkeypatch):
    weight = drawn(32, (3, 3), 3)

    def error(folded):
        real = weight / (255 * np.array(STD)) / folded.scale[:, None, None, None].astype(float)
        return byte_reference.expected_error(folded.weight - real) * folded.scale.astype(float) ** 2

    best = byte_reference.fold(weight, MEAN, STD)
    monkeypatch.setattr(byte_reference, "N_SCALES", 1)
    least = byte_reference.fold(weight, MEAN, STD)
    assert (best.scale >= least.scale).all()
    assert (best.scale <= 1.25 * least.scale).all()
    assert (error(best) <= error(least)).all()
    assert error(best).mean() < 0.5 * error(least).mean()


@pytest.mark.parametrize(
    ("n_weights", "n"), [(1, 64), (2048, 64), (2049, 63), (9408, 13), (1 << 17, 1), (1 << 20, 1)]
)
def test_many_weights_are_tried_with_fewer_scales(n_weights, n):
    assert byte_reference.n_scales(n_weights) == n
