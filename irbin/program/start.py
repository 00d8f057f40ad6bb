"""Which nodes are kernels, each as a record of its own: what fusing begins with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from irbin.program.attention import ATTENTION, attention_of, in_rows
from irbin.program.averages import average_spans, averaged_channels, averaged_neighbors
from irbin.program.boxes import box_of
from irbin.program.fused import Fused, FusedStep, Kind
from irbin.program.graph import Graph
from irbin.program.norms import norm_of
from irbin.program.resized import places_between
from irbin.program.several import alike, joined, met
from irbin.program.types import Node, Ref, TensorType, Types, one_tensor
from irbin.program.windows import (
    conv_window,
    has_few_outputs,
    is_depthwise,
    linear_shape,
    n_groups,
    pool_window,
)

CONV, POOL = "aten.conv2d.default", "aten.max_pool2d.default"


def start(
    graph: Graph,
    *,
    with_pools: bool,
    with_convs: bool,
    bytes_in: Collection[str] = (),
    all_convs: bool = False,
) -> None:
    """Every kernel as a record of its own.

    Args:
        graph: changed in place.
        with_pools: poolings too.
        with_convs: float convolutions and linear layers too.
        bytes_in: values that hold bytes; convolutions that read them are kernels anyhow.
        all_convs: float convolutions that torch does faster too.
    """
    for item in list(graph.items):
        if with_convs and isinstance(item, Node) and item.op == ATTENTION:
            _attend(graph, item)  # before what it looks at is copied as a box
    for item in list(graph.items):
        if not isinstance(item, Node) or not isinstance(item.type, TensorType):
            continue
        if item.op in ("bconv2d", "bgemm"):
            axis = 1 if item.op == "bconv2d" else len(item.type.shape) - 1
            graph.put(record_of(item, item.refs()[0], axis, "dot"), in_place_of=item)
            continue
        record = _of_bytes(graph, item, bytes_in)
        if record is not None and record.box is not None:  # the padding is nobody else's
            graph.put(record, in_place_of=item, without=graph.maker(item.refs()[0]))
            continue
        if with_convs and record is None:
            record = _weighted(graph, item, with_few=all_convs)
        parts = graph.node(item.refs()[0]) if item.refs() else None
        count = averaged_neighbors(item, parts, graph.types)
        if count is not None and parts is not None and graph.only_reader(parts.name) is item:
            made = record_of(item, parts.refs()[0], 1, "channel_mean")
            absorbed = (parts.name, item.name)
            graph.put(replace(made, absorbed=absorbed), in_place_of=item, without=parts)
            continue
        record = record or _without_weights(graph, item, with_pools=with_pools)
        if record is not None:
            graph.put(record, in_place_of=item)
    _compose(graph)


def _of_bytes(graph: Graph, item: Node, bytes_in: Collection[str]) -> Fused | None:
    """A convolution in one group that reads pixels as bytes, perhaps with zeros around them."""
    if item.op != CONV or not bytes_in:
        return None
    source = item.refs()[0]
    padding = None if source in bytes_in else _padding_of(graph, item, bytes_in)
    record = _weighted(graph, item) if source in bytes_in or padding is not None else None
    if record is None or record.kind != "conv" or n_groups(item) > 1:
        return None
    record = replace(record, from_bytes=True)
    if padding is None:
        return record
    absorbed = (*padding.absorbed, *record.absorbed)
    return replace(record, source=padding.source, box=padding.box, absorbed=absorbed)


def _padding_of(graph: Graph, item: Node, bytes_in: Collection[str]) -> Fused | None:
    """What puts zeros around bytes for this node alone."""
    source = item.refs()[0]
    maker = graph.maker(source)
    if maker is None or maker.box is None or maker.source not in bytes_in:
        return None
    is_its = graph.only_reader(source) is item and source not in graph.outputs
    return maker if maker.box.is_border and is_its else None


def _weighted(graph: Graph, item: Node, *, with_few: bool = False) -> Fused | None:
    """A float convolution, of few outputs a group if that is asked for, or a linear layer."""
    kind: Kind
    if item.op == CONV and conv_window(item, graph.types, graph.constants) is not None:
        kind, axis = "depthwise" if is_depthwise(item, graph.types) else "conv", 1
        if kind == "conv" and has_few_outputs(item) and not with_few:
            return None
    elif linear_shape(item, graph.types, graph.constants) is not None:
        kind, axis = "linear", len(one_tensor(item.type).shape) - 1
    else:
        return None
    bias = item.args[2] if len(item.args) > 2 else None
    steps = (FusedStep("add", bias.name),) if isinstance(bias, Ref) else ()
    return replace(record_of(item, item.refs()[0], axis, kind), steps=steps)


def _without_weights(graph: Graph, item: Node, *, with_pools: bool) -> Fused | None:
    """A pooling, mean, norm, slice, padding or meeting of several images."""
    types = graph.types
    norm = norm_of(item, types, graph.constants)
    if norm is not None:
        kind: Kind = "group_norm" if norm.n_groups else "layer_norm"
        axis = 1 if norm.n_groups else len(one_tensor(item.type).shape) - 1
        factor = () if norm.weight is None else (FusedStep("multiply", norm.weight),)
        offset = () if norm.bias is None else (FusedStep("add", norm.bias),)
        return replace(record_of(item, item.refs()[0], axis, kind), steps=(*factor, *offset))
    if item.op == POOL and with_pools and pool_window(item, types) is not None:
        return record_of(item, item.refs()[0], 1, "pool")
    if average_spans(item, types) is not None:
        return _average(item, types)
    if places_between(item, types) is not None:
        return record_of(item, item.refs()[0], 1, "resize")
    axis = 3 if item.refs() and graph.innermost(item.refs()[0]) == 3 else 1
    box = box_of(item, types, axis)
    if box is not None:
        return replace(record_of(item, item.refs()[0], axis, "crop"), box=box)
    parts = joined(item, types, graph.constants)
    if parts is not None:
        first, *others = parts.names
        return replace(record_of(item, first, parts.channel_axis, "join"), others=tuple(others))
    meeting = met(item, types, graph.constants)
    if meeting is not None:
        return replace(record_of(item, meeting[0], 1, "gate"), others=(meeting[1],))
    return _meet(graph, item)


def _average(item: Node, types: Types) -> Fused:
    """An average, whose result may have fewer axes than its source."""
    source, made = item.refs()[0], one_tensor(item.type).shape
    axis = averaged_channels(item, types)
    assert axis is not None, "`average_spans` looked"
    inner = axis if len(made) == len(one_tensor(types[source]).shape) else 1
    return replace(record_of(item, source, inner, "average"), source_axis=axis)


def _meet(graph: Graph, item: Node) -> Fused | None:
    """Two tensors of one shape, of which one at least lies in a known order."""
    meeting = alike(item, graph.types, graph.constants)
    if meeting is None:
        return None
    axes = [graph.innermost(name) for name in meeting[:2]]
    axis = axes[1] if axes[0] is None else axes[0]
    if axis is None or not isinstance(one_tensor(item.type).shape[axis], int):
        return None
    return replace(record_of(item, meeting[0], axis, "meet"), others=(meeting[1],))


def _attend(graph: Graph, item: Node) -> None:
    """Attention with what puts its heads side by side."""
    attention = attention_of(graph, item)
    behind = None if attention is None else in_rows(graph, item)
    if attention is None or behind is None:
        return
    first, *others = attention.looks
    record = replace(
        record_of(behind.root, first.source, behind.channel_axis, "attention"),
        others=tuple(look.source for look in others),
        source_axis=first.channel_axis,
        others_axes=tuple(look.channel_axis for look in others),
        attention=attention,
        absorbed=(item.name, behind.turned.name, behind.root.name),
    )
    graph.put(record, in_place_of=behind.root, without=behind.turned)
    graph.drop(item)


def _compose(graph: Graph) -> None:
    """A box of a box is one box; one that is the whole image is a look at it, not a copy."""
    for item in list(graph.items):
        if not isinstance(item, Fused) or item.box is None:
            continue
        inner = graph.maker(item.source)
        if inner is None or inner.box is None or graph.only_reader(item.source) is not item:
            continue
        if inner.channel_axis != item.channel_axis:
            continue
        box = inner.box.then(item.box)
        if box is not None:
            absorbed = (*inner.absorbed, *item.absorbed)
            whole = replace(item, source=inner.source, box=box, absorbed=absorbed)
            graph.put(whole, in_place_of=item, without=inner)
    for item in list(graph.items):
        is_box = isinstance(item, Fused) and item.box is not None and item.box.is_whole
        if is_box and isinstance(item, Fused) and len(item.absorbed) == 1:
            graph.put(item.root, in_place_of=item)


def record_of(root: Node, source: str, channel_axis: int, kind: Kind) -> Fused:
    """A kernel call without anything fused to it."""
    return Fused(
        root,
        kind,
        source,
        channel_axis,
        None,
        (),
        one_tensor(root.type),
        root.name,
        None,
        None,
        threshold=False,
        absorbed=(root.name,),
    )
