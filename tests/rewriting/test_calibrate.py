from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from irbin.data.batches import Loader
from irbin.errors import TrainingError
from irbin.processes import ALONE
from irbin.recipes.recipe import Recipe
from irbin.records.options import DataOptions
from irbin.rewriting.calibrate import reestimate_batch_norm
from irbin.rewriting.network import Network
from irbin.training.loop import finetune
from irbin.training.prepare import open_loaders
from tests.conftest import IEEE, tf32


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3, momentum=0.3),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(12, 4),
        nn.BatchNorm1d(4, affine=False),
        nn.BatchNorm1d(4, track_running_stats=False),
    )


def test_one_batch_gives_its_own_statistics() -> None:
    module, images = network(), torch.randn(32, 2, 4, 4)
    assert reestimate_batch_norm(module, [images]) == 32
    features = module[0](images)
    assert torch.allclose(module[1].running_mean, features.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(module[1].running_var, features.var((0, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("sizes", [[8, 8], [8, 8, 2], [31, 33], [2, 30]])
def test_every_image_weighs_the_same(sizes: list[int]) -> None:
    module, images = network(), torch.randn(sum(sizes), 2, 4, 4)
    assert reestimate_batch_norm(module, images.split(sizes)) == sum(sizes)
    expected = module[0](images).mean((0, 2, 3))
    assert torch.allclose(module[1].running_mean, expected, atol=1e-5)


def test_old_statistics_are_forgotten_even_nan() -> None:
    module, images = network(), torch.randn(16, 2, 4, 4)
    reestimate_batch_norm(module, [images])
    expected = module[5].running_var.clone()
    for norm in (module[1], module[5]):
        norm.running_mean.fill_(math.nan)
        norm.running_var.fill_(math.inf)
    reestimate_batch_norm(module, [images])
    assert torch.equal(module[5].running_var, expected)


@pytest.mark.parametrize("training", [True, False])
def test_modes_momenta_and_weights_come_back(training: bool) -> None:
    module = network().train(training)
    module[5].eval()
    weights = [parameter.detach().clone() for parameter in module.parameters()]
    reestimate_batch_norm(module, [torch.randn(4, 2, 4, 4)])
    assert module[1].momentum == 0.3
    assert module[5].momentum == 0.1
    assert module[1].training is module[2].training is training
    assert module[5].training is False
    assert all(torch.equal(a, b) for a, b in zip(weights, module.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in module.parameters())


def test_gpus_measure_in_float32_and_not_in_tf32() -> None:
    seen: list[tuple[str, ...]] = []
    module, before = network(), tf32()
    module[0].register_forward_hook(lambda *_: seen.append(tf32()))
    reestimate_batch_norm(module, [torch.randn(4, 2, 4, 4)])
    assert seen == [IEEE]
    assert tf32() == before != seen[0]


def test_no_batch_changes_nothing() -> None:
    module = network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert reestimate_batch_norm(module, []) == 0
    assert all(torch.equal(value, before[n]) for n, value in module.state_dict().items())


def test_single_images_and_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"expected batches of at least 2 images.*got 1$"):
        reestimate_batch_norm(network(), [torch.randn(1, 2, 4, 4)])
    with pytest.raises(TrainingError, match="got NaN or infinity in batch norm `1`"):
        reestimate_batch_norm(network(), [torch.full((2, 2, 4, 4), math.nan)])


@pytest.mark.slow
@pytest.mark.parametrize(("n_images", "n_batches"), [(1, 1), (9, 2), (1000, 3)])
@pytest.mark.parametrize("model_ema", [False, True])
def test_a_run_ends_with_statistics_of_its_last_weights(
    n_images: int,
    n_batches: int,
    model_ema: bool,
    make_network: Callable[..., Network],
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
) -> None:
    """Measured on the first batches of the epoch that would be next, augmented as the others."""
    knobs = replace(recipe, calibrate_images=n_images, model_ema=model_ema, model_ema_decay=0.5)
    plain, ours = make_network(), make_network()
    finetune(plain, data, replace(knobs, calibrate_images=0), tmp_path / "plain")
    record = finetune(ours, data, knobs, tmp_path / "run")
    expected = copy.deepcopy(plain.module)
    train, _ = open_loaders(plain, data, knobs, ALONE)
    train.set_epoch(3)
    reestimate_batch_norm(expected, [images for images, _ in _first(train, n_batches)])
    assert not torch.equal(plain.module.bn2.running_mean, expected.bn2.running_mean)
    saved = load_file(tmp_path / "run/last/model.safetensors")
    for name, value in expected.state_dict().items():
        assert torch.equal(ours.module.state_dict()[name], value), name
        assert torch.equal(saved[name], value), name
    if record.best_epoch == 2 and not model_ema:
        best = load_file(tmp_path / "run/best/model.safetensors")
        assert torch.equal(best["bn2.running_mean"], expected.bn2.running_mean)


def _first(loader: Loader, n_batches: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [batch for _, batch in zip(range(n_batches), loader, strict=False)]
