"""Where each layer stands in the data flow: first, last, bypass of a residual addition, gate.

Decided on the traced graph, never on the order of `named_modules`, which puts a downsample
convolution after the block it bypasses and a stem wherever its author wrote it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import fx, nn

from irbin.tracing.signs import function_name, moves_values
from irbin.tracing.tracer import LAYERS, has_layers, is_norm

_NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize"}
ADDITIONS = {"add", "iadd"}
_PRODUCTS = {"mul", "imul", "multiply"}
_WEIGHTED = {"linear", "conv1d", "conv2d", "conv3d", "matmul", "bmm", "einsum", "addmm", "baddbmm"}
_POOLINGS = {
    "mean",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "amax",
    "max",
    "avg_pool2d",
    "sum",
}


_LOOKING = """
size dim ndimension numel nelement stride get_device
zeros_like ones_like empty_like new_zeros new_ones new_empty rand_like randn_like
"""
_LOOKING_FUNCTIONS = set(_LOOKING.split())
_LOOKING_ATTRIBUTES = {"shape", "ndim", "device", "dtype", "layout", "is_cuda", "itemsize"}


class Flow:
    """Reachability on one traced graph.

    Args:
        traced: from `trace_graph`; nodes carry `meta["shape"]`.
    """

    def __init__(self, traced: fx.GraphModule) -> None:
        self.modules: dict[str, nn.Module] = dict(traced.named_modules())
        self.nodes = list(traced.graph.nodes)
        self._leaves_with_layers = {
            n for n in self.nodes if n.op == "call_module" and has_layers(self.module(n))
        }
        parameters = {name for name, _ in traced.named_parameters(remove_duplicate=False)}
        self.sees_image = self._after(lambda n: n.op == "placeholder", only_looking)
        self._sees_parameter = self._after(lambda n: n.op == "get_attr" and n.target in parameters)
        self._behind_layer = self._after(
            lambda n: any(self.is_weighted(i) for i in n.all_input_nodes)
        )
        self._reaches_output = self._before(lambda n: n.op == "output")
        self._before_layer = self._before(
            lambda n: any(
                (self.is_weighted(u) or self._is_norm(u)) and u in self._reaches_output
                for u in n.users
            )
        )

    def _after(
        self, starts: Callable[[fx.Node], bool], stops: Callable[[fx.Node], bool] | None = None
    ) -> set[fx.Node]:
        """The nodes where `starts` holds and all that depend on them, but through `stops`."""
        reached: set[fx.Node] = set()
        for node in self.nodes:
            depends = any(i in reached for i in node.all_input_nodes)
            if starts(node) or (depends and not (stops and stops(node))):
                reached.add(node)
        return reached

    def _before(self, starts: Callable[[fx.Node], bool]) -> set[fx.Node]:
        """The nodes where `starts` holds and all that they depend on."""
        reached: set[fx.Node] = set()
        for node in reversed(self.nodes):
            if starts(node) or any(u in reached for u in node.users):
                reached.add(node)
        return reached

    def module(self, node: fx.Node) -> nn.Module:
        """The leaf that a `call_module` node calls."""
        return self.modules[str(node.target)]

    def layer(self, node: fx.Node) -> nn.Module | None:
        """The layer with weights that a node calls; None if it calls something else."""
        if node.op != "call_module":
            return None
        module = self.module(node)
        return module if isinstance(module, LAYERS) else None

    def is_weighted(self, node: fx.Node) -> bool:
        """Whether a node that depends on the image multiplies it with weights."""
        if node not in self.sees_image:
            return False
        if node in self._leaves_with_layers:
            return True
        if function_name(node) not in _WEIGHTED:
            return False
        operands = set(node.all_input_nodes)
        return bool((operands & self._sees_parameter) - self.sees_image)

    def is_first(self, node: fx.Node) -> bool:
        """No layer with weights lies between the image and `node`."""
        return node in self.sees_image and node not in self._behind_layer

    def is_last(self, node: fx.Node) -> bool:
        """No layer with weights lies between `node` and the network's output, and no norm.

        A backbone's last convolution is followed by a norm: it is like the others, no classifier.
        """
        return node in self._reaches_output and node not in self._before_layer

    def shortcuts(self) -> set[fx.Node]:
        """1×1 convolutions that are the only layer on one side of an addition.

        The other side starts at the same place and has more than another single 1×1 convolution.
        """
        convolutions: set[fx.Node] = set()
        for node in self.nodes:
            operands = node.all_input_nodes
            if function_name(node) not in ADDITIONS or len(operands) != 2:
                continue
            for bypass, main in (operands, operands[::-1]):
                conv = self._lone_pointwise(bypass)
                if conv is not None and self.goes_round(conv, main):
                    convolutions.add(conv)
        return convolutions

    def _lone_pointwise(self, node: fx.Node) -> fx.Node | None:
        """The 1×1 convolution that `node` comes from through weightless single-input nodes."""
        while not self.is_weighted(node):
            inputs = [i for i in node.all_input_nodes if i in self.sees_image]
            if len(inputs) != 1:
                return None
            node = inputs[0]
        layer = self.layer(node)
        is_pointwise = isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1}
        return node if is_pointwise else None

    def goes_round(self, conv: fx.Node, main: fx.Node) -> bool:
        """Whether `main` comes, through weights of its own, from where `conv`'s branch starts.

        `conv` is a convolution or anything else with one input, on the other side of a sum.
        """
        starts = {*self.weightless_ancestors(conv.all_input_nodes[0])}
        todo, seen, meets = [main], {main}, False
        while todo:
            node = todo.pop()
            if node in starts:
                meets = True
                continue
            new = [i for i in node.all_input_nodes if i not in seen]
            seen.update(new)
            todo += new
        if not meets or conv in seen:
            return False
        weights = [n for n in seen - starts if self.is_weighted(n)]
        return any(not self._is_pointwise(w) for w in weights) or self._depth(seen - starts) > 1

    def _depth(self, region: set[fx.Node]) -> int:
        """The most weighted nodes that follow one another within `region`."""
        depth: dict[fx.Node, int] = {}
        for node in (n for n in self.nodes if n in region):
            before = [depth[i] for i in node.all_input_nodes if i in depth]
            depth[node] = max(before, default=0) + self.is_weighted(node)
        return max(depth.values(), default=0)

    def _is_pointwise(self, node: fx.Node) -> bool:
        layer = self.layer(node)
        return isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1}

    def weightless_ancestors(self, node: fx.Node) -> list[fx.Node]:
        """`node` and what it comes from through single-input weightless nodes, nearest first."""
        chain = [node]
        while not self.is_weighted(chain[-1]):
            inputs = [i for i in chain[-1].all_input_nodes if i in self.sees_image]
            if len(inputs) != 1:
                break
            chain.append(inputs[0])
        return chain

    def gates(self) -> set[fx.Node]:
        """Layers between a global pooling and a product that it scales channel by channel."""
        layers: set[fx.Node] = set()
        for node in self.nodes:
            if function_name(node) not in _PRODUCTS or len(node.all_input_nodes) != 2:
                continue
            for gate in node.all_input_nodes:
                while function_name(gate) in {"expand", "expand_as"}:
                    gate = gate.all_input_nodes[0]
                if 0 < n_pixels(gate) < n_pixels(node):
                    layers |= self._gate_layers(gate)
        return layers

    def _gate_layers(self, gate: fx.Node) -> set[fx.Node]:
        layers: set[fx.Node] = set()
        todo, pooled = [gate], False
        while todo:
            node = todo.pop()
            if node not in self.sees_image or "shape" not in node.meta:
                continue
            if n_pixels(node) > 1:
                return set()  # a spatial gate: what it scales by comes from the trunk itself
            if self._pools(node):
                pooled = True
                continue
            if self.layer(node) is not None:
                layers.add(node)
            todo += node.all_input_nodes
        return layers if pooled else set()

    def _pools(self, node: fx.Node) -> bool:
        if all(n_pixels(i) <= 1 for i in node.all_input_nodes):
            return False
        if node.op == "call_module":
            return "Pool" in type(self.module(node)).__name__
        return function_name(node) in _POOLINGS

    def feeds_norm(self, node: fx.Node) -> bool:
        """Whether whatever reads `node`, past pooling, joining and moving, is a norm.

        A norm takes any factor out again, so the size of what it reads does not matter.
        """
        todo, seen = [node], {node}
        while todo:
            users = list(todo.pop().users)
            if not users:
                return False
            for user in users:
                if self._is_norm(user) or user in seen:
                    continue
                if not moves_values(user, self.modules):
                    return False
                seen.add(user)
                todo.append(user)
        return True

    def _is_norm(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return is_norm(self.module(node))
        return function_name(node) in _NORMS

    def first_reader(self, node: fx.Node) -> str:
        """Class or function name of the first thing that reads `node`'s result."""
        for user in node.users:
            if user.op == "call_module":
                return type(self.module(user)).__name__
            return function_name(user) or user.op
        return ""


def only_looking(node: fx.Node) -> bool:
    """Whether a node takes of its inputs nothing but shape, type or place."""
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in _LOOKING_ATTRIBUTES
    return function_name(node) in _LOOKING_FUNCTIONS


def shape(node: fx.Node) -> tuple[int, ...]:
    """Shape of a node's tensor at a batch of two, () if it is no tensor."""
    sizes: tuple[int, ...] = node.meta.get("shape", ())
    return sizes


def n_pixels(node: fx.Node) -> int:
    """Places of a (batch, ..., channels, height, width) result; 1 for (batch, channels); else 0."""
    size = shape(node)
    if len(size) >= 4:
        return size[-2] * size[-1]
    return 1 if len(size) == 2 else 0
