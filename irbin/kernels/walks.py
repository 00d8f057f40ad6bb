"""Numbers moved from any places to any places, alone, in pairs, or several added up, made ready.

What copies images in another order or size, lets tensors of different shapes meet, adds up along an
axis. `_value` here defines it, in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.bounds import MAX_INTEGER
from irbin.errors import UsageError
from irbin.kernels import native, reference, tensor_reference
from irbin.kernels.kernel import Kernel, check_array, check_integers, check_steps, step_tuples
from irbin.kernels.steps import Floats, Step
from irbin.legs import CONSTANTS, MAX_WALK_AXES, WALK_KINDS, Leg, WalkKind, Way


class WalkKernel(Kernel):
    """float32 (batch, sizes[0]) to (batch, *shape), channels last; the rest comes behind residuals.

    Args:
        shape: of an image's results, as they lie in memory.
        sizes: numbers of an image, of x and of each further tensor.
        legs: they fill the results, each number once.
        constants: what is read of every image.
        steps: on the result.

    Raises:
        UsageError: places lie outside of what they are in.
    """

    def __init__(
        self,
        shape: Sequence[int],
        sizes: Sequence[int],
        legs: Sequence[Leg],
        constants: Floats | None = None,
        steps: Sequence[Step] = (),
    ) -> None:
        super().__init__(steps)
        self.shape = check_integers("shape", tuple(shape), len(shape), 1, MAX_INTEGER)
        self.sizes = check_integers("sizes", tuple(sizes), len(sizes), 1, MAX_INTEGER)
        self.legs = tuple(legs)
        self.constants = np.zeros(0, np.float32) if constants is None else constants
        check_array("constants", self.constants, np.float32, (None,))
        for leg in self.legs:
            self._check(leg)
        check_steps(steps, self.shape[-1])

    def _check(self, leg: Leg) -> None:
        if leg.kind not in WALK_KINDS:
            raise UsageError(f"expected a leg of {', '.join(WALK_KINDS)}, got {leg.kind!r}")
        n_axes = len(leg.sizes)
        if not 0 < n_axes <= MAX_WALK_AXES:
            raise UsageError(f"`sizes`: expected 1 to {MAX_WALK_AXES} axes, got {n_axes}")
        check_integers("sizes", leg.sizes, n_axes, 1, MAX_INTEGER)
        check_integers("n_terms", (leg.n_terms,), 1, 1, MAX_INTEGER)
        results = (leg.n_terms, leg.to_step) if leg.kind == "softmax" else (1, 0)
        _check_way("to", leg.to, (leg.sizes, *results), math.prod(self.shape))
        for name, way, count, step in (
            ("first", leg.first, leg.n_terms, leg.step),
            ("second", leg.second, 1, 0),
        ):
            if not CONSTANTS <= way.source < len(self.sizes):
                raise UsageError(f"`{name}`: expected one of {len(self.sizes)} tensors")
            size = self.constants.size if way.source < 0 else self.sizes[way.source]
            _check_way(name, way, (leg.sizes, count, step), size)

    def _make(self) -> Any:
        n_pixels = math.prod(self.shape[:-1])
        legs = [
            (WALK_KINDS.index(leg.kind), leg.sizes, *map(tuple, leg[2:5]), *leg[5:])
            for leg in self.legs
        ]
        return native.module().walk(
            n_pixels, self.shape[-1], self.sizes, legs, self.constants, step_tuples(self.steps)
        )

    def _check_input(self, x: NDArray[Any]) -> int:
        check_array("x", x, np.float32, (None, self.sizes[0]))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, *self.shape)

    def _further_shapes(self, n: int) -> tuple[tuple[int, ...], ...]:
        return tuple((n, size) for size in self.sizes[1:])

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        read = (x, *residuals[self.n_residuals :])
        shape = self._out_shape(len(x))
        y = np.zeros((len(x), math.prod(self.shape)), np.float32)
        for leg in self.legs:
            self._walk(leg, read, y)
        added = [
            array.reshape(wanted)
            for array, wanted in zip(residuals, self._residual_shapes(shape), strict=False)
        ]
        return reference.apply_steps(y.reshape(shape), self._value_steps, added)

    def _walk(self, leg: Leg, read: Sequence[Floats], y: Floats) -> None:
        def seen(way: Way, count: int = 1, step: int = 0) -> Floats:
            array, image = self.constants, 0
            if way.source >= 0:
                array = read[way.source]
                image = self.sizes[way.source]
            return _seen(array, image, way, (len(y), *leg.sizes, count), step)

        first, second = seen(leg.first, leg.n_terms, leg.step), seen(leg.second)
        n_results = leg.n_terms if leg.kind == "softmax" else 1
        box = (len(y), *leg.sizes, n_results)
        to = _seen(y, y.shape[1], leg.to, box, leg.to_step, writeable=True)
        with np.errstate(all="ignore"):
            to[...] = _DEFINED[leg.kind](first, second)


def _seen(
    array: Floats,
    image: int,
    way: Way,
    shape: tuple[int, ...],
    step: int,
    *,
    writeable: bool = False,
) -> Floats:
    strides = tuple(4 * one for one in (image, *way.strides, step))
    return np.lib.stride_tricks.as_strided(
        array.reshape(-1)[way.offset :], shape, strides, writeable=writeable
    )


def _summed(x: Floats, _: Floats) -> Floats:
    total: Floats = x[..., 0]
    for k in range(1, x.shape[-1]):
        total = total + x[..., k]
    return total[..., None]


_DEFINED: dict[WalkKind, Callable[[Floats, Floats], Floats]] = {
    "copy": lambda a, _: a,
    "multiply": np.multiply,
    "add": np.add,
    "subtract": np.subtract,
    "divide": np.divide,
    "maximum": lambda a, b: np.where((a != a) | ((a > b) & (b == b)), a, b),
    "minimum": lambda a, b: np.where((a != a) | ((a < b) & (b == b)), a, b),
    "negate": lambda a, _: np.negative(a),
    "absolute": lambda a, _: np.abs(a),
    "sum": _summed,
    "softmax": lambda x, _: tensor_reference.softmax(x, -1),
}


def _check_way(name: str, way: Way, box: tuple[tuple[int, ...], int, int], size: int) -> None:
    sizes, count, step = box
    strides = check_integers(name, way.strides, len(sizes), -MAX_INTEGER, MAX_INTEGER)
    check_integers(name, (step,), 1, -MAX_INTEGER, MAX_INTEGER)
    reaches = [(n - 1) * by for n, by in zip((*sizes, count), (*strides, step), strict=True)]
    low = way.offset + sum(min(0, one) for one in reaches)
    high = way.offset + sum(max(0, one) for one in reaches)
    if not 0 <= low <= high < size:
        raise UsageError(f"`{name}`: expected places below {size}, got {low} to {high}")
