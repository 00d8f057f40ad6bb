"""What a forward that cannot be traced called in one run, as a graph.

It shows what lies in front of a layer's sign in that run; no graph to run instead, since another
image may take another branch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from irbin.binary.activations import SignKept
from irbin.binary.kept_calls import FUNCTIONS
from irbin.copies import copied
from irbin.lines import line_running
from irbin.tracing.flow import Flow
from irbin.tracing.keeping_sign import activations_in_front, called_at, kept_at
from irbin.tracing.loses_sign import loses_sign
from irbin.tracing.signs import function_name

_BATCH = 2


def losing_modules(module: nn.Module) -> dict[str, nn.Module]:
    """The parts of `module` without layers, by path, that lose the sign of their input."""
    return {
        path: part
        for path, part in module.named_modules()
        if path and not isinstance(part, SignKept) and loses_sign(part)
    }


def unkept_signs(
    module: nn.Module, names: Collection[str], input_size: tuple[int, int, int]
) -> dict[str, str]:
    """Layers behind an activation of several calls, which nothing can keep the sign of.

    Those that are modules, and those of `FUNCTIONS`, count as kept.

    Args:
        module: a network that runs on the CPU; left alone.
        names: layers whose place in its forward tracing does not see.
        input_size: (channels, height, width).

    Returns:
        Layer → the call that ends the activation, with its line: `sub (net.py:12)`.
    """
    network = copied(module).cpu().float().eval()
    for path, part in losing_modules(network).items():
        parent, _, name = path.rpartition(".")
        network.get_submodule(parent)._modules[name] = SignKept(part)
    tape = _Tape()
    handles = [
        network.get_submodule(name).register_forward_pre_hook(tape.reader(name), with_kwargs=True)
        for name in names
    ]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_BATCH, *input_size, generator=generator)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), tape:
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return tape.unkept()


class _Tape(TorchFunctionMode):
    """Functions become nodes, of tensors that functions gave or that are there."""

    def __init__(self) -> None:
        super().__init__()
        self._graph = fx.Graph()
        self._nodes: dict[int, fx.Node] = {}
        self._alive: list[Tensor] = []  # whose ids stay theirs
        self._readers: list[tuple[str, fx.Node]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs `func` and notes the call."""
        given = kwargs or {}
        target = _NAMED_OTHERWISE.get(getattr(func, "__name__", ""), func)
        made: fx.Node | None
        try:
            made = self._graph.create_node(
                "call_function", target, self._placed(args), self._placed(given)
            )
        except Exception:  # of an argument that no graph can hold
            made = None
        result = func(*args, **given)
        if made is not None:
            made.meta["line"] = line_running()
            self._give(made, result)
        return result

    def reader(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        """A hook that notes what a layer reads."""

        def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG001 - a hook's
            x = next((t for t in (*args, *kwargs.values()) if isinstance(t, Tensor)), None)
            if x is not None:
                read = self._graph.call_function(operator.pos, (self._node(x),))
                self._readers.append((name, read))

        return note

    def unkept(self) -> dict[str, str]:
        """See `unkept_signs`."""
        self._graph.output(None)
        holder: Any = nn.Module()
        holder.graph = self._graph  # a graph module would write code, which not all calls have
        flow = Flow(holder)
        unkept: dict[str, str] = {}
        nodes = {f"{node.name}()": node for node in flow.nodes}
        for name, read in self._readers:
            in_front = activations_in_front(flow, read)
            for node in (*(nodes[kept] for kept in in_front.kept), *in_front.unkept):
                kept = kept_at(node, flow.modules)
                is_one = kept is not None and len(kept.nodes) == 1
                if not is_one or function_name(node) not in FUNCTIONS:
                    unkept.setdefault(name, called_at(node))
        return unkept

    def _placed(self, value: Any) -> Any:
        return tree_map(lambda v: self._node(v) if isinstance(v, Tensor) else v, value)

    def _node(self, tensor: Tensor) -> fx.Node:
        if id(tensor) not in self._nodes:  # a parameter, an image, or what no function gave
            self._give(self._graph.placeholder("given"), tensor)
        return self._nodes[id(tensor)]

    def _give(self, node: fx.Node, result: Any) -> None:
        if isinstance(result, Tensor):
            node.meta["shape"] = tuple(result.shape)
            self._nodes[id(result)] = node
            self._alive.append(result)
        elif isinstance(result, list | tuple):
            for place, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._give(self._graph.call_function(operator.getitem, (node, place)), part)


_NAMED_OTHERWISE: dict[str, Callable[..., Any]] = {"__getitem__": operator.getitem}
"""Methods that signs pass through by another name."""
