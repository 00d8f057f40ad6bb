"""What the binary layers look like while they train: signs that flip, entropy, usable gradients.

`look` compares signs a few times an epoch, `measure` runs one batch at its end. Nothing that is
measured here reaches training. What the figures mean is said at `LayerDiagnostics`; they follow
larq's FlipRatio, IR-Net §3.2 (entropy) and OvSW (Xiang et al., ECCV 2024: weights that never flip).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, nn

from irbin.binary.layers import BinaryLayer, binary_layers
from irbin.binary.libra import BINARIZERS
from irbin.binary.recu import recu_bound
from irbin.errors import TrainingError
from irbin.files import write_file
from irbin.records.training import LayerDiagnostics
from irbin.runs import tables
from irbin.watching.probe import entropy, probe, share, usable_radius

MAX_IMAGES = 128
"""Of the batch that `measure` runs: enough for shares, and a small part of an epoch."""

_COLUMNS = tuple(field.name for field in fields(LayerDiagnostics))
_FIGURES = _COLUMNS[2:]
"""Every column after `epoch` and `layer`."""


class _Signs:
    """What is remembered of a layer's signs, as masks of the weight's shape.

    Attributes:
        epoch_end: which were negative at the end of the last epoch.
        flipped: which were ever seen to change.
    """

    KINDS = ("epoch_end", "flipped")

    def __init__(self, negative: Tensor) -> None:
        self.epoch_end = negative
        self.flipped = torch.zeros_like(negative)

    def look(self, negative: Tensor) -> None:
        # enough to note every change from look to look: of two signs that differ, one is not that
        # of the epoch's end, and was noted when it was seen
        self.flipped |= negative != self.epoch_end


class Diagnostics:
    """Sees a network's binary layers while they train; makes their records.

    Takes two bytes a binary weight. A float network gives empty results at no cost.

    Args:
        module: the network, not the compiled one, on its device; its signs are those of the run's
            begin until `load_state` says otherwise.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._binary = binary_layers(module)
        self._signs = {name: _Signs(_negative(layer)) for name, layer in self._binary.items()}

    def look(self) -> None:
        """Notes which signs are not those of the last epoch's end; waits for no device."""
        for name, layer in self._binary.items():
            if layer.phase.binary_weights:
                self._signs[name].look(_negative(layer))

    def measure(
        self, images: Tensor, epoch: int, amp: str | None = None
    ) -> tuple[LayerDiagnostics, ...]:
        """Looks, and runs the network on one batch in evaluation mode; ends the epoch for flips.

        Modes, buffers, hooks and random state are handed back as they came.

        Args:
            images: what the network was trained on last, (batch, channels, height, width), on its
                device; at most `MAX_IMAGES` of them are run.
            epoch: for the records.
            amp: autocast's type, as in training.

        Returns:
            A record a binary layer, in module order; nan where a layer did not run.
        """
        if not self._binary:
            return ()
        measured = probe(self._module, images[:MAX_IMAGES], amp)
        for name, layer in self._binary.items():
            measured[name] |= _end_epoch(layer, self._signs[name])
        return tuple(
            LayerDiagnostics(epoch, name, *(_short(figures.get(key, math.nan)) for key in _FIGURES))
            for name, figures in measured.items()
        )

    def state(self) -> dict[str, Tensor]:
        """What a run needs to go on with the same records: masks, 8 signs to a byte, on the CPU."""
        return {
            f"{name}.{kind}": torch.from_numpy(np.packbits(getattr(signs, kind).cpu().numpy()))
            for name, signs in self._signs.items()
            for kind in _Signs.KINDS
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes over, in place, what `state` gave for a network of the same layers.

        Raises:
            TrainingError: it is that of another network.
        """
        for name, signs in self._signs.items():
            for kind in _Signs.KINDS:
                mask = _unpacked(state.get(f"{name}.{kind}"), like=signs.flipped, layer=name)
                setattr(signs, kind, mask)


def epoch_means(layers: Sequence[LayerDiagnostics]) -> dict[str, float]:
    """Of each figure, by its name in `EpochRecord`: the mean over layers; nan where none has it."""
    means = {}
    for name in _FIGURES:
        known = [value for row in layers if not math.isnan(value := getattr(row, name))]
        means[name] = _short(fmean(known)) if known else math.nan
    return means


def write_diagnostics(out: Path, rows: Sequence[LayerDiagnostics]) -> None:
    """Writes diagnostics.csv whole: a header, and a row for every epoch and binary layer.

    Without rows, as of a float network, there is no file.
    """
    if not rows:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([getattr(row, name) for name in _COLUMNS] for row in rows)
    write_file(out / tables.DIAGNOSTICS, text.getvalue().encode())


def read_diagnostics(out: Path, n_epochs: int) -> tuple[LayerDiagnostics, ...]:
    """The rows of a run's first epochs; none where there is no file.

    Args:
        out: run folder.
        n_epochs: what belongs to this epoch or a later one is left out: a run that was killed
            between two files may have written more than it goes on from.

    Raises:
        SourceError: the file is damaged.
    """
    if not (out / tables.DIAGNOSTICS).is_file():
        return ()
    return tuple(row for row in tables.read_diagnostics(out) if row.epoch < n_epochs)


def _source(layer: BinaryLayer) -> Tensor:
    """What the layer takes the weights' sign of, in float32 as `BinaryLayer.frozen` does."""
    with torch.no_grad():
        return BINARIZERS[layer.method.binarizer](layer.weight.float())[0]


def _negative(layer: BinaryLayer) -> Tensor:
    return _source(layer) < 0


def _unpacked(packed: Tensor | None, like: Tensor, layer: str) -> Tensor:
    n_bytes = -(-like.numel() // 8)
    if packed is None or packed.shape != (n_bytes,):
        raise TrainingError(
            f"expected {n_bytes} bytes of signs of layer `{layer}`, got "
            f"{'none' if packed is None else packed.numel()}: they are another network's"
        )
    bits = np.unpackbits(packed.cpu().numpy(), count=like.numel()).astype(bool)
    return torch.from_numpy(bits).view(like.shape).to(like.device)


def _end_epoch(layer: BinaryLayer, signs: _Signs) -> dict[str, float]:
    """The weights' figures; moves `signs`, in place, to the epoch's end.

    While training has float weights there are no figures, and what changes sign does not flip.
    """
    source = _source(layer)
    radius = usable_radius(layer.method.estimator_of_weights, layer.phase)
    negative = source < 0
    if not layer.phase.binary_weights:
        signs.epoch_end = negative
        return {}
    usable = source.abs() <= radius
    if layer.phase.clamps:
        usable &= source.abs() <= recu_bound(source, layer.phase.tau)
    flip_ratio = share(negative != signs.epoch_end)
    signs.look(negative)
    signs.epoch_end = negative
    share_negative = negative.flatten(1).mean(dim=1, dtype=torch.float32)  # (out_channels,)
    return {
        "flip_ratio": flip_ratio,
        "never_flipped": 1 - share(signs.flipped),
        "weight_entropy": float(entropy(share_negative).mean()),
        "weight_gradient": share(usable),
    }


def _short(value: float) -> float:
    """Six digits, so that files stay small and hold exactly what was measured."""
    return float(f"{value:.6g}")
