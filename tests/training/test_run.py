from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from irbin.recipes.recipe import Recipe
from irbin.records.options import DataOptions
from irbin.records.training import StepRecord
from irbin.rewriting.network import Network
from irbin.runs.listener import Listener
from irbin.training.loop import finetune

MakeNetwork = Callable[..., Network]


def without_norm(network: Network) -> Network:
    """Batch norm, whose statistics are a batch's, and dropout would see the cut."""
    for name in ("bn1", "bn2", "drop"):
        setattr(network.module, name, torch.nn.Identity())
    return network


@pytest.mark.slow
def test_two_batches_of_4_make_the_step_of_one_of_8(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    slow = replace(recipe, opt="momentum", lr=0.01)
    seen: list[StepRecord] = []
    whole, halves = without_norm(make_network()), without_norm(make_network())
    one = finetune(whole, data, slow, tmp_path / "one")
    cut = replace(slow, grad_accum_steps=2)
    two = finetune(
        halves,
        replace(data, batch_size=4),
        cut,
        tmp_path / "two",
        listener=Listener(report=seen.append),
    )
    assert seen[0].n_steps == 3
    for left, right in zip(one.epochs, two.epochs, strict=True):
        assert left.train_loss == pytest.approx(right.train_loss, rel=1e-4)
        assert left.eval_top1 == right.eval_top1
    for a, b in zip(whole.module.parameters(), halves.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_best_holds_the_average_and_last_the_weights_themselves(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    averaging = replace(
        recipe, epochs=2, model_ema=True, model_ema_decay=0.5, model_ema_warmup=False
    )
    network = make_network()
    finetune(network, data, averaging, tmp_path / "run")
    last = load_file(tmp_path / "run/last/model.safetensors")
    state = load_file(tmp_path / "run/last/training.safetensors")
    assert torch.equal(last["conv.weight"], network.module.conv.weight)
    assert not torch.equal(state["ema.conv.weight"], last["conv.weight"])
    plain = finetune(make_network(), data, replace(recipe, epochs=2), tmp_path / "plain")
    assert torch.equal(  # averaging only looks on
        load_file(tmp_path / "plain/last/model.safetensors")["conv.weight"], last["conv.weight"]
    )
    assert plain.best_epoch in (0, 1)
    newest = max((tmp_path / "run/recent").iterdir(), key=lambda path: path.name)
    assert newest.name == "epoch-2"
