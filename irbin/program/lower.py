"""A trained network as a program: freeze the binary layers, `torch.export`, translate node by node.

Batch norm in eval mode becomes one multiplication and one addition per channel; nodes that change
nothing (copies, dropout, assertions) and whatever no output needs are left out.
"""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import OutputKind
from torch.utils._pytree import TreeSpec, keystr, tree_flatten_with_path, tree_unflatten

from irbin.binary.layers import BinaryConv2d, BinaryLinear, binary_layers
from irbin.copies import copied, plain_floats, scripted_parts
from irbin.errors import LowerError
from irbin.messages import with_class
from irbin.program.chance import refuse_chance
from irbin.program.followed import as_function, check_followed
from irbin.program.freeze import (
    ConvGeometry,
    FrozenLayer,
    PackedConv2d,
    PackedLinear,
    UnpackedLayer,
)
from irbin.program.kept_signs import take_signs_of_inputs
from irbin.program.lowered import Lowered
from irbin.program.place import line_in, place_of_error
from irbin.program.settle import settle
from irbin.program.synonyms import IN_PARTS
from irbin.program.translate import Translation
from irbin.program.undecomposed import in_program_operators

READ_BY_NETWORKS = frozenset(
    {
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
        "padding_mode",
        "in_features",
        "out_features",
    }
)
"""Settings of a layer that some networks' code looks at (davit reads `kernel_size`)."""


@plain_floats()
def lower(module: nn.Module, input_size: tuple[int, int, int]) -> Lowered:
    """Lowers a trained network, converted or float, to a program; the network is left as it is.

    Args:
        module: maps (batch, channels, height, width) to one tensor, or to a list, tuple or
            dictionary of several, which become the program's outputs in order.
        input_size: (channels, height, width) of the images; the program is bound to it.

    Raises:
        LowerError: a weight is NaN or infinite, `torch.export` cannot follow the network or keep
            its batch size open, or meets an operator that a program may not name or that mixes the
            images of a batch.
    """
    return _translated(_frozen_copy(module), input_size)


@plain_floats()
def check_lowers(module: nn.Module, input_size: tuple[int, int, int]) -> None:
    """Finds out whether `lower` will do, before anybody trains; the network is left as it is.

    Raises:
        LowerError: see `lower`.
    """
    frozen = _frozen_copy(module)
    for m in frozen.modules():
        if vars(m).get("inplace") is True:  # torch takes twice the time over these
            m.inplace = False  # type: ignore[assignment]
    _translated(frozen, input_size)


def _frozen_copy(module: nn.Module) -> nn.Module:
    for path in scripted_parts(module):
        raise LowerError(
            f"{f'`{path}`' if path else 'the network'} is a ScriptModule (`torch.jit.script` or "
            "`trace`), which `torch.export` cannot follow; put there what it was made from"
        )
    frozen = copied(module).cpu().float().eval()
    settle(frozen)
    check_finite(frozen)
    freeze(frozen)
    return frozen


def _translated(frozen: nn.Module, input_size: tuple[int, int, int]) -> Lowered:
    called = copied(frozen)
    with _quiet():
        exported = _export(frozen, input_size)
        graph = as_function(exported)
        if not in_program_operators(exported.graph):
            exported = _decomposed(exported)
    lowered = _translate(frozen, exported)
    with _quiet():
        check_followed(called, graph, input_size, partial(_export, frozen, input_size))
    return lowered


def _decomposed(exported: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return cast("torch.export.ExportedProgram", exported.run_decompositions(dict(IN_PARTS)))


def check_finite(module: nn.Module) -> None:
    """Refuses NaN and infinite parameters and batch-norm statistics.

    Raises:
        LowerError: names the first tensor.
    """
    named: list[tuple[str, Tensor]] = [*module.named_parameters()]
    named += [(n, b) for n, b in module.named_buffers() if n.endswith(("_mean", "_var"))]
    for name, tensor in named:
        if not bool(torch.isfinite(tensor).all()):
            raise LowerError(f"`{name}`: expected finite weights, got NaN or infinity; train again")


def freeze(module: nn.Module) -> None:
    """Replaces every binary layer, under each of its names, by its frozen counterpart, in place."""
    counterparts = {layer: _frozen(name, layer) for name, layer in binary_layers(module).items()}
    for parent in list(module.modules()):
        # not named_children, which lists a module that a parent holds twice only once
        for name, child in list(parent._modules.items()):
            if isinstance(child, BinaryConv2d | BinaryLinear):
                setattr(parent, name, counterparts[child])


def _frozen(name: str, layer: BinaryConv2d | BinaryLinear) -> FrozenLayer:
    frozen = _frozen_weights(name, layer)
    for setting in READ_BY_NETWORKS & vars(layer).keys():
        setattr(frozen, setting, getattr(layer, setting))
    return frozen


def _frozen_weights(name: str, layer: BinaryConv2d | BinaryLinear) -> FrozenLayer:
    signs, scale = layer.frozen()
    keep_scale, threshold = not layer.has_exponents, layer.threshold
    geometry = None
    if isinstance(layer, BinaryConv2d):
        geometry = ConvGeometry(
            layer.border, layer.padding_mode, layer.stride, layer.dilation, layer.groups
        )
    try:
        if not layer.method.binary_activations:
            return UnpackedLayer(signs, scale, layer.bias, geometry, keep_scale=keep_scale)
        if geometry is not None:
            return PackedConv2d(
                signs, scale, layer.bias, threshold, geometry, keep_scale=keep_scale
            )
        return PackedLinear(signs, scale, layer.bias, threshold, keep_scale=keep_scale)
    except ValueError as error:
        raise LowerError(f"layer `{name}`: {error}") from error


def _export(module: nn.Module, input_size: tuple[int, int, int]) -> torch.export.ExportedProgram:
    example = torch.zeros(2, *input_size)
    dynamic: tuple[Any, ...] = ({0: torch.export.Dim.DYNAMIC},)
    if _takes_any_number(module):  # torch counts what `*args` takes as one argument
        dynamic = (dynamic,)
    with torch.no_grad():
        try:
            exported = torch.export.export(module, (example,), dynamic_shapes=dynamic)
        except (
            Exception
        ) as error:  # export raises whatever the network's own code does, and its own
            where = place_of_error(error)
            if _exports_at_fixed_batch(module, example):
                raise LowerError(
                    "expected a network for any batch size, got one whose code is bound to the "
                    f"batch it is traced with{where}: {_cause(error)}"
                ) from error
            raise LowerError(
                f"`torch.export` cannot follow the network{where}: {_cause(error)}"
            ) from error
        _refuse_autocast(exported.graph_module)
        return exported


def _takes_any_number(module: nn.Module) -> bool:
    """Whether the images are one of any number of positional arguments (`forward(*args)`)."""
    first = next(iter(inspect.signature(module.forward).parameters.values()))
    return first.kind is first.VAR_POSITIONAL


def _refuse_autocast(exported: fx.GraphModule) -> None:
    """Refuses a forward that chooses another precision than a packed network has."""
    for node in exported.graph.nodes:
        if node.target is not torch.ops.higher_order.wrap_with_autocast:
            continue
        device, dtype, enabled, _, part = node.args[:5]
        inside = getattr(exported, part.target)
        if enabled and device == "cpu" and dtype != torch.float32:
            kind, line = str(dtype).removeprefix("torch."), line_in(inside.graph)
            raise LowerError(
                f"`torch.autocast` in the forward{line} computes in {kind}, but a "
                "packed network computes in float32; take it out "
                f"(`irbin.finetune(amp={kind!r})` trains under one)"
            )
        _refuse_autocast(inside)


_ASSIGNED = r"The tensor attributes? .* (was|were) assigned during export"
"""How torch's warning of tensors begins that a forward keeps in its module."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch's pages on what it could not follow off the screen: the error says it.

    And what torch warns of meanwhile: tensors that a network keeps, which are constants here.
    """
    loggers = [logging.getLogger(name) for name in ("torch", "torch.__trace")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", _ASSIGNED, UserWarning)  # said of whoever exports
            warnings.filterwarnings("ignore", module=r"torch\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _exports_at_fixed_batch(module: nn.Module, example: Tensor) -> bool:
    try:
        torch.export.export(module, (example.clone(),))  # export marks its example as dynamic
    except Exception:
        return False
    return True


def _cause(error: Exception) -> str:
    if "DataDependent" in type(error).__name__:
        return "what it computes, not only its numbers, depends on the images"
    return with_class(error)


def _translate(module: nn.Module, exported: torch.export.ExportedProgram) -> Lowered:
    _check_pure(exported.graph_signature)
    names = _first_names(module)
    translation = Translation()
    take_signs_of_inputs(exported.graph)
    specs = {spec.arg.name: spec for spec in exported.graph_signature.input_specs}
    live = _live_nodes(exported.graph)
    for node in exported.graph.nodes:
        if node in live and node.op == "call_function":
            refuse_chance(node)  # before the empty tensor that it fills is looked at
    for node in exported.graph.nodes:
        if node.op == "output":
            results = cast("tuple[object, ...]", node.args[0])
            translation.finish(results, _paths(exported.call_spec.out_spec, len(results)))
        elif node.op == "placeholder":
            spec = specs[node.name]
            if spec.target is None:
                translation.add_input(node)
            elif node in live:
                target = names.get(spec.target, spec.target)
                held = {**exported.constants, **exported.state_dict}
                translation.add_constant(node, target, held[spec.target])
        elif node in live:
            translation.add_node(node)
    program, tensors = translation.result()
    return Lowered(program, tensors)


def _paths(returned: TreeSpec | None, n_results: int) -> list[str]:
    """Where each result stands in what the network returns, as in `output['aux'][1]`."""
    if returned is None or returned.num_leaves != n_results:
        return [f"output[{i}]" for i in range(n_results)]
    leaves, _ = tree_flatten_with_path(tree_unflatten(range(n_results), returned))
    return [f"output{keystr(path)}" for path, _ in leaves]


def _check_pure(signature: torch.export.ExportGraphSignature) -> None:
    """Refuses a network that writes to its state: what it writes would pass for a result."""
    for spec in signature.output_specs:
        if spec.kind is not OutputKind.USER_OUTPUT:
            raise LowerError(
                f"expected a network that changes nothing in evaluation mode, got one that writes "
                f"to `{spec.target}`"
            )


def _first_names(module: nn.Module) -> dict[str, str]:
    """Every name of a parameter or buffer, to the first name of the same tensor."""
    first: dict[int, str] = {}
    every = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    return {name: first.setdefault(id(tensor), name) for name, tensor in every}


def _live_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that an output depends on; leaves out assertions and everything computed in vain."""
    waiting = [node for node in graph.nodes if node.op == "output"]
    live: set[fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in live:
            live.add(node)
            waiting += node.all_input_nodes
    return live
