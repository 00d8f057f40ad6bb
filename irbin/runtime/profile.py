"""A packed network node by node: how long each call takes, and how much it computes."""

from __future__ import annotations

import math
import statistics

from torch import Tensor

from irbin.program.fused import Fused, Item
from irbin.program.own import inner_product
from irbin.program.shapes import sizes
from irbin.program.types import Node, Ref, TensorType, one_tensor
from irbin.records.bench import TORCH, NodeTiming
from irbin.runtime.calls import Values, runs_torch, short
from irbin.runtime.model import PackedModel
from irbin.runtime.packed import BITS_SUFFIX

KERNELS = {"conv": "conv2d", "depthwise": "conv2d", "pool": "max_pool2d", "rows": "steps"}
"""What a fused call is named; an inner product by its operator."""


def profile(model: PackedModel, images: Tensor, n_runs: int) -> tuple[NodeTiming, ...]:
    """Times every call of the network, in order.

    Args:
        model: what to run.
        images: (batch, channels, height, width), or bytes as `PackedModel.bytes` takes them.
        n_runs: runs that are counted.
    """
    seconds: dict[str, list[float]] = {}

    def watch(item: Item, _: Values, took: float) -> None:
        run[item.name] = run.get(item.name, 0.0) + took  # a large batch runs in parts

    for counted in (False, False, *[True] * n_runs):
        run: dict[str, float] = {}
        model.watch(images, watch)
        if counted:
            for name, took in run.items():
                seconds.setdefault(name, []).append(took)
    return tuple(
        _timing(item, statistics.median(seconds[item.name]), model)
        for item in model.items_on(images)
        if item.name in seconds
    )


def overhead(model: PackedModel, images: Tensor, n_runs: int) -> float:
    """Microseconds that it takes to call all kernels of a batch.

    The schedule is the real one, with kernels that return at once.

    Args:
        model: what to run.
        images: (batch, channels, height, width).
        n_runs: runs that are counted.
    """
    return 1e6 * statistics.median(model.calling_seconds(images, n_runs))


def macs(item: Item, model: PackedModel) -> tuple[int, int]:
    """(1-bit, float) multiply-adds an image of a call."""
    if isinstance(item, Node):
        return 0, _float_macs(item, model)
    inner = macs(item.producer, model) if item.producer is not None else (0, 0)
    own = 0
    if item.kind in ("dot", "conv", "depthwise", "linear"):
        weight = _weight_shape(item.root.refs()[1], model)
        pixels = _numel(item.type) // int(weight[0])
        if item.kind != "dot":
            return inner[0], inner[1] + pixels * _product(weight)
        product = inner_product(item.root)
        own = pixels * _product(weight[:-1]) * product.depth if product is not None else 0
    return inner[0] + own, inner[1]


def _weight_shape(name: str, model: PackedModel) -> tuple[int | str, ...]:
    """Of a constant, or of what is computed of constants: a 1w32a layer's unpacked weight."""
    computed = {node.name: node.type for node in model.program.nodes}
    kind = model.program.constants.get(name) or computed[name]
    return one_tensor(kind).shape


def _timing(item: Item, seconds: float, model: PackedModel) -> NodeTiming:
    binary_macs, float_macs = macs(item, model)
    kind = item.type
    shape: tuple[int, ...] = ()
    if isinstance(kind, TensorType):
        shape = tuple(size for size in kind.shape if isinstance(size, int))
    kernel = _node_name(item) if isinstance(item, Node) else _kernel_name(item)
    steps = () if isinstance(item, Node) else _steps(item)
    of_bytes = isinstance(item, Fused) and (item.producer or item).from_bytes
    counted = (float_macs, 0, 0)
    if of_bytes:
        counted = (0, float_macs, 0)
    elif model.has_signs_for_floats(item):
        counted = (0, 0, float_macs)
        kernel = kernel.replace("conv2d", "conv2d of signs")
    return NodeTiming(
        _layer(item, model), kernel, steps, shape, 1e6 * seconds, binary_macs, *counted
    )


def _node_name(node: Node) -> str:
    return TORCH + short(node.op) if runs_torch(node) else short(node.op)


def _kernel_name(item: Fused) -> str:
    own = KERNELS.get(item.kind) or short(item.root.op)
    own += " of bytes" if item.from_bytes else ""
    return f"{_kernel_name(item.producer)} + {own}" if item.producer is not None else own


def _steps(item: Fused) -> tuple[str, ...]:
    inner = _steps(item.producer) if item.producer is not None else ()
    steps: tuple[str, ...] = tuple(step.kind for step in item.steps)
    if item.threshold:
        return (*inner, "threshold")
    return (*inner, *steps, *(("pack",) if item.bits is not None else ()))


def _layer(item: Item, model: PackedModel) -> str:
    if isinstance(item, Fused) and item.producer is not None:
        return _layer(item.producer, model)
    node = item.root if isinstance(item, Fused) and item.is_root else item
    unpacked = {n.name: n.refs()[0] for n in model.program.nodes if n.op == "bitunpack"}
    named = [unpacked.get(name, name) for name in node.refs()]
    named = [name for name in named if name in model.program.constants]
    if not named:
        return item.name
    return named[0].removesuffix(BITS_SUFFIX).removesuffix(".weight")


def _float_macs(node: Node, model: PackedModel) -> int:
    """Of torch's convolutions and linear layers; products of activations are not counted."""
    position = {"conv1d": 1, "conv2d": 1, "conv3d": 1, "linear": 1, "addmm": 2}
    op = short(node.op)
    weight = node.args[position[op]] if op in position else None
    if not isinstance(weight, Ref) or not isinstance(node.type, TensorType):
        return 0
    shape = _weight_shape(weight.name, model)
    if not all(isinstance(size, int) for size in shape):
        return 0  # computed from the images
    depth = int(shape[0]) if op == "addmm" else _product(shape[1:])
    return _numel(node.type) * depth


def _numel(kind: TensorType) -> int:
    """Numbers an image; sizes that depend on the batch count as their share of one."""
    return math.prod(sizes(kind, 1))


def _product(shape: tuple[int | str, ...]) -> int:
    return math.prod(int(size) for size in shape)
