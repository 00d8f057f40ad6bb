"""sign, and the rules for its backward pass: EDE (IR-Net §3.3) and those of other methods.

The authors' code uses `torch.sign`, whose 0 at 0 no bit can hold; here sign(0) = +1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from irbin.records.kinds import CLIP_VALUE
from irbin.records.kinds import ESTIMATORS as KINDS


def sign(x: Tensor) -> Tensor:
    """−1 where x < 0, else +1: zero, −0.0 and NaN give +1. Any shape; keeps the dtype, detached."""
    x = x.detach()
    # comparing into floats: a quarter of the time of a comparison, a conversion and the rest
    return torch.rsub(torch.lt(x, 0, out=torch.empty_like(x)), 1, alpha=2)


def _plain_sign(x: Tensor) -> Tensor:
    """sign in operators that `torch.onnx.export(…, dynamo=False)` has; it follows no estimator."""
    return 1 - 2 * (x < 0).to(x.dtype)


class _EdeSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(x, t, k)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grad_outputs
        x, t, k = ctx.saved_tensors
        # 1 − tanh²(u) = 4·σ(−2|u|)·(1 − σ(−2|u|)), which cancels nowhere: half precision suffices
        tail = x.abs().mul_(-2 * t).sigmoid_()
        return torch.ops.aten.sigmoid_backward(grad, tail).mul_(4 * k * t), None, None


class _SteSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, r: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, r)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (grad,) = grad_outputs
        x, r = ctx.saved_tensors
        # in arithmetic, exactly: torch.compile computes and keeps a mask of booleans one at a time,
        # which makes a whole step three times as long; eager, it takes 60 times as long in bfloat16
        outside = _distance(x, r).sub_(CLIP_VALUE).clamp_(0, 1).ceil_()
        return _times(grad * (1 - outside), r), None


class _TriangleSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, r: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, r)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (grad,) = grad_outputs
        x, r = ctx.saved_tensors
        # clamped before it is subtracted: ∞ gets a slope of 0 too; the difference is rounded once
        slope = torch.rsub(_distance(x, r).clamp_(max=CLIP_VALUE), 2, alpha=2)
        return _times(slope.mul_(grad), r), None


def _distance(x: Tensor, r: Tensor | None) -> Tensor:
    """|x·r|, in memory of its own."""
    return _times(x.abs(), r)


def _times(x: Tensor, r: Tensor | None) -> Tensor:
    """x·r, in place."""
    return x if r is None else x.mul_(r)


class _IdentitySign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - torch's signature
        return sign(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:  # noqa: ARG004 - torch's signature
        return grad_outputs[0]


def ede_sign(x: Tensor, t: Tensor, k: Tensor, r: Tensor | None = None) -> Tensor:
    """sign with the gradient of the Error Decay Estimator.

    Forward:   y = sign(x)
    Backward:  dL/dx = dL/dy · k·t·r·(1 − tanh²(t·r·x))

    Args:
        x: any shape.
        t: scalar tensor, sharpness; grows during training.
        k: scalar tensor, max(1/t, 1) in the paper; `anneal.EDE_SCALES` has what it may be.
        r: what x is multiplied by before its slope is taken, see `spread`; broadcasts; None for 1.

    Returns:
        −1/+1, the shape of x. (IR-Net, eq. 11–12.)
    """
    y: Tensor = _EdeSign.apply(x, t if r is None else t * r, k)
    return y


def ste_sign(
    x: Tensor,
    t: Tensor,  # noqa: ARG001
    k: Tensor,  # noqa: ARG001
    r: Tensor | None = None,
) -> Tensor:
    """sign with the clipped straight-through gradient (Hubara et al., NeurIPS 2016, eq. 4).

    Forward:   y = sign(x)
    Backward:  dL/dx = dL/dy · r·[|x·r| ≤ 1]
    """
    y: Tensor = _SteSign.apply(x, r)
    return y


def triangle_sign(
    x: Tensor,
    t: Tensor,  # noqa: ARG001
    k: Tensor,  # noqa: ARG001
    r: Tensor | None = None,
) -> Tensor:
    """sign with a slope that falls to both sides (Bi-Real Net, Liu et al., ECCV 2018, ApproxSign).

    Forward:   y = sign(x)
    Backward:  dL/dx = dL/dy · r·max(0, 2 − 2·|x·r|)

    The derivative of a piecewise quadratic function that runs from −1 to +1 over |x| ≤ 1.
    """
    y: Tensor = _TriangleSign.apply(x, r)
    return y


def identity_sign(
    x: Tensor,
    t: Tensor,  # noqa: ARG001
    k: Tensor,  # noqa: ARG001
    r: Tensor | None = None,  # noqa: ARG001 - as all have
) -> Tensor:
    """sign with the unclipped straight-through gradient; for weights only.

    Forward:   y = sign(x)
    Backward:  dL/dx = dL/dy

    So trained by ReCU (Xu et al., ICCV 2021) and others: a standardized weight does not run away,
    and a clip at 1 cuts off a third of its filter.
    """
    y: Tensor = _IdentitySign.apply(x)
    return y


Estimator = Callable[..., Tensor]
"""Takes x, t, k and perhaps r as `ede_sign` does, whether its slope depends on them or not, and
gives −1/+1 of x's shape."""

ESTIMATORS: dict[str, Estimator] = {name: kind.rule for name, kind in KINDS.items()}
"""By the name that options and files use."""


def estimated_sign(
    rule: Estimator, x: Tensor, t: Tensor, k: Tensor, r: Tensor | None = None
) -> Tensor:
    """sign by one of `ESTIMATORS`; an ONNX export, which follows none, gets operators it has."""
    return _plain_sign(x) if torch.onnx.is_in_onnx_export() else rule(x, t, k, r)
