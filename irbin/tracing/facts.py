"""What is known of each layer: from the traced graph where tracing sees it, else from runs.

Of every layer, runs on random images tell whether its input can be negative and depends on the
image at all (`observe.py`). One that only the recorded run saw gets its place by the order in which
layers ran; lost is what only data flow shows: which activation to replace, which 1×1 convolution is
a shortcut.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property

from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from irbin.binary.kin import has_gain, standardizes_weight
from irbin.messages import SET_FORWARD, lacks_memory
from irbin.planning.plan import NEVER_RUNS
from irbin.records.plan import LayerKind, LayerRecord
from irbin.tracing.calling import cause
from irbin.tracing.flow import Flow, shape
from irbin.tracing.keeping_sign import activations_in_front, called_at
from irbin.tracing.observe import Observed, observe
from irbin.tracing.probing import has_plain_forward
from irbin.tracing.recorder import Calls, Recording
from irbin.tracing.signs import Sign, is_replaceable_function, signs
from irbin.tracing.tape import losing_modules, unkept_signs
from irbin.tracing.tracer import LAYERS, OTHER_LAYERS

_LOG = logging.getLogger("irbin")

OBSERVED = "as seen in a run"
"""Why the input of a layer counts as having one sign where tracing cannot tell."""

_NOTHING = Observed()


class Facts:
    """The facts of one network's layers.

    Args:
        module: the network.
        input_size: (channels, height, width).
        recording: of one run.
        traced: its graph; None where it cannot be traced.
        why: the reason then.
    """

    def __init__(
        self,
        module: nn.Module,
        input_size: tuple[int, int, int],
        recording: Recording,
        traced: fx.GraphModule | None,
        why: str = "",
    ) -> None:
        self._module, self._input_size, self._calls = module, input_size, recording.calls
        graph = traced or fx.GraphModule(module, _empty_graph(), "Untraced")
        self._flow, self._signs = Flow(graph), signs(graph)
        self._shortcuts, self._gates = self._flow.shortcuts(), self._flow.gates()
        self._opaque: dict[str, str] = graph.meta.get("opaque", {})
        self._why = why.partition("; expected")[0]
        self._nodes: dict[str, list[fx.Node]] = {}
        for node in self._flow.nodes:
            if node.op == "call_module":
                self._nodes.setdefault(str(node.target), []).append(node)

    def layer_record(self, name: str, layer: nn.Module) -> LayerRecord:
        """The facts of one layer."""
        nodes, flow = self._nodes.get(name, []), self._flow
        calls = self._calls.get(name, Calls(0))
        tensors = record_tensors(layer)
        unseen = self._unseen(name)
        sign = self._sign(name)
        return LayerRecord(
            name=name,
            kind=_kind(layer),
            type_name=type(layer).__name__,
            weight_shape=_weight_shape(layer, tensors["weight"]),
            groups=int(vars(layer).get("groups", 1)),
            has_bias="bias" in tensors,
            n_macs=calls.n_macs,
            input_shape=calls.input_shape,
            output_shape=calls.output_shape,
            is_first=any(map(flow.is_first, nodes)) or (bool(unseen) and self._is_end(name, 0)),
            is_last=any(map(flow.is_last, nodes)) or (bool(unseen) and self._is_end(name, -1)),
            is_shortcut=any(n in self._shortcuts for n in nodes),
            is_depthwise=isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1,
            activations=sign.replaceable,
            never_negative=sign.fixed,
            signs_of_inputs=self._signs_of_inputs(name, nodes),
            rounded_sign=self._rounded_sign(name, nodes),
            always_negative=sign.negative,
            obstacle=self._obstacle(name, layer, calls),
            tied_to=self._tied.get(name, ()),
            followed_by=flow.first_reader(nodes[0]) if nodes else "",
            is_gate=any(n in self._gates for n in nodes) or (bool(unseen) and _is_on_pixel(calls)),
            has_gain=has_gain(layer),
            keeps_size=not (standardizes_weight(layer) or self._feeds_norm(nodes)),
            unseen=unseen,
        )

    def activation_channels(self, records: Sequence[LayerRecord]) -> dict[str, int]:
        """Channels where a slope per channel fits: all calls have the same, second in shape."""
        n_channels: dict[str, int] = {}
        for record in records:
            is_channels_last = record.kind == "linear" and len(record.input_shape) > 1
            for name in record.activations:
                channels = self._channels(name)
                n_channels[name] = 1 if is_channels_last or n_channels.get(name) == 1 else channels
        return n_channels

    def _channels(self, activation: str) -> int:
        sizes = [shape(n) for n in self._flow.nodes if _is_activation(n, activation)]
        channels = {s[1] for s in sizes if len(s) in (2, 4)}
        fits = len(channels) == 1 and all(len(s) in (2, 4) for s in sizes)
        return channels.pop() if fits else 1

    def _unseen(self, name: str) -> str:
        """Why tracing does not see what a layer does; '' if it does, or if it never ran."""
        calls = self._calls.get(name)
        if calls is None or calls.n_calls == 0:
            return ""
        if self._why:
            return self._why
        path = self._hiding_place(name)
        if path:
            return f"inside `{path}`, which cannot be traced: {self._opaque[path]}"
        n_nodes = len(self._nodes.get(name, []))
        if n_nodes != calls.n_calls:
            if "forward" in vars(self._module):
                return SET_FORWARD
            return f"it ran {calls.n_calls} times, but the traced graph shows {n_nodes} calls"
        return ""

    def _hiding_place(self, name: str) -> str:
        """The opaque module around a layer; '' if there is none."""
        return next((path for path in self._opaque if name.startswith(f"{path}.")), "")

    def _is_hidden(self, name: str) -> bool:
        """Whether tracing sees nothing of what is in front of a layer that ran."""
        return bool(self._unseen(name)) and bool(self._why or self._hiding_place(name))

    def _signs_of_inputs(self, name: str, nodes: list[fx.Node]) -> tuple[str, ...]:
        if not self._is_hidden(name):
            every = [activations_in_front(self._flow, n) for n in nodes]
            return tuple(dict.fromkeys(name for in_front in every for name in in_front.kept))
        around = [path for path in self._opaque if name.startswith(f"{path}.")]
        place = "" if self._why else min(around, key=len)
        inside = f"{place}." if place else ""
        return *(path for path in self._losing if path.startswith(inside)), f"{place}(*)"

    def _rounded_sign(self, name: str, nodes: list[fx.Node]) -> str:
        if self._is_hidden(name):
            where = self._unkept.get(name, "")
            return f"{where}, in a forward that cannot be traced" if where else ""
        for node in (u for n in nodes for u in activations_in_front(self._flow, n).unkept):
            return f"{called_at(node)}, which reads what is overwritten"
        return ""

    @cached_property
    def _losing(self) -> list[str]:
        return list(losing_modules(self._module))

    @cached_property
    def _unkept(self) -> dict[str, str]:
        hidden = [name for name in self._calls if self._is_hidden(name)]
        try:
            return unkept_signs(self._module, hidden, self._input_size)
        except Exception as error:  # raises whatever the network's own code does
            if lacks_memory(error):
                raise
            return {}  # `observe` says that it does not run on random images

    def _is_end(self, name: str, place: int) -> bool:
        """Whether a layer that tracing does not see ran first (0) or last (−1).

        Of the whole network, or of an opaque module that is first or last itself.
        """
        path = self._hiding_place(name)
        at_end = self._flow.is_first if place == 0 else self._flow.is_last
        if path and not any(map(at_end, self._nodes.get(path, []))):
            return False
        inside = [
            n
            for n, c in self._calls.items()
            if c.n_calls and (not path or n.startswith(f"{path}."))
        ]
        return name == sorted(inside, key=lambda n: self._calls[n].order)[place]

    def _feeds_norm(self, nodes: list[fx.Node]) -> bool:
        return bool(nodes) and all(map(self._flow.feeds_norm, nodes))

    def _input_sign(self, name: str) -> Sign:
        """What makes the input of a layer non-negative, over all of its calls."""
        nodes = [n for n in self._nodes.get(name, []) if n.all_input_nodes]
        every = [self._signs[n][n.all_input_nodes[0]] for n in nodes]
        negative = every[0].negative if every and all(s.negative for s in every) else ""
        non_negative = [s for s in every if s.non_negative]
        causes = dict.fromkeys(c for s in non_negative for c in s.replaceable)
        hopeless = [s.fixed or "its input" for s in non_negative if not s.replaceable]
        return Sign(bool(non_negative), tuple(causes), hopeless[0] if hopeless else "", negative)

    def _sign(self, name: str) -> Sign:
        """What is known of the sign of a layer's input: by tracing, or from runs."""
        seen = Sign() if self._unseen(name) else self._input_sign(name)
        if seen.non_negative or seen.negative:
            return seen
        always = self._observed.get(name, _NOTHING).always
        if always == "negative":
            return Sign(negative=OBSERVED)
        return Sign(True, fixed=OBSERVED) if always == "never negative" else Sign()

    @cached_property
    def _tied(self) -> dict[str, tuple[str, ...]]:
        """Layers that share their weight with others, by name, and the others' names."""
        sharing: dict[int, list[str]] = {}
        for name, layer in self._module.named_modules():
            if isinstance(layer, LAYERS) and "weight" in layer._parameters:
                sharing.setdefault(id(layer._parameters["weight"]), []).append(name)
        groups = [names for names in sharing.values() if len(names) > 1]
        return {n: tuple(o for o in names if o != n) for names in groups for n in names}

    @cached_property
    def _observed(self) -> dict[str, Observed]:
        """What runs show of the layers that may become binary; nothing where none can be made."""
        layers = {n: self._module.get_submodule(n) for n, c in self._calls.items() if c.n_calls}
        names = [
            n
            for n, m in layers.items()
            if isinstance(m, nn.Conv2d | nn.Linear) and not _own_obstacle(m)
        ]
        traced = {n: self._input_sign(n) for n in names if not self._unseen(n)}
        known = {n for n, sign in traced.items() if sign.non_negative or sign.negative}
        try:
            return observe(self._module, names, self._input_size, known)
        except Exception as error:  # raises whatever the network's own code does
            if lacks_memory(error):  # another plan than with more of it would be a wrong one
                raise
            _LOG.warning(
                "the network does not run on random images (%s), so which layers' inputs have one "
                "sign, or do not depend on the image, is known only where tracing sees it",
                cause(error),
            )
            return {}

    def _obstacle(self, name: str, layer: nn.Module, calls: Calls) -> str:
        """Why a layer cannot be binarized at all; '' if it can."""
        if calls.n_calls == 0 and not calls.read_by:
            return NEVER_RUNS
        if isinstance(layer, OTHER_LAYERS) and not isinstance(layer, nn.Conv2d):
            return f"`{type(layer).__name__}` has no binary form"
        if calls.n_calls == 0:
            return f"its weight is read by `{calls.read_by}`, its own forward is never called"
        if calls.read_by:
            return f"its weight is also read by `{calls.read_by}`"
        return _own_obstacle(layer) or self._input_obstacle(name)

    def _input_obstacle(self, name: str) -> str:
        nodes = [] if self._unseen(name) else self._nodes[name]
        is_constant = any(n not in self._flow.sees_image for n in nodes)
        is_constant = is_constant or self._observed.get(name, _NOTHING).is_constant
        return "its input does not depend on the image" if is_constant else ""


def _empty_graph() -> fx.Graph:
    graph = fx.Graph()
    graph.output(graph.placeholder("x"))
    return graph


def _is_on_pixel(calls: Calls) -> bool:
    """Whether a layer works on one place of an image, as squeeze-excite gates do."""
    return len(calls.input_shape) == 3 and calls.input_shape[1:] == (1, 1)


def _is_activation(node: fx.Node, activation: str) -> bool:
    if node.op == "call_module":
        return node.target in (activation, activation.removesuffix(".act"))
    return is_replaceable_function(node) and activation == f"{node.name}()"


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


def record_tensors(layer: nn.Module) -> dict[str, Tensor]:
    """The weight, bias and gain that a layer's record counts."""
    own = dict(layer.named_parameters(recurse=False))
    if has_computed_weight(layer):
        computed = {n: getattr(layer, n, None) for n in ("weight", "bias")}
        return {n: t for n, t in computed.items() if isinstance(t, Tensor)}
    names: list[str] = [n for n in ("weight", "in_proj_weight", "weight_ih_l0") if n in own]
    names += [n for n, p in own.items() if p.dim() > 1]  # parametrized or split weights
    if not names:
        return {"weight": _first_tensor(layer)}
    tensors: dict[str, Tensor] = {"weight": own[names[0]]}
    bias = own.get("bias", own.get("in_proj_bias"))
    if bias is not None:
        tensors["bias"] = bias
    if has_gain(layer):
        tensors["gain"] = own["gain"]
    return tensors


def has_computed_weight(layer: nn.Module) -> bool:
    """Whether a parametrization or a hook computes weight or bias; packed, there is the result."""
    is_known = isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)
    computed = is_known and any(n not in layer._parameters for n in ("weight", "bias"))
    return computed or (is_known and parametrize.is_parametrized(layer))


def _first_tensor(layer: nn.Module) -> Tensor:
    weight = getattr(layer, "weight", None)
    return weight if isinstance(weight, Tensor) else next(layer.parameters())


def _own_obstacle(layer: nn.Module) -> str:
    kind = type(layer).__name__
    if "weight" not in layer._parameters:
        return "its weight is computed (weight norm or another parametrization)"
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "it has forward hooks, which a binary layer would lose"
    return "" if has_plain_forward(layer) else f"`{kind}` has its own forward"
