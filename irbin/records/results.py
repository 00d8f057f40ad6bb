"""What was evaluated, compared and exported; torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from irbin.records.counts import Counts, margin
from irbin.records.options import FloatDtype, NetworkForm, Preprocessing
from irbin.records.prediction import LabelledPrediction

InputType = Literal["bytes", "float32"]


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of one network on one data set. Made by `evaluation.accuracy`, read by reports."""

    name: str
    """What was evaluated: a path or spec."""
    kind: NetworkForm
    """Which form of the network ran."""
    n_images: int
    """Images seen: all of them."""
    top1: float
    """Per cent."""
    top5: float
    """Per cent; equals 100 with five classes or fewer."""
    loss: float
    """Mean cross-entropy, nats."""
    per_class: dict[str, float]
    """Top-1 in per cent by class name; classes without images are left out."""
    images_per_second: float
    """Of the network alone, after its first batch; on all processes together."""
    param_count: int
    """Parameters of the float network (latent weights counted once)."""
    size_bytes: int
    """Bytes on disk of the file that was evaluated, or float32 parameters where there is none."""
    preprocessing: Preprocessing
    """How images were fed."""
    stated_by: dict[str, str] | None = None
    """See `SourceRecord.stated_by`."""
    kernels: str | None = None
    """Which implementation ran a packed network, and why where that is the slow one."""
    images_per_second_decoded: float = 0.0
    """Of the whole pass: decoding, and waiting for images, included."""
    input_type: InputType = "float32"
    """What the network was given: images as bytes, or normalized."""
    counts: Counts | None = None
    """Every class against every answer, and calibration; None with thousands of classes."""
    answers: tuple[LabelledPrediction, ...] | None = None
    """Of every image, where they were asked for."""

    @property
    def top1_margin(self) -> float:
        """What `top1` may be off by chance, in points: half of the interval that holds 95 %."""
        return margin(self.top1, self.n_images)

    @property
    def top5_margin(self) -> float:
        """The same of `top5`."""
        return margin(self.top5, self.n_images)


@dataclass(frozen=True)
class LayerAgreement:
    """How the packed network's input bits of one layer compare. Made by `evaluation.agreement`."""

    name: str
    """Layer."""
    n_signs: int
    """Signs compared."""
    n_flipped: int
    """Signs that differ."""
    largest_flipped: float
    """Largest |x| in the trained network among signs that differ; 0 if none does."""


@dataclass(frozen=True)
class Disagreement:
    """One image whose top-1 differs, and where it began. Made by `evaluation.agreement`."""

    index: int
    """Position in the data set's order."""
    binary_class: int
    """Top-1 of the trained network."""
    packed_class: int
    """Top-1 of the packed network."""
    margin: float
    """Gap between the trained network's two best logits."""
    explanation: str
    """First layer with a flipped sign and how near zero it was, or rounding in the last layers."""


@dataclass(frozen=True)
class Agreement:
    """Packed against trained binary network. Made by `evaluation.agreement`, read by reports."""

    n_images: int
    """Images compared."""
    equal_top1: float | None
    """Per cent; None where there is no classifier, hence no top-1 class."""
    max_difference: float
    """Largest absolute difference of a logit; of a backbone of any value it returns."""
    layers: tuple[LayerAgreement, ...]
    """In execution order."""
    disagreements: tuple[Disagreement, ...]
    """Every image whose top-1 differs, explained."""


@dataclass(frozen=True)
class ExportRecord:
    """What export wrote. Made by `artifact.write`, read by reports."""

    path: str
    """Packed folder."""
    predicted_bytes: int
    """Tensor bytes the plan predicted."""
    tensor_bytes: int
    """Tensor bytes in the safetensors file; equals the prediction but for constants that the
    network's code computes when it is lowered."""
    total_bytes: int
    """The three files that run it; the model card beside them is not counted."""
    float_bytes: int
    """The float network as float32."""
    n_binary: int
    """Binary layers."""
    n_nodes: int
    """Nodes of the program."""
    float_dtype: FloatDtype
    """Storage of everything that is not bits."""


@dataclass(frozen=True)
class CRecord:
    """A network written as C. Made by `emit.folder`, read by reports."""

    path: str
    """The folder."""
    name: str
    """Of functions and files."""
    function: str
    """That computes an answer."""
    arena_bytes: int
    """Memory that it takes while it runs."""
    constant_bytes: int
    """Of weights and all other numbers."""
    n_calls: int
    """Of kernels, for one image."""
    by_definition: tuple[str, ...] = ()
    """Operators that `irbin.load` leaves to torch: answers equal its own but for rounding there."""


@dataclass(frozen=True)
class OnnxRecord:
    """A network written as ONNX. Made by `onnx.model`, read by reports."""

    path: str
    """The file."""
    total_bytes: int
    """Of it."""
    opset: int
    """Version of ONNX's standard operators."""
    n_nodes: int
    """Of the graph."""
    n_binary: int
    """Weights that are one bit each."""


@dataclass(frozen=True)
class DemoRecord:
    """What the demo measured. Made by `demo.run`, read by reports."""

    path: str
    """Folder with everything it wrote."""
    evaluations: tuple[Evaluation, ...]
    """Float, binary, packed; the packed one was computed from the packed folder."""
    agreement: Agreement
    """Packed against binary on the whole test set."""
    export: ExportRecord
    """What the packed folder holds."""
    seconds: float
    """From start to end."""


@dataclass(frozen=True)
class PushRecord:
    """What goes to the hub. Made by `pushing`, read by reports."""

    folder: str
    """That it comes from, as it was named."""
    repository: str
    """`OWNER/NAME`."""
    files: dict[str, int]
    """Bytes by name."""
    private: bool
    """Whether a new repository is."""
