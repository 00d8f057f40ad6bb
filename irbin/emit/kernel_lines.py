"""A kernel of irbin's as lines of C: what it computes as constants, then the call itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irbin.axes import Between, BoxAxis, Span
from irbin.emit.weights import by_word, float_literal
from irbin.emit.writer import Writer, pointer, read
from irbin.errors import LowerError
from irbin.kernels.attention import AttentionKernel
from irbin.kernels.byte_convolution import ByteConvKernel
from irbin.kernels.convolution import ConvKernel, FloatConvKernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.kernel import Kernel
from irbin.kernels.lines import (
    AverageKernel,
    ChannelMeanKernel,
    CropKernel,
    DepthwiseKernel,
    GateKernel,
    JoinKernel,
)
from irbin.kernels.norms import GroupNormKernel, LayerNormKernel
from irbin.kernels.passes import PoolKernel, RowsKernel
from irbin.kernels.resize import ResizeKernel
from irbin.kernels.sign_convolution import SignConvKernel
from irbin.kernels.steps import Step
from irbin.program.fused import Fused

_HEADS = ("heads", "queries", "keys", "depth", "width")
MEETINGS = {"multiply": "IRBIN_TIMES", "add": "IRBIN_PLUS", "subtract": "IRBIN_MINUS"}


def kernel_lines(w: Writer, kernel: Kernel) -> list[str]:
    """A kernel's constants and its call.

    Raises:
        LowerError: C is not written for it; the node is named.
    """
    lines = [*_steps_lines(w, kernel.steps, "steps"), _out_line(w, kernel)]
    match kernel:
        case ConvKernel():
            lines += [_dot_line(w, kernel), f"irbin_bconv2d(&conv, {_x(w, 'BITS')}, &out);"]
        case FloatConvKernel():
            steps = ", ".join(map(str, _pixel_steps(w, kernel)))
            lines += [
                _float_conv_line(w, kernel),
                f"irbin_conv2d(&conv, {_x(w, 'FLOATS')}, {steps}, &out);",
            ]
        case SignConvKernel():
            steps = ", ".join(map(str, _pixel_steps(w, kernel)))
            lines += [
                _sign_conv_line(w, kernel),
                f"irbin_sign_conv2d(&conv, {_x(w, 'FLOATS')}, {steps}, &out);",
            ]
        case ByteConvKernel():
            x = _x(w, "BYTES")
            lines += [_byte_conv_line(w, kernel), f"irbin_conv2d_bytes(&conv, {x}, &out);"]
        case DepthwiseKernel():
            weight = w.array(kernel.weight, "weight")
            lines += [
                f"static const irbin_window window = {_window(kernel.geometry)};",
                f"irbin_depthwise(&window, {kernel.shape[2]}, {weight}, {_x(w, 'FLOATS')}, &out);",
            ]
        case PoolKernel():
            lines += _pool_lines(w, kernel)
        case AverageKernel():
            lines += _average_lines(w, kernel)
        case ChannelMeanKernel():
            height, width, channels = kernel.out
            x = _x(w, "FLOATS")
            lines.append(
                f"irbin_channel_mean({height * width}, {channels}, {kernel.count}, {x}, &out);"
            )
        case CropKernel():
            lines += _crop_lines(w, kernel)
        case JoinKernel():
            lines += _join_lines(w, kernel)
        case GateKernel():
            lines.append(_gate_line(w, kernel))
        case ResizeKernel():
            lines += _resize_lines(w, kernel)
        case LayerNormKernel():
            epsilon, x = float_literal(kernel.epsilon), _x(w, "FLOATS")
            call = "irbin_layer_norm" if kernel.is_centered else "irbin_rms_norm"
            lines.append(f"{call}({w.call.n}, {kernel.n_channels}, {epsilon}, {x}, &out);")
        case GroupNormKernel():
            sizes = ", ".join(map(str, (*kernel.shape, kernel.n_groups)))
            work = pointer(w.call.others[kernel.n_residuals], "FLOATS")
            epsilon, x = float_literal(kernel.epsilon), _x(w, "FLOATS")
            lines.append(f"irbin_group_norm({sizes}, {epsilon}, {x}, {work}, &out);")
        case AttentionKernel():
            lines += _attention_lines(w, kernel)
        case RowsKernel():
            x = _x(w, "FLOATS")
            lines.append(f"irbin_rows({w.call.n}, {kernel.n_channels}, {x}, &out);")
        case _:
            raise _refusal(w, f"kernel {type(kernel).__name__}")
    return lines


def _refusal(w: Writer, what: str) -> LowerError:
    item = w.call.item
    node = item.root if isinstance(item, Fused) else item
    return LowerError(
        f"node `{node.name}` ({node.op}): expected what C is written for, got {what}; run the "
        "packed folder with `irbin.load`"
    )


def _x(w: Writer, kind: str) -> str:
    return read(w, w.call.x, kind)


def _steps_lines(w: Writer, steps: Sequence[Step], name: str) -> list[str]:
    if not steps:
        return []
    lines = [f"static const irbin_step {name}[] = {{"]
    for at, step in enumerate(steps):
        fields = [f".kind = IRBIN_{step.kind.upper()}"]
        if step.kind == "residual":
            fields.append(f".residual = {step.residual}")
            if step.channels:
                fields.append(f".before = {step.before}, .channels = {step.channels}")
        elif step.kind == "clamp":
            low, high = (float(np.float32(bound)) for bound in (step.low, step.high))
            fields.append(f".low = {float_literal(low)}, .high = {float_literal(high)}")
        elif step.values is not None:
            fields.append(f".values = {w.array(step.values, f'{name}{at}_{step.kind}')}")
        lines.append(f"    {{{', '.join(fields)}}},")
    return [*lines, "};"]


def _out_line(w: Writer, kernel: Kernel) -> str:
    call, fields = w.call, []
    if kernel.steps:
        fields.append(f".steps = steps, .n_steps = {len(kernel.steps)}")
    if kernel.n_residuals:
        residuals = (read(w, place) for place in call.others[: kernel.n_residuals])
        fields.append(f".residuals = {{{', '.join(residuals)}}}")
    if call.y is not None:
        fields.append(f".y = {pointer(call.y, 'FLOATS')}")
    if call.bits is not None:
        fields.append(f".bits = {pointer(call.bits, 'BITS')}")
    if isinstance(kernel, ConvKernel) and kernel.thresholds is not None:
        lower, flips = kernel.thresholds
        fields.append(f".lower = {w.array(lower, 'lower')}")
        fields.append(f".flips = (const uint8_t *){w.array(flips, 'flips')}")
    return f"const irbin_out out = {{{', '.join(fields)}}};"


def _window(g: Geometry) -> str:
    left, _, top, _ = g.border
    return (
        f"{{.height = {g.size[0]}, .width = {g.size[1]}, "
        f".out_height = {g.out_size[0]}, .out_width = {g.out_size[1]}, "
        f".kernel_height = {g.kernel[0]}, .kernel_width = {g.kernel[1]}, "
        f".stride_y = {g.stride[0]}, .stride_x = {g.stride[1]}, "
        f".dilation_y = {g.dilation[0]}, .dilation_x = {g.dilation[1]}, "
        f".top = {top}, .left = {left}}}"
    )


def _geometry(w: Writer, geometry: Geometry) -> Geometry:
    """Of a layer that knows no images: its rows beside each other."""
    item = w.call.item
    if isinstance(item, Fused) and item.takes_rows:
        return geometry._replace(size=(1, w.call.n))
    return geometry


def _conv_line(
    w: Writer, geometry: Geometry, groups: int, sizes: tuple[int, int], weight: str
) -> str:
    window = _window(_geometry(w, geometry))
    return (
        f"static const irbin_conv conv = {{.window = {window}, .groups = {groups}, "
        f".in_channels = {sizes[0]}, .out_channels = {sizes[1]}, .weight = {weight}}};"
    )


def _dot_line(w: Writer, kernel: ConvKernel) -> str:
    groups = kernel.groups
    sizes = (kernel.in_channels // groups, len(kernel.weight_bits) // groups)
    weight = w.array(by_word(kernel.weight_bits, groups), "weight")
    return _conv_line(w, kernel.geometry, groups, sizes, weight)


def _float_conv_line(w: Writer, kernel: FloatConvKernel) -> str:
    groups, n_out = kernel.groups, len(kernel.weight)
    by_group = kernel.weight.reshape(groups, n_out // groups, *kernel.weight.shape[1:])
    weight = w.array(by_group.transpose(0, 2, 3, 4, 1), "weight")
    sizes = (kernel.in_channels // groups, n_out // groups)
    return _conv_line(w, kernel.geometry, groups, sizes, weight)


def _sign_conv_line(w: Writer, kernel: SignConvKernel) -> str:
    weight = w.array(kernel.weight_bits, "weight")
    return _conv_line(w, kernel.geometry, 1, (kernel.in_channels, len(kernel.weight_bits)), weight)


def _byte_conv_line(w: Writer, kernel: ByteConvKernel) -> str:
    weight, constants, _ = kernel.folded
    by_tap = w.array(weight.transpose(1, 2, 3, 0), "weight")
    window, of_taps = _window(kernel.geometry), w.array(constants.transpose(1, 2, 0), "constants")
    return (
        f"static const irbin_byte_conv conv = {{.window = {window}, "
        f".in_channels = {weight.shape[3]}, .out_channels = {len(weight)}, .weight = {by_tap}, "
        f".constants = {of_taps}}};"
    )


def _pixel_steps(w: Writer, kernel: FloatConvKernel | SignConvKernel) -> tuple[int, int, int]:
    """How far rows, columns and channels of what it reads lie apart."""
    item = w.call.item
    if isinstance(item, Fused) and item.takes_rows:
        return w.call.n * kernel.in_channels, kernel.in_channels, 1
    _, channel, row, column = w.call.steps
    return row, column, channel


def _pool_lines(w: Writer, kernel: PoolKernel) -> list[str]:
    lines = [f"static const irbin_window window = {_window(kernel.geometry)};"]
    producer = kernel.producer
    if producer is None and not kernel.before:
        x = _x(w, "FLOATS")
        return [*lines, f"irbin_max_pool(&window, {kernel.n_channels}, {x}, &out);"]
    before = kernel.before if producer is None else producer.steps
    lines += _steps_lines(w, before, "before")
    steps = f".steps = before, .n_steps = {len(before)}" if before else ".n_steps = 0"
    lines.append(f"const irbin_out made = {{{steps}}};")
    rows = pointer(w.call.others[kernel.n_residuals], "FLOATS")
    match producer:
        case None:
            x, channels = _x(w, "FLOATS"), kernel.n_channels
            call = f"irbin_max_pool_steps(&window, {channels}, &made, {x}, {rows}, &out);"
        case ConvKernel():
            lines.append(_dot_line(w, producer))
            x = _x(w, "BITS")
            call = f"irbin_max_pool_bconv2d(&window, &conv, &made, {x}, {rows}, &out);"
        case ByteConvKernel():
            lines.append(_byte_conv_line(w, producer))
            x = _x(w, "BYTES")
            call = f"irbin_max_pool_conv2d_bytes(&window, &conv, &made, {x}, {rows}, &out);"
        case FloatConvKernel():
            lines.append(_float_conv_line(w, producer))
            x, apart = _x(w, "FLOATS"), ", ".join(map(str, _pixel_steps(w, producer)))
            call = f"irbin_max_pool_conv2d(&window, &conv, &made, {x}, {apart}, {rows}, &out);"
        case SignConvKernel():
            lines.append(_sign_conv_line(w, producer))
            x, apart = _x(w, "FLOATS"), ", ".join(map(str, _pixel_steps(w, producer)))
            made = f"irbin_max_pool_sign_conv2d(&window, &conv, &made, {x}, {apart}, {rows}, &out)"
            call = f"{made};"
        case _:
            raise _refusal(w, f"kernel {type(producer).__name__}")
    return [*lines, call]


def _average_lines(w: Writer, kernel: AverageKernel) -> list[str]:
    spans = [_spans_line("rows", kernel.rows), _spans_line("columns", kernel.columns)]
    return [*spans, _by_axes(w, "irbin_average", kernel)]


def _resize_lines(w: Writer, kernel: ResizeKernel) -> list[str]:
    between = [_between_line("rows", kernel.rows), _between_line("columns", kernel.columns)]
    return [*between, _by_axes(w, "irbin_resize", kernel)]


def _by_axes(w: Writer, function: str, kernel: AverageKernel | ResizeKernel) -> str:
    """A call of what makes each row and column of the ones that `rows` and `columns` name."""
    return (
        f"{function}({kernel.shape[1]}, {kernel.shape[2]}, rows, {len(kernel.rows)}, columns, "
        f"{len(kernel.columns)}, {_x(w, 'FLOATS')}, &out);"
    )


def _between_line(name: str, places: Sequence[Between]) -> str:
    written = ", ".join(
        f"{{{a}, {b}, {float_literal(v)}, {float_literal(u)}}}" for a, b, v, u in places
    )
    return f"static const irbin_between {name}[] = {{{written}}};"


def _spans_line(name: str, spans: Sequence[Span]) -> str:
    written = ", ".join(f"{{{span.begin}, {span.end}, {span.divisor}}}" for span in spans)
    return f"static const irbin_span {name}[] = {{{written}}};"


def _attention_lines(w: Writer, kernel: AttentionKernel) -> list[str]:
    fields = [f".{name} = {size}" for name, size in zip(_HEADS, kernel.heads, strict=True)]
    for name, (_, offset, head, row) in zip(("query", "key", "value"), kernel.looks, strict=True):
        fields.append(f".{name} = {{{offset}, {head}, {row}}}")
    fields.append(f".scale = {float_literal(kernel.scale)}")
    if kernel.mask is not None:
        fields.append(f".mask = {w.array(kernel.mask, 'mask')}, .mask_heads = {len(kernel.mask)}")
    read_at = [_x(w, "FLOATS"), *(read(w, at) for at in w.call.others[kernel.n_residuals : -1])]
    work = pointer(w.call.others[-1], "FLOATS")
    return [
        f"static const irbin_heads heads = {{{', '.join(fields)}}};",
        f"irbin_attention(&heads, {', '.join(read_at)}, {work}, &out);",
    ]


def _crop_lines(w: Writer, kernel: CropKernel) -> list[str]:
    names = ("rows", "columns", "channels")
    boxes = [_box_line(name, axis) for name, axis in zip(names, kernel.axes, strict=True)]
    value = float_literal(float(kernel.value))
    x = _x(w, "FLOATS")
    return [*boxes, f"irbin_crop(&rows, &columns, &channels, {value}, {x}, &out);"]


def _box_line(name: str, axis: BoxAxis) -> str:
    fields = ", ".join(f".{key} = {value}" for key, value in axis._asdict().items())
    return f"static const irbin_box {name} = {{{fields}}};"


def _join_lines(w: Writer, kernel: JoinKernel) -> list[str]:
    further = w.call.others[kernel.n_residuals :]
    images = ", ".join(read(w, place) for place in (w.call.x, *further))
    channels = ", ".join(map(str, kernel.channels))
    pixels = kernel.shape[0] * kernel.shape[1]
    return [
        f"const float *const images[] = {{{images}}};",
        f"static const int32_t channels[] = {{{channels}}};",
        f"irbin_join({pixels}, images, channels, {len(kernel.channels)}, &out);",
    ]


def _gate_line(w: Writer, kernel: GateKernel) -> str:
    is_pair = isinstance(w.call.item, Fused) and w.call.item.kind == "meet"
    call = "irbin_pair" if is_pair else "irbin_gate"
    pixels = w.call.n if is_pair else kernel.shape[0] * kernel.shape[1]
    other = read(w, w.call.others[kernel.n_residuals])
    return (
        f"{call}({pixels}, {kernel.shape[2]}, {MEETINGS[kernel.meeting]}, "
        f"{_x(w, 'FLOATS')}, {other}, &out);"
    )
