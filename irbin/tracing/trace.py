"""A network becomes a `LayerGraph`: every layer with weights, and the facts a plan rests on.

Two witnesses are heard: the traced graph knows the data flow, one run of the network knows what
really ran (`recorder.py`). Where tracing fails, for the whole network or a part of it, the modules
in the order in which they ran are all there is (`facts.py`); what that loses is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from irbin.copies import plain_floats, scripted_parts
from irbin.errors import TraceError
from irbin.planning.plan import NEVER_RUNS
from irbin.records.plan import LayerGraph, LayerRecord
from irbin.tracing.facts import Facts, has_computed_weight, record_tensors
from irbin.tracing.recorder import BATCH, Recording, record, run_copy
from irbin.tracing.reparameterize import n_fusable
from irbin.tracing.tracer import LAYERS, trace_symbolically, traced_constants


def trace_graph(
    module: nn.Module, input_size: Sequence[int], *, whole: bool = True
) -> fx.GraphModule:
    """The data-flow graph of `module`, with `meta["shape"]` at a batch of two on every tensor node.

    Traced in training mode, so that nothing is frozen; in evaluation mode where training returns
    something else (auxiliary heads). `module` is left as it was, and its submodules are shared.

    Args:
        module: a network whose forward takes one image batch.
        input_size: (channels, height, width).
        whole: see `trace_symbolically`.

    Returns:
        A graph module; `meta["opaque"]` says which modules could not be seen through, and why.

    Raises:
        TraceError: the network's own forward cannot be traced, or the graph does not run.
    """
    traced, opaque = trace_symbolically(module, training=True, whole=whole)
    if _returned(traced) != _TENSOR:
        in_evaluation, opaque_then = trace_symbolically(module, training=False, whole=whole)
        if _returned(in_evaluation) != _returned(traced):
            traced, opaque = in_evaluation, opaque_then
            traced.meta["in_evaluation"] = True
    traced.meta["opaque"] = opaque
    _annotate_shapes(module, traced, (int(input_size[0]), int(input_size[1]), int(input_size[2])))
    return traced


_TENSOR = "tensor"


def _returned(traced: fx.GraphModule) -> Any:
    """What a traced network returns, with `_TENSOR` for each tensor."""

    def kind(node: fx.Node) -> Any:
        # a named tuple's class is traced as a function
        return node.target if isinstance(node.target, type) else _TENSOR

    return fx.node.map_arg(traced.graph.output_node().args[0], kind)


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

    run_copy(module, run, input_size)


@plain_floats()
def trace(module: nn.Module, input_size: Sequence[int]) -> LayerGraph:
    """The layers of `module` and what is known of each; `module` is left as it was.

    Args:
        module: a float network whose forward takes one image batch.
        input_size: (channels, height, width).

    Raises:
        TraceError: the network does not run on that input, has no layers, or hides some in a
            ScriptModule.
    """
    size = (int(input_size[0]), int(input_size[1]), int(input_size[2]))
    _refuse_scripted(module)
    layers: dict[str, nn.Module] = {
        n: m for n, m in module.named_modules() if isinstance(m, LAYERS)
    }
    if not layers:
        raise TraceError(
            f"expected a network with convolutions or linear layers, got "
            f"`{type(module).__name__}` without any"
        )
    recording, ran = record(module, list(layers), size)
    facts = Facts(module, size, recording, *_graph_or_why(module, size))
    read = {id(t) for t in recording.used}
    records = [
        _as_read(facts.layer_record(name, layers[name]), ran.get_submodule(name), read)
        for name in _in_execution_order(layers, recording)
    ]
    own = [t for r in records for t in _own_tensors(r, ran.get_submodule(r.name))]
    own_ids = {id(t) for t in own}
    packed = [r for r in records if r.obstacle != NEVER_RUNS]
    theirs = {id(t) for r in packed for t in _own_tensors(r, ran.get_submodule(r.name))}
    others = [t for t in recording.used if id(t) not in theirs]
    floats = sum(t.numel() for t in others if t.is_floating_point())
    vectors = 2 * recording.norm_features
    return LayerGraph(
        layers=tuple(records),
        input_size=size,
        n_other_params=sum(p.numel() for p in ran.parameters() if id(p) not in own_ids),
        other_bytes=sum(t.numel() * t.element_size() for t in others) + 4 * vectors,
        n_other_floats=floats + vectors,
        activation_channels=facts.activation_channels(records),
        other_macs=recording.other_macs,
        n_fusable=n_fusable(module),
    )


def _refuse_scripted(module: nn.Module) -> None:
    """Refuses parts that TorchScript compiled: they cannot be seen into, edited or exported."""
    paths = scripted_parts(module)
    if paths:
        what = ", ".join(f"`{path}`" for path in paths) if paths[0] else "the network"
        raise TraceError(
            f"expected layers of Python, but {what} in `{type(module).__name__}` "
            f"{'are ScriptModules' if len(paths) > 1 else 'is a ScriptModule'} (`torch.jit.script` "
            "or `trace`); put there what it was made from"
            if paths[0]
            else f"expected a network of Python modules, got a `{type(module).__name__}`, which "
            "`torch.jit.script` or `trace` made; give the network that it was made from"
        )


def _as_read(record: LayerRecord, layer: nn.Module, read: set[int]) -> LayerRecord:
    """A record without a bias that nothing reads where the weight is read: it is not packed."""
    tensors = record_tensors(layer)
    unread = id(tensors["weight"]) in read and id(tensors.get("bias")) not in read
    return dataclasses.replace(record, has_bias=record.has_bias and not unread)


def _own_tensors(record: LayerRecord, layer: nn.Module) -> list[Tensor]:
    """What a layer's record counts, and what a weight that is computed is computed from."""
    if has_computed_weight(layer):
        return [*layer.parameters(), *layer.buffers()]
    return [t for n, t in record_tensors(layer).items() if n != "bias" or record.has_bias]


def _graph_or_why(
    module: nn.Module, size: tuple[int, int, int]
) -> tuple[fx.GraphModule | None, str]:
    try:
        return trace_graph(module, size), ""
    except TraceError as error:
        return None, str(error)


def _in_execution_order(layers: dict[str, nn.Module], recording: Recording) -> list[str]:
    ran = sorted(recording.calls, key=lambda name: recording.calls[name].order)
    return ran + [name for name in layers if name not in recording.calls]
