"""The two trainable binary layers, each built from the float layer it replaces.

They subclass torch's own `Conv2d` and `Linear` because networks read `.weight`, `.kernel_size` and
the like from their layers. The latent weight keeps the name `weight`, so state-dict keys stay the
source's. Zero padding is applied after sign, so a padded tap contributes 0 to the sum. A source
that standardizes its weight itself (timm's `StdConv2d` and kin) needs nothing more than Libra-PB,
which does nearly the same first; only while weights are float is it done as the source does it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, NoReturn, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.binary.anneal import EdePhase
from irbin.binary.estimator import ESTIMATORS, Estimator, estimated_sign, sign
from irbin.binary.kin import NO_GAIN, Gain, gain_of, pads_by_input_size, standardizes_weight
from irbin.binary.libra import BINARIZERS, Binarizer
from irbin.binary.recu import recu
from irbin.binary.spread import inverse_spread
from irbin.border import Border
from irbin.errors import ConvertError, UsageError
from irbin.records.kinds import estimator_of_weights


class Method(NamedTuple):
    """How a layer is binarized."""

    binarizer: str = "libra"
    """A name in `BINARIZERS`: `libra`, `libra-median`, `plain` …"""
    estimator: str = "ede"
    """Backward rule of the activations' sign: a name in `ESTIMATORS`."""
    binary_activations: bool = True
    """True at 1w1a, False at 1w32a."""
    learned_threshold: bool = False
    """Whether each input channel has a threshold of its own; only with binary activations."""
    weight_estimator: str = "same"
    """Backward rule of the weights' sign: a name in `ESTIMATORS`, or `same` as `estimator`."""

    @property
    def estimator_of_weights(self) -> str:
        """A name in `ESTIMATORS`."""
        return estimator_of_weights(self.estimator, self.weight_estimator)


class Used(NamedTuple):
    """What a forward pass multiplies with."""

    weight: Tensor
    """Of the inner products; (out_channels, …)."""
    scale: Tensor | None
    """What their results are multiplied by; (out_channels,). None where `weight` holds it."""


class BinaryLayer(nn.Module):
    """What the two layers share; abstract.

    Attributes:
        method: how weights and activations are binarized.
        phase: the network's EDE phase, shared by all of its layers. Kept out of the module tree:
            it is registered once, at the network's root.
        gain: (out_channels, 1, 1, 1), learned, of a source with scaled weight standardization
            (Brock et al., ICLR 2021, §4.1; timm's `ScaledStdConv2d`); else None.
        gain_factor: the constant beside it, γ/√fan-in.
        threshold: θ, (in_channels,), learned, 0 at first (ReActNet's RSign, Liu et al., ECCV 2020,
            §4.2); None for a threshold of zero.
        source_epsilon: what the source adds to the variance where it standardizes its weight
            itself; None where it does not.
        held: what the forward pass uses within `held.held_weights`; else None.
    """

    weight: Tensor
    method: Method
    gain: nn.Parameter | None
    gain_factor: float
    threshold: nn.Parameter | None
    source_epsilon: float | None
    held: Used | None

    def __prepare_scriptable__(self) -> NoReturn:  # torch.jit.script asks for it
        raise UsageError(
            "binary layers compute what TorchScript's compiler does not read; give the network to "
            "`torch.jit.trace`, `torch.export` or `torch.onnx.export`, or pack it with `irbin "
            "export`"
        )

    def _set_method(self, method: Method, phase: EdePhase, gain: Gain, in_channels: int) -> None:
        self.method = method
        self.gain, self.gain_factor = gain
        self.source_epsilon = None
        self.held = None
        threshold = self.weight.detach().new_zeros(in_channels)
        self.threshold = nn.Parameter(threshold) if method.learned_threshold else None
        self.__dict__["phase"] = phase  # past nn.Module.__setattr__, which would register it
        self._binarizer: Binarizer = BINARIZERS[method.binarizer]
        self._estimator: Estimator = ESTIMATORS[method.estimator]
        self._weight_estimator: Estimator = ESTIMATORS[method.estimator_of_weights]

    @property
    def phase(self) -> EdePhase:
        """The shared EDE phase."""
        return cast(EdePhase, self.__dict__["phase"])

    def used(self) -> Used:
        """What the forward pass uses: the binary weight, or the float one while training says so.

        A power of two is part of the weight: products and sums stay exact, and training saves a
        pass over the output. Any other scale comes after the sum, as in the packed network: it
        would make a dot of 0 a remainder of rounding, whose sign is a coin. At 1w32a sums are not
        exact either way, so it is part of the weight there, in both networks.

        Returns:
            Both differentiable.
        """
        if self.held is not None:
            return self.held
        if not self.phase.binary_weights:
            return Used(self.float_weight(), None)
        if self.has_exponents or not self.method.binary_activations:
            return Used(self.binary_weight(), None)
        signs, scale = self._signs_and_scale()
        return Used(signs, self._gained(scale))

    def float_weight(self) -> Tensor:
        """The weight that the source layer used: the latent one, standardized if it did that.

        timm divides by √(variance + ε) with the variance of n weights, where Libra-PB has n − 1:
        of a filter of four weights that is 1.15 times as much.
        """
        if self.source_epsilon is None:
            return self.weight
        gain = None if self.gain is None else (self.gain * self.gain_factor).flatten()
        filters = self.weight.reshape(1, self.weight.shape[0], -1)
        standardized = F.batch_norm(
            filters, None, None, weight=gain, training=True, momentum=0.0, eps=self.source_epsilon
        )
        return standardized.reshape_as(self.weight)

    def binary_weight(self) -> Tensor:
        """sign(ŵ)·scale; (out_channels, ...), differentiable."""
        signs, scale = self._signs_and_scale()
        return signs * self._gained(scale).view(-1, *[1] * (signs.dim() - 1))

    def _signs_and_scale(self) -> tuple[Tensor, Tensor]:
        """sign(ŵ), differentiable, and the binarizer's scale, (out_channels,); as `weight`."""
        source, scale = self._binarizer(_widened(self.weight))
        if self.phase.clamps:
            source = recu(source, self.phase.tau)
        signs = estimated_sign(self._weight_estimator, source, self.phase.t, self.phase.k)
        return signs.to(self.weight.dtype), scale.to(self.weight.dtype)

    def _gained(self, scale: Tensor) -> Tensor:
        """`scale` times the source layer's gain; both (out_channels,)."""
        return scale if self.gain is None else scale * (self.gain.flatten() * self.gain_factor)

    def _inner_bias(self, scale: Tensor | None) -> Tensor | None:
        """The bias, where the inner product may add it in the order it likes.

        That saves a pass over the output. In evaluation, and wherever a scale comes between, the
        bias is added last, as the packed network does, for the sign behind it to be the same.
        """
        is_exact = self.method.binary_activations and self.phase.binary_weights
        is_last = scale is not None or (is_exact and not self.training)
        return None if is_last else cast("Tensor | None", self.bias)

    def _transformed(self, y: Tensor, scale: Tensor | None, n_after: int) -> Tensor:
        """y·scale + bias, a product and a sum, each rounded (docs/format.md, "The arithmetic").

        Args:
            y: inner products, with the bias where `_inner_bias` gave it.
            scale: (out_channels,) or None.
            n_after: axes of `y` after the channels.
        """
        after, bias = [1] * n_after, cast("Tensor | None", self.bias)
        if scale is not None:
            y = y * scale.to(y.dtype).view(-1, *after)  # float32 would undo mixed precision
        if bias is None or self._inner_bias(scale) is not None:
            return y
        return y + bias.to(y.dtype).view(-1, *after)

    def binary_input(self, x: Tensor) -> Tensor:
        """sign(x − θ) at 1w1a, x itself at 1w32a; x − θ while training has float activations.

        The gradient of θ is minus the estimator's gradient of x, summed over all but the channel.
        """
        if not self.method.binary_activations:
            return x
        if not self.phase.binary_activations:
            return self.shifted(x)
        x = self.shifted(x)
        spread = self.inverse_spread(x) if self.training else None
        return estimated_sign(self._estimator, x, self.phase.t, self.phase.k, spread)

    def inverse_spread(self, x: Tensor) -> Tensor | None:
        """What x − θ is multiplied by before its slope is taken: 1/σ of each image; None for 1.

        An image is an entry of the first axis, or all of an input without one for the batch.
        """
        if not self.phase.spreads_inputs:
            return None
        n_axes = x.dim() - 1 if self.weight.dim() == 2 else self.weight.dim() - 1
        return inverse_spread(x, range(x.dim() - max(n_axes, 1), x.dim()))

    def shifted(self, x: Tensor) -> Tensor:
        """x − θ, what the sign is taken of; x itself without learned thresholds."""
        if self.threshold is None:
            return x
        threshold = self.threshold.to(x.dtype)  # float32 would undo mixed precision
        return x - threshold.view(-1, *[1] * (self.weight.dim() - 2))

    def frozen(self) -> tuple[Tensor, Tensor]:
        """Signs and scale as inference uses them, detached.

        Returns:
            −1/+1 of the weight's shape, and the scale, (out_channels,): powers of two if
            `has_exponents`.
        """
        source, scale = self._binarizer(self.weight.detach().float())
        return sign(source), self._gained(scale).detach()

    @property
    def has_exponents(self) -> bool:
        """Whether the scale is a power of two, stored as its exponent."""
        return self.gain is None and self.method.binarizer != "plain"


class BinaryConv2d(BinaryLayer, nn.Conv2d):
    """A binary 2-d convolution: conv(sign(x), sign(ŵ)·2^s) + bias.

    Maps (batch, in_channels, height, width) to (batch, out_channels, out_height, out_width).
    Stride, padding, padding mode, dilation, groups and bias are those of the float layer.

    Attributes:
        padding_rule: `fixed`, or `same` when the source pads by its input's size as TensorFlow does
            (timm's `Conv2dSame`).
    """

    padding_rule: Literal["fixed", "same"]

    @classmethod
    def from_float(cls, layer: nn.Conv2d, method: Method, phase: EdePhase) -> BinaryConv2d:
        """A binary layer that takes over `layer`'s parameters (shared, not copied) and settings."""
        new = cls(
            layer.in_channels,
            layer.out_channels,
            cast("tuple[int, int]", layer.kernel_size),
            cast("tuple[int, int]", layer.stride),
            cast("tuple[int, int] | str", layer.padding),
            cast("tuple[int, int]", layer.dilation),
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
            device="meta",
        )
        new.weight, new.bias = layer.weight, layer.bias
        new.padding_rule = "same" if pads_by_input_size(layer) else "fixed"
        new._set_method(method, phase, gain_of(layer), layer.in_channels)
        if standardizes_weight(layer):
            new.source_epsilon = float(vars(layer)["eps"])
        return new.train(layer.training)

    def border(self, height: int, width: int) -> Border:
        """Padding (left, right, top, bottom) of an input of that height and width."""
        if self.padding_rule == "fixed":
            # torch keeps it per side for every padding, strings included; last axis first
            left, right, top, bottom = self._reversed_padding_repeated_twice
            return left, right, top, bottom
        sides: list[int] = []
        for axis, size in ((1, width), (0, height)):
            step, reach = self.stride[axis], (self.kernel_size[axis] - 1) * self.dilation[axis]
            total = max((-(-size // step) - 1) * step + reach + 1 - size, 0)
            sides += [total // 2, total - total // 2]
        return sides[0], sides[1], sides[2], sides[3]

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - shapes in the class docstring
        border = self.border(x.shape[-2], x.shape[-1])
        left, right, top, bottom = border
        x = self.binary_input(x)
        if self.padding_mode == "zeros" and left == right and top == bottom:
            padding = (top, left)
        else:
            padding = (0, 0)
            if any(border):
                x = F.pad(
                    x, border, "constant" if self.padding_mode == "zeros" else self.padding_mode
                )
        weight, scale = self.used()
        bias = self._inner_bias(scale)
        y = F.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)
        return self._transformed(y, scale, n_after=2)


class BinaryLinear(BinaryLayer, nn.Linear):
    """A binary linear layer: sign(x) @ (sign(ŵ)·2^s)ᵀ + bias.

    Maps (..., in_features) to (..., out_features).
    """

    @classmethod
    def from_float(cls, layer: nn.Linear, method: Method, phase: EdePhase) -> BinaryLinear:
        """A binary layer that takes over `layer`'s parameters (shared, not copied)."""
        new = cls(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        new.weight, new.bias = layer.weight, layer.bias
        new._set_method(method, phase, NO_GAIN, layer.in_features)
        return new.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - shapes in the class docstring
        weight, scale = self.used()
        y = F.linear(self.binary_input(x), weight, self._inner_bias(scale))
        return self._transformed(y, scale, n_after=0)


def _widened(weight: Tensor) -> Tensor:
    """Half precision in float32, where export computes signs and scale too.

    The square of a small weight is zero in float16, and a filter then has no spread.
    """
    return weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight


def binary_layers(network: nn.Module) -> dict[str, BinaryConv2d | BinaryLinear]:
    """The binary layers of a network by dotted name, each once, in module order."""
    kinds = (BinaryConv2d, BinaryLinear)
    return {name: m for name, m in network.named_modules() if isinstance(m, kinds)}


def phase_of(network: nn.Module) -> EdePhase:
    """The EDE phase shared by a converted network's binary layers.

    Raises:
        ConvertError: the network has no binary layer.
    """
    for layer in binary_layers(network).values():
        return layer.phase
    raise ConvertError("expected a converted network, got one without a binary layer")
