"""Blocks of a network beside its teacher's: which places, what is handed out, what is learned."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from irbin.errors import UsageError
from irbin.recipes.recipe import Recipe
from irbin.records.options import DataOptions
from irbin.rewriting.network import Network
from irbin.runs.listener import Listener
from irbin.training.blocks import Place, Watched, common_places
from irbin.training.loop import finetune
from irbin.verbs import convert, open_network

MakeNetwork = Callable[..., Network]


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["none", "bireal"])
def test_places_end_the_stages_of_a_cifar_resnet(shortcut: str) -> None:
    teacher = open_network("paper:resnet20").module
    student = convert("paper:resnet20", shortcut=shortcut).module
    images = torch.randn(2, 3, 32, 32)
    places = common_places(student, teacher, images)
    if shortcut == "none":
        assert [place.name for place in places] == ["layer1", "layer2", "layer3"]
    else:  # its graph no longer calls the layers, but what ends them
        assert places == tuple(Place(f"layer{i}.2.act", 1) for i in (1, 2, 3))
    for network in (student, teacher):
        _, *blocks = Watched(network, places)(images)
        shapes = [tuple(block.shape) for block in blocks]
        assert shapes == [(2, 16, 32, 32), (2, 32, 16, 16), (2, 64, 8, 8)]


def test_looking_for_places_leaves_nothing_behind(make_network: MakeNetwork) -> None:
    student, teacher = make_network().module.train(), make_network(binary=False).module.train()
    before = copy.deepcopy(student.state_dict())
    assert common_places(student, teacher, torch.randn(2, 3, 8, 8)) == (Place("act", 1),)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert student.training
    assert not any(part._forward_hooks for part in student.modules())


def test_networks_with_nothing_in_common_are_refused(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    teacher = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    knobs = replace(recipe, distill=True, distill_blocks=1.0)
    with pytest.raises(UsageError) as caught:
        finetune(make_network(), data, knobs, tmp_path / "run", teacher=teacher)
    assert str(caught.value) == (
        "`distill_blocks`: expected feature maps of the same name and shape in the network and its "
        "teacher, found none; `distill_blocks=0` compares none"
    )


def test_a_watched_network_computes_the_same_and_passes_gradients(
    make_network: MakeNetwork,
) -> None:
    module, images = make_network().module.eval(), torch.randn(4, 3, 8, 8)
    kept: list[torch.Tensor] = []
    module.act.register_forward_hook(lambda _part, _args, output: kept.append(output))
    watched = Watched(module, (Place("act", 0), Place("act", 1)))
    logits, first, second = watched(images)
    assert torch.equal(first, kept[0])
    assert torch.equal(second, kept[1])
    assert torch.equal(logits, module(images))
    second.sum().backward()
    assert module.conv.weight.grad is not None
    assert set(watched.state_dict()) == {f"module.{name}" for name in module.state_dict()}
    watched.close()
    assert len(module.act._forward_hooks) == 1


@pytest.mark.slow
def test_compiled_it_hands_out_the_same(make_network: MakeNetwork) -> None:
    module, images = make_network().module.eval(), torch.randn(4, 3, 8, 8)
    watched = Watched(module, (Place("act", 0), Place("act", 1)))
    fast = torch.compile(watched, backend="aot_eager", fullgraph=True)
    gradients = []
    for network in (watched, fast):
        for _ in range(2):
            outputs = network(images)
            module.zero_grad()
            sum(output.square().sum() for output in outputs).backward()
        gradients.append((*outputs, module.conv.weight.grad.clone()))
    for plain, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, plain)


@pytest.mark.slow
def test_what_a_teacher_computes_on_the_way_changes_what_is_learned(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    weights = []
    for weight in (0.0, 5.0):
        network, teacher = make_network(), make_network(binary=False, seed=7).module
        knobs = replace(recipe, distill=True, distill_blocks=weight, float_epochs=1)
        finetune(network, data, knobs, tmp_path / str(weight), teacher=teacher)
        weights.append(network.module.conv.weight.detach().clone())
        for module in (network.module, teacher):  # not the run's any more
            assert not any(part._forward_hooks for part in module.modules())
    assert not torch.equal(*weights)


@pytest.mark.slow
def test_resumed_it_ends_with_the_same_bytes(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    knobs = replace(
        recipe,
        distill=True,
        distill_blocks=5.0,
        amp="bfloat16",
        channels_last=True,
        grad_accum_steps=2,
    )
    small, n_seen = replace(data, batch_size=4), []

    def stop(step: object) -> None:
        n_seen.append(step)
        if len(n_seen) == 4:
            raise KeyboardInterrupt

    def run(name: str, **more: object) -> bytes:
        teacher = make_network(binary=False, seed=7).module
        finetune(make_network(), small, knobs, tmp_path / name, teacher=teacher, **more)
        return (tmp_path / name / "last/training.safetensors").read_bytes()

    whole = run("whole")
    assert run("cut", listener=Listener(report=stop)) != whole
    assert run("cut", resume=True) == whole
