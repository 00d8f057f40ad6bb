"""The binary layers against a plain restatement of what they compute."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.layers import (
    Conv2dSame,
    ScaledStdConv2d,
    ScaledStdConv2dSame,
    StdConv2d,
    StdConv2dSame,
)
from torch import nn

from irbin.binary.anneal import EdePhase
from irbin.binary.estimator import ESTIMATORS, sign
from irbin.binary.held import held_weights
from irbin.binary.kin import has_gain, standardizes_weight
from irbin.binary.layers import (
    BinaryConv2d,
    BinaryLinear,
    Method,
    binary_layers,
    phase_of,
)
from irbin.binary.libra import libra
from irbin.errors import ConvertError

CONVOLUTIONS = {
    "3x3": {"kernel_size": 3, "padding": 1},
    "1x1": {"kernel_size": 1},
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2},
    "oblong": {"kernel_size": (1, 5), "padding": (0, 2), "stride": (2, 1)},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 3},
    "no-bias": {"kernel_size": 3, "bias": False},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "replicate": {"kernel_size": 3, "padding": (2, 1), "padding_mode": "replicate"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "same": {"kernel_size": 5, "padding": "same", "dilation": (2, 1)},
    "valid": {"kernel_size": 3, "padding": "valid"},
}


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("arguments", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("binary_activations", [True, False], ids=["1w1a", "1w32a"])
def test_conv_is_the_float_layer_on_signs(arguments: dict, binary_activations: bool) -> None:
    torch.manual_seed(1)
    layer = nn.Conv2d(6, 9, **arguments)
    binary = BinaryConv2d.from_float(
        layer, Method(binary_activations=binary_activations), EdePhase()
    )
    x = image(2, 6, 9, 8)
    w = layer.weight.detach()
    scale = ((w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)).abs()
    exponent = scale.mean((1, 2, 3), keepdim=True).log2().round()
    expected = copy.deepcopy(layer)
    expected.weight.data = sign(w - w.mean((1, 2, 3), keepdim=True)) * exponent.exp2()
    torch.testing.assert_close(binary(x), expected(sign(x) if binary_activations else x))


@pytest.mark.parametrize("size", [(9, 8), (7, 7), (1, 1), (12, 5)], ids=str)
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (2, 1, 1), (5, 3, 2)])
def test_conv2d_same_keeps_padding_by_input_size(
    size: tuple[int, int], kernel: int, stride: int, dilation: int
) -> None:
    torch.manual_seed(1)
    layer = Conv2dSame(4, 5, kernel, stride=stride, dilation=dilation)
    binary = BinaryConv2d.from_float(layer, Method(), EdePhase())
    x = image(2, 4, *size)
    expected = copy.deepcopy(layer)
    expected.weight.data = binary.binary_weight().detach()
    torch.testing.assert_close(binary(x), expected(sign(x)))


def test_zero_padding_contributes_zero() -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    layer.weight.data = torch.arange(9.0).view(1, 1, 3, 3)
    binary = BinaryConv2d.from_float(layer, Method(), EdePhase())
    signs = torch.tensor([[-1.0, -1, -1], [-1, 1, 1], [1, 1, 1]])  # w − mean is 0 at the centre: +1
    corner = signs[1:, 1:].sum() * binary.frozen()[1]
    assert binary(torch.ones(1, 1, 3, 3))[0, 0, 0, 0] == corner


def test_zero_input_counts_as_plus_one() -> None:
    binary = BinaryLinear.from_float(nn.Linear(5, 2), Method(), EdePhase())
    assert torch.equal(binary(torch.zeros(1, 5)), binary(torch.ones(1, 5)))
    assert torch.equal(binary(-torch.zeros(1, 5)), binary(torch.ones(1, 5)))


@pytest.mark.parametrize("shape", [(5,), (0, 5), (1, 5), (2, 3, 5)], ids=str)
def test_linear_keeps_leading_dimensions(shape: tuple[int, ...]) -> None:
    layer = nn.Linear(5, 3)
    binary = BinaryLinear.from_float(layer, Method(), EdePhase())
    x = image(*shape)
    expected = F.linear(sign(x), binary.binary_weight(), layer.bias)
    torch.testing.assert_close(binary(x), expected)


def test_parameters_are_taken_over_and_keys_stay() -> None:
    layer = nn.Conv2d(3, 4, 3)
    binary = BinaryConv2d.from_float(layer, Method(), EdePhase())
    assert binary.weight is layer.weight
    assert binary.bias is layer.bias
    assert set(binary.state_dict()) == {"weight", "bias"}


def test_layer_gradients_follow_the_phase() -> None:
    phase = EdePhase(0.1, 10)
    binary = BinaryLinear.from_float(nn.Linear(16, 4, bias=False), Method(), phase)
    gradients = []
    for progress in (0.0, 1.0):
        phase.set_progress(progress)
        x = image(3, 16).requires_grad_()
        binary.zero_grad()
        binary(x).sum().backward()
        t, k = float(phase.t), float(phase.k)
        slope = k * t * (1 - np.tanh(t * x.detach().numpy()) ** 2)
        expected = slope * binary.binary_weight().sum(0).detach().numpy()
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-4, atol=1e-4)
        gradients.append(binary.weight.grad.clone())
    assert not torch.allclose(gradients[0], gradients[1])


def test_at_1w32a_the_input_gradient_is_the_plain_one() -> None:
    binary = BinaryLinear.from_float(nn.Linear(8, 3), Method(binary_activations=False), EdePhase())
    x = image(2, 8).requires_grad_()
    binary(x).sum().backward()
    torch.testing.assert_close(x.grad, binary.binary_weight().sum(0).expand(2, 8))


def test_frozen_is_what_forward_uses() -> None:
    for name in ("libra", "plain"):
        binary = BinaryConv2d.from_float(nn.Conv2d(5, 4, 3), Method(binarizer=name), EdePhase())
        signs, scale = binary.frozen()
        assert set(signs.unique().tolist()) == {-1.0, 1.0}
        torch.testing.assert_close(signs * scale.view(-1, 1, 1, 1), binary.binary_weight())


def test_phase_is_shared_by_copies_of_a_network_not_between_them() -> None:
    phase = EdePhase()
    network = nn.Sequential(
        BinaryLinear.from_float(nn.Linear(4, 4), Method(), phase),
        BinaryLinear.from_float(nn.Linear(4, 2), Method(), phase),
    )
    network.ede = phase
    twin = copy.deepcopy(network)
    assert twin[0].phase is twin[1].phase is twin.ede
    twin.ede.set_progress(1.0)
    assert float(network.ede.t) == pytest.approx(0.1)
    assert phase_of(twin) is twin.ede


def test_binary_layers_are_listed_by_name() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), BinaryConv2d.from_float(nn.Conv2d(4, 4, 3), Method(), EdePhase())
    )
    assert list(binary_layers(network)) == ["1"]


def test_phase_of_a_float_network_is_an_error() -> None:
    with pytest.raises(ConvertError, match="got one without a binary layer"):
        phase_of(nn.Linear(1, 1))


def test_asymmetric_same_padding_puts_the_odd_row_after() -> None:
    layer = nn.Conv2d(3, 4, 4, padding="same")
    binary = BinaryConv2d.from_float(layer, Method(), EdePhase())
    x = image(1, 3, 6, 5)
    padded = F.pad(sign(x), (1, 2, 1, 2))
    torch.testing.assert_close(binary(x), F.conv2d(padded, binary.binary_weight(), layer.bias))


STANDARDIZED = {
    "std": lambda: StdConv2d(6, 9, 3, padding=1, bias=True),
    "std same": lambda: StdConv2dSame(6, 9, 3, stride=2, bias=True),
    "scaled": lambda: ScaledStdConv2d(6, 9, 3, padding=1, gamma=1.7),
    "scaled same": lambda: ScaledStdConv2dSame(6, 9, 4, stride=2, gamma=1.7),
}


@pytest.mark.parametrize("build", STANDARDIZED.values(), ids=STANDARDIZED)
def test_standardized_layers_keep_padding_signs_and_gain(build) -> None:
    torch.manual_seed(1)
    layer = build()
    if has_gain(layer):
        layer.gain.data = torch.randn(9, 1, 1, 1)  # trained gains may be negative
    assert standardizes_weight(layer)
    binary = BinaryConv2d.from_float(layer, Method(), EdePhase())
    assert binary.state_dict().keys() == layer.state_dict().keys()
    x = image(2, 6, 9, 8)
    as_float = nn.Conv2d(6, 9, layer.kernel_size, layer.stride)
    as_float.weight.data, as_float.bias.data = binary.binary_weight().detach(), layer.bias.detach()
    padded = F.pad(sign(x), binary.border(9, 8))
    torch.testing.assert_close(binary(x), as_float(padded))
    assert binary(x).shape == layer(x).shape
    signs, scale = binary.frozen()
    torch.testing.assert_close(signs * scale.view(-1, 1, 1, 1), binary.binary_weight())
    assert binary.has_exponents is not has_gain(layer)


FLOATS = {
    **STANDARDIZED,
    "conv": lambda: nn.Conv2d(6, 9, 3, 2, padding=1, groups=3),
    "linear": lambda: nn.Linear(6, 9),
}


@pytest.mark.parametrize("build", FLOATS.values(), ids=FLOATS)
def test_with_nothing_binary_a_layer_is_the_float_one(build) -> None:
    torch.manual_seed(1)
    layer, phase, x = build(), EdePhase(), image(2, 6, 9, 8)
    kind = BinaryConv2d if isinstance(layer, nn.Conv2d) else BinaryLinear
    x = x if kind is BinaryConv2d else x.movedim(1, -1)
    binary = kind.from_float(layer, Method(), phase)
    expected, signs = layer(x), binary(x)
    phase.set_stage(binary_weights=False, binary_activations=False)
    torch.testing.assert_close(binary(x), expected, rtol=2e-6, atol=1e-6)
    phase.set_stage(binary_weights=False, binary_activations=True)
    torch.testing.assert_close(binary(x), binary(sign(x)))
    assert not torch.equal(binary(x), signs)
    phase.set_stage(binary_weights=True, binary_activations=True)
    assert torch.equal(binary(x), signs)


SMALL = {
    "std": lambda eps: StdConv2d(4, 5, 1, eps=eps),
    "std same": lambda eps: StdConv2dSame(4, 5, 1, eps=eps),
    "scaled": lambda eps: ScaledStdConv2d(4, 5, 1, gamma=1.7, eps=eps, gain_init=0.3),
    "scaled same": lambda eps: ScaledStdConv2dSame(4, 5, 1, gamma=1.7, eps=eps, gain_init=-2.0),
}


@pytest.mark.parametrize("eps", [1e-6, 1e-5, 0.5])
@pytest.mark.parametrize("build", SMALL.values(), ids=SMALL)
def test_the_float_weight_is_the_sources_own(build, eps: float) -> None:
    """Of four weights n and n − 1 are 0.866 apart; ε, gain and a constant filter count too."""
    torch.manual_seed(1)
    layer, phase = build(eps), EdePhase()
    layer.weight.data *= 1e-2
    layer.weight.data[2] = 0.25
    seen = layer(torch.eye(4).view(4, 4, 1, 1)).squeeze((2, 3))  # (in_channels, out_channels)
    if layer.bias is not None:
        seen = seen - layer.bias
    binary = BinaryConv2d.from_float(layer, Method(binary_activations=False), phase)
    torch.testing.assert_close(binary.float_weight().squeeze((2, 3)).T, seen, rtol=1e-6, atol=1e-7)
    # Libra-PB keeps n − 1
    balanced = layer.weight - layer.weight.mean((1, 2, 3), keepdim=True)
    assert torch.equal(binary.frozen()[0], sign(balanced))


@pytest.mark.parametrize("build", STANDARDIZED.values(), ids=STANDARDIZED)
def test_binary_weights_of_standardized_layers_have_the_size_of_their_float_ones(build) -> None:
    torch.manual_seed(1)
    layer = build()
    one_pixel = torch.zeros(1, 6, 9, 8)
    one_pixel[0, :, 4, 4] = 1
    with torch.no_grad():
        seen = [m(one_pixel) - m(torch.zeros_like(one_pixel)) for m in (layer,)]
        binary = BinaryConv2d.from_float(layer, Method(binary_activations=False), EdePhase())
        seen.append(binary(one_pixel) - binary(torch.zeros_like(one_pixel)))
    assert 0.5 < seen[1].abs().sum() / seen[0].abs().sum() < 2


def plain_conv() -> BinaryConv2d:
    return BinaryConv2d.from_float(nn.Conv2d(6, 9, 3), Method("plain"), EdePhase())


def gained_conv() -> BinaryConv2d:
    layer = ScaledStdConv2d(6, 9, 3, padding=0)
    layer.gain.data = image(9, 1, 1, 1)
    return BinaryConv2d.from_float(layer, Method(), EdePhase())


def plain_linear() -> BinaryLinear:
    return BinaryLinear.from_float(nn.Linear(54, 9), Method("plain"), EdePhase())


def libra_conv() -> BinaryConv2d:
    return BinaryConv2d.from_float(nn.Conv2d(6, 9, 3), Method(), EdePhase())


EXACT = {f.__name__: f for f in (plain_conv, gained_conv, plain_linear, libra_conv)}


@pytest.mark.parametrize("held", [False, True], ids=["computed", "held"])
@pytest.mark.parametrize("build", EXACT.values(), ids=EXACT)
def test_sums_are_integers_scaled_and_shifted_afterwards(build, held: bool) -> None:
    torch.manual_seed(3)
    layer = build().eval()
    layer.bias.data = image(9)
    is_conv = isinstance(layer, BinaryConv2d)
    x = image(24, 6, 9, 8) if is_conv else image(24, 54)
    signs, scale = layer.frozen()
    product = F.conv2d if is_conv else F.linear
    dot = product(sign(x).double(), signs.double()).float()
    assert bool((dot == 0).any())  # where rounding would decide the sign
    after = (-1, 1, 1) if is_conv else (-1,)
    with held_weights(layer) if held else nullcontext():
        found = layer(x)
        alone = torch.cat([layer(x[i : i + 1]) for i in range(24)])
    assert torch.equal(found, dot * scale.view(after) + layer.bias.view(after))
    assert torch.equal(found, alone)


@pytest.mark.parametrize("build", EXACT.values(), ids=EXACT)
def test_in_bfloat16_no_sum_crosses_zero(build) -> None:
    torch.manual_seed(3)
    layer = build().train()
    layer.bias = None
    x = image(24, 6, 9, 8) if isinstance(layer, BinaryConv2d) else image(24, 54)
    exact = layer.eval()(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer.train()(x)
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded == 0, exact == 0)
    assert torch.equal(rounded < 0, exact < 0)


@pytest.mark.parametrize("build", [plain_conv, gained_conv, plain_linear])
def test_gradients_of_a_scale_after_the_sum_are_those_of_scaled_weights(build) -> None:
    torch.manual_seed(3)
    layer = build().double()
    shape = (2, 6, 5, 4) if isinstance(layer, BinaryConv2d) else (2, 54)
    product = F.conv2d if isinstance(layer, BinaryConv2d) else F.linear

    def gradients(forward) -> list[torch.Tensor]:
        layer.zero_grad()
        x = image(*shape).double().requires_grad_()
        forward(x).sin().sum().backward()
        return [x.grad, *(p.grad.clone() for p in layer.parameters())]

    scaled = gradients(lambda x: product(layer.binary_input(x), layer.binary_weight(), layer.bias))
    for left, right in zip(gradients(layer), scaled, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("build", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_trains_the_scale_that_is_exported(build, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    layer = build().eval()
    layer.weight.data = 1 + layer.weight.detach() * 2**-10  # squares vanish in float16
    layer = layer.to(dtype)
    signs, scale = layer.frozen()
    expected = (signs * scale.view(-1, *[1] * (signs.dim() - 1))).to(dtype)
    torch.testing.assert_close(layer.binary_weight(), expected, rtol=2e-2, atol=0)


def test_gains_learn() -> None:
    layer = ScaledStdConv2d(4, 3, 1)
    binary = BinaryConv2d.from_float(layer, Method(), EdePhase())
    binary(image(2, 4, 3, 3)).square().sum().backward()
    assert binary.gain is layer.gain
    assert bool(layer.gain.grad.abs().sum() > 0)


def accumulated(network: nn.Module, batches: list[torch.Tensor], held: bool) -> dict:
    network.zero_grad()
    with held_weights(network) if held else nullcontext():
        for batch in batches:
            network(batch).square().mean().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters()}


@pytest.mark.parametrize("binary_activations", [True, False], ids=["1w1a", "1w32a"])
@pytest.mark.parametrize("n_batches", [1, 3])
def test_held_weights_gather_the_gradients_of_separate_passes(
    binary_activations: bool, n_batches: int
) -> None:
    torch.manual_seed(2)
    phase, method = EdePhase(), Method(binary_activations=binary_activations)
    network = nn.Sequential(
        BinaryConv2d.from_float(nn.Conv2d(3, 5, 3), method, phase),
        nn.Flatten(),
        BinaryLinear.from_float(nn.Linear(5 * 16, 4), method, phase),
    ).double()
    batches = [image(2, 3, 6, 6).double() * (i + 1) - 0.1 for i in range(n_batches)]
    left, right = (accumulated(network, batches, held) for held in (False, True))
    for name in left:
        torch.testing.assert_close(left[name], right[name])
    assert all(layer.held is None for layer in binary_layers(network).values())


def test_held_weights_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = BinaryConv2d.from_float(nn.Conv2d(3, 5, 3), Method(), EdePhase())
    calls, compute = [], layer.binary_weight
    monkeypatch.setattr(layer, "binary_weight", lambda: calls.append(1) or compute())
    with held_weights(layer):
        for _ in range(4):
            layer(image(1, 3, 5, 5)).sum().backward()
    assert calls == [1]
    with pytest.raises(ZeroDivisionError), held_weights(layer):
        _ = 1 / 0
    assert layer.held is None
    layer.weight.requires_grad_(False)
    layer.bias.requires_grad_(False)
    with held_weights(layer):  # a frozen layer
        assert not layer(image(1, 3, 5, 5)).requires_grad


LEARNED = Method(learned_threshold=True)


def with_thresholds(layer: nn.Module, method: Method = LEARNED) -> BinaryConv2d | BinaryLinear:
    """A binary layer whose thresholds are as after training."""
    kind = BinaryConv2d if isinstance(layer, nn.Conv2d) else BinaryLinear
    binary = kind.from_float(layer, method, EdePhase())
    with torch.no_grad():
        binary.threshold.copy_(image(len(binary.threshold)) / 2)
    return binary


@pytest.mark.parametrize("arguments", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_threshold_moves_the_sign_of_its_channel(arguments: dict) -> None:
    torch.manual_seed(1)
    layer, x = nn.Conv2d(6, 9, **arguments), image(2, 6, 9, 8)
    learned = with_thresholds(layer)
    plain = BinaryConv2d.from_float(layer, Method(), EdePhase())
    signs = torch.where(x >= learned.threshold.view(-1, 1, 1), 1.0, -1.0)
    assert not torch.equal(signs, sign(x))
    torch.testing.assert_close(learned(x), plain(signs))


@pytest.mark.parametrize("shape", [(5,), (0, 5), (3, 5), (2, 3, 5), (2, 2, 3, 5)], ids=str)
def test_a_linear_layers_thresholds_are_along_the_last_axis(shape: tuple[int, ...]) -> None:
    learned, x = with_thresholds(nn.Linear(5, 3)), image(*shape)
    signs = torch.where(x >= learned.threshold, 1.0, -1.0)
    expected = F.linear(signs, learned.binary_weight(), learned.bias)
    torch.testing.assert_close(learned(x), expected)


@pytest.mark.parametrize("build", [lambda: nn.Conv2d(6, 4, 3), lambda: nn.Linear(6, 4)])
def test_thresholds_begin_at_zero_and_only_where_they_are_learned(build) -> None:
    layer = build()
    kind = BinaryConv2d if isinstance(layer, nn.Conv2d) else BinaryLinear
    learned, plain = (kind.from_float(layer, m, EdePhase()) for m in (LEARNED, Method()))
    assert plain.threshold is None
    assert set(learned.state_dict()) - set(plain.state_dict()) == {"threshold"}
    assert torch.equal(learned.threshold, torch.zeros(6))
    x = image(2, 6, 5, 6) if kind is BinaryConv2d else image(2, 6)
    assert torch.equal(learned(x), plain(x))
    assert plain.shifted(x) is x


def test_what_meets_its_threshold_counts_as_plus_one() -> None:
    learned = with_thresholds(nn.Linear(4, 3))
    with torch.no_grad():
        learned.threshold.copy_(torch.tensor([0.25, -0.0, 1e-45, -3.0]))
    meets = learned.threshold.detach().clone()
    assert torch.equal(sign(learned.shifted(meets)), torch.ones(4))
    just_below = torch.nextafter(meets, torch.tensor(-torch.inf))
    assert torch.equal(sign(learned.shifted(just_below)), -torch.ones(4))


@pytest.mark.parametrize("estimator", ["ede", "ste", "triangle"])
def test_a_thresholds_gradient_is_minus_its_inputs(estimator: str) -> None:
    method = Method(estimator=estimator, learned_threshold=True)
    for layer, x, others in (
        (nn.Conv2d(6, 4, 3, padding=1), image(2, 6, 5, 6), (0, 2, 3)),
        (nn.Linear(6, 4), image(2, 3, 6), (0, 1)),
    ):
        binary = with_thresholds(layer, method)
        binary.phase.set_progress(0.7)
        x.requires_grad_()
        (binary(x) * image(*binary(x).shape)).sum().backward()
        assert x.grad.abs().sum() > 0
        torch.testing.assert_close(binary.threshold.grad, -x.grad.sum(others))


def test_with_float_activations_the_gradients_are_the_derivatives() -> None:
    binary = with_thresholds(nn.Conv2d(3, 2, 2)).double()
    binary.phase.set_stage(binary_weights=False, binary_activations=False)
    x = image(2, 3, 3, 3).double().requires_grad_()

    def run(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(binary, {"threshold": threshold}, (x,))

    assert torch.autograd.gradcheck(run, (x, binary.threshold))
    expected = F.conv2d(x - binary.threshold.view(-1, 1, 1), binary.weight, binary.bias)
    torch.testing.assert_close(binary(x), expected)


def test_thresholds_keep_the_inputs_type_in_mixed_precision() -> None:
    binary = with_thresholds(nn.Conv2d(6, 4, 3))
    with torch.autocast("cpu", torch.bfloat16):
        x = image(2, 6, 5, 6).bfloat16()
        assert binary.shifted(x).dtype == torch.bfloat16
        binary(x).float().sum().backward()
    assert binary.threshold.grad.dtype == torch.float32


@pytest.mark.parametrize("binarizer", ["libra", "libra-latent"])
def test_layers_are_balanced_by_the_median_where_the_method_says_so(binarizer: str) -> None:
    layer = nn.Conv2d(6, 9, 3)
    layer.weight.data = layer.weight.data.mul(9).exp()  # skewed
    signs = [
        BinaryConv2d.from_float(layer, Method(name), EdePhase()).frozen()[0]
        for name in (binarizer, f"{binarizer}-median")
    ]
    n_negative = [(s < 0).flatten(1).sum(1) for s in signs]
    assert n_negative[1].tolist() == [27] * 9
    assert not torch.equal(*n_negative)


@pytest.mark.parametrize("weights", ["same", "ede", "ste", "triangle", "identity"])
@pytest.mark.parametrize("activations", ["ede", "ste", "triangle"])
@pytest.mark.parametrize("held", [False, True], ids=["plain", "held"])
def test_weights_and_activations_have_each_their_estimator(
    activations: str, weights: str, held: bool
) -> None:
    torch.manual_seed(4)
    method = Method(estimator=activations, weight_estimator=weights)
    binary = BinaryLinear.from_float(nn.Linear(9, 4, bias=False), method, EdePhase(2, 2)).double()
    x, wanted = image(5, 9).double().requires_grad_(), image(5, 4).double()
    with held_weights(binary) if held else nullcontext():
        (binary(x) * wanted).sum().backward()
    source, scale = libra(binary.weight)
    phase = binary.phase.t.double(), binary.phase.k.double()
    leaves = x.detach().requires_grad_(), source.detach().requires_grad_()
    of_weights = activations if weights == "same" else weights
    signs = (
        ESTIMATORS[name](leaf, *phase)
        for name, leaf in zip((activations, of_weights), leaves, strict=True)
    )
    (F.linear(*signs) * scale * wanted).sum().backward()
    torch.testing.assert_close(x.grad, leaves[0].grad)
    (through_libra,) = torch.autograd.grad(source, binary.weight, leaves[1].grad)
    torch.testing.assert_close(binary.weight.grad, through_libra)


def test_by_identity_a_weights_gradient_is_that_of_its_binary_weight() -> None:
    method = Method("plain", weight_estimator="identity")
    binary = BinaryLinear.from_float(nn.Linear(9, 4), method, EdePhase(10, 10))
    with torch.no_grad():
        binary.weight[0] = torch.tensor([0, -0.0, 1, -1, 5, -5, 1e-30, -50, 1e3])
    used = binary.binary_weight()
    used.backward(image(4, 9))
    scale = binary.frozen()[1].view(-1, 1)
    torch.testing.assert_close(binary.weight.grad, image(4, 9) * scale)


SPREAD_INPUTS = {
    "conv": (lambda: nn.Conv2d(6, 4, 3, padding=1), (3, 6, 5, 6)),
    "conv without a batch": (lambda: nn.Conv2d(6, 4, 3, padding=1), (6, 5, 6)),
    "linear": (lambda: nn.Linear(6, 4), (3, 6)),
    "linear of tokens": (lambda: nn.Linear(6, 4), (3, 7, 6)),
    "linear without a batch": (lambda: nn.Linear(6, 4), (6,)),
    "nothing": (lambda: nn.Conv2d(6, 4, 3, padding=1), (0, 6, 5, 6)),
}


def spread_of(x: torch.Tensor, is_batch: bool) -> torch.Tensor:
    """σ of each image, restated."""
    images = x if is_batch else x[None]
    variances = [float(image.var(correction=0)) for image in images]
    spreads = (torch.tensor(variances, dtype=x.dtype) + 1e-5).sqrt()
    return spreads.view(-1, *[1] * (images.dim() - 1)) if is_batch else spreads


@pytest.mark.parametrize(("build", "shape"), SPREAD_INPUTS.values(), ids=SPREAD_INPUTS)
@pytest.mark.parametrize("estimator", ["ede", "ste", "triangle"])
def test_by_image_the_slope_is_that_of_dividing_by_a_constant_spread(
    build, shape: tuple[int, ...], estimator: str
) -> None:
    torch.manual_seed(5)
    binary = with_thresholds(build(), Method(estimator=estimator, learned_threshold=True)).double()
    binary.phase.set_range(3, 3)
    x = (3 * image(*shape).double()).requires_grad_()
    signs = binary(x)
    binary.phase.spreads_inputs = True
    y = binary(x)
    assert torch.equal(y, signs)
    wanted = image(*y.shape).double()
    found, of_threshold = torch.autograd.grad((y * wanted).sum(), (x, binary.threshold))

    binary.phase.spreads_inputs = False
    leaf = x.detach().requires_grad_()
    shifted = binary.shifted(leaf)
    batched = not (len(shape) == 1 or (len(shape) == 3 and isinstance(binary, nn.Conv2d)))
    divided = shifted / spread_of(shifted.detach(), batched)
    threshold, binary.threshold = binary.threshold, None  # has been taken off
    (binary(divided) * wanted).sum().backward()
    torch.testing.assert_close(found, leaf.grad)
    torch.testing.assert_close(of_threshold, threshold.grad)


def test_by_image_a_larger_input_has_as_many_gradients() -> None:
    binary = BinaryConv2d.from_float(nn.Conv2d(6, 4, 3), Method(estimator="ste"), EdePhase())
    binary.phase.spreads_inputs = True
    gradients = []
    for factor in (1.0, 100.0):
        x = (factor * image(3, 6, 5, 6)).requires_grad_()
        binary(x).sum().backward()
        gradients.append(factor * x.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_the_spread_is_measured_in_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    binary = BinaryConv2d.from_float(nn.Conv2d(6, 4, 3), Method(), EdePhase()).eval()
    binary.phase.spreads_inputs = True
    monkeypatch.setattr(binary, "inverse_spread", lambda _x: pytest.fail("measured"))
    binary(image(3, 6, 5, 6))
    weights_only = BinaryConv2d.from_float(
        nn.Conv2d(6, 4, 3), Method(binary_activations=False), binary.phase
    )
    x = image(3, 6, 5, 6).requires_grad_()
    monkeypatch.setattr(weights_only, "inverse_spread", lambda _x: pytest.fail("measured"))
    weights_only(x).sum().backward()
    assert set(weights_only.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("estimator", ["ede", "ste", "triangle"])
def test_by_image_mixed_precision_keeps_its_type(estimator: str) -> None:
    binary = (
        with_thresholds(nn.Conv2d(6, 4, 3), Method(estimator, "ede", learned_threshold=True))
        if False
        else with_thresholds(
            nn.Conv2d(6, 4, 3), Method(estimator=estimator, learned_threshold=True)
        )
    )
    binary.phase.spreads_inputs = True
    with torch.autocast("cpu", torch.bfloat16):
        x = image(2, 6, 5, 6).bfloat16().requires_grad_()
        binary(x).float().sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert bool(x.grad.isfinite().all())
