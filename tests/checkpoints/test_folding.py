from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import irbin
from irbin.checkpoints.folding import folded
from irbin.errors import SourceError
from irbin.program.settle import settle
from irbin.records.options import SourceOptions

OLD = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def layer(kind: str) -> nn.Module:
    torch.manual_seed(0)
    makers = {
        "linear": lambda: nn.Linear(5, 3),
        "conv": lambda: nn.Conv2d(4, 6, 3),
        "one": lambda: nn.Conv2d(1, 1, 1),
        "transposed": lambda: nn.ConvTranspose2d(4, 6, 3),
    }
    return makers[kind]()


def parted(how: str, module: nn.Module) -> nn.Module:
    makers = {
        "weight_norm": lambda: parametrizations.weight_norm(module),
        "weight_norm of all": lambda: parametrizations.weight_norm(module, dim=None),
        "spectral_norm": lambda: parametrizations.spectral_norm(module),
        "old weight_norm": lambda: nn.utils.weight_norm(module),
        "old spectral_norm": lambda: nn.utils.spectral_norm(module),
        "pruned": lambda: prune.l1_unstructured(module, "weight", 0.4),
    }
    changed = makers[how]()
    with torch.no_grad():
        for parameter in changed.parameters():  # sizes that are not the directions' own
            parameter.mul_(1.5)
    changed(torch.rand(2, *((5,) if isinstance(module, nn.Linear) else (module.in_channels, 8, 8))))
    return changed.eval()


@OLD
@pytest.mark.parametrize("kind", ["linear", "conv", "one", "transposed"])
@pytest.mark.parametrize(
    "how",
    [
        "weight_norm",
        "weight_norm of all",
        "spectral_norm",
        "old weight_norm",
        "old spectral_norm",
        "pruned",
    ],
)
def test_the_weight_is_what_the_layer_computes_with(how: str, kind: str) -> None:
    module = parted(how, layer(kind))
    plain = layer(kind)
    found = folded(module.state_dict(), plain.state_dict())
    assert set(found.tensors) == set(plain.state_dict())
    assert torch.allclose(found.tensors["weight"], module.weight, rtol=1e-5, atol=1e-7)
    assert len(found.notes) == 1
    settle(module)  # what an export writes of the live layer
    assert torch.allclose(found.tensors["weight"], module.weight, rtol=1e-5, atol=1e-7)


def test_a_network_with_parts_of_its_own_keeps_them() -> None:
    module = parametrizations.weight_norm(layer("conv"))
    state = module.state_dict()
    assert folded(state, state).tensors is state


@OLD
@pytest.mark.parametrize("how", ["weight_norm", "old weight_norm", "spectral_norm", "pruned"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_trained_head_in_parts_is_not_replaced_by_a_random_one(
    how: str, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = timm.create_model("test_resnet", num_classes=7).eval()
    makers = {
        "weight_norm": parametrizations.weight_norm,
        "spectral_norm": parametrizations.spectral_norm,
        "old weight_norm": nn.utils.weight_norm,
        "pruned": lambda m: prune.l1_unstructured(m, "weight", 0.4),
    }
    makers[how](source.fc)
    source.eval()
    state = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    options = SourceOptions(model="test_resnet", num_classes=7)
    network = irbin.open_network(tmp_path / "w.pth", options)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(network.module.eval()(images), source(images), atol=1e-5)
    assert network.source.trained
    assert "re-initialised" not in "".join(caplog.messages)


class Doubled(nn.Module):
    """A parametrization that no one knows."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def test_a_head_under_names_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    source = timm.create_model("test_resnet", num_classes=7)
    parametrize.register_parametrization(source.fc, "weight", Doubled())
    torch.save(source.state_dict(), tmp_path / "w.pth")
    message = r"has a head for 7 classes in .*`fc\.parametrizations\.weight\.original`.* is not rep"
    with pytest.raises(SourceError, match=message):
        irbin.open_network(tmp_path / "w.pth", SourceOptions(model="test_resnet", num_classes=7))
    other = irbin.open_network(
        tmp_path / "w.pth", SourceOptions(model="test_resnet", num_classes=5)
    )
    assert not other.source.trained  # a new head was asked for
