"""The two trainable binary layers, each built from the float layer it replaces.

They subclass torch's own `Conv2d` and `Linear` because networks read `.weight`, `.kernel_size` and
the like from their layers. The latent weight keeps the name `weight`, so state-dict keys stay the
source's. Zero padding is applied after sign, so a padded tap contributes 0 to the sum.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn

from irbin.binary.anneal import EdePhase
from irbin.binary.estimator import ESTIMATORS, Estimator, sign
from irbin.binary.libra import BINARIZERS, Binarizer
from irbin.errors import ConvertError

Padding4 = tuple[int, int, int, int]
"""(left, right, top, bottom), the order of `torch.nn.functional.pad`."""


class Method(NamedTuple):
    """How a layer is binarized; one value for a whole network."""

    binarizer: str = "libra"
    """`libra` or `plain`: a name in `BINARIZERS`."""
    estimator: str = "ede"
    """`ede` or `ste`: a name in `ESTIMATORS`."""
    binary_activations: bool = True
    """True at 1w1a, False at 1w32a."""


class BinaryLayer(nn.Module):
    """What the two layers share; abstract.

    Attributes:
        method: how weights and activations are binarized.
        phase: the network's EDE phase, shared by all of its layers. Kept out of the module tree:
            it is registered once, at the network's root.
    """

    weight: Tensor
    method: Method

    def _set_method(self, method: Method, phase: EdePhase) -> None:
        self.method = method
        self.__dict__["phase"] = phase  # past nn.Module.__setattr__, which would register it
        self._binarizer: Binarizer = BINARIZERS[method.binarizer]
        self._estimator: Estimator = ESTIMATORS[method.estimator]

    @property
    def phase(self) -> EdePhase:
        """The shared EDE phase."""
        return cast(EdePhase, self.__dict__["phase"])

    def binary_weight(self) -> Tensor:
        """sign(ŵ)·scale, the weight the forward pass uses; (out_channels, ...), differentiable."""
        source, scale = self._binarizer(self.weight)
        t, k = self.phase()
        return self._estimator(source, t, k) * scale.view(-1, *[1] * (source.dim() - 1))

    def binary_input(self, x: Tensor) -> Tensor:
        """sign(x) at 1w1a, x itself at 1w32a."""
        if not self.method.binary_activations:
            return x
        t, k = self.phase()
        return self._estimator(x, t, k)

    def frozen(self) -> tuple[Tensor, Tensor]:
        """Signs and scale as inference uses them, detached.

        Returns:
            −1/+1 of the weight's shape, and the scale, (out_channels,).
        """
        source, scale = self._binarizer(self.weight.detach().float())
        return sign(source), scale


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
        new._set_method(method, phase)
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
        return F.conv2d(
            x, self.binary_weight(), self.bias, self.stride, padding, self.dilation, self.groups
        )


class BinaryLinear(BinaryLayer, nn.Linear):
    """A binary linear layer: sign(x) @ (sign(ŵ)·2^s)ᵀ + bias.

    Maps (..., in_features) to (..., out_features).
    """

    @classmethod
    def from_float(cls, layer: nn.Linear, method: Method, phase: EdePhase) -> BinaryLinear:
        """A binary layer that takes over `layer`'s parameters (shared, not copied)."""
        new = cls(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        new.weight, new.bias = layer.weight, layer.bias
        new._set_method(method, phase)
        return new.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - shapes in the class docstring
        return F.linear(self.binary_input(x), self.binary_weight(), self.bias)


def pads_by_input_size(layer: nn.Conv2d) -> bool:
    """Whether `layer` computes its padding from its input's size, as timm's `Conv2dSame` does.

    Recognized by class name: this room imports neither timm nor torchvision.
    """
    return any(base.__name__ in {"Conv2dSame", "Conv2dSameExport"} for base in type(layer).__mro__)


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
