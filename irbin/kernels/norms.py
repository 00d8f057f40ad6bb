"""Norms with a mean and variance of the numbers themselves; `float_reference` defines them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.bounds import MAX_INTEGER
from irbin.errors import UsageError
from irbin.kernels import float_reference, native, reference
from irbin.kernels.kernel import Kernel, check_array, check_integer, check_steps, step_tuples
from irbin.kernels.lines import LinesKernel
from irbin.kernels.steps import Floats, Step


class LayerNormKernel(Kernel):
    """Layer norm of each row; float32 (rows, channels) to the same shape.

    Args:
        n_channels: innermost.
        epsilon: added to the variance.
        steps: on the result, learned factors and offsets among them.
        is_centered: the mean is taken away; else it is an RMS norm.

    Raises:
        UsageError: there are no channels, or a step has another number of them.
    """

    def __init__(
        self,
        n_channels: int,
        epsilon: float,
        steps: Sequence[Step] = (),
        *,
        is_centered: bool = True,
    ) -> None:
        super().__init__(steps)
        self.is_centered = is_centered
        self.n_channels = check_integer("n_channels", n_channels, 1, MAX_INTEGER)
        self.epsilon = float(np.float32(epsilon))
        check_steps(steps, n_channels)

    def _make(self) -> Any:
        steps = step_tuples(self.steps)
        return native.module().layer_norm(self.n_channels, self.epsilon, self.is_centered, steps)

    def _check_input(self, x: NDArray[Any]) -> int:
        check_array("x", x, np.float32, (None, self.n_channels))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, self.n_channels)

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        made = float_reference.layer_norm(x, self.epsilon, is_centered=self.is_centered)
        return reference.apply_steps(made, self._value_steps, residuals)


class GroupNormKernel(LinesKernel):
    """Group norm of each image.

    Args:
        size: (height, width).
        n_channels: of the image.
        n_groups: of channels that follow one another.
        epsilon: added to the variance.
        steps: on the result, learned factors and offsets among them.

    Raises:
        UsageError: the groups do not divide the channels, or a step has another number of channels.
    """

    def __init__(
        self,
        size: tuple[int, int],
        n_channels: int,
        n_groups: int,
        epsilon: float,
        steps: Sequence[Step] = (),
    ) -> None:
        super().__init__(size, n_channels, (*size, n_channels), steps)
        self.n_groups = check_integer("n_groups", n_groups, 1, MAX_INTEGER)
        self.epsilon = float(np.float32(epsilon))
        if n_channels % n_groups:
            raise UsageError(f"`n_groups`: expected a divisor of {n_channels}, got {n_groups}")

    def _make(self) -> Any:
        steps = step_tuples(self.steps)
        return native.module().group_norm(*self.shape, self.n_groups, self.epsilon, steps)

    def _plain(self, x: Floats, _: Sequence[Floats]) -> Floats:
        return float_reference.group_norm(x, self.n_groups, self.epsilon)
