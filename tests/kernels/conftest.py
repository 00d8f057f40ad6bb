"""Every compiled implementation that this processor runs, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from irbin.kernels import native

NAMES = [
    one.name for one in native.implementations() if one.supported and one.name != native.REFERENCE
]


# of a module, not of a function: hypothesis would have it set up again for every example
@pytest.fixture(scope="module", params=NAMES)
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the implementation that computes meanwhile."""
    with native.using(request.param):
        yield request.param


def as_defined(kernel, x: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """That it computes what it is defined to, on one thread and on two."""
    shape = kernel._out_shape(len(x))
    expected, y = np.zeros(shape, np.float32), np.full(shape, 123, np.float32)
    bits_shape = (*shape[:-1], -(-shape[-1] // 8))
    expected_bits, bits = np.zeros(bits_shape, np.uint8), np.full(bits_shape, 77, np.uint8)
    kernel.define(x, others, expected, expected_bits)
    nan = np.isnan(expected)
    for n_threads in (1, 2):
        kernel(x, others, y, bits, n_threads)
        assert np.array_equal(np.isnan(y), nan)
        assert np.array_equal(y[~nan].view(np.int32), expected[~nan].view(np.int32))
        assert np.array_equal(bits, expected_bits)
    return expected
