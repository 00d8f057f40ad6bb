"""Which values of a traced network can never be negative, and because of what.

sign of a ReLU's output is +1 everywhere, so a layer behind one would learn nothing. The analysis
walks the graph once in execution order; what it does not know counts as able to be negative.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

from torch import Tensor, fx, nn

from irbin.tracing.one_sign import kind_of_function, kind_of_module
from irbin.tracing.tracer import SQUARED_RELUS, is_norm


class Sign(NamedTuple):
    """What is known of one value's sign."""

    non_negative: bool = False
    replaceable: tuple[str, ...] = ()
    """ReLUs and kin that make it so: module paths, and graph node names with `()` for functions."""
    fixed: str = ""
    """What else makes it so (`softmax` …)."""
    negative: str = ""
    """What makes it always negative (`LogSigmoid()` …); '' if nothing does."""


UNKNOWN = Sign()

_FIXED_MODULES = {
    "Sigmoid": "sigmoid",
    "Hardsigmoid": "hardsigmoid",
    "HardSigmoid": "hardsigmoid",
    "HardSigmoidMe": "hardsigmoid",
    "Softmax": "softmax",
    "Softmax2d": "softmax",
    "Softplus": "softplus",
}
_PASSING_BASES = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.dropout._DropoutNd,
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.Upsample,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
    nn.ZeroPad2d,
    nn.ReflectionPad2d,
    nn.ReplicationPad2d,
)
_PASSING_NAMES = {"DropPath", "StochasticDepth", "DropBlock2d", "BlurPool2d"}

_SLOPED_MODULES = (
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.Threshold,
    nn.Hardtanh,
    nn.LogSigmoid,
    nn.Softshrink,
    nn.Hardshrink,
)
"""Activations whose settings say which signs they give."""
_SLOPED_FUNCTIONS = {
    "leaky_relu",
    "rrelu",
    "elu",
    "celu",
    "threshold",
    "_threshold",
    "logsigmoid",
    "log_sigmoid",
}

_RELU_FUNCTIONS = {"relu", "relu6"}
_ACTIVATION_FUNCTIONS = _SLOPED_FUNCTIONS | {"prelu", "selu", "tanh", "softsign", "hardtanh"}
_OF_SEVERAL = (nn.MultiheadAttention, nn.GLU, nn.Softmax, nn.Softmin, nn.LogSoftmax, nn.Softmax2d)
"""Of torch's activations, those whose numbers depend on each other."""
_LOWER_BOUND = {"clamp": ("min", 1), "clip": ("min", 1), "clamp_min": ("min", 1)}
_LOWER_BOUND |= {"hardtanh": ("min_val", 1)}
_FIXED_FUNCTIONS = {"sigmoid", "hardsigmoid", "softmax", "softplus", "abs", "square", "exp", "norm"}
_PASSING = """
max_pool2d max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d dropout
dropout2d feature_dropout drop_path stochastic_depth flatten reshape view permute transpose t
contiguous getitem chunk split tensor_split unbind squeeze unsqueeze expand repeat mean sum amax
amin max interpolate pad pad_same clone detach to float half type_as roll flip narrow select
index_select movedim swapaxes sqrt pixel_shuffle pixel_unshuffle
"""
_PASSING_FUNCTIONS = set(_PASSING.split())
_ARITHMETIC = {"add", "iadd", "mul", "imul", "multiply", "truediv", "div"}
_JOINING_FUNCTIONS = {"cat", "concat", "concatenate", "stack"}
_ALL_OPERANDS = (
    _ARITHMETIC
    | _JOINING_FUNCTIONS
    | {
        "conv2d",
        "linear",
        "matmul",
        "bmm",
        "maximum",
        "minimum",
    }
)


def signs(traced: fx.GraphModule) -> dict[fx.Node, dict[fx.Node, Sign]]:
    """What each node knew of each of its inputs when it ran.

    In-place functions change what later readers of their input see, hence the second key.

    Args:
        traced: from `trace_graph`.

    Returns:
        node → input node → `Sign` of that input.
    """
    modules = dict(traced.named_modules())
    now: dict[fx.Node, Sign] = {}
    seen: dict[fx.Node, dict[fx.Node, Sign]] = {}
    for node in traced.graph.nodes:
        seen[node] = {i: now.get(i, UNKNOWN) for i in node.all_input_nodes}
        now[node] = _sign_of(node, seen[node], modules, traced)
        if node.all_input_nodes and works_in_place(node, modules):
            now[node.all_input_nodes[0]] = now[node]
    return seen


def function_name(node: fx.Node) -> str:
    """Name of the function or method a node calls, without an in-place underscore; else ''."""
    if node.op == "call_method":
        name = str(node.target)
    elif node.op == "call_function":
        name = getattr(node.target, "__name__", str(node.target))
    else:
        return ""
    return name if name.startswith("_") else name.rstrip("_")


def works_in_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node overwrites its first input."""
    if node.op == "call_module":
        return vars(modules[str(node.target)]).get("inplace") is True
    name = str(node.target) if node.op == "call_method" else ""
    if node.op == "call_function":
        name = getattr(node.target, "__name__", "")
        if name in {"iadd", "imul", "isub", "itruediv"}:
            return True
    is_marked = name.endswith("_") and not name.endswith("__")
    return is_marked or node.kwargs.get("inplace") is True


def _sign_of(
    node: fx.Node,
    inputs: dict[fx.Node, Sign],
    modules: dict[str, nn.Module],
    traced: fx.GraphModule,
) -> Sign:
    first = next(iter(inputs.values()), UNKNOWN)
    if node.op == "call_module":
        return module_sign(modules[str(node.target)], str(node.target), first)
    if node.op == "get_attr":
        return _constant_sign(traced, str(node.target))
    name = function_name(node)
    if name in _SLOPED_FUNCTIONS:
        return _function_by_running(node)
    if is_replaceable_function(node):
        return _rectified(f"{node.name}()", first)
    if name in _FIXED_FUNCTIONS or (name == "pow" and node.args[1:2] == (2,)):
        return Sign(True, fixed=name)
    if name in _PASSING_FUNCTIONS:
        return first
    if name in _ALL_OPERANDS:
        return _all_of(node, inputs)
    if name == "scaled_dot_product_attention":  # a mean of the values, with weights of a softmax
        value = node.args[2] if len(node.args) > 2 else node.kwargs.get("value")
        return inputs.get(value, UNKNOWN) if isinstance(value, fx.Node) else UNKNOWN
    return UNKNOWN


def _rectified(name: str, first: Sign) -> Sign:
    """Of a ReLU or kin; behind another one both make it so, behind what nothing replaces that."""
    if first.non_negative and not first.replaceable:
        return first
    return Sign(True, (*first.replaceable, name), first.fixed)


def _function_by_running(node: fx.Node) -> Sign:
    """The sign that an activation called as a function gives with the numbers it is called with."""
    numbers = (*node.args[1:], *node.kwargs.values())
    if any(isinstance(n, fx.Node) for n in numbers) or node.op != "call_function":
        return UNKNOWN
    call, args, kwargs = cast("Any", node.target), node.args[1:], dict(node.kwargs)
    kwargs.pop("inplace", None)
    kind = kind_of_function(lambda x: call(x, *args, **kwargs))
    settings = [*map(str, args), *(f"{k}={v}" for k, v in kwargs.items())]
    name = f"{function_name(node).strip('_')}({', '.join(settings)})"
    if kind == "always negative":
        return Sign(negative=name)
    return Sign(True, fixed=name) if kind else UNKNOWN


def is_replaceable_function(node: fx.Node) -> bool:
    """Whether a node is a ReLU or kin called as a function, `clamp(min=0)` included."""
    name = function_name(node)
    if name in _RELU_FUNCTIONS:
        return True
    if name not in _LOWER_BOUND:
        return False
    keyword, position = _LOWER_BOUND[name]
    bound = node.args[position] if len(node.args) > position else node.kwargs.get(keyword)
    return isinstance(bound, int | float) and bound >= 0


def is_replaceable_module(module: nn.Module) -> bool:
    """Whether a module is a ReLU or kin: never negative, whatever comes in."""
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one
        return module.min_val >= 0
    if isinstance(module, nn.Threshold):
        return module.value >= 0 and module.threshold >= 0
    if isinstance(module, _SLOPED_MODULES):
        return kind_of_module(module) == "relu"
    return isinstance(module, nn.ReLU) or type(module).__name__ in SQUARED_RELUS


def module_sign(module: nn.Module, path: str, first: Sign) -> Sign:
    """What `module`, a leaf at `path`, makes of its first input's sign."""
    if is_replaceable_module(module):
        return _rectified(path, first)
    if type(module).__name__ in _FIXED_MODULES:
        return Sign(True, fixed=_FIXED_MODULES[type(module).__name__])
    if is_norm(module):
        activation = module._modules.get("act")  # timm's norms carry their activation
        return module_sign(activation, f"{path}.act", UNKNOWN) if activation else UNKNOWN
    if isinstance(module, _PASSING_BASES) or type(module).__name__ in _PASSING_NAMES:
        return first
    if isinstance(module, _SLOPED_MODULES):
        kind = kind_of_module(module)
        is_learned = any(True for _ in module.parameters())
        name = repr(module) + ", whose slopes are below zero" * is_learned
        if kind == "always negative":
            return Sign(negative=name)
        return Sign(True, fixed=name) if kind else UNKNOWN
    return UNKNOWN


def moves_values(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node only moves, joins or pools values, so that a factor passes through it."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return isinstance(module, _PASSING_BASES) or type(module).__name__ in _PASSING_NAMES
    return function_name(node) in (_PASSING_FUNCTIONS - {"sqrt"}) | _JOINING_FUNCTIONS


def is_elementwise_activation(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node is one of torch's activations, of one tensor, number by number."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        at_home = type(module).__module__ == "torch.nn.modules.activation"
        return at_home and not isinstance(module, _OF_SEVERAL)
    return is_replaceable_function(node) or function_name(node) in _ACTIVATION_FUNCTIONS


def _constant_sign(traced: fx.GraphModule, target: str) -> Sign:
    """Numbers ≥ 0 keep their products non-negative: a blur filter, a learned scale as it is now.

    A learned matrix does not count: it is there to make signs.
    """
    value: Any = traced
    for part in target.split("."):
        value = getattr(value, part)
    if not isinstance(value, Tensor) or value.is_meta:
        return UNKNOWN
    if isinstance(value, nn.Parameter) and value.numel() > max(value.shape, default=1):
        return UNKNOWN
    return Sign(bool((value >= 0).all())) if value.numel() else UNKNOWN


def _all_of(node: fx.Node, inputs: dict[fx.Node, Sign]) -> Sign:
    """Non-negative where all operands are.

    The causes are those of all operands; in arithmetic, those of the largest ones: what scales or
    shifts them, a gate say, is left alone.
    """
    numbers = [a for a in node.args if isinstance(a, int | float)]
    is_arithmetic = function_name(node) in _ARITHMETIC
    if is_arithmetic and any(n < 0 for n in numbers):
        return UNKNOWN
    if not inputs or not all(s.non_negative for s in inputs.values()):
        return UNKNOWN
    sizes = {i: math.prod(i.meta.get("shape", ())) for i in inputs}
    least = max(sizes.values()) if is_arithmetic else 0
    counted = [s for i, s in inputs.items() if sizes[i] >= least]
    causes = dict.fromkeys(c for s in counted for c in s.replaceable)
    fixed = next((s.fixed for s in counted if s.fixed), "")
    return Sign(True, tuple(causes), fixed)
