"""The reference against torch's convolution of ±1 numbers in double precision, exactly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.bits import pack, tail_is_zero
from irbin.kernels import reference

BORDERS = (1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 97, 128)


def random_signs(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), shape)


def torch_conv(x, w, stride, border, dilation, groups) -> np.ndarray:
    padded = F.pad(torch.from_numpy(x).double(), border)
    weight = torch.from_numpy(w).double()
    return F.conv2d(padded, weight, None, stride, 0, dilation, groups).numpy()


def bits_dot(x, w, stride, border, dilation, groups) -> np.ndarray:
    bits, weight_bits = reference.bitpack(x, 1, groups), reference.bitpack(w, 1)
    return reference.bconv2d_dot(bits, weight_bits, x.shape[1], stride, border, dilation, groups)


class TestBitpack:
    def test_golden_bytes_channels_move_innermost(self):
        x = np.ones((1, 10, 1, 2), np.float32)
        x[0, 0, 0, 0] = x[0, 9, 0, 0] = x[0, 3, 0, 1] = -1
        assert reference.bitpack(x, 1).tolist() == [[[[0b1, 0b10], [0b1000, 0]]]]

    def test_each_group_starts_on_a_byte(self):
        x = np.full((1, 6, 1, 1), -1, np.float32)
        assert reference.bitpack(x, 1, groups=2).tolist() == [[[[0b111, 0b111]]]]

    def test_zero_negative_zero_and_nan_are_plus_one(self):
        x = np.array([[0.0, -0.0, np.nan, np.inf, -np.inf, -1e-45, 1e-45]], np.float32)
        assert reference.bitpack(x, 1).tolist() == [[0b110000]]

    @pytest.mark.parametrize("n_channels", BORDERS)
    def test_tail_bits_are_zero_even_where_everything_is_negative(self, n_channels):
        bits = reference.bitpack(np.full((2, n_channels, 3, 1), -1, np.float32), 1)
        assert bits.shape == (2, 3, 1, -(-n_channels // 8))
        assert tail_is_zero(bits, n_channels)
        assert np.bitwise_count(bits).sum() == 2 * 3 * n_channels

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_any_axis_holds_the_channels(self, axis):
        x = random_signs(9, 9, 9)
        assert np.array_equal(reference.bitpack(x, axis), pack(np.moveaxis(x, axis, -1)))

    def test_non_contiguous_input_packs_as_its_copy(self):
        x = random_signs(2, 12, 5, 6)[:, ::2, :, ::-1]
        assert np.array_equal(reference.bitpack(x, 1), reference.bitpack(x.copy(), 1))

    def test_empty_batch(self):
        assert reference.bitpack(np.empty((0, 5, 3, 2), np.float32), 1).shape == (0, 3, 2, 1)


class TestBitunpack:
    @pytest.mark.parametrize("n_channels", BORDERS)
    def test_inverts_bitpack_times_scale(self, n_channels):
        signs = random_signs(3, n_channels, 2, 1)
        scale_log2 = np.array([0, -1, -126], np.int8)
        unpacked = reference.bitunpack(reference.bitpack(signs, 1), scale_log2, n_channels)
        scale = np.ldexp(np.float32(1), scale_log2.astype(int)).reshape(3, 1, 1, 1)
        assert unpacked.dtype == np.float32
        assert np.array_equal(unpacked, signs * scale)

    def test_without_scale_gives_the_signs_of_a_linear_weight(self):
        signs = random_signs(5, 11)
        assert np.array_equal(reference.bitunpack(pack(signs), None, 11), signs)


class TestBgemm:
    @pytest.mark.parametrize("depth", BORDERS)
    @pytest.mark.parametrize("outer", [(1,), (3,), (2, 5), (0,)], ids=str)
    def test_dot_equals_float_product(self, depth, outer):
        x, w = random_signs(*outer, depth), random_signs(7, depth, seed=1)
        dot = reference.bgemm_dot(pack(x), pack(w), depth)
        assert dot.dtype == np.int32
        assert np.array_equal(dot, (x.astype(np.float64) @ w.T.astype(np.float64)))

    def test_many_rows_cross_the_block_border(self, monkeypatch):
        monkeypatch.setattr(reference, "BLOCK_WORDS", 8)  # 64 rows a block is the least
        x, w = random_signs(201, 70), random_signs(3, 70, seed=1)
        assert np.array_equal(reference.bgemm_dot(pack(x), pack(w), 70), x @ w.T)

    def test_opposite_signs_give_minus_depth(self):
        x = random_signs(1, 100)
        assert reference.bgemm_dot(pack(x), pack(-x), 100).tolist() == [[-100]]


class TestBconv2d:
    @pytest.mark.parametrize("in_channels", BORDERS)
    def test_zero_padding_contributes_nothing_for_any_channel_count(self, in_channels):
        x, w = random_signs(2, in_channels, 5, 4), random_signs(3, in_channels, 3, 3, seed=1)
        geometry = ((1, 1), (1, 1, 1, 1), (1, 1), 1)
        assert np.array_equal(bits_dot(x, w, *geometry), torch_conv(x, w, *geometry))

    @pytest.mark.slow
    @given(
        batch=st.integers(0, 3),
        size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
        kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
        stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
        border=st.tuples(*[st.integers(0, 3)] * 4),
        groups=st.integers(1, 3),
        per_group=st.tuples(st.integers(1, 20), st.integers(1, 3)),
    )
    @settings(max_examples=150, deadline=None, derandomize=True)
    def test_dot_equals_float_convolution(
        self, batch, size, kernel, stride, dilation, border, groups, per_group
    ):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        border = (*border[:3], border[3] + max(reach[0] - size[0] - sum(border[2:]), 0))
        border = (border[0] + max(reach[1] - size[1] - sum(border[:2]), 0), *border[1:])
        x = random_signs(batch, groups * per_group[0], *size)
        w = random_signs(groups * per_group[1], per_group[0], *kernel, seed=1)
        geometry = (stride, border, dilation, groups)
        assert np.array_equal(bits_dot(x, w, *geometry), torch_conv(x, w, *geometry))

    def test_depthwise(self):
        x, w = random_signs(2, 12, 6, 6), random_signs(12, 1, 3, 3, seed=1)
        geometry = ((2, 2), (1, 1, 1, 1), (1, 1), 12)
        assert np.array_equal(bits_dot(x, w, *geometry), torch_conv(x, w, *geometry))

    def test_blocks_of_images_give_what_one_block_gives(self, monkeypatch):
        x, w = random_signs(7, 9, 5, 5), random_signs(4, 9, 3, 3, seed=1)
        geometry = ((1, 1), (1, 0, 0, 1), (1, 1), 1)
        whole = bits_dot(x, w, *geometry)
        monkeypatch.setattr(reference, "PATCH_BYTES", 2000)
        assert np.array_equal(bits_dot(x, w, *geometry), whole)


class TestOutputTransform:
    def test_multiplies_then_adds_each_rounded(self):
        dot = np.array([[3, 16777215]], np.int32)
        bias = np.array([0.1, 1.5], np.float32)
        y = reference.output_transform(dot, np.array([-1, 0], np.int8), bias, 1)
        expected = [np.float32(1.5) + np.float32(0.1), np.float32(16777215) + np.float32(1.5)]
        assert y.dtype == np.float32
        assert y.tolist() == [[float(v) for v in expected]]

    def test_without_scale_and_bias_is_the_integer(self):
        dot = np.arange(-3, 3, dtype=np.int32).reshape(2, 3)
        assert np.array_equal(reference.output_transform(dot, None, None, 1), dot)

    def test_bconv2d_is_dot_then_transform(self):
        x, w = random_signs(2, 5, 4, 4), random_signs(3, 5, 3, 3, seed=1)
        bits, weight_bits = reference.bitpack(x, 1), reference.bitpack(w, 1)
        scale, bias = np.array([0, -1, -2], np.int8), np.array([1, -2, 0.5], np.float32)
        dot = reference.bconv2d_dot(bits, weight_bits, 5)
        y = reference.bconv2d(bits, weight_bits, scale, bias, 5)
        assert np.array_equal(y, dot * [[[1]], [[0.5]], [[0.25]]] + bias.reshape(3, 1, 1))

    def test_bgemm_puts_channels_last(self):
        x, w = random_signs(2, 6, 5), random_signs(3, 5, seed=1)
        y = reference.bgemm(pack(x), pack(w), np.array([0, -1, 1], np.int8), None, 5)
        assert np.array_equal(y, (x @ w.T) * [1, 0.5, 2])
