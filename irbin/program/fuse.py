"""Fusions: passes over a program's nodes, each of which changes no result by a single bit.

    pool       a maximum pooling becomes a call of our kernel, which makes what it pools itself, a
               few rows at a time, if nobody else reads that
    transform  elementwise nodes behind a kernel (batch norm's product and sum, bias, residual,
               activation) become steps of its output transform; others on what a kernel made, and
               two or more of them behind any other float node, become one pass
    pack       a `bitpack` becomes a second output of the kernel that made its input, also where one
               step lies between (a threshold); a result that nobody reads any more is not written
    threshold  where only signs are read, integers are compared and nothing is computed

Every pass works on what the one before left and may be left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import get_args

from irbin.bounds import MAX_RESIDUALS
from irbin.errors import UsageError
from irbin.program.channels import add_fewer_channels
from irbin.program.elementwise import (
    ARITHMETIC,
    KEPT_ACTIVATIONS,
    as_step,
    channel_axis_of,
)
from irbin.program.fused import ActivationStep, Fused, FusedStep, Item
from irbin.program.graph import Graph
from irbin.program.kept import with_kept_signs
from irbin.program.moved import MOVES
from irbin.program.own import BConv2d, BitPack
from irbin.program.plainer import in_plain_words
from irbin.program.program import Program
from irbin.program.start import record_of, start
from irbin.program.types import Node, TensorType, ValueType, one_tensor
from irbin.program.walks import ALONG, MEETINGS, walk
from irbin.program.windows import n_groups

FUSIONS = ("pool", "transform", "pack", "threshold")
"""All passes, in the order they begin in."""

BITPACK = "bitpack"


def checked(passes: Iterable[str]) -> tuple[str, ...]:
    """The names of passes, each of `FUSIONS`.

    Raises:
        UsageError: one is not, or there is a name alone.
    """
    known = ", ".join(f"`{name}`" for name in FUSIONS)
    if isinstance(passes, str) or not isinstance(passes, Iterable):
        raise UsageError(f"`fusions`: expected a list of any of {known}, got {passes!r}")
    names = tuple(passes)
    for name in names:
        if name not in FUSIONS:
            raise UsageError(f"`fusions`: expected any of {known}, got `{name}`")
    return names


def fuse(
    program: Program,
    nodes: Sequence[Node],
    passes: Collection[str] = FUSIONS,
    *,
    float_convs: bool = True,
    from_bytes: bool = False,
    all_convs: bool = False,
    walks: bool = True,
) -> tuple[Item, ...]:
    """Carries out the passes.

    Args:
        program: for its types and outputs.
        nodes: those that remain to be run, in order; whatever else they read is constant.
        passes: of `FUSIONS`, see `checked`; without any, kernels still become `Fused` records, one
            a node.
        float_convs: whether our kernels compute float convolutions and linear layers, or torch.
        from_bytes: convolutions that read the program's input are to read pixels as bytes; see
            `pixels.other_reader` for what else reads it.
        walks: whether our kernels move numbers and let tensors of several shapes meet, or whoever
            runs nodes.
        all_convs: with `float_convs` also those that torch does faster.
    """
    types: dict[str, ValueType] = {**program.inputs, **program.constants}
    types |= {node.name: node.type for node in program.nodes}
    computed = {*program.inputs, *(node.name for node in nodes)}
    # who asks for no pass wants to see the signs of each layer (`Engine.record`)
    plain = in_plain_words(nodes, types, program.outputs, signs_once=bool(passes))
    plain = with_kept_signs(plain, types, KEPT_ACTIVATIONS, program.outputs)
    graph = Graph(plain, types, types.keys() - computed, program.outputs)
    bytes_in = tuple(program.inputs) if from_bytes else ()
    start(
        graph,
        with_pools="pool" in passes,
        with_convs=float_convs,
        bytes_in=bytes_in,
        all_convs=all_convs,
    )
    if walks:
        walk(graph, (*MOVES, *ALONG))
    if "transform" in passes:
        _absorb_behind(graph)
        _pass_over(graph, where_it_lies=True)
        _gather_floats(graph)
        _pass_over(graph)
    else:
        _pass_over(graph, extended=False)
    if "pool" in passes:
        _absorb_producers(graph)
    if "pack" in passes:
        _absorb_packs(graph)
    if "transform" in passes:
        add_fewer_channels(graph)
    if "transform" in passes:  # what is left: those packed alone, and what is no step
        _pass_over(graph, where_it_lies=True, packed=True)
        if walks:
            walk(graph, MEETINGS)
            _absorb_behind(graph)
            _pass_over(graph, where_it_lies=True, packed=True)
        if "pack" in passes:
            _absorb_packs(graph)
    if "threshold" in passes:
        _compare(graph)
    return tuple(graph.items)


def _absorb_behind(graph: Graph) -> None:
    """Elementwise nodes that alone read a kernel's result."""
    for item in list(graph.items):
        if isinstance(item, Fused):
            _extend(graph, item)


def _extend(graph: Graph, item: Fused) -> Fused:
    """Takes in what follows, as long as it can."""
    while item.floats is not None:
        reader = graph.only_reader(item.floats)
        step = None
        if isinstance(reader, Node):
            step = as_step(reader, item.floats, item.channel_axis, graph.types, graph.constants)
        if step is None or not isinstance(reader, Node) or _n_residuals(item, step) > MAX_RESIDUALS:
            break
        longer = replace(
            item,
            steps=(*item.steps, step),
            floats=reader.name,
            absorbed=(*item.absorbed, reader.name),
        )
        graph.put(longer, in_place_of=reader, without=item)
        item = longer
    return item


def _n_residuals(item: Fused, step: FusedStep) -> int:
    return sum(s.kind == "residual" for s in (*item.steps, step))


def _pass_over(
    graph: Graph, *, where_it_lies: bool = False, extended: bool = True, packed: bool = False
) -> None:
    """Activations that only kernels define, as passes of their own where no kernel takes them.

    Args:
        graph: changed in place.
        where_it_lies: all steps on what a kernel made, which lies there in order, and no others.
        extended: with the steps that follow.
        packed: also arithmetic of which only signs are read, which the kernel in front may do.
    """
    for node in list(graph.items):
        if not isinstance(node, Node):
            continue
        if where_it_lies and not packed and _is_threshold(graph, node):
            continue
        begun = _begun(graph, node, where_it_lies=where_it_lies)
        if begun is not None:
            graph.put(begun, in_place_of=node)
            if extended:
                _extend(graph, begun)


def _is_threshold(graph: Graph, node: Node) -> bool:
    reader = graph.only_reader(node.name)
    return node.op in ARITHMETIC and isinstance(reader, Node) and reader.op == BITPACK


def _begun(graph: Graph, node: Node, *, where_it_lies: bool) -> Fused | None:
    """A pass with a node as its only step."""
    if not graph.holds(node):  # another pass took it meanwhile
        return None
    for value in dict.fromkeys(node.refs()):
        kind, lies = graph.types[value], graph.innermost(value)
        is_float = isinstance(kind, TensorType) and kind.dtype == "float32" and len(kind.shape) > 1
        if not is_float or value in graph.constants or (where_it_lies and lies is None):
            continue
        axis = channel_axis_of(value, graph.types, [node], graph.constants, lies)
        if axis is None or (where_it_lies and axis != lies):
            continue
        step = as_step(node, value, axis, graph.types, graph.constants)
        if step is not None and (where_it_lies or step.kind in get_args(ActivationStep)):
            return replace(record_of(node, value, axis, "rows"), steps=(step,))
    return None


def _gather_floats(graph: Graph) -> None:
    """Chains behind float nodes: worth a pass of ours where they are two nodes or more."""
    for node in list(graph.items):
        if not isinstance(node, Node) or not _starts_chain(node):
            continue
        if _begun(graph, node, where_it_lies=False) is not None:
            continue  # a pass of ours itself, which takes in what follows
        axis = channel_axis_of(node.name, graph.types, graph.readers(node.name), graph.constants)
        if axis is None:
            continue
        begun = replace(record_of(node, node.name, axis, "rows"), absorbed=())
        reader = graph.only_reader(node.name)
        if not isinstance(reader, Node):
            continue
        step = as_step(reader, node.name, axis, graph.types, graph.constants)
        if step is None:
            continue
        first = replace(begun, steps=(step,), floats=reader.name, absorbed=(reader.name,))
        graph.put(first, in_place_of=reader)
        grown = _extend(graph, first)
        if len(grown.steps) + _n_packs(graph, grown) < 2 and not _is_pooled(graph, grown):
            graph.put(reader, in_place_of=grown)  # torch does one as well


def _starts_chain(node: Node) -> bool:
    """Whether a node's result is a float tensor, and is not an elementwise result itself."""
    kind = node.type
    return isinstance(kind, TensorType) and kind.dtype == "float32" and len(kind.shape) > 1


def _n_packs(graph: Graph, item: Fused) -> int:
    return sum(isinstance(r, Node) and r.op == BITPACK for r in graph.readers(item.floats or ""))


def _is_pooled(graph: Graph, item: Fused) -> bool:
    return any(isinstance(r, Fused) and r.kind == "pool" for r in graph.readers(item.floats or ""))


PRODUCERS = ("dot", "conv", "rows")
"""Kinds that a pooling may run a few rows at a time."""


def _absorb_producers(graph: Graph) -> None:
    """What only a pooling reads is made by the pooling."""
    for item in list(graph.items):
        if not isinstance(item, Fused) or item.kind not in PRODUCERS or item.channel_axis != 1:
            continue
        pool = graph.only_reader(item.floats or "")
        residual = any(step.kind == "residual" for step in item.steps)
        if not isinstance(pool, Fused) or pool.kind != "pool" or residual:
            continue
        if pool.source == item.floats and item.root.op != "bgemm":
            absorbed = (*item.absorbed, *pool.absorbed)
            made = replace(pool, source=item.source, producer=item, absorbed=absorbed)
            graph.put(made, in_place_of=pool, without=item)


def _absorb_packs(graph: Graph) -> None:
    """Signs as a second output; alone, where nobody reads the floats."""
    for item in list(graph.items):
        if not isinstance(item, Node) or item.op != BITPACK:
            continue
        maker = graph.maker(item.refs()[0])
        if maker is None:
            maker = _absorb_threshold(graph, item)
        if maker is not None and _can_pack(maker, item):
            _give_bits(graph, maker, item)
    for item in list(graph.items):
        if not isinstance(item, Fused) or item.bits is None or item.floats is None:
            continue
        is_wanted = bool(graph.readers(item.floats)) or item.floats in graph.outputs
        if not is_wanted and item.kind != "walk":  # which works on its floats
            graph.put(replace(item, floats=None), in_place_of=item)


def _absorb_threshold(graph: Graph, pack: Node) -> Fused | None:
    """Takes in the step whose signs only `pack` packs, behind a value that others read as it is."""
    value = pack.refs()[0]
    step_node = graph.node(value)
    if step_node is None or step_node.op not in ARITHMETIC or graph.only_reader(value) is not pack:
        return None
    for maker in [graph.maker(name) for name in step_node.refs()]:
        if maker is None or maker.floats is None or not _can_pack(maker, pack):
            continue
        axis = maker.channel_axis
        step = as_step(step_node, maker.floats, axis, graph.types, graph.constants)
        if step is None or step.kind == "residual":
            continue
        steps = (*maker.steps, FusedStep("write"), step)
        made = replace(maker, steps=steps, absorbed=(*maker.absorbed, step_node.name))
        graph.put(made, in_place_of=maker, without=step_node)
        return made
    return None


def _can_pack(maker: Fused, pack: Node) -> bool:
    """Whether the bytes that `pack` makes are those a kernel writes: channels in order, no gaps."""
    packing, n_channels = BitPack.of(pack), maker.n_channels
    fits = packing.groups == 1 or n_channels // packing.groups % 8 == 0
    if maker.root.op == "bconv2d" or maker.kind == "conv":
        # a group of outputs must end with its byte
        is_float = maker.kind == "conv"
        groups = n_groups(maker.root) if is_float else BConv2d.of(maker.root).groups
        fits = fits and (groups == 1 or n_channels // groups % 8 == 0)
    return packing.channel_axis == maker.channel_axis and maker.bits is None and fits


def _give_bits(graph: Graph, maker: Fused, pack: Node) -> None:
    packing = replace(
        maker,
        bits=pack.name,
        bits_type=one_tensor(pack.type),
        absorbed=(*maker.absorbed, pack.name),
    )
    graph.put(packing, in_place_of=maker, without=pack)


def _compare(graph: Graph) -> None:
    for item in list(graph.items):
        if not isinstance(item, Fused) or item.kind != "dot" or item.bits is None:
            continue
        if item.floats is None and all(step.kind != "residual" for step in item.steps):
            graph.put(replace(item, threshold=True), in_place_of=item)
