"""Networks with auxiliary heads train by their own logits, and by those of the heads."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.errors import TrainingError
from irbin.recipes.recipe import Recipe
from irbin.records.options import DataOptions
from irbin.rewriting.network import Network
from irbin.training.heads import heads, labels_loss
from irbin.training.loop import finetune

OWN, OTHER, MAP = torch.randn(4, 3), torch.randn(4, 3), torch.randn(4, 2, 8, 8)
Outputs = namedtuple("Outputs", ["logits", "aux_logits2", "aux_logits1"])


@pytest.mark.parametrize(
    ("answer", "n"),
    [
        (OWN, 1),
        ((OWN,), 1),
        ((OWN, OTHER), 2),
        ([OWN, OTHER, OTHER], 3),
        (Outputs(OWN, OTHER, None), 2),
        ({"logits": OWN, "aux": [OTHER, OTHER]}, 3),
        ((OWN, MAP), 1),
    ],
    ids=["tensor", "one", "tuple", "list", "torchvision", "dictionary", "a map beside"],
)
def test_the_first_tensor_is_the_networks_own(answer: object, n: int) -> None:
    found = heads(answer)
    assert found[0] is OWN
    assert len(found) == n


def test_no_tensor_is_an_error() -> None:
    with pytest.raises(TrainingError, match="returns logits in training, got a `tuple` without"):
        heads((None, "text"))


def test_auxiliary_losses_count_three_tenths_each() -> None:
    labels = torch.tensor([0, 1, 2, 0])
    own, other = F.cross_entropy(OWN, labels), F.cross_entropy(OTHER, labels)
    assert torch.equal(labels_loss([OWN], labels, 0.0), own)
    got = labels_loss([OWN, OTHER, OTHER], labels, 0.0)
    torch.testing.assert_close(got, own + 0.6 * other)


@pytest.mark.slow
@pytest.mark.parametrize("compare", ["nothing", "teacher", "blocks"])
def test_a_network_with_an_auxiliary_head_trains(
    compare: str,
    make_network: Callable[..., Network],
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
) -> None:
    network = make_network()
    kind = type(network.module)

    class WithHead(kind):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> object:
            early = self.aux(x.mean((2, 3)))
            logits = super().forward(x)
            return (logits, early) if self.training else logits

    network.module.__class__ = WithHead
    network.module.aux = nn.Linear(3, 3)
    before = network.module.aux.weight.detach().clone()
    teacher = None if compare == "nothing" else make_network(binary=False, seed=1).module
    recipe = replace(
        recipe, epochs=2, distill=teacher is not None, distill_blocks=float(compare == "blocks")
    )
    record = finetune(network, data, recipe, tmp_path / "run", teacher=teacher)
    assert record.epochs[-1].train_loss > 0
    assert not torch.equal(network.module.aux.weight, before)
