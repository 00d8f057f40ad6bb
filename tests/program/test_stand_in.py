import numpy as np
import pytest
import torch

from irbin.bits import pack, sign
from irbin.kernels import reference
from irbin.program.stand_in import register

register()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("channels", [2, 14, 16, 66])
def test_convolutions_are_those_of_the_reference(channels, groups):
    draw = np.random.default_rng(0)
    x = draw.standard_normal((2, channels, 5, 4)).astype(np.float32)
    weight = draw.standard_normal((4, 3, 3, channels // groups))
    log2, bias = np.array([-3, 0, 2, 1], np.int8), draw.standard_normal(4).astype(np.float32)
    how = (channels, [2, 1], [1, 0, 2, 1], [1, 2], groups)
    bits = torch.ops.irbin.bitpack(torch.from_numpy(x), 1, groups)
    assert np.array_equal(bits.numpy(), reference.bitpack(x, 1, groups))
    got = torch.ops.irbin.bconv2d(bits, *map(torch.from_numpy, (pack(weight), log2, bias)), *how)
    expected = reference.bconv2d(bits.numpy(), pack(weight), log2, bias, *how)
    assert np.allclose(got.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 64, 65])
def test_products_are_those_of_the_reference(n):
    draw = np.random.default_rng(0)
    x, weight = draw.standard_normal((2, 3, n)).astype(np.float32), draw.standard_normal((4, n))
    bits = torch.ops.irbin.bitpack(torch.from_numpy(x), 2, 1)
    got = torch.ops.irbin.bgemm(bits, torch.from_numpy(pack(weight)), None, None, n)
    assert np.array_equal(got.numpy(), sign(x) @ sign(weight).T)


@pytest.mark.parametrize("kernel", [(), (2, 3)])
def test_weights_are_unpacked_with_their_scale(kernel):
    weight = np.random.default_rng(0).standard_normal((3, *kernel, 10))
    log2 = torch.tensor([-1, 0, 4], dtype=torch.int8)
    got = torch.ops.irbin.bitunpack(torch.from_numpy(pack(weight)), log2, 10)
    expected = np.moveaxis(sign(weight), -1, 1) * np.float32([0.5, 1, 16]).reshape(
        3, *[1] * (weight.ndim - 1)
    )
    assert np.array_equal(got.numpy(), expected)
