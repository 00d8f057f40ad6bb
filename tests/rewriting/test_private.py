"""No answer depends on a latent weight but through its binary layer, in any mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryLinear, Method, binary_layers
from irbin.errors import ConvertError
from irbin.rewriting.private import check_latent_weights_are_private


class Reads(nn.Module):
    """A network that takes another way where `condition` says so."""

    def __init__(self, condition: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.condition, phase = condition, EdePhase()
        self.first, self.second = (
            BinaryLinear.from_float(nn.Linear(8, 8), Method(), phase) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if self.condition(self):
            return F.linear(y, self.second.weight)
        return self.second(y)


def check(network: nn.Module, n_images: int = 4) -> None:
    x = torch.randn(n_images, 8, generator=torch.Generator().manual_seed(0))
    known = [network(x).detach()]
    check_latent_weights_are_private(network, binary_layers(network), x, known)


CONDITIONS = {
    "in evaluation without gradients": lambda m: not torch.is_grad_enabled(),
    "in inference mode": lambda m: torch.is_inference_mode_enabled(),
    "in training": lambda m: m.training,
}


@pytest.mark.parametrize("n_images", [2, 4])
def test_a_network_that_reads_none_runs_twice_in_training_and_once_in_each_other_mode(
    n_images: int,
) -> None:
    torch.manual_seed(0)
    seen: list[tuple[bool, bool, bool]] = []

    def note(module: nn.Module) -> bool:
        is_nan = bool(module.get_parameter("second.weight").isnan().any())
        seen.append((module.training, torch.is_inference_mode_enabled(), is_nan))
        return False

    check(Reads(note).eval(), n_images)
    again = [(False, False, False)] if n_images > 2 else []  # on the two that are enough
    runs = [
        *again,
        (False, False, True),
        (False, True, True),
        (True, False, False),
        (True, False, True),
    ]
    assert seen[1:] == runs


@pytest.mark.parametrize("mode", CONDITIONS)
def test_a_weight_read_in_one_mode_only_is_found(mode: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ConvertError) as caught:
        check(Reads(CONDITIONS[mode]).eval())
    assert str(caught.value) == (
        f"`second`: {mode} its float weight is read past the binary layer, so the network would "
        "answer with float weights (1 such layers); keep it float with `keep=['second']`"
    )


def test_layers_with_one_latent_weight_pass_and_are_found_together() -> None:
    torch.manual_seed(0)
    network = Reads(lambda m: False).eval()
    network.second.weight = network.first.weight
    check(network)
    assert bool(torch.isfinite(network.first.weight).all())
    network.condition = lambda m: m.training
    with pytest.raises(
        ConvertError, match=r"^`first`: in training .* `keep=\['first', 'second'\]`$"
    ):
        check(network)


def test_a_network_that_reads_nothing_passes_and_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    network = Reads(lambda m: False).eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    check(network)
    assert not network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert all(layer.held is None for layer in binary_layers(network).values())


def test_a_sign_behind_the_weight_does_not_hide_it() -> None:
    class Swallowed(Reads):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).sign().nan_to_num()

    torch.manual_seed(0)
    with pytest.raises(ConvertError, match="`second`: in training"):
        check(Swallowed(lambda m: m.training).eval())


def test_dropout_is_no_reading_and_a_network_that_never_repeats_itself_is_let_be() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Reads(lambda m: False), nn.Dropout(0.5)).eval()
    check(network)

    class Counting(Reads):
        n_calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.n_calls += 1
            return super().forward(x) + self.n_calls

    check(Counting(lambda m: False).eval())


def test_what_cannot_run_in_training_is_left_to_training() -> None:
    class Raises(Reads):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise KeyError("targets")
            return super().forward(x)

    check(Raises(lambda m: False).eval())
