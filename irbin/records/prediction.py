"""What a network says of single images; torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from irbin.records.given import check_record
from irbin.records.knob import Knob

TOP = 5
"""Classes told of an image, where nobody says how many; of a network with fewer all."""


@dataclass(frozen=True)
class PredictOptions:
    """How pictures are read and answered. Made by callers, read by `prediction`."""

    topk: Annotated[int, Knob(None, "Classes told of each image.", "N", least=1)] = TOP
    batch_size: Annotated[int, Knob(None, "Images at once.", "N", least=1, also=("b",))] = 32
    upright: Annotated[
        bool, Knob(None, "Turn photographs as their cameras say that they were held.")
    ] = False
    """Networks are trained on pictures as they are stored."""

    def __post_init__(self) -> None:
        check_record(self, values=True)


@dataclass(frozen=True)
class Answer:
    """One class and how sure the network is of it. Made by `runtime.answers`, read by reports."""

    index: int
    """Output of the network."""
    name: str
    """Of the class; the index where nobody named it."""
    probability: float
    """Softmax of the logits, 0 to 1."""


@dataclass(frozen=True)
class Prediction:
    """Of one image. Made by `runtime.answers` and `prediction.predict`, read by reports."""

    image: str
    """File as it was named; of what has none its number, from 0."""
    best: tuple[Answer, ...]
    """The most probable classes, best first; none where there is an error."""
    error: str = ""
    """Why there is no answer: the file is damaged, or logits are no numbers."""


@dataclass(frozen=True)
class LabelledPrediction:
    """Of an image whose class is known. Made by `evaluation`, read by reports."""

    told: Prediction
    """What the network says."""
    label: int
    """Output that stands for the image's class."""
    label_name: str
    """Of the class."""

    @property
    def is_right(self) -> bool:
        """Whether the best answer is the image's class."""
        return bool(self.told.best) and self.told.best[0].index == self.label
