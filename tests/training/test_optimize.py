from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, LayerNorm2d
from timm.optim import param_groups_weight_decay
from torch import nn

from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, Method
from irbin.errors import TrainingError, UsageError
from irbin.recipes.recipe import Recipe
from irbin.rewriting.network import Network
from irbin.training.optimize import learning_rate, make_optimizer, make_scheduler, param_groups

MakeNetwork = Callable[..., Network]


def test_groups_hold_every_parameter_once(make_network: MakeNetwork, recipe: Recipe) -> None:
    module = make_network().module
    grouped = [p for group in param_groups(module, recipe) for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, module.parameters()))


def test_latent_weights_have_their_own_decay_and_rate(
    make_network: MakeNetwork, recipe: Recipe
) -> None:
    module = make_network().module
    knobs = replace(recipe, weight_decay=0.1, latent_weight_decay=0.01, latent_lr_scale=0.5)
    latent, decaying, others = param_groups(module, knobs)
    assert [id(p) for p in latent["params"]] == [id(module.conv.weight)]
    assert (latent["weight_decay"], latent["lr_scale"]) == (0.01, 0.5)
    assert {id(p) for p in decaying["params"]} == {id(module.stem.weight), id(module.fc.weight)}
    assert decaying["weight_decay"] == 0.1
    assert others["weight_decay"] == 0
    assert all(p.ndim == 1 for p in others["params"])
    assert param_groups(module, replace(knobs, latent_weight_decay=None))[0]["weight_decay"] == 0.1
    optimizer = make_optimizer(module, knobs)
    make_scheduler(optimizer, knobs, 10).step_update(5)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates[0] == pytest.approx(0.5 * rates[1])
    assert learning_rate(optimizer) == pytest.approx(rates[1])


def with_thresholds(module: nn.Module) -> nn.Module:
    module.conv = BinaryConv2d.from_float(module.conv, Method(learned_threshold=True), module.ede)
    return module


def test_norms_biases_and_thresholds_have_a_rate_of_their_own(
    make_network: MakeNetwork, recipe: Recipe
) -> None:
    module = with_thresholds(make_network().module)
    knobs = replace(recipe, norm_lr_scale=4.0, weight_decay=0.1)
    *_, shifts, others = param_groups(module, knobs)
    wanted = (module.bn1.bias, module.bn2.bias, module.conv.threshold)
    assert {id(p) for p in shifts["params"]} == set(map(id, wanted))
    assert (shifts["weight_decay"], shifts["lr_scale"]) == (0, 4)
    assert id(module.stem.bias) in {id(p) for p in others["params"]}
    grouped = [p for group in param_groups(module, knobs) for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, module.parameters()))
    optimizer = make_optimizer(module, knobs)
    make_scheduler(optimizer, knobs, 10).step_update(5)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates[-2] == pytest.approx(4 * rates[-1])
    assert learning_rate(optimizer) == pytest.approx(rates[-1])


def test_at_the_common_rate_the_groups_are_those_of_earlier_versions(
    make_network: MakeNetwork, recipe: Recipe
) -> None:
    module = with_thresholds(make_network().module)
    groups = param_groups(module, replace(recipe, norm_lr_scale=1.0))
    names = {id(p): name for name, p in module.named_parameters()}
    assert [[names[id(p)] for p in group["params"]] for group in groups] == [
        ["conv.weight"],
        ["stem.weight", "fc.weight"],
        [
            "stem.bias",
            "bn1.weight",
            "bn1.bias",
            "conv.threshold",
            "bn2.weight",
            "bn2.bias",
            "fc.bias",
        ],
    ]


NORMS = (nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.BatchNorm1d(3), LayerNorm2d(3), BatchNormAct2d(3))


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: type(norm).__name__)
def test_every_kind_of_norm_has_its_bias_there(norm: nn.Module, recipe: Recipe) -> None:
    module = nn.Sequential(nn.Linear(3, 3), norm, nn.LayerNorm(3, bias=False))
    *_, shifts, _others = param_groups(module, replace(recipe, norm_lr_scale=0.5))
    assert [id(p) for p in shifts["params"]] == [id(norm.bias)]


def test_a_network_without_any_has_no_such_group(recipe: Recipe) -> None:
    assert len(param_groups(nn.Linear(2, 2), replace(recipe, norm_lr_scale=0.5))) == 2


def test_a_float_network_has_no_latent_group(make_network: MakeNetwork, recipe: Recipe) -> None:
    assert len(param_groups(make_network(binary=False).module, recipe)) == 2


def test_names_that_the_network_exempts_do_not_decay(recipe: Recipe) -> None:
    class Exempting(nn.Linear):
        def no_weight_decay(self) -> set[str]:
            return {"weight"}

    (group,) = param_groups(Exempting(2, 2), replace(recipe, weight_decay=0.1))
    assert group["weight_decay"] == 0


def test_exempt_weights_are_those_that_timm_exempts(recipe: Recipe) -> None:
    """XCiT names them by a pattern, `pos_embed.*`, and a convolution is among them."""
    with torch.device("meta"):
        network = timm.create_model("xcit_nano_12_p16_224", depth=1)
    ours = param_groups(network, replace(recipe, weight_decay=0.1))
    theirs = param_groups_weight_decay(network, 0.1, no_weight_decay_list=network.no_weight_decay())
    for decay in (0.0, 0.1):
        mine, its = (
            {id(p) for group in groups if group["weight_decay"] == decay for p in group["params"]}
            for groups in (ours, theirs)
        )
        assert mine == its, decay


def test_exempt_latent_weights_decay_only_when_latent_weights_are_told_to(recipe: Recipe) -> None:
    phase = EdePhase()
    network = nn.Module()
    network.pos_embed = nn.ModuleList(
        [BinaryConv2d.from_float(nn.Conv2d(4, 4, 1, bias=False), Method(), phase)]
    )
    network.conv = BinaryConv2d.from_float(nn.Conv2d(4, 4, 3, bias=False), Method(), phase)
    network.no_weight_decay = lambda: {"pos_embed.*"}
    knobs = replace(recipe, weight_decay=0.1, latent_lr_scale=0.5)
    decays = [(g["weight_decay"], g["lr_scale"]) for g in param_groups(network, knobs)]
    assert decays == [(0.1, 0.5), (0.0, 0.5)]
    (group,) = param_groups(network, replace(knobs, latent_weight_decay=0.01))
    assert (group["weight_decay"], len(group["params"])) == (0.01, 2)


def test_nothing_to_train_is_an_error(recipe: Recipe) -> None:
    with pytest.raises(TrainingError, match="expected a network with trainable parameters"):
        param_groups(nn.Linear(2, 2).requires_grad_(False), recipe)


def test_arguments_that_an_optimizer_does_not_take(recipe: Recipe) -> None:
    with pytest.raises(UsageError, match=r"`opt=`: `adamw` cannot be made: .*colour"):
        make_optimizer(nn.Linear(2, 2), replace(recipe, opt_kwargs={"colour": 1}))
    optimizer = make_optimizer(nn.Linear(2, 2), replace(recipe, opt_kwargs={"eps": 1e-3}))
    assert optimizer.param_groups[0]["eps"] == 1e-3


@pytest.mark.parametrize("warmup_epochs", [0, 0.5, 1])
def test_cosine_starts_high_and_ends_at_min_lr(warmup_epochs: float, recipe: Recipe) -> None:
    knobs = replace(recipe, epochs=4, lr=0.1, min_lr=0.001, warmup_epochs=warmup_epochs)
    optimizer = make_optimizer(nn.Linear(2, 2), knobs)
    scheduler = make_scheduler(optimizer, knobs, 10)
    rates = []
    for step in range(41):
        scheduler.step_update(step)
        rates.append(learning_rate(optimizer))
    warm = int(10 * warmup_epochs)
    for step in range(warm, 41):
        expected = 0.001 + 0.5 * 0.099 * (1 + math.cos(math.pi * step / 40))
        assert rates[step] == pytest.approx(expected if step < 40 else 0.001)
    assert rates[:warm] == sorted(rates[:warm])


@pytest.mark.parametrize("sched", ["tanh", "step", "multistep", "poly", "constant", "wsd", "rsqrt"])
def test_every_schedule_is_a_function_of_the_step(sched: str, recipe: Recipe) -> None:
    knobs = replace(recipe, epochs=4, sched=sched, decay_epochs=1, decay_milestones=(1.0, 2.0))
    optimizers = [make_optimizer(nn.Linear(2, 2), knobs) for _ in range(2)]
    gradual, jumping = (make_scheduler(o, knobs, 5) for o in optimizers)
    for step in range(1, 18):
        gradual.step_update(step)
    jumping.step_update(17)
    assert learning_rate(optimizers[0]) == learning_rate(optimizers[1])
    assert (learning_rate(optimizers[0]) == knobs.lr) == (sched == "constant")


def test_cool_down_adds_epochs(recipe: Recipe) -> None:
    knobs = replace(recipe, epochs=4, cooldown_epochs=2)
    optimizer = make_optimizer(nn.Linear(2, 2), knobs)
    scheduler = make_scheduler(optimizer, knobs, 5)
    scheduler.step_update(25)
    assert learning_rate(optimizer) == knobs.min_lr
    assert isinstance(optimizer, torch.optim.AdamW)
