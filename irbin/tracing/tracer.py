"""The torch.fx tracer that sees every layer.

Plain symbolic tracing inlines subclasses (losing timm's `Linear`, `StdConv2d` …), freezes batch
norm and turns optional arguments into proxies. Here every subclass of a torch layer is a leaf,
optional arguments keep their defaults, and a module whose own forward cannot be traced becomes an
opaque leaf by itself.
"""

from __future__ import annotations

import copy
import random
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.layers import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn
from torch.utils._pytree import TreeSpec, tree_unflatten

from irbin.binary.activations import RPReLU, SignKept
from irbin.errors import TraceError
from irbin.lines import is_own_code, line_running
from irbin.messages import SET_FORWARD, first_line
from irbin.tracing.assigned import watch_attributes
from irbin.tracing.backward import is_in_autograd_function
from irbin.tracing.loses_sign import whole_activations
from irbin.tracing.numbers import name_floats, note_numbers
from irbin.tracing.reads import reads_of
from irbin.tracing.unfrozen import unfreeze_training

OTHER_LAYERS = (nn.modules.conv._ConvNd, nn.RNNBase, nn.MultiheadAttention, nn.Bilinear)
"""Layers with a weight matrix, beside `nn.Conv2d` and `nn.Linear`."""

LAYERS = (nn.Conv2d, nn.Linear, *OTHER_LAYERS)
"""Whatever counts as a layer with weights."""

_ALWAYS_LEAVES = {"DropPath", "StochasticDepth", "FrozenBatchNorm2d", "DropBlock2d"}
"""By class name: modules outside torch.nn whose forward depends on `training`."""


SQUARED_RELUS = {"StarReLU"}
"""By class name: modules around a squared ReLU (MetaFormer), leaves too, replaced as a whole."""


def has_layers(module: nn.Module) -> bool:
    """Whether `module` is a layer with weights or holds one."""
    return any(isinstance(m, LAYERS) for m in module.modules())


def is_norm(module: nn.Module) -> bool:
    """Whether `module` normalizes: a norm of torch, a subclass, or timm's or torchvision's."""
    bases = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    if isinstance(module, bases):
        return True
    at_home = type(module).__module__.startswith(("timm.layers", "torchvision.ops"))
    return at_home and "Norm" in type(module).__name__ and not has_layers(module)


class LayerTracer(fx.Tracer):
    """Traces a network `forward(x)` so that each of its layers is one `call_module` node.

    Args:
        given: further arguments of forward, flat as by `tree_flatten((args, kwargs))`.
        leaves: modules that are not to be seen through, whatever they are.

    Attributes:
        opaque: path → why, for the modules whose own forward could not be traced.
        autocast: line of the network's code that ran under an autocast of its own, which the graph
            does not hold; '' if none did.
        no_grad: likewise, of code that ran without gradients.
        own_backward: likewise, of code in an autograd function, whose backward no graph holds.
    """

    proxy_buffer_attributes = True

    def __init__(
        self, given: tuple[list[Any], TreeSpec] | None = None, leaves: Collection[nn.Module] = ()
    ) -> None:
        functions = tuple(get_notrace_functions())
        super().__init__(autowrap_functions=functions, param_shapes_constant=True)
        self.opaque: dict[str, str] = {}
        self.autocast = ""
        self._outer_autocast = _is_autocast_on()
        self.no_grad = self.own_backward = ""
        self._outer_grad = torch.is_grad_enabled()
        self._given, self._leaves = given, leaves
        self._notrace = tuple(get_notrace_modules())

    def create_args_for_root(
        self,
        root_fn: Callable[..., Any],
        is_module: bool,  # noqa: ARG002 - the signature is fx's
        concrete_args: dict[str, Any] | tuple[Any, ...] | None = None,  # noqa: ARG002
    ) -> tuple[Any, list[Any]]:
        """A placeholder, `x`, and one for each tensor given; other arguments keep their default."""
        # fx looks for functions not to be traced where the modules' own `forward`s are written; a
        # wrapper may call another method of what it wraps (timm's `forward_intermediates`)
        homes = {type(m).__module__ for m in self.root.modules()}
        self._autowrap_search += [sys.modules[home] for home in sorted(homes & sys.modules.keys())]
        x = self.create_proxy("placeholder", "x", (), {})
        if self._given is None:
            return root_fn, [self.root, x]
        leaves, spec = self._given
        inputs = [
            self.create_proxy("placeholder", f"given_{i}", (), {}) if isinstance(v, Tensor) else v
            for i, v in enumerate(leaves)
        ]
        args, kwargs = tree_unflatten(inputs, spec)
        return (lambda root, x: root_fn(root, x, *args, **kwargs)), [self.root, x]

    def create_arg(self, a: Any) -> Any:
        """An argument of a node, as fx makes it; a number of NumPy's becomes Python's."""
        return super().create_arg(a.item() if isinstance(a, np.number | np.bool_) else a)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """A node of the graph, as fx makes it."""
        if not self.autocast and not self._outer_autocast and _is_autocast_on():
            self.autocast = line_running() or "a line that is not known"
        if self._outer_grad and not torch.is_grad_enabled():
            line = line_running() or "a line that is not known"
            if is_in_autograd_function():
                self.own_backward = self.own_backward or line
            else:
                self.no_grad = self.no_grad or line
        node = super().create_node(*args, **kwargs)
        node.meta["line"] = line_running()
        note_numbers(node, self.root)
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        """Layers, norms, everything derived from a torch module, and what is not to be traced."""
        if (
            m in self._leaves
            or isinstance(m, LAYERS)
            or is_norm(m)
            or type(m).__name__ in _ALWAYS_LEAVES | SQUARED_RELUS
            or isinstance(m, RPReLU | SignKept)
        ):
            return True
        if has_layers(m):
            return False  # seen through; opaque only if that fails
        own_home = type(m).__module__.startswith("timm.layers.activations")
        return own_home or isinstance(m, self._notrace) or _derives_from_torch(m)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Also over the parts of a `chunk`, whose number stands in the code.

        There may be fewer, of an axis that is shorter; then the graph does not run.
        """
        n_parts = _chunks(obj.node)
        if n_parts is None:
            return super().iter(obj)
        parts: Any = obj  # fx gives proxies their operators when it is imported
        return iter([parts[i] for i in range(n_parts)])

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """A leaf becomes a node, a container is seen through, or opaque where that fails."""
        n_before, stack = len(self.graph.nodes), self.module_stack.copy()
        autocast = self.autocast
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:
            for node in reversed(list(self.graph.nodes)[n_before:]):
                self.graph.erase_node(node)
            self.module_stack, self.autocast = stack, autocast
            path = self.path_of_module(m)
            self.opaque[path] = why_untraceable(error)
            return self.create_proxy("call_module", path, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """A node for every parameter and buffer read, anew if an undone trace made the last one."""
        self.param_shapes_constant = isinstance(attr_val, nn.Parameter)  # fx refuses it for buffers
        value = super().getattr(attr, attr_val, parameter_proxy_cache)
        if isinstance(value, fx.Proxy) and value.node._erased:
            for name in [n for n, p in parameter_proxy_cache.items() if p.node._erased]:
                del parameter_proxy_cache[name]
            value = super().getattr(attr, attr_val, parameter_proxy_cache)
        return value


def _chunks(node: fx.Node) -> int | None:
    """Into how many parts a node cuts its input; None where it is no `chunk` or nobody says."""
    if (node.op, node.target) not in (("call_method", "chunk"), ("call_function", torch.chunk)):
        return None
    n_parts = node.kwargs.get("chunks", node.args[1] if len(node.args) > 1 else None)
    return n_parts if isinstance(n_parts, int) else None


def _is_autocast_on() -> bool:
    return any(map(torch.is_autocast_enabled, ("cpu", "cuda")))


def _derives_from_torch(module: nn.Module) -> bool:
    containers = ("torch.nn.modules.module", "torch.nn.modules.container")
    homes = [base.__module__ for base in type(module).__mro__]
    return any(home.startswith("torch.nn.") and home not in containers for home in homes)


_IN_WORDS = {
    "inputs to control flow": (
        "control flow (`if`, `while`, `assert`) depends on a tensor or its shape"
    ),
    "'len' is not supported": "`len` of a tensor is taken, which differs from batch to batch",
    "cannot be interpreted as an integer": "a length is taken from a tensor or shape",
    "float() argument must be": "a tensor is made a Python number",
    "int() argument must be": "a tensor is made a Python number",
    "cannot be iterated": "a loop runs over a tensor or shape",
    "__array": "NumPy is given a tensor that depends on the image",
    "expected np.ndarray": "a tensor that depends on the image goes through NumPy",
    "torch.fx.proxy.Proxy": "a call that cannot be followed, as `torch.vmap`, takes a tensor",
}
"""Part of an error that tracing raises → what the network does, in words."""

_LONGEST_LINE = 60
"""Characters shown of a line of the network's code."""


def why_untraceable(error: Exception) -> str:
    """What stopped the trace, in words, and the network's line that it happened in."""
    text = first_line(error)
    text = next((words for mark, words in _IN_WORDS.items() if mark in text), text)
    frames = traceback.extract_tb(error.__traceback__)
    places = [f for f in frames if is_own_code(f.filename)] or [
        f for f in frames if not f.filename.startswith((torch.__path__[0], __file__))
    ]
    if not places:
        return text
    file = "/".join(Path(places[-1].filename).parts[-2:])
    code = (places[-1].line or "").strip()
    shown = f": `{code[:_LONGEST_LINE]}{'…' * (len(code) > _LONGEST_LINE)}`" if code else ""
    return f"{text}{shown} (at {file}:{places[-1].lineno})"


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Puts every attribute of every submodule back at the end, train/eval flags included.

    Tracing leaves traces: constants set on the root, and proxies in caches that some networks keep.
    """
    kept = [(m, dict(m.__dict__), _containers(m)) for m in module.modules()]
    try:
        yield
    finally:
        for m, attributes, containers in kept:
            m.__dict__.clear()
            m.__dict__.update(attributes)
            for name, content in containers.items():
                _refill(m.__dict__[name], content)


def _containers(module: nn.Module) -> dict[str, Any]:
    mutable = (dict, list, set)
    return {k: copy.copy(v) for k, v in module.__dict__.items() if isinstance(v, mutable)}


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, list):
        container[:] = content
    else:
        container.clear()
        container.update(content)


def trace_symbolically(
    module: nn.Module,
    *,
    training: bool | None,
    given: tuple[list[Any], TreeSpec] | None = None,
    whole: bool = True,
) -> tuple[fx.GraphModule, dict[str, str]]:
    """The graph of `module`, which is left as it was.

    Args:
        module: a network whose forward takes one image batch.
        training: which of the network's modes to trace; None for that which each module has.
        given: see `LayerTracer`.
        whole: activations that keep the sign of their input are leaves, whatever they are made of.

    Returns:
        A graph module whose leaves are `module`'s own submodules, and the reasons of opaque leaves.

    Raises:
        TraceError: the network's own forward cannot be traced.
    """
    tracer = LayerTracer(given, whole_activations(module) if whole else ())
    with untouched(module):
        if training is not None:
            module.train(training)
        deciding = name_floats(module)
        assigned = watch_attributes(module)
        before = _random_states()
        try:
            with reads_of(module) as reads:
                graph = tracer.trace(module)
            unfreeze_training(graph, module)
            # before `untouched` takes the traced constants off `module` again
            traced = fx.GraphModule(module, graph, type(module).__name__)
            traced.meta["assigned"] = assigned()
        except Exception as error:
            why = why_untraceable(error)
            if isinstance(error, NotImplementedError) and "forward" in vars(module):
                why = SET_FORWARD
            raise TraceError(
                f"cannot trace `{type(module).__name__}.forward`: {why}; "
                "expected a forward that does the same for every image and batch, in torch alone"
            ) from error
    traced.meta.update(autocast=tracer.autocast, no_grad=tracer.no_grad)
    traced.meta["own_backward"] = tracer.own_backward
    traced.meta["deciding"], traced.meta["reads"] = tuple(deciding.values()), reads
    traced.meta["has_drawn"] = before != _random_states()
    return traced, tracer.opaque


def _random_states() -> tuple[Any, ...]:
    """Of the generators that code beside the graph draws from, as LayerDrop does."""
    legacy = np.random.get_state(legacy=True)
    of_numpy = [v.tobytes() if isinstance(v, np.ndarray) else v for v in legacy]
    return bytes(torch.get_rng_state().numpy()), random.getstate(), of_numpy


def traced_constants(module: nn.Module, traced: fx.GraphModule) -> dict[str, Tensor]:
    """Tensors that tracing computed once: root buffers of `traced` that `module` does not have.

    A tensor that is a plain attribute of `module` is no such one: the graph reads it there.
    """
    own = {*dict(module.named_buffers(recurse=False)), *vars(module)}
    return {k: b for k, b in traced.named_buffers(recurse=False) if k not in own}
