"""Libra-PB against its closed form in double precision, and the laws that follow from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from irbin.binary.libra import (
    BINARIZERS,
    libra,
    libra_latent,
    plain,
    power_of_two_exponent,
    standardize,
)


def filters(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * 0.05


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (5, 64), (2, 7, 1, 1), (1, 2)], ids=str)
def test_standardize_is_the_closed_form(shape: tuple[int, ...]) -> None:
    w = filters(*shape)
    rows = w.flatten(1).numpy()
    expected = (rows - rows.mean(1, keepdims=True)) / rows.std(1, ddof=1, keepdims=True)
    np.testing.assert_allclose(standardize(w).flatten(1).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (5, 64)], ids=str)
def test_exponent_is_the_closed_form(shape: tuple[int, ...]) -> None:
    w = filters(*shape).sign() * filters(*shape, seed=1).abs() ** 4  # heavy tails: exponents differ
    standardized = standardize(w)
    for row, s in zip(standardized, power_of_two_exponent(standardized), strict=True):
        assert s == round(math.log2(row.abs().mean()))


def test_scale_is_a_detached_power_of_two() -> None:
    w = filters(6, 3, 3, 3).requires_grad_()
    _, scale = libra(w)
    assert not scale.requires_grad
    assert torch.equal(scale.log2(), scale.log2().round())


def test_gradient_sums_to_zero_and_is_orthogonal_to_the_balanced_weight() -> None:
    w = filters(6, 3, 3, 3).requires_grad_()
    source, scale = libra(w)
    ((source * scale.view(-1, 1, 1, 1)).tanh() * filters(6, 3, 3, 3, seed=2)).sum().backward()
    assert w.grad is not None
    gradient, balanced = w.grad.flatten(1), (w - w.mean((1, 2, 3), keepdim=True)).flatten(1)
    norm = gradient.norm(dim=1)
    assert (norm > 1e-3).all()
    assert (gradient.sum(1).abs() / norm).max() < 1e-10
    assert ((gradient * balanced).sum(1).abs() / (norm * balanced.norm(dim=1))).max() < 1e-5


def test_standardize_gradient_is_the_derivative() -> None:
    assert torch.autograd.gradcheck(standardize, (filters(3, 2, 2, 2).requires_grad_(),), eps=1e-7)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e-30])
def test_a_constant_filter_gives_no_nan(value: float) -> None:
    w = torch.full((2, 3, 3, 3), value, requires_grad=True)
    source, scale = libra(w)
    (source * scale.view(-1, 1, 1, 1)).sum().backward()
    assert source.isfinite().all()
    assert scale.isfinite().all()
    assert (scale > 0).all()
    assert w.grad is not None
    assert w.grad.isfinite().all()


def test_a_filter_of_one_weight_keeps_its_sign() -> None:
    source, scale = libra(torch.tensor([[[[0.3]]], [[[-0.2]]]]))
    assert source.flatten().sign().tolist() == [1, -1]
    assert scale.tolist() == [1, 1]


def test_plain_is_the_weight_and_its_mean_magnitude() -> None:
    w = filters(4, 10)
    source, scale = plain(w)
    assert source is w
    np.testing.assert_allclose(scale.numpy(), np.abs(w.numpy()).mean(1))


def test_scale_is_a_no_op_before_batch_norm() -> None:
    w, x = filters(8, 4, 3, 3), filters(16, 4, 6, 6, seed=3)
    w[::2] = w[::2] ** 5  # heavy tails: half of the channels get another exponent
    source, scale = libra(w)
    assert len(set(scale.tolist())) > 1
    norm = nn.BatchNorm2d(8, eps=1e-12, affine=False).double()
    signs = torch.where(source < 0, -1.0, 1.0).double()
    scaled = norm(nn.functional.conv2d(x, signs * scale.view(-1, 1, 1, 1)))
    torch.testing.assert_close(scaled, norm(nn.functional.conv2d(x, signs)))


@given(st.integers(-40, 10))
def test_latent_scale_follows_the_weight_by_powers_of_two(exponent: int) -> None:
    w = filters(5, 3, 3, 3)
    source, scale = libra_latent(w)
    moved_source, moved_scale = libra_latent(w * 2.0**exponent)
    assert torch.equal(moved_scale, scale * 2.0**exponent)
    assert torch.equal(moved_source < 0, source < 0)


def test_latent_scale_has_libras_signs_and_the_balanced_weights_size() -> None:
    w = 0.02 * filters(6, 4, 3, 3) + 0.5
    source, scale = libra_latent(w)
    assert torch.equal(source, libra(w)[0])
    size = (w - w.mean((1, 2, 3), keepdim=True)).abs().mean((1, 2, 3))
    assert ((scale / size).log2().abs() <= 0.5 + 1e-6).all()
    assert not scale.requires_grad


@pytest.mark.parametrize("shape", [(3, 1), (3, 1, 1, 1)], ids=str)
def test_latent_scale_of_a_filter_of_one_weight_is_that_weights(shape: tuple[int, ...]) -> None:
    w = torch.tensor([0.25, -0.5, 4.0]).view(shape)
    assert libra_latent(w)[1].tolist() == [0.25, 0.5, 4.0]


def test_latent_scale_of_a_constant_filter_is_the_smallest() -> None:
    assert libra_latent(torch.full((2, 9), 0.5))[1].tolist() == [2.0**-126] * 2


def n_negative(source: torch.Tensor) -> list[int]:
    return (source < 0).flatten(1).sum(1).tolist()


@given(st.integers(2, 70), st.integers(0, 2**31), st.sampled_from(["libra", "libra-latent"]))
def test_by_the_median_half_of_the_signs_are_negative(n: int, seed: int, name: str) -> None:
    w = filters(5, n, seed=seed).float().exp()  # skewed: the mean halves none of them
    source, _ = BINARIZERS[f"{name}-median"](w)
    ordered = w.sort(dim=1).values
    middle = ordered[:, n // 2]
    n_below = (ordered < middle[:, None]).sum(1)  # fewer than half where weights are equal
    assert n_negative(source) == n_below.tolist()
    assume((ordered.diff(dim=1) > 0).all())
    assert n_negative(source) == [n // 2] * 5
    assert torch.equal(source == 0, w == middle[:, None])
    assert torch.equal(source < 0, w < middle[:, None])


def test_the_mean_does_not_halve_skewed_filters() -> None:
    w = (20 * filters(5, 70)).exp()
    assert max(n_negative(libra(w)[0])) != 35
    assert n_negative(libra(w, by_median=True)[0]) == [35] * 5


def test_weights_that_are_the_median_together_are_all_plus_one() -> None:
    w = torch.tensor([[1.0, 2.0, 2.0, 2.0], [-0.0, 0.0, 0.0, 7.0]])
    assert n_negative(standardize(w, by_median=True)) == [1, 0]


def test_by_the_median_only_the_centre_is_another() -> None:
    w = filters(4, 3, 3, 3)
    difference = standardize(w) - standardize(w, by_median=True)
    std = w.flatten(1).std(1)
    middle = w.flatten(1).sort(dim=1).values[:, 27 // 2]
    expected = (middle - w.flatten(1).mean(1)) / std
    for row, value in zip(difference.flatten(1), expected, strict=True):
        np.testing.assert_allclose(row, value, rtol=1e-4)


def test_the_medians_gradient_takes_its_distance_from_the_mean_for_a_constant() -> None:
    w = filters(3, 2, 2, 2)
    centre = (w - w.mean((1, 2, 3), keepdim=True)).flatten(1).sort(dim=1).values[:, 4]

    def with_constant(w: torch.Tensor) -> torch.Tensor:
        std = w.flatten(1).std(1).view(-1, 1, 1, 1)
        return (w - w.mean((1, 2, 3), keepdim=True) - centre.view(-1, 1, 1, 1)) / (std + 1e-7)

    upstream, gradients = filters(3, 2, 2, 2, seed=1), []
    for function in (lambda w: standardize(w, by_median=True), with_constant):
        source = w.clone().requires_grad_()
        (function(source) * upstream).sum().backward()
        assert source.grad is not None
        gradients.append(source.grad)
    torch.testing.assert_close(*gradients)
    assert (gradients[0].flatten(1).sum(1).abs() < 1e-10).all()
    assert torch.autograd.gradcheck(with_constant, (w.clone().requires_grad_(),), eps=1e-7)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e-30])
def test_a_constant_filter_gives_no_nan_by_the_median_either(value: float) -> None:
    w = torch.full((2, 3, 3, 3), value, requires_grad=True)
    for name in ("libra-median", "libra-latent-median"):
        source, scale = BINARIZERS[name](w)
        (source * scale.view(-1, 1, 1, 1)).sum().backward()
        assert not source.any()
        assert bool((scale > 0).all())
        assert w.grad is not None
        assert bool(w.grad.isfinite().all())


def test_a_filter_of_one_weight_keeps_its_sign_by_the_median_too() -> None:
    w = torch.tensor([[[[0.3]]], [[[-0.2]]]])
    for name in ("libra-median", "libra-latent-median"):
        assert BINARIZERS[name](w)[0].flatten().sign().tolist() == [1, -1]


def test_by_the_median_the_latent_scale_is_that_of_the_distances_to_it() -> None:
    w = (20 * filters(5, 70)).exp()  # skewed, so that mean and median differ
    source, scale = libra_latent(w, by_median=True)
    assert torch.equal(source, standardize(w, by_median=True))
    middle = w.sort(dim=1).values[:, 35:36]
    size = (w - middle).abs().mean(1)
    assert torch.equal(scale, size.log2().round().exp2())
    assert not scale.requires_grad
