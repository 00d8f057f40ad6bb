"""Does the packed network answer as the trained one does, and where it does not, why?

Given the same input bits every integer result is equal, so a difference begins where a float value
lies so near zero that folding batch norm changed its sign. Those are counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from irbin.binary.layers import BinaryConv2d, BinaryLinear, binary_layers
from irbin.bits import unpack
from irbin.errors import UsageError
from irbin.evaluation.modes import evaluating, exact_float32
from irbin.program.program import Node
from irbin.records.results import Agreement, Disagreement, LayerAgreement
from irbin.runtime.model import PackedModel


@dataclass
class _Flips:
    """What was seen of one layer so far."""

    n_signs: int = 0
    n_flipped: int = 0
    largest_flipped: float = 0.0


@dataclass
class _Batch:
    """One batch through both networks."""

    images: Tensor
    inputs: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    """Float inputs of the trained network's binary layers, by layer, in order of calls."""
    bits: dict[str, list[NDArray[np.uint8]]] = field(default_factory=lambda: defaultdict(list))
    """The packed network's input bits of the same layers."""


def compare(binary: nn.Module, packed: PackedModel, batches: Iterable[Tensor]) -> Agreement:
    """Runs both networks on the same images and counts what differs.

    Of a classifier the best classes are compared and every difference is explained; of a backbone
    only values and signs.

    Args:
        binary: the trained network that `packed` was exported from; runs in eval mode on its own
            device, and left in the mode it was in.
        packed: the packed network.
        batches: (batch, channels, height, width) each; all images are compared.

    Raises:
        UsageError: there is no image, or the two networks do not have the same binary layers or
            outputs.
    """
    is_classifier = packed.manifest.source.num_classes > 0
    layers = _shared_layers(binary, packed)
    flips: dict[str, _Flips] = defaultdict(_Flips)
    disagreements: list[Disagreement] = []
    n_images, max_difference = 0, 0.0
    for images in batches:
        if len(images) == 0:
            continue
        batch = _Batch(images)
        wanted, got = _run_both(binary, packed, batch, layers)
        first = _count_flips(batch, layers, flips)
        max_difference = max(max_difference, _largest_difference(wanted, got))
        if is_classifier:
            (logits,), (packed_logits,) = wanted, got
            different = (logits.argmax(1) != packed_logits.argmax(1)).nonzero().flatten()
            for i in different.tolist():
                explained = _explain(n_images + i, logits[i], packed_logits[i], first.get(i))
                disagreements.append(explained)
        n_images += len(images)
    if n_images == 0:
        raise UsageError("`batches`: expected at least one image to compare on, got none")
    return Agreement(
        n_images=n_images,
        equal_top1=100 * (1 - len(disagreements) / n_images) if is_classifier else None,
        max_difference=max_difference,
        layers=tuple(LayerAgreement(name, **vars(flips[name])) for name in layers),
        disagreements=tuple(disagreements),
    )


_Layers = dict[str, BinaryConv2d | BinaryLinear]


def _shared_layers(binary: nn.Module, packed: PackedModel) -> _Layers:
    """The binary layers whose inputs are bits, in the packed network's order.

    One that reads constants alone is computed when the network is loaded: it has nothing to show.
    """
    trained, nodes = binary_layers(binary), packed.layer_nodes
    order = [n for n, pairs in nodes.items() if any(packed.is_run(bits) for bits, _ in pairs)]
    with_bits = {n for n, layer in trained.items() if layer.method.binary_activations}
    with_bits -= nodes.keys() - set(order)
    if with_bits != set(order):
        odd = sorted(with_bits ^ set(order))
        raise UsageError(
            f"expected the packed network to be an export of the trained one; `{odd[0]}` is a "
            f"binary layer of the {'trained' if odd[0] in with_bits else 'packed'} one only"
        )
    return {name: trained[name] for name in order}


def _run_both(
    binary: nn.Module, packed: PackedModel, batch: _Batch, layers: _Layers
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of the trained and of the packed network, float64 on the CPU; fills `batch`."""
    device = next(iter(binary.parameters())).device
    with evaluating(binary), _listening(layers, batch.inputs), torch.no_grad(), exact_float32():
        wanted = binary(batch.images.to(device))
    layer_of = {bits.name: name for name, pairs in packed.layer_nodes.items() for bits, _ in pairs}

    def record(node: Node, value: Any) -> None:
        if node.name in layer_of:
            batch.bits[layer_of[node.name]].append(value.numpy())

    got = packed.run(batch.images, record)
    return _outputs(wanted), _outputs(got)


def _outputs(returned: Any) -> list[Tensor]:
    """The tensors in what a network returned, in the order in which a program has them."""
    return [tensor.cpu().double() for tensor in tree_leaves(returned)]


def _largest_difference(wanted: list[Tensor], got: list[Tensor]) -> float:
    if [t.shape for t in wanted] != [t.shape for t in got]:
        raise UsageError(
            "expected the packed network to be an export of the trained one; the trained one "
            f"returns {_shapes(wanted)}, the packed one {_shapes(got)}"
        )
    pairs = zip(wanted, got, strict=True)
    return max((a - b).abs().max().item() for a, b in pairs if a.numel())


def _shapes(tensors: list[Tensor]) -> str:
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors)


@contextmanager
def _listening(layers: _Layers, inputs: dict[str, list[Tensor]]) -> Iterator[None]:
    """Notes what every binary layer takes the sign of, padded as the layer pads it."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            binary = cast("BinaryConv2d | BinaryLinear", layer)
            inputs[name].append(_padded(binary, binary.shifted(args[0])).cpu())

        return note

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _padded(layer: BinaryConv2d | BinaryLinear, x: Tensor) -> Tensor:
    """The input as the packed network packs it: copied pixels are in it, zeros are not."""
    if isinstance(layer, BinaryLinear) or layer.padding_mode == "zeros":
        return x
    border = layer.border(x.shape[-2], x.shape[-1])
    return F.pad(x, border, layer.padding_mode) if any(border) else x


def _count_flips(
    batch: _Batch, layers: _Layers, flips: dict[str, _Flips]
) -> dict[int, tuple[str, float, int]]:
    """Adds a batch to `flips`.

    Returns:
        By image: the first layer with a flipped sign, the smallest |x| flipped there, and how many
        signs of the image are flipped in all layers together.
    """
    first: dict[int, tuple[str, float, int]] = {}
    for name, layer in layers.items():
        for x, bits in zip(batch.inputs[name], batch.bits[name], strict=True):
            flipped = _flipped(layer, x, bits)
            seen = flips[name]
            seen.n_signs += x.numel()
            if not bool(flipped.any()):
                continue
            seen.n_flipped += int(flipped.sum())
            seen.largest_flipped = max(seen.largest_flipped, x[flipped].abs().max().item())
            for image in flipped.flatten(1).any(1).nonzero().flatten().tolist():
                where = flipped[image]
                layer_name, nearest, count = first.get(
                    image, (name, x[image][where].abs().min().item(), 0)
                )
                first[image] = (layer_name, nearest, count + int(where.sum()))
    return first


def _flipped(layer: BinaryConv2d | BinaryLinear, x: Tensor, bits: NDArray[np.uint8]) -> Tensor:
    """Which signs of the packed network differ from those of x: bool, the shape of x."""
    if isinstance(layer, BinaryLinear):
        return torch.from_numpy(unpack(bits, x.shape[-1]) < 0) != (x < 0)
    per_group = x.shape[1] // layer.groups
    grouped = bits.reshape(*bits.shape[:3], layer.groups, -1)
    signs = unpack(grouped, per_group).reshape(*bits.shape[:3], x.shape[1])  # channels innermost
    return torch.from_numpy(np.moveaxis(signs < 0, -1, 1)) != (x < 0)


def _explain(
    index: int, wanted: Tensor, got: Tensor, first: tuple[str, float, int] | None
) -> Disagreement:
    best = wanted.topk(min(2, len(wanted))).values
    if first is None:
        why = "no sign is flipped: rounding in the float layers decided between two close classes"
    else:
        name, nearest, count = first
        why = (
            f"begins at `{name}`, where a value of {nearest:.3g} in size changed its sign; "
            f"{count} signs of the image are flipped in all"
        )
    margin = (best[0] - best[-1]).item()
    return Disagreement(index, int(wanted.argmax()), int(got.argmax()), margin, why)
