"""From a fused record to a kernel without weights that makes an image row by row, or a walk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from irbin.kernels.kernel import Kernel
from irbin.kernels.lines import (
    AverageKernel,
    ChannelMeanKernel,
    CropKernel,
    GateKernel,
    JoinKernel,
)
from irbin.kernels.resize import ResizeKernel
from irbin.kernels.steps import Step
from irbin.kernels.walks import WalkKernel
from irbin.program.averages import average_spans
from irbin.program.fused import Fused
from irbin.program.resized import places_between
from irbin.program.several import MEETINGS
from irbin.program.shapes import sizes
from irbin.program.types import ValueType, fixed, one_tensor
from irbin.runtime.arrays import as_array


def _walk_kernel(item: Fused, steps: tuple[Step, ...], constants: Mapping[str, Any]) -> WalkKernel:
    own = item.walk
    assert own is not None, "`fuse` looked"
    shape = [*sizes(item.type, 1)]
    shape.append(shape.pop(item.channel_axis))
    shape[0] = sizes(item.type, 2)[0] - shape[0]  # of an image, of which there may be several
    given = [
        np.float32(one) if isinstance(one, float) else as_array(constants[one])
        for one in own.constants
    ]
    flat = [np.asarray(one, np.float32).reshape(-1) for one in given]
    values = np.concatenate(flat) if flat else None
    return WalkKernel(shape, own.sizes, own.legs, values, steps)


def lines_kernel(
    item: Fused,
    steps: tuple[Step, ...],
    types: Mapping[str, ValueType],
    constants: Mapping[str, Any],
) -> Kernel:
    """Of a kind without weights that makes its image row by row.

    Args:
        item: what to compute.
        steps: behind it.
        types: of everything in the program.
        constants: arrays or tensors by name.
    """
    if item.kind == "meet":  # each row's own pixel
        return GateKernel((1, 1), item.n_channels, MEETINGS[item.root.op], steps)
    if item.kind == "walk":
        return _walk_kernel(item, steps, constants)
    axis = item.channel_axis if item.source_axis is None else item.source_axis
    sides = [n for at, n in enumerate(one_tensor(types[item.source]).shape) if at not in (0, axis)]
    height, width = (*map(fixed, sides), 1)[:2]
    size, n_channels = (height, width), fixed(one_tensor(types[item.source]).shape[axis])
    if item.kind == "average":
        spans = average_spans(item.root, types)
        assert spans is not None, "`fuse` looked"
        return AverageKernel(size, n_channels, *spans, steps)
    if item.kind == "resize":
        places = places_between(item.root, types)
        assert places is not None, "`fuse` looked"
        return ResizeKernel(size, n_channels, *places, steps)
    if item.kind == "channel_mean":
        return ChannelMeanKernel(size, item.n_channels, n_channels // item.n_channels, steps)
    if item.kind == "crop":
        assert item.box is not None, "`fuse` looked"
        channels, y, x = item.box.axes
        return CropKernel((y, x, channels), item.box.value, steps)
    if item.kind == "join":
        shapes = [one_tensor(types[name]).shape for name in (item.source, *item.others)]
        return JoinKernel(size, [fixed(shape[axis]) for shape in shapes], steps)
    return GateKernel(size, n_channels, MEETINGS[item.root.op], steps)
