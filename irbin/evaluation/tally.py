"""Running sums over batches of answers, as whole numbers on the device, read once at the end."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from irbin.errors import DataError
from irbin.processes import Group
from irbin.records.counts import N_BINS, Bin, Counts

TOP = 5
MAX_COUNTED = 4096
"""Classes up to which every pair is counted: 134 MB of counts."""


class Tally:
    """What was answered to which class, how surely, and the loss.

    Args:
        n_outputs: of the network.
        device: where logits are.

    Attributes:
        seen: images by class, (n_outputs,).
        right: right answers by class, (n_outputs,).
        right_in_top: images whose class is among the best `TOP`.
        loss: sum of cross-entropies.
    """

    def __init__(self, n_outputs: int, device: torch.device) -> None:
        self.n_outputs = n_outputs
        self.seen = torch.zeros(n_outputs, dtype=torch.int64, device=device)
        self.right, self.right_in_top = torch.zeros_like(self.seen), self.seen.new_zeros(())
        self.loss = torch.zeros((), dtype=sum_type(device), device=device)
        is_counted = n_outputs <= MAX_COUNTED
        self._pairs = self.seen.new_zeros(n_outputs * n_outputs if is_counted else 0)
        self._bins = torch.zeros(3, N_BINS, dtype=sum_type(device), device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: logits (batch, n_outputs) float32, labels (batch,)."""
        n_outputs = self.n_outputs
        ranked = logits.topk(min(TOP, n_outputs), dim=1).indices  # (batch, top)
        hits = ranked == labels[:, None]
        self.seen += labels.bincount(minlength=n_outputs)
        self.right += labels[hits[:, 0]].bincount(minlength=n_outputs)
        self.right_in_top += hits.sum()
        self.loss += F.cross_entropy(logits, labels, reduction="sum").to(self.loss.dtype)
        if len(self._pairs):
            pairs = labels * n_outputs + ranked[:, 0]
            self._pairs.index_add_(0, pairs, torch.ones_like(pairs))  # of a batch's pairs alone
        sure = logits.softmax(1).amax(1).nan_to_num(0)
        places = (sure * N_BINS).long().clamp(0, N_BINS - 1)
        for row, weights in zip(self._bins, (torch.ones_like(sure), sure, hits[:, 0]), strict=True):
            row.index_add_(0, places, weights.to(row.dtype))

    def gather(self, group: Group) -> None:
        """Sums over all processes, for each of them."""
        parts = (self.seen, self.right, self.right_in_top, self.loss, self._pairs, self._bins)
        for counted in parts:
            if counted.numel():
                group.sum(counted)

    def counts(self, names: tuple[str, ...]) -> Counts | None:
        """Pairs and bins; None where there are too many classes to count pairs."""
        if not len(self._pairs):
            return None
        places = self._pairs.nonzero().flatten()
        numbers = zip(places.tolist(), self._pairs[places].tolist(), strict=True)
        pairs = tuple((place // self.n_outputs, place % self.n_outputs, n) for place, n in numbers)
        bins = [Bin(round(n), sure / n, right / n) for n, sure, right in self._bins.T.tolist() if n]
        known = (*names, *map(str, range(len(names), self.n_outputs)))
        return Counts(known, pairs, tuple(bins))


def sum_type(device: torch.device) -> torch.dtype:
    """What sums over many images are held in: float64, but on Apple's GPUs, which have none."""
    return torch.float32 if device.type == "mps" else torch.float64


def start(logits: Tensor, labels: Tensor) -> Tally:
    """An empty tally for logits like these.

    Raises:
        DataError: they are no classifier's, or labels have no output.
    """
    if logits.dim() != 2:
        raise DataError(
            f"expected a classifier with outputs (batch, classes), got {tuple(logits.shape)}"
        )
    highest = int(labels.max())
    if highest >= logits.shape[1]:
        raise DataError(
            f"expected labels below the network's {logits.shape[1]} outputs, got {highest}: "
            "another data set, or another `num_classes=`"
        )
    return Tally(logits.shape[1], logits.device)


def gathered(tally: Tally | None, group: Group) -> Tally:
    """The sums of all processes; one that got no image has no tally of its own.

    Raises:
        DataError: no process has seen an image.
    """
    n_outputs = torch.tensor(0 if tally is None else tally.n_outputs, device=group.device)
    n_classes = int(group.max(n_outputs))
    if n_classes == 0:
        raise DataError("expected images to evaluate on, got none")
    tally = tally or Tally(n_classes, group.device)
    tally.gather(group)
    return tally
