"""Residuals of fewer channels: zero channels around what alone is added are not made."""

from __future__ import annotations

import math
from dataclasses import replace

from irbin.program.fused import Fused, FusedStep
from irbin.program.graph import Graph


def add_fewer_channels(graph: Graph) -> None:
    """Steps that add a tensor padded with zero channels add those that it has.

    Args:
        graph: changed in place.
    """
    for item in list(graph.items):
        if not isinstance(item, Fused) or item.kind == "attention":
            continue
        for at, step in enumerate(item.steps):
            padding = _wider(graph, item, step)
            if padding is None or padding.box is None:
                continue
            axis = padding.box.axes[0]
            part = replace(step, operand=padding.source, before=axis.before, channels=axis.length)
            steps = (*item.steps[:at], part, *item.steps[at + 1 :])
            longer = replace(item, steps=steps, absorbed=(*padding.absorbed, *item.absorbed))
            graph.put(longer, in_place_of=item, without=padding)
            item = longer


def _wider(graph: Graph, item: Fused, step: FusedStep) -> Fused | None:
    """What puts zero channels around the images that a residual step of `item` alone adds."""
    if step.kind != "residual" or step.channels or not isinstance(step.operand, str):
        return None
    maker = graph.maker(step.operand)
    if maker is None or maker.box is None or maker.steps or maker.bits is not None:
        return None
    channels, *others = maker.box.axes
    is_plain = (channels.length, channels.start, channels.step) == (channels.source, 0, 1)
    is_wider = is_plain and channels.is_padded and all(axis.is_whole for axis in others)
    is_zero = maker.box.value == 0 and math.copysign(1, maker.box.value) > 0
    alike = maker.channel_axis == item.channel_axis and maker.source_axis is None
    is_its = graph.only_reader(step.operand) is item
    return maker if is_wider and is_zero and alike and is_its and not maker.from_bytes else None
