"""Images of another size, each number between four of the image's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from irbin.axes import Between
from irbin.bounds import MAX_INTEGER
from irbin.kernels import float_reference, native
from irbin.kernels.kernel import check_integers, step_tuples
from irbin.kernels.lines import LinesKernel
from irbin.kernels.steps import Floats, Step


class ResizeKernel(LinesKernel):
    """Bilinear interpolation; `float_reference.resized` defines it.

    Args:
        size: (height, width) of the input.
        n_channels: of the image.
        rows: of each output row.
        columns: of each output column.
        steps: on the result.

    Raises:
        UsageError: a place lies outside of the image.
    """

    def __init__(
        self,
        size: tuple[int, int],
        n_channels: int,
        rows: Sequence[Between],
        columns: Sequence[Between],
        steps: Sequence[Step] = (),
    ) -> None:
        super().__init__(size, n_channels, (len(rows), len(columns), n_channels), steps)
        for places, most in ((rows, size[0]), (columns, size[1])):
            for place in places:
                check_integers("place", place[:2], 2, 0, min(most - 1, MAX_INTEGER))
        self.rows, self.columns = (
            tuple(
                Between(a, b, float(np.float32(v)), float(np.float32(w))) for a, b, v, w in places
            )
            for places in (rows, columns)
        )

    def _make(self) -> Any:
        rows, columns = list(map(tuple, self.rows)), list(map(tuple, self.columns))
        return native.module().resize(*self.shape, rows, columns, step_tuples(self.steps))

    def _plain(self, x: Floats, _: Sequence[Floats]) -> Floats:
        return float_reference.resized(x, self.rows, self.columns)
