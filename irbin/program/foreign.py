"""Do operators that no rule knows mix the images of a batch? Found by running them.

For what to say of a network: one that mixes images cannot be packed, whatever is added to the
vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_flatten

_N = 3
"""Images in the batch that is tried."""


def mixes_images(node: fx.Node) -> bool:
    """Whether another image of the batch changes what `node` gives for an image.

    Args:
        node: of an exported graph, with `meta["val"]`. False where it cannot be run alone.
    """
    generator = torch.Generator().manual_seed(0)
    one, other = {}, {}
    for source in node.all_input_nodes:
        value = source.meta.get("val")
        if isinstance(value, Tensor):
            one[source] = _numbers(value, generator)
            other[source] = _numbers(value, generator)
            axis = _axis(value)
            if axis is not None:  # all images but the first are the same
                kept = one[source].narrow(axis, 1, _N - 1)
                other[source].narrow(axis, 1, _N - 1).copy_(kept)
            else:
                other[source] = one[source]
        else:
            one[source] = other[source] = _size(value)
    if not any(_axis(s.meta.get("val")) is not None for s in node.all_input_nodes):
        return False
    try:
        results = tree_flatten(_run(node, one))[0], tree_flatten(_run(node, other))[0]
    except Exception:  # raises whatever an operator does with such numbers
        return False
    vals = tree_flatten(node.meta.get("val"))[0]
    return any(_differs(*three) for three in zip(vals, *results, strict=True))


def _differs(val: Any, one: Any, other: Any) -> bool:
    if not isinstance(val, Tensor) or not isinstance(one, Tensor):
        return False
    axis = _axis(val)
    if axis is None:
        return True  # of all images together
    if one.shape[axis] != _N:
        return False
    return not _same(one.narrow(axis, 1, _N - 1), other.narrow(axis, 1, _N - 1))


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(torch.equal(one.nan_to_num(), other.nan_to_num()))


def _run(node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    target: Any = node.target
    args = fx.node.map_arg(node.args, values.__getitem__)
    kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return target(*args, **kwargs)


def _axis(value: Any) -> int | None:
    """The axis whose size depends on the number of images."""
    if not isinstance(value, Tensor):
        return None
    return next((i for i, size in enumerate(value.shape) if not isinstance(size, int)), None)


def _size(value: Any) -> Any:
    if not isinstance(value, torch.SymInt):
        return value
    expression = value.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, _N)))


def _numbers(value: Tensor, generator: torch.Generator) -> Tensor:
    size = [_size(n) for n in value.shape]
    if value.is_floating_point():
        return torch.randn(size, generator=generator, dtype=torch.float64).to(value.dtype)
    return torch.randint(0, 2, size, generator=generator).to(value.dtype)
