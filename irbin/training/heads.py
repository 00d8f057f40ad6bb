"""What a network answers in training: logits, and those of auxiliary heads where it has any.

GoogLeNet and its kin have classifiers half way that only training uses (Szegedy et al., CVPR 2015,
§5): their losses count too, with a weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from irbin.errors import TrainingError
from irbin.training.distill import task_loss

AUXILIARY_WEIGHT = 0.3
"""Of the loss of one auxiliary head beside that of the network's own; as in the paper."""


def heads(answer: object) -> tuple[Tensor, ...]:
    """The network's logits, then those of its auxiliary heads, (batch, num_classes) each.

    Args:
        answer: a tensor, or whatever holds several, of which the first is the network's own; those
            of another shape are no logits.

    Raises:
        TrainingError: there is no tensor.
    """
    if isinstance(answer, Tensor):
        return (answer,)
    tensors = [leaf for leaf in tree_leaves(answer) if isinstance(leaf, Tensor)]
    if not tensors:
        raise TrainingError(
            f"expected a network that returns logits in training, got a `{type(answer).__name__}` "
            "without tensors"
        )
    return tuple(one for one in tensors if one.shape == tensors[0].shape)


def labels_loss(answers: Sequence[Tensor], targets: Tensor, smoothing: float) -> Tensor:
    """The network's loss on the labels, and 0.3 times that of each auxiliary head; float32.

    Args:
        answers: from `heads`.
        targets: see `task_loss`.
        smoothing: see `task_loss`.
    """
    own, *auxiliary = (task_loss(logits, targets, smoothing) for logits in answers)
    return own + AUXILIARY_WEIGHT * torch.stack(auxiliary).sum() if auxiliary else own
