"""A network's edited forward: a subclass of its class that copies, pickles and is saved whole.

So is that of an `nn.Sequential`, whose forward stays, but which runs all that it holds in turn.
"""

from __future__ import annotations

import copyreg
import functools
import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph_module import _forward_from_src

from irbin.binary.kept_calls import KeepingSigns
from irbin.rewriting.further import Edits, Further, further, graph_with
from irbin.rewriting.hidden import hiding
from irbin.rewriting.settings import Frozen, Noticing, as_converted
from irbin.tracing.tracer import traced_constants

_MOST_GRAPHS = 16
"""Graphs that a class keeps, one for each kind of further arguments; the oldest one goes."""


class EditedForward:
    """Code of an edited forward, and what it names; pickles where the names' values do.

    Args:
        traced: a recompiled graph module.
        edits: what was done to it, for graphs with further arguments.
        evaluation: the forward in evaluation, where it is another one.
        parts: modules whose own mode their code branches on, as paths.
    """

    def __init__(
        self,
        traced: fx.GraphModule,
        edits: Edits,
        evaluation: EditedForward | None = None,
        parts: tuple[str, ...] = (),
    ) -> None:
        self.edits, self.evaluation, self.parts = edits, evaluation, parts
        code = traced.graph.python_code(root_module="self")
        self.source = code.src
        self.names: dict[str, Any] = dict(code.globals)

    def __getstate__(self) -> dict[str, Any]:
        """Python modules go by name, everything else as itself."""
        modules = {n: v.__name__ for n, v in self.names.items() if isinstance(v, ModuleType)}
        others = {n: v for n, v in self.names.items() if n not in modules}
        own = {"source": self.source, "edits": self.edits, "evaluation": self.evaluation}
        return {**own, "parts": self.parts, "modules": modules, "others": others}

    def __setstate__(self, state: dict[str, Any]) -> None:
        modules = {n: importlib.import_module(path) for n, path in state["modules"].items()}
        self.source, self.edits = state["source"], state["edits"]
        self.evaluation = state.get("evaluation")  # which earlier versions did not have
        self.parts = state.get("parts", ())  # likewise
        self.names = {**modules, **state["others"]}

    def function(self) -> Callable[..., Any]:
        """The forward: (network, images, *tensors) to what the network returns."""
        made: Callable[..., Any] = _forward_from_src(self.source, dict(self.names))
        if self.evaluation is None:
            return made
        evaluation = self.evaluation.function()

        def forward(self: nn.Module, x: torch.Tensor) -> Any:
            return made(self, x) if self.training else evaluation(self, x)

        return forward


def evaluation_of(module: nn.Module, edits: Edits) -> EditedForward | None:
    """The forward in evaluation, where it is another one; its constants become buffers, in place.

    Args:
        module: the network with all that its edited forward calls, and its source's class.
        edits: of the forward in training.

    Raises:
        TraceError: it cannot be edited as that was.
    """
    if not edits.by_mode:
        return None
    edits = edits._replace(training=False)
    traced, constants = _edited_graph(
        type(module), module, further((), {}, ()), edits, "evaluation"
    )
    device = next(module.parameters()).device
    for name, constant in constants.items():
        module.register_buffer(name, constant.to(device), persistent=False)
    return EditedForward(traced, edits)


def edited_class(
    kind: type[nn.Module],
    edited: EditedForward | None,
    *,
    keeps_signs: bool = False,
    frozen: Frozen | None = None,
) -> type[nn.Module]:
    """A subclass of a network's class that can hide modules, and whose forward is the edited one.

    Args:
        kind: the source's class.
        edited: None leaves the forward.
        keeps_signs: the forward runs with `KeepingSigns`.
        frozen: attributes whose setting is told.
    """

    def reduce(self: nn.Module, protocol: Any) -> Any:
        made = object.__reduce_ex__(self, protocol)
        if not isinstance(made, tuple) or made[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return made  # the network's own way
        return (_new, (kind, edited, keeps_signs, frozen), *made[2:])

    def deep_copy(self: nn.Module, memo: dict[int, Any]) -> nn.Module:
        import copy

        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))  # type: ignore[no-untyped-call]
        return new

    body: dict[str, Any] = {
        "irbin_source": kind,
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__reduce_ex__": reduce,
    }
    if edited is not None:
        body["forward"] = _forward(kind, edited)
    elif keeps_signs:
        body["forward"] = _keeping_signs(kind)
    if not hasattr(kind, "__deepcopy__"):  # copies share the class, as copies of the source do
        body["__deepcopy__"] = deep_copy
    if frozen is not None:
        body["irbin_frozen"] = frozen
    noticing = () if frozen is None else (Noticing,)
    return type(kind.__name__, (*noticing, hiding(kind), kind), body)


def _new(
    kind: type[nn.Module],
    edited: EditedForward | None,
    keeps_signs: bool = False,
    frozen: Frozen | None = None,
) -> nn.Module:
    made = edited_class(kind, edited, keeps_signs=keeps_signs, frozen=frozen)
    return made.__new__(made)


def _keeping_signs(kind: type[nn.Module]) -> Callable[..., Any]:
    """The source's forward, whose activations keep signs."""

    @functools.wraps(kind.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with KeepingSigns():
            return kind.forward(self, *args, **kwargs)

    return forward


def _forward(kind: type[nn.Module], edited: EditedForward) -> Callable[..., Any]:
    """The edited forward, with the signature of the source's.

    Further arguments that have their defaults change nothing; for others a graph is made when they
    are first given.
    """
    graphs = _Graphs(kind, edited.edits, edited.parts)
    alone, signature = _by_modes(edited, graphs), inspect.signature(kind.forward)
    _, images, *others = signature.parameters.values()
    if not others and images.name == "x" and images.kind is images.POSITIONAL_OR_KEYWORD:
        return alone

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs:
            return alone(self, args[0])
        bound = signature.bind(self, *args, **kwargs)
        given = {n: v for n, v in bound.arguments.items() if not _is_default(signature, n, v)}
        bound.arguments = given
        (_, x, *more), named = bound.args, bound.kwargs
        if not more and not named:
            return alone(self, x)
        names = list(given)[2:] or list(given)[1:]
        call, tensors = graphs.of(self, further(tuple(more), named, names))
        return call(self, x, *tensors)

    forward.__doc__, forward.__signature__ = kind.forward.__doc__, signature  # type: ignore[attr-defined]
    return forward


def _by_modes(edited: EditedForward, graphs: _Graphs) -> Callable[..., Any]:
    """The edited forward of the images alone, in the modes that the parts have."""
    alone = edited.function()
    if not edited.parts:
        return alone

    def forward(self: nn.Module, x: torch.Tensor) -> Any:
        if not graphs.modes(self):
            return alone(self, x)
        call, _ = graphs.of(self, further((), {}, ()))
        return call(self, x)

    return forward


def _is_default(signature: inspect.Signature, name: str, value: Any) -> bool:
    default = signature.parameters[name].default
    if default is inspect.Parameter.empty or isinstance(value, torch.Tensor):
        return value is default
    return value is default or bool(type(value) is type(default) and value == default)


class _Graphs:
    """The graphs of one class's forward with further arguments, or with parts in other modes."""

    def __init__(self, kind: type[nn.Module], edits: Edits, parts: tuple[str, ...]) -> None:
        self._kind, self._edits, self._parts, self._n_made = kind, edits, parts, 0
        self._made: dict[Any, tuple[Callable[..., Any], dict[str, torch.Tensor]]] = {}

    def modes(self, module: nn.Module) -> tuple[bool, ...]:
        """Of the parts, where one of them has not the mode of the network; else ()."""
        modes = tuple([module.get_submodule(part).training for part in self._parts])
        return modes if (not module.training) in modes else ()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def of(
        self, module: nn.Module, given: Further
    ) -> tuple[Callable[..., Any], list[torch.Tensor]]:
        """The forward for what is given, and its tensors."""
        training = module.training if self._edits.by_mode else self._edits.training
        modes = self.modes(module)
        key = (training, modes, given.key)
        if key not in self._made:
            while len(self._made) >= _MOST_GRAPHS:
                del self._made[next(iter(self._made))]
            self._made[key] = self._make(module, given, None if modes else training)
        call, constants = self._made[key]
        for name, constant in constants.items():
            if name not in module._buffers:
                device = next(module.parameters()).device
                module.register_buffer(name, constant.to(device), persistent=False)
        return call, given.tensors

    def _make(
        self, module: nn.Module, given: Further, training: bool | None
    ) -> tuple[Callable[..., Any], dict[str, torch.Tensor]]:
        edits = self._edits._replace(training=training)
        prefix = f"given{self._n_made}"
        traced, constants = _edited_graph(self._kind, module, given, edits, prefix)
        self._n_made += 1
        code = traced.graph.python_code(root_module="self")
        return _forward_from_src(code.src, dict(code.globals)), constants


def _edited_graph(
    kind: type[nn.Module], module: nn.Module, given: Further, edits: Edits, prefix: str
) -> tuple[fx.GraphModule, dict[str, torch.Tensor]]:
    """The graph of the source's own forward, edited, and its constants, named with `prefix`."""
    twin = kind.__new__(kind)
    object.__setattr__(twin, "__dict__", module.__dict__)  # with the source's own forward
    with as_converted(module):
        traced = graph_with(twin, given, edits)
    constants = {}
    for name, constant in traced_constants(module, traced).items():
        constants[f"{prefix}{name}"] = constant
        for node in traced.graph.nodes:
            if node.op == "get_attr" and node.target == name:
                node.target = f"{prefix}{name}"
    return traced, constants
