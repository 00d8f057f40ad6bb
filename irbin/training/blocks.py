"""Where a network and its teacher are compared on the way, and how what is there is handed out.

The ends of the resolution stages, as in attention transfer (Zagoruyko & Komodakis, ICLR 2017, §3.1)
and Real-to-Binary (Martinez et al., ICLR 2020, §4.1). Conversion keeps module names, so a place is
a name and a call: the shared activation of a block runs twice.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from irbin.errors import UsageError
from irbin.evaluation.modes import evaluating


class Place(NamedTuple):
    """An output within a network."""

    name: str
    """Dotted name of the module."""
    call: int
    """Which of its calls; counts from 0."""


class Watched(nn.Module):
    """A network that also hands out what it computes at some places; its parameters are shared.

    Maps (batch, channels, height, width) to a tuple: the network's output, then a tensor a place.
    Until `close`, hooks stay on the network, which do nothing where it is called by itself.

    Args:
        module: the network.
        places: modules of it, and their calls.
    """

    def __init__(self, module: nn.Module, places: tuple[Place, ...]) -> None:
        super().__init__()
        self.module, self.places = module, places
        self._seen: dict[str, list[Tensor]] = {}
        self._is_on = False
        names = dict.fromkeys(place.name for place in places)
        self._hooks = [self._watch(name, module.get_submodule(name)) for name in names]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # noqa: D102 - shapes in the class docstring
        self._seen = {place.name: [] for place in self.places}
        self._is_on = True
        output = self.module(x)
        self._is_on = False
        seen, self._seen = self._seen, {}
        return (output, *(seen[place.name][place.call] for place in self.places))

    def close(self) -> None:
        """Takes the hooks off the network."""
        for hook in self._hooks:
            hook.remove()

    def _watch(self, name: str, part: nn.Module) -> RemovableHandle:
        def note(_part: nn.Module, _args: object, output: Tensor) -> None:
            if self._is_on:
                self._seen[name].append(output)

        return part.register_forward_hook(note)


def common_places(student: nn.Module, teacher: nn.Module, images: Tensor) -> tuple[Place, ...]:
    """The last place of every resolution that both networks have, with the same shape.

    Args:
        student: the network in training.
        teacher: its teacher.
        images: (batch, channels, height, width), run once through both in evaluation mode.

    Raises:
        UsageError: there is no such place.
    """
    ours, theirs = _outputs(student, images), _outputs(teacher, images)
    last: dict[tuple[int, ...], Place] = {}
    for place, shape in ours.items():
        resolution = shape[2:]
        if theirs.get(place) == shape and resolution.numel() > 1:  # one pixel has but one map
            last.pop(resolution, None)
            last[resolution] = place
    if not last:
        raise UsageError(
            "`distill_blocks`: expected feature maps of the same name and shape in the network and "
            "its teacher, found none; `distill_blocks=0` compares none"
        )
    return tuple(last.values())


def _outputs(module: nn.Module, images: Tensor) -> dict[Place, torch.Size]:
    """Shapes of all feature maps that modules put out, in the order in which they are made."""
    shapes: dict[Place, torch.Size] = {}
    n_calls: dict[str, int] = {}

    def watch(name: str, part: nn.Module) -> RemovableHandle:
        def note(_part: nn.Module, _args: object, output: object) -> None:
            call = n_calls[name] = n_calls.get(name, -1) + 1
            if isinstance(output, Tensor) and output.dim() == 4:
                shapes[Place(name, call)] = output.shape

        return part.register_forward_hook(note)

    hooks = [watch(name, part) for name, part in module.named_modules() if name]
    try:
        with evaluating(module), torch.no_grad():
            module(images)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes
