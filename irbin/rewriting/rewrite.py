"""A plan is carried out: layers swapped, activations replaced, shortcuts added, all checked.

Everything happens in place on the module tree, so that state-dict keys, hooks and methods stay the
source's. Only functional activations and added shortcuts need another forward: then the class of
the root module becomes a subclass whose forward is the edited graph.
"""

from __future__ import annotations

import dataclasses
from typing import cast

import torch
from torch import fx, nn

from irbin.binary.activations import SignKept
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLayer, BinaryLinear, Method
from irbin.copies import copied, plain_floats
from irbin.errors import ConvertError
from irbin.records.kinds import ACTIVATIONS, DOWNSAMPLES, SHORTCUTS, ShortcutKind, binarizer_name
from irbin.records.plan import Decision, LayerRecord, Plan, PlanOptions
from irbin.rewriting.checks import check_runs
from irbin.rewriting.edits import ALL_INSIDE, edits_of, graph_to_edit, is_all_inside, is_called
from irbin.rewriting.fastpath import leave_fast_paths
from irbin.rewriting.further import Edits
from irbin.rewriting.hidden import hide
from irbin.rewriting.installed import EditedForward, edited_class, evaluation_of
from irbin.rewriting.network import Network
from irbin.rewriting.settings import by_module
from irbin.rewriting.told import tell_numbers, tell_what_went
from irbin.tracing.keeping_sign import call_instead, kept_at
from irbin.tracing.loses_sign import lost_sign
from irbin.tracing.numbers import read_when_run
from irbin.tracing.reads import frozen_settings, parts_with_modes
from irbin.tracing.reparameterize import refuse_fusing
from irbin.tracing.signs import works_in_place
from irbin.tracing.tracer import traced_constants

PRELU_SLOPE = 0.25
"""Initial slope of a PReLU below zero, torch's default."""

_PHASE = "ede"


@plain_floats()
def rewrite(network: Network, plan: Plan, *, in_place: bool = False, check: bool = True) -> Network:
    """The binary network that `plan` describes.

    Args:
        network: a float network.
        plan: made from this architecture.
        in_place: change `network.module` itself; it is unusable after an error.
        check: run the result once, forward and backward (`check_runs`); leave it out only where the
            same architecture and plan have been checked before.

    Returns:
        A network whose module has a shared EDE phase at `ede`. Its state dict has the source's
        keys, `ede.t`, `ede.k` and the weights of new PReLUs.

    Raises:
        ConvertError: the network is converted already, the plan does not fit it, a weight is not
            finite, no shortcut can be changed as asked, or the result does not run as planned.
        TraceError: functional activations or shortcuts are to be changed, but the graph cannot be
        had.
    """
    if network.plan is not None:
        raise ConvertError("expected a float network, got one that is converted already")
    _refuse_without_numbers(network.module)
    module = network.module if in_place else copied(network.module)
    for decision in plan.decisions:
        _check_fits(module, decision)
    traced, plan = graph_to_edit(module, plan, check)
    notes = _rewritten(traced, plan, DOWNSAMPLES[plan.options.downsample])
    edits = None if traced is None else edits_of(traced, plan)
    _swap_layers(module, plan)
    leave_fast_paths(module)
    _replace_activations(module, traced, plan)
    if traced is not None and edits is not None:
        notes = _rewritten(traced, plan, SHORTCUTS[plan.options.shortcut]) | notes
        numbers = read_when_run(traced.graph)
        if check:
            tell_what_went(module, traced, edits)
            tell_numbers(module, numbers, traced.meta["deciding"])
        install(module, traced, edits)
        setattr(module, "irbin_shortcuts", notes)  # noqa: B010 - mypy sees tensors only
    if isinstance(module, nn.Sequential):
        _hide_phase(module, is_edited=traced is not None)
    refuse_fusing(module)
    if check:
        check_runs(module, plan)
    return dataclasses.replace(network, module=module, plan=plan)


def _refuse_without_numbers(module: nn.Module) -> None:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    lacking = [name for name, tensor in tensors if tensor.is_meta]
    if lacking and len(lacking) < len(tensors):
        raise ConvertError(
            f"expected a network with all its weights, got `{lacking[0]}` on the device `meta`, "
            "where no numbers are; load them first (`load_state_dict(…, assign=True)`)"
        )


def _rewritten(traced: fx.GraphModule | None, plan: Plan, kind: ShortcutKind) -> dict[str, str]:
    """What a kind of shortcuts did to the graph, in place, by the place where it did it."""
    if traced is None or not kind.edits_graph:
        return {}
    notes: dict[str, str] = kind.function(traced, plan)
    return notes


def _check_fits(module: nn.Module, decision: Decision) -> None:
    if not decision.binary:
        return
    name, shape = decision.layer.name, decision.layer.weight_shape
    try:
        layer = module.get_submodule(name)
    except AttributeError as error:
        raise ConvertError(
            f"the plan binarizes `{name}`, which the network does not have; plan this network anew"
        ) from error
    is_float = isinstance(layer, nn.Conv2d | nn.Linear) and not isinstance(layer, BinaryLayer)
    weight = layer.get_parameter("weight") if is_float else torch.empty(0)
    if not is_float or tuple(weight.shape) != tuple(shape):
        raise ConvertError(
            f"the plan expects a float layer with weights {tuple(shape)} at `{name}`, the network "
            f"has a `{type(layer).__name__}`; plan this network anew"
        )
    if not weight.is_meta and not bool(torch.isfinite(weight).all()):
        raise ConvertError(f"`{name}`: expected finite weights, got NaN or infinity among them")


def _swap_layers(module: nn.Module, plan: Plan) -> None:
    if _PHASE in module._modules or _PHASE in vars(module):
        raise ConvertError(f"the network has an attribute `{_PHASE}`, which irbin needs for itself")
    device = next(module.parameters()).device
    phase = EdePhase().to(device)
    layers = [d.layer for d in plan.decisions if d.binary]
    floats = {layer: module.get_submodule(layer.name) for layer in layers}
    _replace_everywhere(
        module, {m: _binary(m, _method(layer, plan.options), phase) for layer, m in floats.items()}
    )
    module.add_module(_PHASE, phase)
    if not isinstance(module, nn.Sequential):  # whose phase is hidden
        # first, so that `children()[:-1]` is the source's; it passes on what it is given
        names = [name for name in module._modules if name != _PHASE]
        module._modules.update({name: module._modules.pop(name) for name in names})


def _hide_phase(module: nn.Module, is_edited: bool) -> None:
    if not is_edited and not hasattr(module, "irbin_source"):
        module.__class__ = edited_class(type(module), None)
    hide(module, [_PHASE])


def _method(layer: LayerRecord, options: PlanOptions) -> Method:
    binarizer = binarizer_name(options.binarizer, options.balance, layer.keeps_size)
    learned = options.sign_threshold == "learned"
    return Method(
        binarizer, options.estimator, options.bits == "1w1a", learned, options.weight_estimator
    )


def _binary(layer: nn.Module, method: Method, phase: EdePhase) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        return BinaryConv2d.from_float(layer, method, phase)
    return BinaryLinear.from_float(cast(nn.Linear, layer), method, phase)


def _replace_everywhere(module: nn.Module, replacements: dict[nn.Module, nn.Module]) -> None:
    """Replaces modules under every name they have."""
    made = set(replacements.values())
    for parent in [m for m in module.modules() if m not in made]:  # they may hold what was there
        for name, child in parent._modules.items():
            if child is not None and child in replacements:
                parent._modules[name] = replacements[child]


def _replace_activations(module: nn.Module, traced: fx.GraphModule | None, plan: Plan) -> None:
    modules: dict[nn.Module, nn.Module] = {}
    for name in plan.replaced_activations:
        channels = plan.activation_channels[name]
        if not is_called(name):
            old = _submodule(module, name)
            modules[old] = _activation(plan.options, channels, vars(old).get("inplace") is True)
        elif traced is not None:
            _replace_function(traced, name.removesuffix("()"), channels, plan.options)
    for name in plan.sign_keeping:
        if is_all_inside(name):
            part = module.get_submodule(name.removesuffix(ALL_INSIDE))
            part.__class__ = edited_class(type(part), None, keeps_signs=True)
        elif not is_called(name):
            old = _submodule(module, name)
            modules[old] = SignKept(old, falls=lost_sign(old) < 0)
        elif traced is not None:
            _keep_sign_of_function(traced, name.removesuffix("()"))
    _replace_everywhere(module, modules)
    if traced is not None:
        _replace_everywhere(traced, modules)


def _keep_sign_of_function(traced: fx.GraphModule, node_name: str) -> None:
    """An activation called as a function, or as several, becomes a module."""
    node = next((n for n in traced.graph.nodes if n.name == node_name), None)
    kept = None if node is None else kept_at(node, dict(traced.named_modules()))
    if node is None or kept is None:
        raise _not_in_graph(node_name)
    name = f"activation_{node_name}"
    traced.add_submodule(name, SignKept(kept.activation, falls=lost_sign(kept.activation) < 0))
    call_instead(node, name, kept)


def _submodule(module: nn.Module, name: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError as error:
        raise ConvertError(
            f"the plan replaces the activation `{name}`, which the network does not have; plan "
            "this network anew"
        ) from error


def _activation(options: PlanOptions, channels: int, in_place: bool) -> nn.Module:
    """What stands in for a ReLU; Hardtanh works in place where the ReLU did, no other can."""
    kind = ACTIVATIONS[options.activation]
    made: nn.Module = (
        kind.cls(channels, PRELU_SLOPE) if kind.n_learned else kind.cls(inplace=in_place)
    )
    return made


def _replace_function(
    traced: fx.GraphModule, node_name: str, channels: int, options: PlanOptions
) -> None:
    """A ReLU called as a function becomes a module `activation_<node>` at the root."""
    node = next((n for n in traced.graph.nodes if n.name == node_name), None)
    if node is None:
        raise _not_in_graph(node_name)
    name = f"activation_{node_name}"
    in_place = works_in_place(node, dict(traced.named_modules()))
    traced.add_submodule(name, _activation(options, channels, in_place))
    call_instead(node, name)


def _not_in_graph(node_name: str) -> ConvertError:
    return ConvertError(
        f"the plan replaces the activation `{node_name}()`, which the traced graph does not "
        "have; plan this network anew with the same versions of torch and timm"
    )


def install(module: nn.Module, traced: fx.GraphModule, edits: Edits) -> None:
    """Makes `module` compute `traced`, in place.

    The module keeps its tree, attributes and methods; modules that only `traced` has are added at
    its root, not among its `children()`, and so are its constants, as buffers that are not saved.
    It can be copied, trained and exported like any other.

    Args:
        module: the network `traced` was traced from.
        traced: its graph, edited.
        edits: what was changed.

    Raises:
        TraceError: evaluation has a graph of its own, which cannot be edited like that of training.
    """
    device = next(module.parameters()).device
    for name, constant in traced_constants(module, traced).items():
        module.register_buffer(name, constant, persistent=False)
    added = {n: m for n, m in traced.named_children() if n not in module._modules}
    for name, child in added.items():
        module.add_module(name, child.to(device))
    traced.recompile()
    parts = parts_with_modes(traced) if edits.by_mode else ()
    edited = EditedForward(traced, edits, evaluation_of(module, edits), parts)
    frozen = by_module(type(module).__name__, frozen_settings(traced))
    for path, part in list(module.named_modules()):
        if path in frozen and path and "irbin_source" not in vars(type(part)):
            part.__class__ = edited_class(type(part), None, frozen=frozen[path])
    module.__class__ = edited_class(type(module), edited, frozen=frozen.get(""))
    hide(module, list(added))
