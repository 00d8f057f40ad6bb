"""Float convolutions in bfloat16: near the float32 ones, never read what is not there."""

import numpy as np
import pytest

from irbin.kernels import native
from irbin.kernels.convolution import FloatConvKernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.kernel import address
from irbin.kernels.reference import apply_steps, bitpack
from irbin.kernels.steps import Step

pytestmark = pytest.mark.skipif(
    not native.has_bfloat16(), reason="the processor has no AVX-512 BF16"
)

EPSILON = 2.0**-7
"""Of bfloat16, which keeps 8 bits: rounding to nearest loses half of it in each factor."""

CASES = {
    "stem of 3 channels": (3, 16, Geometry((20, 21), (7, 7), (2, 2), (3, 3, 3, 3))),
    "1x1": (8, 32, Geometry((9, 5), (1, 1))),
    "1x1 of stride 2": (6, 16, Geometry((9, 9), (1, 1), (2, 2))),
    "odd row of taps": (3, 48, Geometry((12, 70), (3, 3), (1, 2), (1, 1, 1, 1))),
    "dilated down": (4, 16, Geometry((12, 12), (3, 2), (1, 1), (0, 1, 2, 0), (2, 1))),
    "wider than a strip": (2, 16, Geometry((3, 150), (3, 3), (1, 1), (1, 1, 1, 1))),
}


def both(n_in, n_out, geometry, x, *, planes=False):
    random = np.random.default_rng(1)
    weight = random.standard_normal((n_out, *geometry.kernel, n_in)).astype(np.float32)
    steps = (
        Step("multiply", random.standard_normal(n_out).astype(np.float32)),
        Step("add", random.standard_normal(n_out).astype(np.float32)),
    )
    made = []
    for bfloat16 in (False, True):
        kernel = FloatConvKernel(weight, geometry, steps, bfloat16=bfloat16)
        y = np.full((len(x), *geometry.out_size, n_out), np.nan, np.float32)
        if planes:
            turned = np.ascontiguousarray(np.moveaxis(x, -1, 1))
            kernel.run(address(turned), len(x), [], address(y), 0, 1, True)
        else:
            kernel(x, y=y)
        made.append(y)
    sizes = FloatConvKernel(np.abs(weight), geometry, (Step("multiply", np.abs(steps[0].vector)),))
    bound = np.empty_like(made[0])
    sizes(np.abs(x), y=bound)
    return made[0], made[1], EPSILON * 1.01 * bound


@pytest.mark.parametrize(("n_in", "n_out", "geometry"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("planes", [False, True], ids=["channels last", "planes"])
def test_every_sum_is_within_what_its_factors_lose(n_in, n_out, geometry, planes):
    x = np.random.default_rng(0).standard_normal((2, *geometry.size, n_in)).astype(np.float32)
    wanted, found, bound = both(n_in, n_out, geometry, x, planes=planes)
    assert (np.abs(found - wanted) <= bound).all()
    assert not np.array_equal(found, wanted)  # it is bfloat16 that ran


def test_numbers_that_bfloat16_holds_give_the_same_sums():
    geometry = Geometry((8, 8), (3, 3), (2, 2), (1, 1, 1, 1))
    random = np.random.default_rng(0)
    x = random.integers(-4, 5, (1, 8, 8, 3)).astype(np.float32)
    weight = random.integers(-4, 5, (16, 3, 3, 3)).astype(np.float32)
    made = []
    for bfloat16 in (False, True):
        y = np.empty((1, 4, 4, 16), np.float32)
        FloatConvKernel(weight, geometry, bfloat16=bfloat16)(x, y=y)
        made.append(y)
    assert np.array_equal(*made)


@pytest.mark.parametrize(
    ("n_in", "n_out", "stride"),
    [(3, 16, (1, 1)), (4, 17, (1, 1))],
    ids=["pixels that start inside a word", "channels that fill no block"],
)
def test_sizes_that_do_not_fit_stay_float32(n_in, n_out, stride):
    geometry = Geometry((6, 6), (3, 3), stride)
    x = np.random.default_rng(0).standard_normal((1, 6, 6, n_in)).astype(np.float32)
    wanted, found, _ = both(n_in, n_out, geometry, x)
    assert np.array_equal(found, wanted)


def test_memory_behind_the_image_is_never_part_of_a_sum():
    """A half-empty pair at a row's end is read against a zero weight: it must hold a number."""
    geometry = Geometry((2, 8), (1, 3), (1, 2), (0, 0, 0, 0))
    dirty = np.full((1, 64, 64, 8), np.nan, np.float32)  # leaves NaN in the thread's scratch
    FloatConvKernel(np.ones((16, 1, 1, 8), np.float32), Geometry((64, 64), (1, 1)), bfloat16=True)(
        dirty, y=np.empty((1, 64, 64, 16), np.float32)
    )
    x = np.ones((1, 2, 8, 3), np.float32)
    _, found, _ = both(3, 16, geometry, x)
    assert np.isfinite(found).all()


def test_every_step_follows_the_sum():
    """Each a rounding of its own, as behind every other sum."""
    random = np.random.default_rng(2)
    geometry = Geometry((6, 9), (3, 3), (1, 1), (1, 1, 1, 1))
    x = random.standard_normal((2, 6, 9, 4)).astype(np.float32)
    weight = random.standard_normal((32, 3, 3, 4)).astype(np.float32)
    residual = random.standard_normal((2, 6, 9, 32)).astype(np.float32)
    kinds = ("multiply", "add", "residual", "prelu", "add", "clamp", "write", "multiply", "add")
    steps = [
        Step(
            kind,
            None
            if kind in ("residual", "clamp", "write")
            else random.standard_normal(32).astype(np.float32),
            low=-1.0,
            high=2.0,
        )
        for kind in kinds
    ]
    sums, y = np.empty_like(residual), np.empty_like(residual)
    bits = np.empty((2, 6, 9, 4), np.uint8)
    FloatConvKernel(weight, geometry, bfloat16=True)(x, y=sums)
    FloatConvKernel(weight, geometry, steps, bfloat16=True)(x, [residual], y, bits)
    value = apply_steps(sums, steps[:6], [residual])
    assert np.array_equal(y, value)
    assert np.array_equal(bits, bitpack(apply_steps(value, steps[7:], ()), 3))
