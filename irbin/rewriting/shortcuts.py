"""A shortcut round every binary convolution: y = act(BN(conv(x)) + shortcut(x)).

As in Bi-Real Net (Liu et al., ECCV 2018) and IR-Net's ResNets. In a basic block, whose residual
addition spans two convolutions, the bypass moves to the first and the second gets an identity:
exactly the paper's network. Elsewhere a shortcut without parameters is added: identity, average
pooling, zero-padded or averaged channels.
"""

from __future__ import annotations

import operator
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, fx, nn

from irbin.errors import ConvertError
from irbin.messages import counted
from irbin.records.plan import Plan
from irbin.tracing.flow import Flow, shape
from irbin.tracing.signs import function_name
from irbin.tracing.tracer import is_norm

_IS_SHORTCUT = "it is a shortcut itself"
_NONE = "none: "


class ChannelBypass(nn.Module):
    """A shortcut without parameters between different shapes; final.

    Maps (batch, in_channels, height, width) to (batch, out_channels, ⌈height/stride⌉,
    ⌈width/stride⌉): averages `stride` × `stride` pixels, then pads zero channels evenly on both
    sides, or averages groups of neighboring channels.

    Args:
        in_channels: of the input.
        out_channels: of the result; if smaller, a divisor of `in_channels`.
        stride: (vertical, horizontal).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - shapes in the class docstring
        if self.stride != (1, 1):
            x = F.avg_pool2d(x, self.stride, ceil_mode=True, count_include_pad=False)
        more = self.out_channels - self.in_channels
        if more > 0:
            return F.pad(x, (0, 0, 0, 0, more // 2, more - more // 2))
        if more < 0:
            # (batch, out_channels, group, height, width)
            groups = x.reshape(x.shape[0], self.out_channels, -1, *x.shape[2:])
            return groups.mean(2)
        return x

    def extra_repr(self) -> str:  # noqa: D102 - torch's
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}"


class _Pair(NamedTuple):
    """A residual addition that spans two binary convolutions."""

    first: fx.Node
    second: fx.Node
    addition: fx.Node
    main: fx.Node
    bypass: fx.Node
    branch: list[fx.Node]


def add_bireal(traced: fx.GraphModule, plan: Plan) -> dict[str, str]:
    """Adds a shortcut round every binary convolution, in place on the graph.

    Args:
        traced: from `trace_graph`, of the float network or of one whose layers have been swapped.
        plan: which layers are binary.

    Returns:
        For every binary convolution what its shortcut is, or after `none: ` why it has none.

    Raises:
        ConvertError: no binary convolution can have a shortcut.
    """
    layers = {d.layer.name: d.layer for d in plan.decisions if d.binary}
    convs = [n for n in traced.graph.nodes if n.op == "call_module" and n.target in layers]
    convs = [n for n in convs if layers[str(n.target)].kind == "conv2d"]
    bypasses = {n for n in convs if layers[str(n.target)].is_shortcut}
    _split_norm_activations(traced, convs)
    editor = _Editor(traced, set(convs) - bypasses)
    notes = {str(n.target): _IS_SHORTCUT for n in bypasses}
    pairs, finished = editor.find_pairs(), editor.find_finished()
    for pair in pairs:
        editor.apply(pair)
        notes[str(pair.first.target)] = "the block's own bypass"
        notes[str(pair.second.target)] = "identity"
    done = {n for p in pairs for n in (p.first, p.second)} | finished | bypasses
    notes |= {str(n.target): "the network's own" for n in finished - bypasses}
    for node in convs:
        if node not in done:
            notes[str(node.target)] = editor.add_own(node)
    if not any(_is_shortcut_note(note) for note in notes.values()):
        raise ConvertError(_none_message(notes))
    traced.graph.lint()
    traced.recompile()
    return notes


def _is_shortcut_note(note: str) -> bool:
    return note != _IS_SHORTCUT and not note.startswith(_NONE)


def _none_message(notes: dict[str, str]) -> str:
    if not notes:
        return (
            '`shortcut="bireal"`: expected binary convolutions, but only linear layers are binary'
        )
    name, note = next(iter(notes.items()))
    return (
        f'`shortcut="bireal"`: none of {len(notes)} binary convolutions can have a shortcut, '
        f"`{name}`: {note.removeprefix(_NONE)}; use `shortcut='none'`"
    )


def _split_norm_activations(traced: fx.GraphModule, convs: list[fx.Node]) -> None:
    """Takes the activation out of norms that carry one (timm's), so that a sum fits in between."""
    modules = dict(traced.named_modules())
    for conv in convs:
        norm = modules.get(str(_end(conv, modules).target))
        if norm is None or not is_norm(norm):
            continue
        activation = norm._modules.get("act")
        if activation is None or isinstance(activation, nn.Identity):
            continue
        target = str(_end(conv, modules).target)
        name = f"{target.replace('.', '_')}_act"
        norm._modules["act"] = nn.Identity()
        traced.add_submodule(name, activation)
        for node in [n for n in traced.graph.nodes if n.target == target]:
            with traced.graph.inserting_after(node):
                after = traced.graph.call_module(name, (node,))
            _read_instead(node, after)


def _end(conv: fx.Node, modules: dict[str, nn.Module]) -> fx.Node:
    """The norm that alone reads `conv`, directly or after pooling (VGG-Small); else `conv`."""
    node = conv
    while len(node.users) == 1:
        node = next(iter(node.users))
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if module is not None and is_norm(module):
            return node
        pools = module is not None and "Pool" in type(module).__name__
        if not pools and "pool" not in function_name(node):
            break
    return conv


def _read_instead(old: fx.Node, new: fx.Node) -> None:
    """Lets everything but `new` read `new` instead of `old`."""
    old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    new.meta.update(old.meta)


class _Editor:
    """Finds and makes shortcuts on one graph. All searches come before the first change."""

    def __init__(self, traced: fx.GraphModule, convs: set[fx.Node]) -> None:
        self.traced, self.convs = traced, convs
        self.flow = Flow(traced)
        self.position = {node: i for i, node in enumerate(self.flow.nodes)}

    def _additions(self) -> list[tuple[fx.Node, fx.Node, fx.Node]]:
        """(addition, main, bypass) for both ways to read every addition of two tensors."""
        readings = []
        for node in self.flow.nodes:
            operands = node.all_input_nodes
            if function_name(node) in {"add", "iadd"} and len(operands) == 2 and not node.kwargs:
                readings += [(node, operands[0], operands[1]), (node, operands[1], operands[0])]
        return readings

    def _conv_behind(self, node: fx.Node) -> fx.Node | None:
        last = self.flow.weightless_ancestors(node)[-1]
        return last if last in self.convs else None

    def _branch(self, bypass: fx.Node, conv: fx.Node) -> list[fx.Node] | None:
        """The nodes from `conv`'s input to `bypass`; None if that comes from elsewhere too."""
        starts = set(self.flow.weightless_ancestors(conv.all_input_nodes[0]))
        branch: set[fx.Node] = set()
        todo, meets = [bypass], False
        while todo:
            node = todo.pop()
            if node in starts:
                meets = True
            elif node in self.convs or node.op == "placeholder":
                return None
            elif node not in branch:
                branch.add(node)
                todo += node.all_input_nodes
        return sorted(branch, key=self.position.__getitem__) if meets else None

    def find_pairs(self) -> list[_Pair]:
        """Basic blocks: residual additions that span exactly two binary convolutions."""
        pairs: dict[fx.Node, _Pair] = {}
        taken: set[fx.Node] = set()
        for addition, main, bypass in self._additions():
            second = self._conv_behind(main)
            first = self._conv_behind(second.all_input_nodes[0]) if second else None
            if second is None or first is None or {first, second} & taken or first is second:
                continue
            branch = self._branch(bypass, first)
            shapes = {shape(n) for n in (self._end(first), bypass, addition, self._end(second))}
            shapes.add(shape(second.all_input_nodes[0]))
            if branch is not None and len(shapes) == 1:
                taken |= {first, second}
                pairs[addition] = _Pair(first, second, addition, main, bypass, branch)
        return list(pairs.values())

    def find_finished(self) -> set[fx.Node]:
        """Binary convolutions that a residual addition of their own already spans."""
        finished: set[fx.Node] = set()
        for _, main, bypass in self._additions():
            conv = self._conv_behind(main)
            if conv is not None and self._branch(bypass, conv) is not None:
                finished.add(conv)
        return finished

    def _end(self, conv: fx.Node) -> fx.Node:
        return _end(conv, self.flow.modules)

    def apply(self, pair: _Pair) -> None:
        """Moves the bypass to the first convolution and gives the second its own input."""
        end = self._end(pair.first)
        anchor = end
        for node in pair.branch:
            if self.position[node] > self.position[end]:
                anchor.append(node)
                anchor = node
        self._sum(end, pair.bypass, anchor)
        # a new sum: the old one may have worked in place on what the second convolution still needs
        pair.addition.op, pair.addition.target = "call_function", operator.add
        pair.addition.args = (pair.main, pair.second.all_input_nodes[0])

    def _sum(self, end: fx.Node, bypass: fx.Node, anchor: fx.Node) -> None:
        with self.traced.graph.inserting_after(anchor):
            total = self.traced.graph.call_function(operator.add, (end, bypass))
        _read_instead(end, total)

    def add_own(self, conv: fx.Node) -> str:
        """Gives one convolution a shortcut without parameters; says which, or why not."""
        end, start = self._end(conv), conv.all_input_nodes[0]
        into, out = shape(start), shape(end)
        stride = _whole_stride(into, out)
        if isinstance(stride, str):
            return _NONE + stride
        if into == out:
            self._sum(end, start, end)
            return "identity"
        name = f"bireal_{conv.name}"
        self.traced.add_submodule(name, ChannelBypass(into[1], out[1], stride))
        with self.traced.graph.inserting_after(end):
            bypass = self.traced.graph.call_module(name, (start,))
        self._sum(end, bypass, bypass)
        return _describe(into[1], out[1], stride)


def _whole_stride(into: tuple[int, ...], out: tuple[int, ...]) -> tuple[int, int] | str:
    """The stride from one (batch, channels, height, width) to another, or why there is none."""
    if len(into) != 4 or len(out) != 4:
        return "its shapes are not known"
    if out[1] < into[1] and into[1] % out[1]:
        return f"{counted(into[1], 'channel')} cannot be averaged into {out[1]}"
    strides = [max(round(a / b), 1) if b else 1 for a, b in zip(into[2:], out[2:], strict=True)]
    if any(-(-a // s) != b for a, b, s in zip(into[2:], out[2:], strides, strict=True)):
        return f"no whole stride takes {into[2]}×{into[3]} to {out[2]}×{out[3]}"
    return strides[0], strides[1]


def _describe(in_channels: int, out_channels: int, stride: tuple[int, int]) -> str:
    parts = []
    if stride != (1, 1):
        parts.append(f"average pool {stride[0]}×{stride[1]}")
    if out_channels > in_channels:
        parts.append(f"{counted(in_channels, 'channel')} padded to {out_channels}")
    if out_channels < in_channels:
        parts.append(f"{counted(in_channels, 'channel')} averaged into {out_channels}")
    return ", ".join(parts)
