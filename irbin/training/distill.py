"""What a network is taught by: the labels, and the float network it was made from.

Logit distillation, Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, §2;
attention transfer, Zagoruyko & Komodakis, ICLR 2017, §3.1, as Real-to-Binary uses it (Martinez et
al., ICLR 2020, §4.1). Neither is part of IR-Net; recipes named after the paper leave them out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far the student's softened outputs are from the teacher's.

    Forward:   T² · mean over the batch of KL(softmax(teacher/T) ‖ softmax(student/T))
    Backward:  dL/dstudent = T/batch · (softmax(student/T) − softmax(teacher/T))

    The factor T² keeps the gradient's size when T changes.

    Args:
        student: logits, (batch, num_classes); differentiated.
        teacher: logits, (batch, num_classes); detached.
        temperature: T > 0.

    Returns:
        Scalar, float32, ≥ 0 up to rounding, 0 where both agree up to a constant.
    """
    wanted = F.log_softmax(teacher.detach().float() / temperature, dim=1)
    given = F.log_softmax(student.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(given, wanted, reduction="batchmean", log_target=True)


def attention(features: Tensor) -> Tensor:
    """Where a feature map is strong: Q = mean over channels of F², divided by its length.

    Args:
        features: F, (batch, channels, height, width).

    Returns:
        (batch, height·width), float32, ≥ 0, each row of length 1 (0 where F is 0): the same for
        channels in any order and of any common scale.
    """
    return F.normalize(features.float().square().mean(dim=1).flatten(1), dim=1)


def block_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """How far the student looks elsewhere than the teacher, summed over places.

    Forward:   Σ over places, mean over the batch of ‖Q(student) − Q(teacher)‖²

    Args:
        student: feature maps, (batch, channels, height, width) each; differentiated.
        teacher: those of the same places; detached.

    Returns:
        Scalar, float32; between 0 and 2 a place.
    """
    pairs = zip(student, teacher, strict=True)
    gaps = [attention(ours) - attention(theirs.detach()) for ours, theirs in pairs]
    return torch.stack([gap.square().sum(dim=1).mean() for gap in gaps]).sum()


def task_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy, float32.

    Mixed targets carry their smoothing already (timm's `Mixup` puts it in).

    Args:
        logits: (batch, num_classes).
        targets: class indices (batch,), or mixed probabilities (batch, num_classes).
        smoothing: share of the target spread evenly over all classes.
    """
    smoothing = smoothing if targets.dim() == 1 else 0.0
    return F.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
