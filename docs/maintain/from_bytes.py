"""Packed networks fed with bytes beside the same fed with normalized floats, on every image.

    python -m docs.maintain.from_bytes DATA_DIR PACKED... [--batch-size N]

Prints a row of a table in `docs/performance.md` for each network, then every image whose answer
differs: both answers, the label, and how far apart their logits are from floats and from bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import irbin
from irbin.data import eval_loader, open_dataset
from irbin.data.order import Feed
from irbin.data.streamed import StreamedLoader
from irbin.runtime.model import PackedModel


@dataclass(frozen=True)
class Answers:
    """Of one network, of every image."""

    floats: Tensor
    """(images, classes), of normalized images."""
    pixels: Tensor
    """Likewise, of bytes."""
    labels: Tensor
    """(images,)."""

    @property
    def row(self) -> str:
        """Top-1 of both in per cent, images whose answer differs, the largest gap of a logit."""
        one, other = self.floats.argmax(1), self.pixels.argmax(1)
        right = [100 * (top == self.labels).double().mean().item() for top in (one, other)]
        most = (self.floats - self.pixels).abs().max().item()
        same = 100 * (self.floats == self.pixels).all(1).double().mean().item()
        differ = int((one != other).sum())
        return f"{right[0]:.2f} | {right[1]:.2f} | {differ} | {same:.1f} | {most:.2g}"

    @property
    def differences(self) -> Iterator[str]:
        """A line for each image whose answer differs."""
        one, other = self.floats.argmax(1), self.pixels.argmax(1)
        for i in (one != other).nonzero()[:, 0].tolist():
            a, b = int(one[i]), int(other[i])
            gaps = [(logits[i, a] - logits[i, b]).item() for logits in (self.floats, self.pixels)]
            yield (
                f"  image {i}: {a} from floats, {b} from bytes, is {int(self.labels[i])}; their "
                f"logits {gaps[0]:.3g} and {gaps[1]:.3g} apart"
            )


def answers(model: PackedModel, data: irbin.DataOptions) -> Answers:
    """Of every image of the validation split."""
    preprocessing = model.manifest.source.preprocessing
    loader = eval_loader(open_dataset(data, data.val_split, preprocessing), data, Feed())
    assert isinstance(loader, StreamedLoader)
    batches = []
    for pixels, labels in loader.raw():
        from_bytes = model.bytes(pixels.permute(0, 2, 3, 1))
        batches.append((model(loader.normalize(pixels)), from_bytes, labels))
    return Answers(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir")
    parser.add_argument("packed", nargs="+")
    parser.add_argument("--batch-size", type=int, default=100)
    given = parser.parse_args()
    data = irbin.DataOptions(data_dir=given.data_dir, batch_size=given.batch_size)
    print("| network | from floats, % | from bytes, % | answers that differ | same bits, % | gap |")
    print("|---|---|---|---|---|---|")
    made = {name: answers(irbin.load(name), data) for name in given.packed}
    for name, found in made.items():
        print(f"| `{name}` | {found.row} |")
    for name, found in made.items():
        print(name, *found.differences, sep="\n")


if __name__ == "__main__":
    main()
