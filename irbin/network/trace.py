"""A network becomes a `LayerGraph`: every layer with weights, and the facts a plan rests on.

Two witnesses are heard: the traced graph knows the data flow, one run of the network knows what
really ran (`recorder.py`). A layer that only one of them saw is kept float, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import Conv2dSame
from timm.layers import Linear as TimmLinear
from torch import Tensor, fx, nn

from irbin.errors import TraceError
from irbin.network.flow import Flow, shape
from irbin.network.plan import NEVER_RUNS
from irbin.network.recorder import BATCH, Calls, Recording, record, run_copy
from irbin.network.signs import Sign, is_replaceable_function, signs
from irbin.network.tracer import LAYERS, OTHER_LAYERS, trace_symbolically, traced_constants
from irbin.records import LayerGraph, LayerKind, LayerRecord

_CONV_FORWARDS = {nn.Conv2d.forward, Conv2dSame.forward}
_LINEAR_FORWARDS = {nn.Linear.forward, TimmLinear.forward}


def trace_graph(module: nn.Module, input_size: Sequence[int]) -> fx.GraphModule:
    """The data-flow graph of `module`, with `meta["shape"]` at a batch of two on every tensor node.

    Traced in training mode, so that nothing is frozen; in evaluation mode where training returns
    more than one tensor (auxiliary heads). `module` is left as it was, and its submodules are
    shared.

    Args:
        module: a network whose forward takes one image batch.
        input_size: (channels, height, width).

    Returns:
        A graph module; `meta["opaque"]` says which modules could not be seen through, and why.

    Raises:
        TraceError: the network's own forward cannot be traced, or the graph does not run.
    """
    traced, opaque = trace_symbolically(module, training=True)
    if not _returns_one_tensor(traced):
        traced, opaque = trace_symbolically(module, training=False)
    traced.meta["opaque"] = opaque
    _annotate_shapes(module, traced, (int(input_size[0]), int(input_size[1]), int(input_size[2])))
    return traced


def _returns_one_tensor(traced: fx.GraphModule) -> bool:
    result = traced.graph.output_node().args[0]
    # a named tuple's class is traced as a function
    return isinstance(result, fx.Node) and not isinstance(result.target, type)


class _ShapeInterpreter(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["shape"] = tuple(result.shape)
        return result


def _annotate_shapes(
    module: nn.Module, traced: fx.GraphModule, input_size: tuple[int, int, int]
) -> None:
    constants = traced_constants(module, traced)

    def run(network: nn.Module, device: str) -> Recording:
        for name, constant in constants.items():
            setattr(network, name, constant.to(device))
        interpreter = _ShapeInterpreter(network, graph=traced.graph)
        with torch.no_grad():
            interpreter.run(torch.zeros(BATCH, *input_size, device=device))
        return Recording()

    run_copy(module, run)


def trace(module: nn.Module, input_size: Sequence[int]) -> LayerGraph:
    """The layers of `module` and what is known of each; `module` is left as it was.

    Args:
        module: a float network whose forward takes one image batch.
        input_size: (channels, height, width).

    Raises:
        TraceError: the network cannot be traced, does not run on that input, or has no layers.
    """
    size = (int(input_size[0]), int(input_size[1]), int(input_size[2]))
    layers: dict[str, nn.Module] = {
        n: m for n, m in module.named_modules() if isinstance(m, LAYERS)
    }
    if not layers:
        raise TraceError(
            f"expected a network with convolutions or linear layers, got "
            f"`{type(module).__name__}` without any"
        )
    recording, ran = record(module, list(layers), size)
    facts = _GraphFacts(trace_graph(module, size))
    records = [
        _layer_record(name, layers[name], recording.calls.get(name), facts)
        for name in _in_execution_order(layers, recording)
    ]
    own = [t for r in records for t in _record_tensors(ran.get_submodule(r.name)).values()]
    own_ids = {id(t) for t in own}
    others = [t for t in recording.used if id(t) not in own_ids]
    floats = sum(t.numel() for t in others if t.is_floating_point())
    vectors = 2 * recording.norm_features
    return LayerGraph(
        layers=tuple(records),
        input_size=size,
        n_other_params=sum(p.numel() for p in ran.parameters() if id(p) not in own_ids),
        other_bytes=sum(t.numel() * t.element_size() for t in others) + 4 * vectors,
        n_other_floats=floats + vectors,
        activation_channels=facts.activation_channels(records),
    )


def _in_execution_order(layers: dict[str, nn.Module], recording: Recording) -> list[str]:
    ran = sorted(recording.calls, key=lambda name: recording.calls[name].order)
    return ran + [name for name in layers if name not in recording.calls]


class _GraphFacts:
    """What the traced graph says, by layer name."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.flow = Flow(traced)
        self.opaque: dict[str, str] = traced.meta["opaque"]
        self.signs = signs(traced)
        self.shortcuts, self.gates = self.flow.shortcuts(), self.flow.gates()
        self.nodes: dict[str, list[fx.Node]] = {}
        for node in self.flow.nodes:
            if self.flow.layer(node) is not None:
                self.nodes.setdefault(str(node.target), []).append(node)

    def input_sign(self, name: str) -> Sign:
        """What makes the input of a layer non-negative, over all of its calls."""
        found = [self.signs[n][n.all_input_nodes[0]] for n in self._nodes_with_input(name)]
        found = [s for s in found if s.non_negative]
        causes = dict.fromkeys(c for s in found for c in s.replaceable)
        hopeless = [s.fixed or "its input" for s in found if not s.replaceable]
        return Sign(bool(found), tuple(causes), hopeless[0] if hopeless else "")

    def _nodes_with_input(self, name: str) -> list[fx.Node]:
        return [n for n in self.nodes.get(name, []) if n.all_input_nodes]

    def hiding_place(self, name: str) -> str:
        """The opaque module around a layer and why it is opaque; '' if there is none."""
        for path, why in self.opaque.items():
            if name.startswith(f"{path}."):
                return f"inside `{path}`, which cannot be traced: {why}"
        return ""

    def activation_channels(self, records: Sequence[LayerRecord]) -> dict[str, int]:
        """Channels where a slope per channel fits: all calls have the same, second in shape."""
        found: dict[str, int] = {}
        for record_ in records:
            is_channels_last = record_.kind == "linear" and len(record_.input_shape) > 1
            for name in record_.activations:
                channels = self._channels(name)
                found[name] = 1 if is_channels_last or found.get(name) == 1 else channels
        return found

    def _channels(self, activation: str) -> int:
        nodes = [n for n in self.flow.nodes if _is_activation(n, activation)]
        sizes = [shape(n) for n in nodes]
        channels = {s[1] for s in sizes if len(s) in (2, 4)}
        fits = len(channels) == 1 and all(len(s) in (2, 4) for s in sizes)
        return channels.pop() if fits else 1


def _is_activation(node: fx.Node, activation: str) -> bool:
    if node.op == "call_module":
        return node.target in (activation, activation.removesuffix(".act"))
    return is_replaceable_function(node) and activation == f"{node.name}()"


def _layer_record(
    name: str, layer: nn.Module, calls: Calls | None, facts: _GraphFacts
) -> LayerRecord:
    nodes, flow, sign = facts.nodes.get(name, []), facts.flow, facts.input_sign(name)
    weight = _record_tensors(layer)["weight"]
    calls = calls or Calls(0)
    return LayerRecord(
        name=name,
        kind=_kind(layer),
        type_name=type(layer).__name__,
        weight_shape=_weight_shape(layer, weight),
        groups=int(vars(layer).get("groups", 1)),
        has_bias="bias" in _record_tensors(layer),
        n_macs=calls.n_macs,
        input_shape=calls.input_shape,
        output_shape=calls.output_shape,
        is_first=any(flow.is_first(n) for n in nodes),
        is_last=any(flow.is_last(n) for n in nodes),
        is_shortcut=any(n in facts.shortcuts for n in nodes),
        is_depthwise=isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1,
        activations=sign.replaceable,
        never_negative=sign.fixed,
        obstacle=_obstacle(name, layer, calls, facts),
        followed_by=flow.first_reader(nodes[0]) if nodes else "",
        is_gate=any(n in facts.gates for n in nodes),
    )


def _kind(layer: nn.Module) -> LayerKind:
    if isinstance(layer, nn.Conv2d):
        return "conv2d"
    return "linear" if isinstance(layer, nn.Linear) else "other"


def _weight_shape(layer: nn.Module, weight: Tensor) -> tuple[int, ...]:
    """Outputs first, also where torch stores inputs first."""
    size = tuple(weight.shape)
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return (layer.out_channels, layer.in_channels // layer.groups, *size[2:])
    return size


def _record_tensors(layer: nn.Module) -> dict[str, Tensor]:
    """The weight and bias that a layer's record counts."""
    own = dict(layer.named_parameters(recurse=False))
    names: list[str] = [n for n in ("weight", "in_proj_weight", "weight_ih_l0") if n in own]
    names += [n for n, p in own.items() if p.dim() > 1]  # parametrized or split weights
    if not names:
        return {"weight": _first_tensor(layer)}
    found: dict[str, Tensor] = {"weight": own[names[0]]}
    bias = own.get("bias", own.get("in_proj_bias"))
    if bias is not None:
        found["bias"] = bias
    return found


def _first_tensor(layer: nn.Module) -> Tensor:
    weight = getattr(layer, "weight", None)
    return weight if isinstance(weight, Tensor) else next(layer.parameters())


def _obstacle(name: str, layer: nn.Module, calls: Calls, facts: _GraphFacts) -> str:
    """Why a layer cannot be binarized at all; '' if it can."""
    if calls.n_calls == 0 and not calls.read_by:
        return NEVER_RUNS
    if isinstance(layer, OTHER_LAYERS) and not isinstance(layer, nn.Conv2d):
        return f"`{type(layer).__name__}` has no binary form"
    if calls.n_calls == 0:
        return f"its weight is read by `{calls.read_by}`, its own forward is never called"
    if calls.read_by:
        return f"its weight is also read by `{calls.read_by}`"
    return _own_obstacle(layer) or _graph_obstacle(name, calls, facts)


def _own_obstacle(layer: nn.Module) -> str:
    kind = type(layer).__name__
    if "weight" not in layer._parameters:
        return "its weight is computed (weight norm or another parametrization)"
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "it has forward hooks, which a binary layer would lose"
    forward = type(layer).forward
    if isinstance(layer, nn.Conv2d):
        is_plain = forward in _CONV_FORWARDS and (
            type(layer)._conv_forward is nn.Conv2d._conv_forward
        )
    else:
        is_plain = forward in _LINEAR_FORWARDS
    if is_plain:
        return ""
    if "StdConv" in kind:
        return f"`{kind}` standardizes its weight in its own forward"
    return f"`{kind}` has its own forward"


def _graph_obstacle(name: str, calls: Calls, facts: _GraphFacts) -> str:
    nodes = facts.nodes.get(name, [])
    hidden = facts.hiding_place(name)
    if hidden:
        return hidden
    if len(nodes) != calls.n_calls:
        return f"it ran {calls.n_calls} times, but the traced graph shows {len(nodes)} calls"
    if any(n not in facts.flow.sees_image for n in nodes):
        return "its input does not depend on the image"
    return ""
