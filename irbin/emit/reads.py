"""What kernels read beside constants, in which order it must lie, and what memory they work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from irbin.kernels.attention import AttentionKernel
from irbin.kernels.kernel import Kernel
from irbin.kernels.norms import GroupNormKernel
from irbin.kernels.passes import PoolKernel
from irbin.program.fused import Fused
from irbin.runtime.layers import other_names

LINES_OF = "lines of "
"""What the names of memory that kernels work on begin with; no program has a name with spaces."""


def reads(item: Fused) -> list[tuple[str, int | None]]:
    """Names that a kernel reads, and the axis that must lie innermost; None for bits' bytes."""
    of_bits = (item.producer or item).kind == "dot"
    axis = item.channel_axis if item.source_axis is None else item.source_axis
    first: tuple[str, int | None] = (item.source, None if of_bits else axis)
    names = other_names(item)
    axes = [item.channel_axis] * (len(names) - len(item.others_axes)) + [*item.others_axes]
    return [first, *zip(names, axes, strict=True)]


def reading(item: Fused, renamed: Mapping[str, str]) -> Fused:
    """The same item, reading other values."""
    steps = tuple(
        replace(step, operand=renamed.get(str(step.operand), step.operand))
        if step.kind == "residual"
        else step
        for step in item.steps
    )
    others = tuple(renamed.get(name, name) for name in item.others)
    source = renamed.get(item.source, item.source)
    return replace(item, source=source, steps=steps, others=others)


def is_of_lines(name: str) -> bool:
    """Whether it is memory that a kernel works on."""
    return name.startswith(LINES_OF)


def lines_shape(kernel: Kernel) -> tuple[int, int, int, int] | None:
    """Floats that a kernel works on.

    Rows of what is pooled; a mean and a factor a group; a row of what attention gives, and a
    product a key.
    """
    if isinstance(kernel, PoolKernel) and (kernel.producer is not None or kernel.before):
        return (1, kernel.n_channels, n_lines(kernel), kernel.geometry.size[1])
    if isinstance(kernel, GroupNormKernel):
        return (1, 2 * kernel.n_groups, 1, 1)
    if isinstance(kernel, AttentionKernel):
        n_heads, _, n_keys, _, width = kernel.heads
        return (1, n_heads * width + n_keys, 1, 1)
    return None


def n_lines(kernel: PoolKernel) -> int:
    """Rows of what is pooled that are kept: as many as a window reaches over."""
    reach = (kernel.geometry.kernel[0] - 1) * kernel.geometry.dilation[0] + 1
    return min(reach, kernel.geometry.size[0])
