"""What a network says of every image of a data set, by name."""

from __future__ import annotations

from torch import Tensor

from irbin.data import Images, Stream
from irbin.errors import UsageError
from irbin.messages import counted
from irbin.processes import Group
from irbin.records.prediction import LabelledPrediction
from irbin.runtime.answers import answers


class Labelled:
    """Collects answers batch by batch, in the order of the data set; call it with each.

    Args:
        dataset: that is evaluated on.
        names: of the classes, None counts them.
        topk: classes told of each image.
        group: processes that share the images.

    Raises:
        UsageError: several processes share the images; or `topk` is no number of classes.
    """

    def __init__(
        self, dataset: Images | Stream, names: tuple[str, ...] | None, topk: int, group: Group
    ) -> None:
        if group.size > 1:
            raise UsageError(
                "`predictions` are collected by one process, got "
                f"{counted(group.size, 'process')}; run it without torchrun"
            )
        self.dataset, self.names, self.topk = dataset, names, topk
        self.found: list[LabelledPrediction] = []

    def __call__(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: logits (batch, classes), labels (batch,)."""
        first, numbers = len(self.found), labels.tolist()
        images = [self._name(first + i) for i in range(len(numbers))]
        names = self.names
        if names is not None and len(names) != logits.shape[1]:
            names = (*names, *map(str, range(len(names), logits.shape[1])))[: logits.shape[1]]
        told = answers(logits.cpu().numpy(), images, names, self.topk)
        for one, label in zip(told, numbers, strict=True):
            name = str(label) if names is None else names[label]
            self.found.append(LabelledPrediction(one, label, name))

    def _name(self, index: int) -> str:
        return str(index) if isinstance(self.dataset, Stream) else self.dataset.name(index)
