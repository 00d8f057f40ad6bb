"""How a gradient changes on its way through the binary layers of ResNet-20, by estimator.

    python docs/accuracy/gradients.py --data-dir data/cifar10

Prints the table of docs/how-it-works.md: the root mean square of dL/dx at the input of the first
binary layer over that of the last one, of one batch in training mode. Nothing is trained.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from irbin.binary.layers import binary_layers, phase_of
from irbin.data import open_dataset
from irbin.data.batches import Images
from irbin.records.options import DataOptions, SourceOptions
from irbin.records.plan import PlanOptions
from irbin.rewriting.conversion import make_binary
from irbin.rewriting.network import Network
from irbin.sources.opened import open_network


@dataclass(frozen=True)
class Row:
    """One estimator at one t."""

    label: str
    estimator: str = "ede"
    t: float = 1.0
    scale: str = "paper"
    by_image: bool = False
    """Whether the slope is taken in units of each image's spread."""


ROWS = (
    *(Row(f"EDE, the paper's k, t = {t:g}", t=t) for t in (0.001, 0.1, 1, 2, 3, 10)),
    *(Row(f"EDE, the even k, t = {t:g}", t=t, scale="even") for t in (2, 3, 10)),
    Row("straight-through", "ste"),
    Row("straight-through, `--input-spread image`", "ste", by_image=True),
    Row("triangle", "triangle"),
    Row("triangle, `--input-spread image`", "triangle", by_image=True),
)

NETWORKS = {
    "from noise, Hardtanh": ("paper:resnet20", "hardtanh"),
    "float weights, PReLU": ("zoo:resnet20-cifar10-float", "prelu"),
}


def batch(network: Network, data_dir: str, split: str, n_images: int) -> tuple[Tensor, Tensor]:
    """Images from all over a split, normalized, and their labels."""
    preprocessing = network.source.preprocessing
    dataset = open_dataset(DataOptions(data_dir=data_dir), split, preprocessing)
    assert isinstance(dataset, Images)
    chosen = [dataset[i * len(dataset) // n_images] for i in range(n_images)]
    mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (preprocessing.mean, preprocessing.std))
    images = torch.stack([image for image, _ in chosen]).float() / 255
    return (images - mean) / std, torch.tensor([label for _, label in chosen])


def growth(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Root mean square of dL/dx of the first binary layer over that of the last one."""
    inputs: list[Tensor] = []

    def watch(_layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        args[0].retain_grad()
        inputs.append(args[0])

    hooks = [layer.register_forward_pre_hook(watch) for layer in binary_layers(module).values()]
    nn.functional.cross_entropy(module.train()(images), labels).backward()
    for hook in hooks:
        hook.remove()
    first, last = (x.grad.square().mean().sqrt() for x in (inputs[0], inputs[-1]))
    return float(first / last)


def digits(value: float) -> str:
    """Two digits that count, thousands apart."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.2g}"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", default="data/cifar10")
    parser.add_argument("--val-split", default="val")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    print(f"|  | {' | '.join(NETWORKS)} |\n|---|{'---|' * len(NETWORKS)}")
    sources = [
        (open_network(spec, SourceOptions(seed=asked.seed)), activation)
        for spec, activation in NETWORKS.values()
    ]
    for row in ROWS:
        cells = []
        for network, activation in sources:
            options = PlanOptions(shortcut="bireal", activation=activation, estimator=row.estimator)
            module = make_binary(network, options).module
            phase = phase_of(module)
            phase.set_range(row.t, row.t, row.scale)
            phase.spreads_inputs = row.by_image
            found = growth(module, *batch(network, asked.data_dir, asked.val_split, asked.images))
            cells.append(digits(found))
        print(f"| {row.label} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
