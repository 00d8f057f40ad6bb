"""What no kernel can read is told in one line, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from irbin.errors import UsageError
from irbin.kernels import native, ops
from irbin.kernels.convolution import ConvKernel, FloatConvKernel, linear_kernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.kernel import Kernel
from irbin.kernels.passes import PoolKernel, RowsKernel
from irbin.kernels.steps import Step
from irbin.kernels.thresholds import find_thresholds

WINDOW = Geometry((3, 4), (2, 2))
WEIGHT = np.zeros((5, 2, 2, 2), np.uint8)
ADD = Step("add", np.zeros(5, np.float32))


def conv(*steps: Step) -> ConvKernel:
    return ConvKernel(WEIGHT, WINDOW, 9, steps=steps)


def misaligned(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros of float32 that start one byte after an address a float may have."""
    memory = np.zeros(4 * int(np.prod(shape)) + 8, np.uint8)
    start = -memory.ctypes.data % 4 + 1
    return memory[start : start + 4 * int(np.prod(shape))].view(np.float32).reshape(shape)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def octets(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint8)


def message(call: Callable[[], Any]) -> str:
    with pytest.raises(UsageError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


BEHIND_A_WRITE = "expected steps on channels alone behind a `write`, got others"
NOT_HELD = "expected a `hold` before a `keep`, on the same side of a `write`"
SWAPPED = np.dtype(np.float32).newbyteorder()
COPY_FIRST = "expected a contiguous, aligned array; copy it first"


@pytest.mark.parametrize("name", [native.active(), native.REFERENCE], ids=["native", "reference"])
@pytest.mark.parametrize(
    ("kernel", "changed", "expected"),
    [
        (conv(), {"x": octets(2, 3, 4, 3)},
         "`bits`: expected uint8 (any, 3, 4, 2), got uint8 (2, 3, 4, 3)"),
        (conv(), {"x": octets(3, 4, 2)},
         "`bits`: expected uint8 (any, 3, 4, 2), got uint8 (3, 4, 2)"),
        (conv(), {"x": floats(2, 3, 4, 2)},
         "`bits`: expected uint8 (any, 3, 4, 2), got float32 (2, 3, 4, 2)"),
        (conv(), {"x": np.zeros((2, 3, 4, 2), np.int8)},
         "`bits`: expected uint8 (any, 3, 4, 2), got int8 (2, 3, 4, 2)"),
        (conv(), {"x": octets(2, 3, 4, 4)[..., ::2]}, f"`bits`: {COPY_FIRST}"),
        (conv(), {"y": None, "y_bits": None}, "expected `y`, `y_bits` or both, got neither"),
        (conv(), {"y": floats(2, 5, 2, 3)},
         "`y`: expected float32 (2, 2, 3, 5), got float32 (2, 5, 2, 3)"),
        (conv(), {"y": np.zeros((2, 2, 3, 5))},
         "`y`: expected float32 (2, 2, 3, 5), got float64 (2, 2, 3, 5)"),
        (conv(), {"y": np.zeros((2, 2, 3, 5), SWAPPED)},
         f"`y`: expected float32 (2, 2, 3, 5), got {SWAPPED} (2, 2, 3, 5)"),
        (conv(), {"y": np.moveaxis(floats(2, 5, 2, 3), 1, 3)}, f"`y`: {COPY_FIRST}"),
        (conv(), {"y": misaligned((2, 2, 3, 5))}, f"`y`: {COPY_FIRST}"),
        (conv(), {"y": read_only(floats(2, 2, 3, 5))},
         "`y`: expected an array that may be written"),
        (conv(), {"y_bits": octets(2, 2, 3, 5)},
         "`y_bits`: expected uint8 (2, 2, 3, 1), got uint8 (2, 2, 3, 5)"),
        (conv(), {"y_bits": read_only(octets(2, 2, 3, 1))},
         "`y_bits`: expected an array that may be written"),
        (conv(), {"y_bits": octets(4, 2, 3, 1)[::2]}, f"`y_bits`: {COPY_FIRST}"),
        (conv(Step("residual")), {}, "expected 1 residuals, got 0"),
        (conv(Step("residual", residual=1)), {"residuals": [floats(2, 2, 3, 5)]},
         "expected 2 residuals, got 1"),
        (conv(), {"residuals": [floats(2, 2, 3, 5)]}, "expected 0 residuals, got 1"),
        (conv(Step("residual")), {"residuals": [floats(1, 2, 3, 5)]},
         "`residuals[0]`: expected float32 (2, 2, 3, 5), got float32 (1, 2, 3, 5)"),
        (conv(Step("residual")), {"residuals": [misaligned((2, 2, 3, 5))]},
         f"`residuals[0]`: {COPY_FIRST}"),
        (conv(Step("residual")), {"residuals": [np.broadcast_to(floats(5), (2, 2, 3, 5))]},
         f"`residuals[0]`: {COPY_FIRST}"),
        (RowsKernel(3), {"x": floats(2, 4)},
         "`x`: expected float32 (any, 3), got float32 (2, 4)"),
        (RowsKernel(3), {"x": floats(2, 6)[:, ::2]}, f"`x`: {COPY_FIRST}"),
        (RowsKernel(3), {"x": misaligned((2, 3))}, f"`x`: {COPY_FIRST}"),
        (PoolKernel(WINDOW, 5), {"x": floats(2, 4, 3, 5)},
         "`x`: expected float32 (any, 3, 4, 5), got float32 (2, 4, 3, 5)"),
        (FloatConvKernel(floats(5, 2, 2, 1), WINDOW), {"x": floats(2, 3, 4, 2)},
         "`x`: expected float32 (any, 3, 4, 1), got float32 (2, 3, 4, 2)"),
        (PoolKernel(Geometry((2, 3), (1, 1)), 5, producer=conv()), {"x": floats(2, 2, 3, 5)},
         "`bits`: expected uint8 (any, 3, 4, 2), got float32 (2, 2, 3, 5)"),
    ],
    ids=[
        "bits of other channels", "bits of one image", "floats for bits", "signed bits",
        "bits with gaps", "no output", "y with channels first", "y of doubles", "y swapped",
        "y turned", "y misaligned", "y read-only", "y_bits unpacked", "y_bits read-only",
        "y_bits with gaps", "no residual", "one residual of two", "a residual too many",
        "residual of another batch", "residual misaligned", "residual without memory",
        "rows of other channels", "rows with gaps", "rows misaligned", "image turned",
        "other in_channels", "what the producer makes",
    ],
)  # fmt: skip  # a case a line
def test_a_call_with_another_array_is_told(
    name: str, kernel: Kernel, changed: dict[str, Any], expected: str
) -> None:
    arguments: dict[str, Any] = {"x": octets(2, 3, 4, 2), "y": floats(2, 2, 3, 5)} | changed
    with native.using(name):
        assert message(lambda: kernel(**arguments)) == expected
    assert arguments["y"] is None or not arguments["y"].any()


def test_read_only_inputs_are_read() -> None:
    residual, y = read_only(floats(2, 2, 3, 5)), floats(2, 2, 3, 5)
    weight = read_only(WEIGHT.copy())
    steps = (Step("residual"), Step("add", read_only(np.ones(5, np.float32))))
    kernel = ConvKernel(weight, WINDOW, 9, steps=steps)
    kernel(read_only(octets(2, 3, 4, 2)), [residual], y)
    assert (y == 37).all()  # 36 equal signs, and one


@pytest.mark.parametrize("n_threads", [-1, 0, 1000])
def test_any_number_of_threads_computes(n_threads: int) -> None:
    y = floats(2, 2, 3, 5)
    conv()(octets(2, 3, 4, 2), (), y, None, n_threads)
    assert (y == 36).all()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ConvKernel(WEIGHT, Geometry((1, 4), (2, 2)), 9),
         "expected a window that fits its image, got Geometry(size=(1, 4), kernel=(2, 2), "
         "stride=(1, 1), border=(0, 0, 0, 0), dilation=(1, 1))"),
        (lambda: ConvKernel(WEIGHT, Geometry((3, 4), (2, 2), (0, 1)), 9),
         "expected a window that fits its image, got Geometry(size=(3, 4), kernel=(2, 2), "
         "stride=(0, 1), border=(0, 0, 0, 0), dilation=(1, 1))"),
        (lambda: ConvKernel(WEIGHT, Geometry((3, 4), (2, 2), border=(0, 0, 0, -1)), 9),
         "expected a window that fits its image, got Geometry(size=(3, 4), kernel=(2, 2), "
         "stride=(1, 1), border=(0, 0, 0, -1), dilation=(1, 1))"),
        (lambda: ConvKernel(WEIGHT, WINDOW, 9, 2),
         "expected channels that divide by the groups, got 9 → 5 in 2 groups"),
        (lambda: ConvKernel(WEIGHT, WINDOW, 10, 2),
         "expected channels that divide by the groups, got 10 → 5 in 2 groups"),
        (lambda: ConvKernel(WEIGHT, WINDOW, 0),
         "expected channels that divide by the groups, got 0 → 5 in 1 groups"),
        (lambda: ConvKernel(WEIGHT[:0], WINDOW, 9),
         "expected channels that divide by the groups, got 9 → 0 in 1 groups"),
        (lambda: ConvKernel(WEIGHT, WINDOW, 17),
         "`weight_bits`: expected uint8 (5, 2, 2, 3), got uint8 (5, 2, 2, 2)"),
        (lambda: ConvKernel(octets(5, 2, 2, 4)[..., ::2], WINDOW, 9),
         f"`weight_bits`: {COPY_FIRST}"),
        (lambda: linear_kernel(octets(3, 2), 20, ()),
         "`weight_bits`: expected uint8 (3, 1, 1, 3), got uint8 (3, 1, 1, 2)"),
        (lambda: FloatConvKernel(floats(5, 2, 3, 2), WINDOW),
         "`weight`: expected float32 (any, 2, 2, any), got float32 (5, 2, 3, 2)"),
        (lambda: FloatConvKernel(np.zeros((5, 2, 2, 1)), WINDOW),
         "`weight`: expected float32 (any, 2, 2, any), got float64 (5, 2, 2, 1)"),
        (lambda: FloatConvKernel(floats(5, 2, 2, 0), WINDOW),
         "`weight`: expected channels, got (5, 2, 2, 0)"),
        (lambda: PoolKernel(Geometry((3, 4), (2, 2), border=(2, 0, 0, 0)), 5),
         "expected padding smaller than the window, got Geometry(size=(3, 4), kernel=(2, 2), "
         "stride=(1, 1), border=(2, 0, 0, 0), dilation=(1, 1))"),
        (lambda: PoolKernel(WINDOW, 5, [Step("residual")]),
         "expected steps without a residual or `write` before a pooling"),
        (lambda: PoolKernel(WINDOW, 5, [Step("write"), ADD]),
         "expected steps without a residual or `write` before a pooling"),
        (lambda: RowsKernel(5, [Step("residual", before=3, channels=3)]),
         "`channels`: expected an integer from 0 to 2, got 3 (int)"),
        (lambda: RowsKernel(5, [Step("residual", before=-1, channels=3)]),
         "`before`: expected an integer from 0 to 5, got -1 (int)"),
        (lambda: RowsKernel(5, [Step("residual", channels=3), Step("residual", channels=2)]),
         "`residuals[0]`: expected one number of channels, got 3 and 2"),
        (lambda: conv(Step("write"), Step("residual")), BEHIND_A_WRITE),
        (lambda: conv(Step("write"), ADD, Step("write")), BEHIND_A_WRITE),
        (lambda: PoolKernel(WINDOW, 5, (), [Step("write"), Step("residual")]), BEHIND_A_WRITE),
        (lambda: RowsKernel(5, [Step("write"), Step("residual")]), BEHIND_A_WRITE),
        (lambda: conv(Step("write"), Step("add", np.zeros(4, np.float32))),
         "`add`: expected float32 (5), got float32 (4,)"),
        (lambda: PoolKernel(WINDOW, 5, producer=conv()),
         "`producer`: expected a convolution to (3, 4, 5) without residuals or "
         "thresholds, got one to (2, 3, 5)"),
        (lambda: PoolKernel(Geometry((2, 3), (1, 1)), 5, producer=conv(Step("residual"))),
         "`producer`: expected a convolution to (2, 3, 5) without residuals or "
         "thresholds, got one to (2, 3, 5)"),
        (lambda: RowsKernel(5, [Step("silu"), Step("keep"), Step("hold")]), NOT_HELD),
        (lambda: RowsKernel(5, [Step("hold"), Step("write"), Step("keep")]), NOT_HELD),
        (lambda: PoolKernel(Geometry((2, 3), (1, 1)), 5, [ADD], producer=conv()),
         "`producer`: expected a convolution to (2, 3, 5) without residuals or "
         "thresholds, got one to (2, 3, 5)"),
    ],
    ids=[
        "image smaller than the window", "stride 0", "negative border", "in_channels in groups",
        "out_channels in groups", "no in_channels", "no out_channels", "other in_channels",
        "weight with gaps", "other in_features", "other window", "weight of doubles",
        "float weight of nothing", "window in the border", "residual before a pooling",
        "write before a pooling", "residual beyond the channels", "residual before the channels",
        "residual of two widths", "residual behind a write", "second write",
        "residual behind a pooling's write", "residual behind a row's write",
        "other channels behind a write",
        "producer of another size", "producer with a residual", "nothing held",
        "held before a write", "steps before and a producer",
    ],
)  # fmt: skip  # a case a line
def test_a_kernel_of_other_sizes_is_told(make: Callable[[], Kernel], expected: str) -> None:
    assert message(make) == expected


@pytest.mark.parametrize("kind", ["multiply", "add", "prelu"])
@pytest.mark.parametrize(
    "make",
    [
        lambda steps: ConvKernel(WEIGHT, WINDOW, 9, steps=steps),
        lambda steps: FloatConvKernel(floats(5, 2, 2, 1), WINDOW, steps),
        lambda steps: PoolKernel(WINDOW, 5, steps=steps),
        lambda steps: PoolKernel(WINDOW, 5, steps),
        lambda steps: RowsKernel(5, steps),
    ],
    ids=["convolution", "float convolution", "pooling", "before a pooling", "rows"],
)
def test_a_step_of_other_channels_is_told(make: Callable[[list[Step]], Kernel], kind: Any) -> None:
    assert message(lambda: make([Step(kind)])) == f"`{kind}`: expected values, got None"
    for values, found in ((floats(4), "float32 (4,)"), (np.zeros(5), "float64 (5,)")):
        told = message(lambda values=values: make([Step(kind, values)]))
        assert told == f"`{kind}`: expected float32 (5), got {found}"


@pytest.mark.parametrize("residual", [-1, 4])
def test_a_residual_beyond_the_fourth_is_told(residual: int) -> None:
    assert message(lambda: RowsKernel(5, [Step("residual", residual=residual)])) == (
        f"`residual`: expected a number below 4, got {residual}"
    )


class TestThresholds:
    def test_y_is_not_to_be_had(self) -> None:
        kernel = ConvKernel(WEIGHT, WINDOW, 9, thresholds=find_thresholds((), 36, 5))
        for y_bits in (None, octets(2, 2, 3, 1)):
            assert (
                message(
                    lambda bits=y_bits: kernel(octets(2, 3, 4, 2), (), floats(2, 2, 3, 5), bits)
                )
                == "expected `y_bits` alone from a kernel with thresholds, got `y`"
            )

    def test_others_channels_are_told(self) -> None:
        lower, flips = np.zeros(5, np.int32), octets(1)
        assert (
            message(lambda: ConvKernel(WEIGHT, WINDOW, 9, thresholds=(lower[:4], flips)))
            == "`lower`: expected int32 (5), got int32 (4,)"
        )
        assert (
            message(lambda: ConvKernel(WEIGHT, WINDOW, 9, thresholds=(lower, octets(2))))
            == "`flips`: expected uint8 (1), got uint8 (2,)"
        )

    def test_nothing_pools_them(self) -> None:
        producer = ConvKernel(WEIGHT, WINDOW, 9, thresholds=find_thresholds((), 36, 5))
        assert message(lambda: PoolKernel(Geometry((2, 3), (1, 1)), 5, producer=producer)) == (
            "`producer`: expected a convolution to (2, 3, 5) without residuals or thresholds, "
            "got one to (2, 3, 5)"
        )


def test_bits_of_groups_that_share_a_byte_are_not_to_be_had() -> None:
    kernel = ConvKernel(octets(6, 1, 1, 1), Geometry((2, 2), (1, 1)), 8, 2)
    assert message(lambda: kernel(octets(1, 2, 2, 2), (), None, octets(1, 2, 2, 1))) == (
        "expected groups of whole bytes to give `y_bits`, got others"
    )


def test_misaligned_floats_pack_as_their_copy() -> None:
    for axis in (1, 2):
        x = misaligned((2, 9, 3))
        x[...] = np.random.default_rng(0).standard_normal(x.shape)
        assert np.array_equal(ops.bitpack(x, axis), ops.bitpack(x.copy(), axis))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: ops.bitpack(np.zeros((2, 3)), 1), "`x`: expected float32, got float64"),
        (lambda: ops.bitpack(floats(2, 3), 2),
         "`x`: expected channels on axis 2 in 1 groups, got (2, 3)"),
        (lambda: ops.bitpack(floats(2, 3), -1),
         "`x`: expected channels on axis -1 in 1 groups, got (2, 3)"),
        (lambda: ops.bitpack(floats(2, 3), 1, 2),
         "`x`: expected channels on axis 1 in 2 groups, got (2, 3)"),
        (lambda: ops.bitpack(floats(2, 3), 1, 0),
         "`x`: expected channels on axis 1 in 0 groups, got (2, 3)"),
        (lambda: ops.bconv2d(octets(2, 3, 2), WEIGHT, None, None, 9),
         "expected 4 axes, got bits (2, 3, 2), weight (5, 2, 2, 2)"),
        (lambda: ops.bconv2d(octets(1, 3, 4, 2), octets(5, 2), None, None, 9),
         "expected 4 axes, got bits (1, 3, 4, 2), weight (5, 2)"),
        (lambda: ops.bconv2d(octets(1, 3, 4, 3), WEIGHT, None, None, 9),
         "`bits`: expected uint8 (any, 3, 4, 2), got uint8 (1, 3, 4, 3)"),
        (lambda: ops.bgemm(octets(4, 2), octets(5, 2, 1), None, None, 9),
         "expected rows of bits, got (4, 2) and (5, 2, 1)"),
        (lambda: ops.bgemm(octets(4, 3), octets(5, 2), None, None, 9),
         "`bits`: expected uint8 (4, 2), got uint8 (4, 3)"),
        (lambda: ops.bgemm(octets(4, 4)[:, ::2], octets(5, 2), None, None, 9),
         f"`bits`: {COPY_FIRST}"),
    ],
    ids=[
        "doubles", "no such axis", "axis from the end", "channels in groups", "no groups",
        "bits of 3 axes", "linear weight", "bits of other channels", "weight of 3 axes",
        "rows of other features", "rows with gaps",
    ],
)  # fmt: skip  # a case a line
def test_an_operator_on_another_array_is_told(call: Callable[[], Any], expected: str) -> None:
    assert message(call) == expected
