from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from irbin.rewriting.network import Network
from irbin.watching.nonfinite import first_nonfinite

MakeNetwork = Callable[..., Network]


class Breaks(nn.Module):
    """A module inside which values stop being finite, outside of any part of its own."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.before, self.after = nn.Identity(), nn.Identity()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.before(x) * self.value)


def images() -> torch.Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_finite_network_has_no_such_place(make_network: MakeNetwork) -> None:
    assert first_nonfinite(make_network().module, images()) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_images_come_first(value: float, make_network: MakeNetwork) -> None:
    module, broken = make_network().module, images()
    module.fc.bias.data[0] = math.nan
    broken[1, 2, 3, 4] = value
    assert first_nonfinite(module, broken) == "the images hold values that are not finite"


@pytest.mark.parametrize("name", ["conv.weight", "bn1.running_var"])
def test_one_tensor_is_named(name: str, make_network: MakeNetwork) -> None:
    module = make_network().module
    module.state_dict()[name].view(-1)[0] = math.inf
    assert first_nonfinite(module, images()) == f"`{name}` holds values that are not finite"


@pytest.mark.parametrize("kind", ["parameters", "buffers"])
def test_several_tensors_are_counted(kind: str, make_network: MakeNetwork) -> None:
    module = make_network().module
    tensors = dict(getattr(module, f"named_{kind}")())
    names = [name for name in tensors if name.startswith(("bn1.", "bn2.")) and "num" not in name]
    for name in names:
        tensors[name].detach().fill_(math.nan)
    assert first_nonfinite(module, images()) == (
        f"4 of {len(tensors)} {kind} hold values that are not finite, `{names[0]}` and "
        f"`{names[-1]}` among them"
    )


def test_statistics_that_the_failing_step_spoiled_are_not_blamed() -> None:
    module = nn.Sequential(Breaks(math.nan), nn.BatchNorm2d(3)).train()
    module(images())
    assert module[1].running_mean.isnan().all()
    assert first_nonfinite(module, images()) == (
        "`0` (Breaks) makes values that are not finite out of finite ones"
    )


def test_the_innermost_module_that_breaks_is_named() -> None:
    module = nn.Sequential(nn.Identity(), nn.Sequential(Breaks(1.0), Breaks(math.inf)), nn.ReLU())
    assert first_nonfinite(module, images()) == (
        "`1.1` (Breaks) makes values that are not finite out of finite ones"
    )


def test_the_root_itself_is_called_the_network() -> None:
    assert first_nonfinite(Breaks(math.nan), images()) == (
        "the network itself makes values that are not finite out of finite ones"
    )


def test_what_only_half_precision_cannot_hold_is_found_with_it() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3, bias=False), nn.Flatten())
    nn.init.constant_(module[0].weight, 3e38)
    scaled = 0.3 + torch.zeros(1, 3, 8, 8)  # 27 products of 9e37 each
    assert first_nonfinite(module, scaled / 100) is None
    nn.init.constant_(module[0].weight, 1e4)
    assert first_nonfinite(module, scaled) is None
    assert first_nonfinite(module, scaled, "float16") == (
        "`0` (Conv2d) makes values that are not finite out of finite ones"
    )


def test_other_kinds_of_outputs_are_looked_into() -> None:
    class Listing(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            return {"maps": [x, None, 3], "last": (x * math.nan,)}

    assert first_nonfinite(nn.Sequential(Listing()), images()) == (
        "`0` (Listing) makes values that are not finite out of finite ones"
    )


def test_looking_leaves_no_trace(make_network: MakeNetwork) -> None:
    module = make_network().module.train()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    random = torch.get_rng_state()
    first_nonfinite(module, images())
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())  # dropout drew
    assert not any(part._forward_hooks for part in module.modules())
    assert all(part.training for part in module.modules())
