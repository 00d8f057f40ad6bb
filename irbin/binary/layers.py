"""The two trainable binary layers, each built from the float layer it replaces.

They subclass torch's own `Conv2d` and `Linear` because networks read `.weight`, `.kernel_size` and
the like from their layers. The latent weight keeps the name `weight`, so state-dict keys stay the
source's. Zero padding is applied after sign, so a padded tap contributes 0 to the sum. A source
that standardizes its weight itself (timm's `StdConv2d` and kin) needs nothing more than Libra-PB,
which does nearly the same first; only while weights are float is it done as the source does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.binary.anneal import EdePhase
from irbin.binary.estimator import ESTIMATORS, Estimator, sign
from irbin.binary.libra import BINARIZERS, Binarizer
from irbin.binary.recu import recu
from irbin.errors import ConvertError

Padding4 = tuple[int, int, int, int]
"""(left, right, top, bottom), the order of `torch.nn.functional.pad`."""

Gain = tuple[nn.Parameter | None, float]
"""`BinaryLayer.gain` and `gain_factor`."""

NO_GAIN: Gain = (None, 1.0)
"""Of every layer but those with scaled weight standardization."""


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
        return self.estimator if self.weight_estimator == "same" else self.weight_estimator


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
        held_weight: what the forward pass uses within `held_weights`; else None.
    """

    weight: Tensor
    method: Method
    gain: nn.Parameter | None
    gain_factor: float
    threshold: nn.Parameter | None
    source_epsilon: float | None
    held_weight: Tensor | None

    def _set_method(self, method: Method, phase: EdePhase, gain: Gain, in_channels: int) -> None:
        self.method = method
        self.gain, self.gain_factor = gain
        self.source_epsilon = None
        self.held_weight = None
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

    def used_weight(self) -> Tensor:
        """What the forward pass uses: the binary weight, or the float one while training says so.

        Returns:
            (out_channels, ...), differentiable.
        """
        return self.binary_weight() if self.phase.binary_weights else self.float_weight()

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
        source, scale = self._binarizer(self.weight)
        if self.phase.clamps:
            source = recu(source, self.phase.tau)
        t, k = self.phase.t, self.phase.k
        return self._weight_estimator(source, t, k) * self._gained(scale, source.dim())

    def _gained(self, scale: Tensor, n_axes: int) -> Tensor:
        """`scale`, (out_channels,), times the source layer's gain; (out_channels, 1, …)."""
        scale = scale.view(-1, *[1] * (n_axes - 1))
        return scale if self.gain is None else scale * (self.gain * self.gain_factor)

    def binary_input(self, x: Tensor) -> Tensor:
        """sign(x − θ) at 1w1a, x itself at 1w32a; x − θ while training has float activations.

        The gradient of θ is minus the estimator's gradient of x, summed over all but the channel.
        """
        if not self.method.binary_activations:
            return x
        if not self.phase.binary_activations:
            return self.shifted(x)
        t, k = self.phase.t, self.phase.k
        return self._estimator(self.shifted(x), t, k)

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
        return sign(source), self._gained(scale, source.dim()).detach().flatten()

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
            layer.in_channels, layer.out_channels, cast("tuple[int, int]", layer.kernel_size),
            cast("tuple[int, int]", layer.stride), cast("tuple[int, int] | str", layer.padding),
            cast("tuple[int, int]", layer.dilation), layer.groups, layer.bias is not None,
            layer.padding_mode, device="meta",
        )  # fmt: skip
        new.weight, new.bias = layer.weight, layer.bias
        new.padding_rule = "same" if pads_by_input_size(layer) else "fixed"
        new._set_method(method, phase, _gain(layer), layer.in_channels)
        if standardizes_weight(layer):
            new.source_epsilon = float(vars(layer)["eps"])
        return new.train(layer.training)

    def border(self, height: int, width: int) -> Padding4:
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
        weight = self.used_weight() if self.held_weight is None else self.held_weight
        return F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)


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
        weight = self.used_weight() if self.held_weight is None else self.held_weight
        return F.linear(self.binary_input(x), weight, self.bias)


def pads_by_input_size(layer: nn.Conv2d) -> bool:
    """Whether `layer` computes its padding from its input's size, as timm's `Conv2dSame` does.

    Recognized by class name: this room imports neither timm nor torchvision.
    """
    names = {base.__name__ for base in type(layer).__mro__}
    if names & {"StdConv2dSame", "ScaledStdConv2dSame"}:  # theirs may turn out to be fixed
        return bool(vars(layer)["same_pad"])
    return bool(names & {"Conv2dSame", "Conv2dSameExport"})


def standardizes_weight(layer: nn.Module) -> bool:
    """Whether `layer` is one of timm's that standardize their weight as Libra-PB does."""
    names = {"StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame"}
    return type(layer).__name__ in names


def has_gain(layer: nn.Module) -> bool:
    """Whether `layer` scales its standardized weight by a learned gain per output channel."""
    return type(layer).__name__ in {"ScaledStdConv2d", "ScaledStdConv2dSame"}


def _gain(layer: nn.Conv2d) -> Gain:
    if not has_gain(layer):
        return NO_GAIN
    return cast(nn.Parameter, layer._parameters["gain"]), float(vars(layer)["scale"])


def binary_layers(network: nn.Module) -> dict[str, BinaryConv2d | BinaryLinear]:
    """The binary layers of a network by dotted name, each once, in module order."""
    kinds = (BinaryConv2d, BinaryLinear)
    return {name: m for name, m in network.named_modules() if isinstance(m, kinds)}


@contextmanager
def held_weights(network: nn.Module) -> Iterator[None]:
    """Within, a layer's weight is computed once, however many forward and backward passes follow.

    For steps of several batches. The gradients of the binary weights gather meanwhile and go on to
    the latent weights on the way out; the sum is that of separate passes up to rounding.
    """
    layers = list(binary_layers(network).values())
    computed = [layer.used_weight() for layer in layers]
    for layer, weight in zip(layers, computed, strict=True):
        layer.held_weight = weight.detach().requires_grad_(weight.requires_grad)
    try:
        yield
        pairs = [
            (weight, layer.held_weight.grad)
            for layer, weight in zip(layers, computed, strict=True)
            if layer.held_weight is not None and layer.held_weight.grad is not None
        ]
        if pairs:
            torch.autograd.backward([w for w, _ in pairs], [grad for _, grad in pairs])
    finally:
        for layer in layers:
            layer.held_weight = None


def phase_of(network: nn.Module) -> EdePhase:
    """The EDE phase shared by a converted network's binary layers.

    Raises:
        ConvertError: the network has no binary layer.
    """
    for layer in binary_layers(network).values():
        return layer.phase
    raise ConvertError("expected a converted network, got one without a binary layer")
