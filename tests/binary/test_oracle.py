"""The binary layers against an independent float64 restatement in NumPy, with its own gradients.

Nothing of irbin computes here: `Oracle` follows docs/how-it-works.md, derivative by derivative.
Hundreds of random layers, each forward and backward: what is convolved and how it walks, every
binarizer, estimator, stage, clamp, gain, threshold and padding.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from timm.layers import Conv2dSame, ScaledStdConv2d, StdConv2d
from torch import nn

from irbin.binary.anneal import EDE_SCALES, EdePhase
from irbin.binary.estimator import ESTIMATORS
from irbin.binary.held import held_weights
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from irbin.binary.libra import BINARIZERS

Array = NDArray[np.float64]
EPSILON = 1e-7
N_PER_TEST, N_TESTS = 25, 16


def sign(x: Array) -> Array:
    return np.where(x < 0, -1.0, 1.0)


@dataclass
class Oracle:
    """One layer's numbers and settings."""

    weight: Array
    bias: Array | None
    method: Method
    t: float
    k: float
    tau: float | None = None
    """ReCU's; None where it is off."""
    binary_weights: bool = True
    binary_activations: bool = True
    threshold: Array | None = None
    gain: Array | None = None
    gain_factor: float = 1.0
    source_epsilon: float | None = None
    walk: dict[str, Any] | None = None
    """groups, and rows and columns: which pixel is read where, −1 for none; None: linear."""

    def slope(self, estimator: str, x: Array) -> Array:
        if estimator == "ede":
            return self.k * self.t * (1 - np.tanh(self.t * x) ** 2)
        if estimator == "ste":
            return np.where(np.abs(x) <= 1, 1.0, 0.0)
        if estimator == "triangle":
            return np.maximum(0, 2 - 2 * np.abs(x))
        return np.ones_like(x)

    def filters(self) -> Array:
        return self.weight.reshape(len(self.weight), -1)

    def standardized(self) -> Array:
        """ŵ, one row a filter."""
        w, name = self.filters(), self.method.binarizer
        if name == "plain":
            return w
        if w.shape[1] == 1:
            return w / (np.abs(w) + EPSILON)
        centred = w - w.mean(1, keepdims=True)
        self.std = centred.std(1, ddof=1, keepdims=True)
        self.centred = centred
        if "median" in name:
            centred = centred - np.sort(centred, 1)[:, w.shape[1] // 2, None]
        return centred / (self.std + EPSILON)

    def standardized_backward(self, grad: Array, hat: Array) -> Array:
        w = self.filters()
        if self.method.binarizer == "plain":
            return grad
        if w.shape[1] == 1:
            return grad / (np.abs(w) + EPSILON)
        spread = self.std + EPSILON
        by_centred = grad / spread
        by_std = -(grad * hat).sum(1, keepdims=True) / spread
        safe = np.where(self.std > 0, self.std, 1)
        by_centred = by_centred + by_std * np.where(
            self.std > 0, self.centred / ((w.shape[1] - 1) * safe), 0
        )
        return by_centred - by_centred.mean(1, keepdims=True)

    def scale(self, hat: Array) -> Array:
        w, name = self.filters(), self.method.binarizer
        if name == "plain":
            return np.abs(w).mean(1)
        size = hat
        if "latent" in name:
            size = w
            if w.shape[1] > 1:
                middle = np.sort(w, 1)[:, w.shape[1] // 2] if "median" in name else w.mean(1)
                size = w - middle[:, None]
        mean = np.maximum(np.abs(size).mean(1), 2.0**-126)
        return 2.0 ** np.round(np.log2(mean))

    def run(self, x: Array, grad_of: Any) -> dict[str, Array]:
        """y and, with `grad_of(y)` for its gradient, the gradients of everything."""
        method, found = self.method, {}
        shifted = x
        if method.binary_activations and self.threshold is not None:
            shape = (-1,) if self.walk is None else (-1, 1, 1)
            shifted = x - self.threshold.reshape(shape)
        signs_x = method.binary_activations and self.binary_activations
        read = sign(shifted) if signs_x else shifted
        gain = np.ones(len(self.weight)) if self.gain is None else self.gain * self.gain_factor
        if self.binary_weights:
            hat = self.standardized()
            bound = np.inf
            if self.tau is not None:
                bound = -np.abs(hat).mean(1, keepdims=True) * math.log(2 - 2 * self.tau)
            clamped = np.clip(hat, -bound, bound)
            core, by_channel = sign(clamped), self.scale(hat)
        elif self.source_epsilon is not None:
            w = self.filters()
            mean, deviation = w.mean(1, keepdims=True), w.var(1, keepdims=True)
            root = np.sqrt(deviation + self.source_epsilon)
            core, by_channel = (w - mean) / root, np.ones(len(w))
        else:
            core, by_channel, gain = self.filters(), np.ones(len(self.weight)), np.ones(1)
        core = core.reshape(self.weight.shape)
        product = self.product(read, core)
        after = (-1,) if self.walk is None else (-1, 1, 1)
        total = by_channel * gain
        y = product * total.reshape(after)
        if self.bias is not None:
            y = y + self.bias.reshape(after)
        found["y"], grad = y, grad_of(y)
        channel_axis = -1 if self.walk is None else 1
        others = tuple(i for i in range(y.ndim) if i != channel_axis % y.ndim)
        found["bias"] = grad.sum(others)
        found["gain"] = (grad * product).sum(others) * by_channel * self.gain_factor
        by_read, by_core = self.product_backward(read, core, grad * total.reshape(after))
        by_core = by_core.reshape(len(core), -1)
        if self.binary_weights:
            estimator = method.weight_estimator
            estimator = method.estimator if estimator == "same" else estimator
            by_hat = by_core * self.slope(estimator, clamped) * (np.abs(hat) <= bound)
            by_weight = self.standardized_backward(by_hat, hat)
        elif self.source_epsilon is not None:
            by_weight = by_core - by_core.mean(1, keepdims=True)
            by_weight -= (w - mean) / root**2 * (by_core * (w - mean)).mean(1, keepdims=True)
            by_weight /= root
        else:
            by_weight = by_core
        found["weight"] = by_weight.reshape(self.weight.shape)
        found["x"] = by_read * self.slope(method.estimator, shifted) if signs_x else by_read
        in_axis = x.ndim - 1 if self.walk is None else 1
        found["threshold"] = -found["x"].sum(tuple(i for i in range(x.ndim) if i != in_axis))
        return found

    def windows(self) -> Any:
        """(tap row, tap column, rows read, columns read) of every tap."""
        walk, (height, width) = self.walk, self.weight.shape[2:]
        assert walk is not None
        for i in range(height):
            for j in range(width):
                yield i, j, walk["rows"][i], walk["columns"][j]

    def taken(self, x: Array, rows: Array, columns: Array) -> Array:
        inside = (rows >= 0)[:, None] & (columns >= 0)
        return x[:, :, rows[:, None], columns] * inside

    def product(self, x: Array, weight: Array) -> Array:
        if self.walk is None:
            return x @ weight.T
        groups, y = self.walk["groups"], 0.0
        for i, j, rows, columns in self.windows():
            seen = self.taken(x, rows, columns)
            seen = seen.reshape(len(x), groups, -1, *seen.shape[2:])
            taps = weight[:, :, i, j].reshape(groups, -1, weight.shape[1])
            y = y + np.einsum("ngchw,goc->ngohw", seen, taps)
        return y.reshape(len(x), -1, *y.shape[3:])

    def product_backward(self, x: Array, weight: Array, grad: Array) -> tuple[Array, Array]:
        if self.walk is None:
            flat = grad.reshape(-1, grad.shape[-1])
            return grad @ weight, flat.T @ x.reshape(-1, x.shape[-1])
        groups = self.walk["groups"]
        by_x, by_weight = np.zeros_like(x), np.zeros_like(weight)
        grouped = grad.reshape(len(x), groups, -1, *grad.shape[2:])
        for i, j, rows, columns in self.windows():
            seen = self.taken(x, rows, columns)
            seen = seen.reshape(len(x), groups, -1, *seen.shape[2:])
            taps = weight[:, :, i, j].reshape(groups, -1, weight.shape[1])
            by_taps = np.einsum("ngchw,ngohw->goc", seen, grouped)
            by_weight[:, :, i, j] = by_taps.reshape(len(weight), -1)
            back = np.einsum("ngohw,goc->ngchw", grouped, taps).reshape(
                *x.shape[:2], *grad.shape[2:]
            )
            back = back * ((rows >= 0)[:, None] & (columns >= 0))
            np.add.at(by_x, (slice(None), slice(None), rows[:, None], columns), back)
        return by_x, by_weight


def walked(
    size: int, border: tuple[int, int], mode: str, kernel: int, stride: int, dilation: int
) -> list[Array]:
    """For every tap of one axis, which pixel each output reads; −1 where it reads a zero."""
    pixels = np.arange(size)
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    if mode == "zeros":
        padded = np.pad(pixels, border, constant_values=-1)
    else:
        padded = np.pad(pixels, border, mode=modes[mode])
    n_out = (len(padded) - (kernel - 1) * dilation - 1) // stride + 1
    return [padded[tap * dilation :][: (n_out - 1) * stride + 1 : stride] for tap in range(kernel)]


def random_layer(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    """A float layer and the shape of an input."""

    def pick(*of: Any) -> Any:
        return of[rng.integers(len(of))]

    bias = bool(rng.integers(2))
    if rng.random() < 0.25:
        layer: nn.Module = nn.Linear(pick(1, 2, 7, 33), pick(1, 5, 8), bias)
        return layer, (*pick((3,), (2, 4), (1,)), layer.in_features)
    groups = pick(1, 1, 2, 3)
    n_in, n_out = groups * pick(1, 2, 5), groups * pick(1, 3)
    kernel = (pick(1, 2, 3), pick(1, 3))
    stride, dilation = (pick(1, 1, 2), pick(1, 3)), (pick(1, 1, 2), 1)
    shape = (pick(1, 2), n_in, pick(5, 7, 8), pick(4, 9))
    common = {"stride": stride, "dilation": dilation, "groups": groups, "bias": bias}
    kind = pick("plain", "plain", "plain", "same", "std", "scaled")
    if kind == "same":
        return Conv2dSame(n_in, n_out, kernel, **common), shape
    if kind in ("std", "scaled"):
        made = {"std": StdConv2d, "scaled": ScaledStdConv2d}[kind]
        square = {"stride": stride[0], "groups": groups, "bias": bias}
        return made(n_in, n_out, 3 if n_in == groups else pick(1, 3), **square), shape
    padding = (pick(0, 1, 2), pick(0, 1))
    mode = pick("zeros", "zeros", "reflect", "replicate", "circular")
    return nn.Conv2d(n_in, n_out, kernel, padding=padding, padding_mode=mode, **common), shape


def random_method(rng: np.random.Generator) -> Method:
    binary_activations = bool(rng.random() < 0.75)
    return Method(
        binarizer=str(rng.choice(list(BINARIZERS))),
        estimator=str(rng.choice([name for name in ESTIMATORS if name != "identity"])),
        binary_activations=binary_activations,
        learned_threshold=binary_activations and bool(rng.integers(2)),
        weight_estimator=str(rng.choice(["same", *ESTIMATORS])),
    )


def random_phase(rng: np.random.Generator) -> tuple[EdePhase, float | None]:
    """A phase somewhere in training, and ReCU's τ."""
    phase = EdePhase()
    t_min, scale = float(rng.choice([0.001, 0.1, 1.0])), str(rng.choice(list(EDE_SCALES)))
    phase.set_range(t_min, 10.0, scale)
    clamps = rng.random() < 0.3
    if clamps:
        phase.set_clamp(0.85, 0.99)
    progress = float(rng.random())
    phase.set_progress(progress)
    t = t_min * (10 / t_min) ** progress
    late = {"paper": 1.0, "even": t**-0.5}[scale]
    assert phase.t.item() == pytest.approx(t)
    assert phase.k.item() == pytest.approx(max(1 / t, 1.0) if t < 1 else late)
    stage = rng.random()
    phase.set_stage(bool(stage > 0.15), bool(stage > 0.3))
    if not clamps:
        return phase, None
    tau = 0.85 + 0.14 * (math.exp(progress) - 1) / (math.e - 1)
    assert phase.tau.item() == pytest.approx(tau)
    return phase, phase.tau.item()


def binary(layer: nn.Module, method: Method, phase: EdePhase, rng: np.random.Generator) -> Any:
    kind = BinaryConv2d if isinstance(layer, nn.Conv2d) else BinaryLinear
    made = kind.from_float(layer, method, phase).double()
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(rng.normal(0.1, 0.7, made.weight.shape)))
        if rng.random() < 0.1:
            made.weight[0] = 0.25  # a constant filter
        for vector in (made.bias, made.gain, made.threshold):
            if vector is not None:
                vector.copy_(torch.from_numpy(rng.normal(0, 0.5, vector.shape)))
    return made


def oracle_of(layer: Any, tau: float | None, shape: tuple[int, ...]) -> Oracle:
    def numbers(tensor: torch.Tensor | None) -> Array | None:
        return None if tensor is None else tensor.detach().numpy().copy()

    walk, phase = None, layer.phase
    if isinstance(layer, BinaryConv2d):
        walk = {"groups": layer.groups}
        left, right, top, bottom = layer.border(*shape[2:])
        for axis, name, border in ((0, "rows", (top, bottom)), (1, "columns", (left, right))):
            walk[name] = walked(
                shape[2 + axis],
                border,
                layer.padding_mode,
                layer.kernel_size[axis],
                layer.stride[axis],
                layer.dilation[axis],
            )
    gain = numbers(layer.gain)
    return Oracle(
        numbers(layer.weight),
        numbers(layer.bias),
        layer.method,
        phase.t.item(),
        phase.k.item(),
        tau,
        phase.binary_weights,
        phase.binary_activations,
        numbers(layer.threshold),
        None if gain is None else gain.flatten(),
        layer.gain_factor,
        layer.source_epsilon,
        walk,
    )


def random_case(seed: int) -> tuple[Any, Oracle, torch.Tensor]:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    source, shape = random_layer(rng)
    phase, tau = random_phase(rng)
    layer = binary(copy.deepcopy(source), random_method(rng), phase, rng)
    x = rng.normal(0, 0.8, shape)
    x[rng.random(shape) < 0.05] = rng.choice([0.0, -0.0])
    return layer.train(bool(rng.integers(2))), oracle_of(layer, tau, shape), torch.from_numpy(x)


HELD = [(block, block % 4 == 0) for block in range(N_TESTS)]


@pytest.mark.slow
@pytest.mark.parametrize(("block", "held"), HELD)
def test_forward_and_every_gradient_are_the_oracles(block: int, held: bool) -> None:
    for seed in range(block * N_PER_TEST, (block + 1) * N_PER_TEST):
        layer, oracle, x = random_case(seed)
        wanted = oracle.run(x.numpy(), np.cos)
        x = x.requires_grad_()
        if held:
            with held_weights(layer):
                y = layer(x)
                y.sin().sum().backward()
        else:
            y = layer(x)
            y.sin().sum().backward()
        found = {"y": y.detach(), "x": x.grad}
        found |= {n: p.grad for n, p in layer.named_parameters() if p.grad is not None}
        if layer.gain is not None and layer.phase.binary_weights is False:
            assert layer.source_epsilon is not None
        for name, tensor in found.items():
            expected = torch.from_numpy(np.asarray(wanted[name])).reshape(tensor.shape)
            torch.testing.assert_close(
                tensor,
                expected,
                rtol=1e-7,
                atol=1e-9,
                msg=lambda m, n=name, s=seed: f"{s} {n}: {m}",
            )
        missing = {n for n, _ in layer.named_parameters()} - found.keys()
        assert missing <= ({"threshold"} if not layer.method.binary_activations else set())


@pytest.mark.slow
def test_the_cases_reach_every_setting() -> None:
    layers = [random_case(seed)[0] for seed in range(N_PER_TEST * N_TESTS)]
    methods = [layer.method for layer in layers]
    assert {m.binarizer for m in methods} == set(BINARIZERS)
    assert {m.weight_estimator for m in methods} == {"same", *ESTIMATORS}
    assert {m.estimator for m in methods} == set(ESTIMATORS) - {"identity"}
    kernels = [m for m in layers if isinstance(m, BinaryConv2d)]
    assert {m.padding_mode for m in kernels} == {"zeros", "reflect", "replicate", "circular"}
    assert {m.padding_rule for m in kernels} == {"fixed", "same"}
    assert {m.phase.scale for m in layers} == set(EDE_SCALES)
    for fact in (
        lambda m: m.gain is not None,
        lambda m: m.source_epsilon is not None,
        lambda m: m.threshold is not None,
        lambda m: m.phase.clamps,
        lambda m: m.phase.binary_weights,
        lambda m: m.phase.binary_activations,
        lambda m: m.weight[0].numel() == 1,
    ):
        assert {bool(fact(m)) for m in layers} == {False, True}
