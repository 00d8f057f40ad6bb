"""Weights that a file holds in parts, as `weight_norm`, `spectral_norm` and pruning leave them.

What a layer computes with depends on the parts alone, so it is computed once and takes its plain
name. A network that has the same parts itself keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from irbin.checkpoints.matching import as_is
from irbin.messages import names_of


class Folded(NamedTuple):
    """A file's tensors with every weight under its plain name."""

    tensors: Mapping[str, Tensor]
    """By name."""
    notes: tuple[str, ...]
    """What was computed from what."""


def weight_norm(size: Tensor, direction: Tensor) -> Tensor:
    """g · v / ‖v‖ (Salimans and Kingma, 2016); the norm over the axes along which `size` is 1."""
    axes = [
        axis
        for axis in range(direction.dim())
        if size.dim() != direction.dim() or size.shape[axis] == 1
    ]
    length: Tensor = torch.linalg.vector_norm(direction, dim=axes, keepdim=True)
    return direction * (size / length)


def spectral_norm(weight: Tensor, left: Tensor, right: Tensor) -> Tensor | None:
    """W / (u·Wv) (Miyato et al., 2018) with the singular vectors as stored; None if they differ."""
    for axis in range(min(weight.dim(), 2)):  # transposed convolutions have outputs second
        matrix = weight.movedim(axis, 0).flatten(1)
        if (left.numel(), right.numel()) == tuple(matrix.shape):
            return weight / torch.dot(left.flatten(), matrix @ right.flatten())
    return None


def pruned(weight: Tensor, mask: Tensor) -> Tensor | None:
    """W · mask; None if the shapes differ."""
    return weight * mask if weight.shape == mask.shape else None


class _Kind(NamedTuple):
    """How one program writes the parts; `{}` stands for the layer and the parameter's name."""

    name: str
    parts: tuple[str, ...]
    fold: Callable[..., Tensor | None]


_KINDS = (
    _Kind(
        "weight_norm",
        ("{0}parametrizations.{1}.original0", "{0}parametrizations.{1}.original1"),
        weight_norm,
    ),
    _Kind("weight_norm", ("{0}{1}_g", "{0}{1}_v"), weight_norm),
    _Kind(
        "spectral_norm",
        (
            "{0}parametrizations.{1}.original",
            "{0}parametrizations.{1}.0._u",
            "{0}parametrizations.{1}.0._v",
        ),
        spectral_norm,
    ),
    _Kind("spectral_norm", ("{0}{1}_orig", "{0}{1}_u", "{0}{1}_v"), spectral_norm),
    _Kind("pruning", ("{0}{1}_orig", "{0}{1}_mask"), pruned),
)

_FIRST_PART = re.compile(
    r"(?P<layer>(?:.*\.)?)(?:parametrizations\.(?P<new>\w+)\.original0?|(?P<old>\w+?)_(?:g|orig))"
)


def folded(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Folded:
    """The tensors with parts folded into the weights that they stand for.

    Args:
        tensors: a file's.
        own: the network's, by the names that it has itself.
    """
    if any(_FIRST_PART.fullmatch(name) for name in own):
        return Folded(tensors, ())
    kept = as_is(tensors)
    made: dict[str, list[str]] = {}
    for name in tensors:
        match = _FIRST_PART.fullmatch(name)
        if match is None:
            continue
        layer, parameter = match["layer"], match["new"] or match["old"]
        plain = f"{layer}{parameter}"
        for kind in _KINDS:
            parts = [part.format(layer, parameter) for part in kind.parts]
            if plain in kept or not all(part in kept for part in parts):
                continue
            weight = kind.fold(*(tensors[part] for part in parts))
            if weight is not None:
                for part in parts:
                    del kept[part]
                kept[plain] = weight
                made.setdefault(kind.name, []).append(plain)
    notes = tuple(
        f"computed {names_of(names)} from the parts that {kind} leaves"
        for kind, names in made.items()
    )
    return Folded(kept if made else tensors, notes)
