"""The frozen records that cross from one stage to the next; torch-free, printable, saved as JSON.

Each says who makes it and who reads it. `to_json` and `from_json` turn any of them into plain JSON
values and back, checking types on the way in (pydantic does the checking).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from irbin.errors import UsageError
from irbin.knob import DATA, IMAGES, NETWORK, PLAN, Knob

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Bits = Literal["1w1a", "1w32a"]
Activation = Literal["hardtanh", "prelu", "rprelu", "keep"]
SignThreshold = Literal["zero", "learned"]
Shortcut = Literal["none", "bireal"]
Downsample = Literal["keep", "avgpool"]
Balance = Literal["mean", "median"]
Estimator = Literal["ede", "ste", "triangle"]
WeightEstimator = Literal["same", "ede", "ste", "triangle", "identity"]
NetworkForm = Literal["float", "binary", "packed"]
FloatDtype = Literal["float32", "float16", "bfloat16"]
FloatMath = Literal["float32", "bfloat16"]
CacheKind = Literal["auto", "ram", "device", "off"]
Grouping = Literal["layer", "block"]
Ranking = Literal["bytes", "time"]
BudgetKind = Literal["bytes", "latency", "drop"]
JsonValue = Any

CALIBRATION_IMAGES = 1024
"""Images for batch-norm statistics after converting, where data was given but no number; a few
batches do."""

_T = TypeVar("_T")


SMALL_SIDE = 96
"""Longest side in pixels of an input that counts as small: MNIST's 28 to STL-10's 96, below any
network for photographs that timm holds."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input. Made by `network.source`, read by `data`."""

    input_size: tuple[int, int, int] = (3, 224, 224)
    """(channels, height, width)."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Per channel, in units of [0, 1] pixels."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Per channel, in units of [0, 1] pixels."""
    interpolation: str = "bicubic"
    """timm's name of the resampling filter."""
    crop_pct: float = 0.875
    """Share of the resized image's side that the centre crop keeps at evaluation."""
    crop_mode: str = "center"
    """timm's name of the evaluation crop."""
    small_as_is: bool = True
    """An image of the network's own size, where that is small, is left as it is; False resizes and
    crops it as timm does."""

    @property
    def is_small(self) -> bool:
        """Whether the input counts as small, see `SMALL_SIDE`."""
        return max(self.input_size[1:]) <= SMALL_SIDE


DEFAULT_SEED = 42
"""Where neither the caller nor a recipe says."""
THE_SOURCES = "the source's"
"""What None stands for in most of `SourceOptions`."""


@dataclass(frozen=True)
class SourceOptions:
    """How to read what the user named. Made by the command line, read by `network.source`."""

    model: Annotated[
        str | None,
        Knob(NETWORK, "Architecture of a checkpoint file that does not name its own.", "NAME"),
    ] = None
    """Any source spec without weights (`resnet18`, `torchvision:…`)."""
    pretrained: Annotated[
        bool, Knob(NETWORK, "Load the weights that a timm or torchvision name comes with.")
    ] = True
    num_classes: Annotated[
        int | None,
        Knob(
            NETWORK,
            "Outputs of the classifier; 0 takes a timm network without its head.",
            "N",
            shown=THE_SOURCES,
            least=0,
        ),
    ] = None
    in_chans: Annotated[
        int | None, Knob(NETWORK, "Image channels.", "N", shown=THE_SOURCES, least=1)
    ] = None
    img_size: Annotated[
        int | None,
        Knob(IMAGES, "Height and width of an image.", "N", shown=THE_SOURCES, least=1),
    ] = None
    """The channels are `input_size`'s or the source's."""
    mean: Annotated[
        tuple[float, ...] | None,
        Knob(
            IMAGES,
            "Subtracted from pixels of 0 to 1: one number, or one a channel.",
            "M...",
            shown=THE_SOURCES,
            typed=str,
        ),
    ] = None
    std: Annotated[
        tuple[float, ...] | None,
        Knob(
            IMAGES,
            "Divides them then; 1/255 with mean 0 gives pixels of 0 to 255.",
            "S...",
            shown=THE_SOURCES,
            typed=str,
        ),
    ] = None
    interpolation: Annotated[
        Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] | None,
        Knob(IMAGES, "Filter of resizing.", shown=THE_SOURCES),
    ] = None
    crop_pct: Annotated[
        float | None,
        Knob(
            IMAGES,
            "Share that evaluation's crop keeps; given, of small images too.",
            "SHARE",
            shown=THE_SOURCES,
        ),
    ] = None
    crop_mode: Annotated[
        Literal["center", "squash", "border"] | None,
        Knob(IMAGES, "timm's crop of evaluation.", shown=THE_SOURCES),
    ] = None
    input_size: Annotated[
        tuple[int, int, int] | None,
        Knob(IMAGES, "Channels, height and width of an image.", "C H W", shown=THE_SOURCES),
    ] = None
    model_kwargs: Annotated[
        dict[str, JsonValue],
        Knob(NETWORK, "Further argument of the model's factory.", "KEY=VALUE"),
    ] = field(default_factory=dict)
    reparameterize: Annotated[
        bool, Knob(NETWORK, "Fuse multi-branch blocks first (RepVGG, MobileOne, …).")
    ] = False
    """Once the weights are loaded."""
    use_ema: Annotated[
        bool, Knob(NETWORK, "Take the averaged weights of a training checkpoint.")
    ] = False
    state_key: Annotated[
        str | None,
        Knob(
            NETWORK,
            "Where in a checkpoint file the weights lie, if it holds several: its keys joined by "
            "dots, or a prefix of names.",
            "KEY",
        ),
    ] = None
    remap: Annotated[
        bool,
        Knob(NETWORK, "Match a checkpoint's tensors by order where their names do not fit."),
    ] = False
    ignore_extra: Annotated[
        bool,
        Knob(NETWORK, "Leave a checkpoint's tensors that the network lacks, and list them."),
    ] = False
    seed: int | None = None
    """Decides the weights that are not loaded: all of an untrained network, or a new head; None
    takes the recipe's, else `DEFAULT_SEED`."""

    def __post_init__(self) -> None:
        # lists for tuples, as in every folder that this network will be built from again
        object.__setattr__(self, "model_kwargs", _as_in_json(self.model_kwargs))

    @property
    def sets_size(self) -> bool:
        """Whether another height and width is asked for."""
        return self.input_size is not None or self.img_size is not None

    def size_of(self, default: tuple[int, int, int]) -> tuple[int, int, int]:
        """(channels, height, width) as asked for, the rest as in `default`."""
        channels, height, width = self.input_size or default
        if self.img_size is not None:
            height = width = self.img_size
        return (self.in_chans or channels, height, width)


DEFAULT_BATCH_SIZE = 128
"""Images per step where neither the caller nor a recipe says."""


@dataclass(frozen=True)
class DataOptions:
    """Which images, and how they are read, in timm's words. Made by callers, read by `data`."""

    data_dir: Annotated[str | None, Knob(DATA, "Folder of the data set.", "DIR", typed=Path)] = None
    dataset: Annotated[
        str,
        Knob(
            DATA,
            "timm's data set string: torch/cifar10, hfds/…, …",
            "TYPE/NAME",
            shown="image folder or tar",
        ),
    ] = ""
    train_split: Annotated[str, Knob(DATA, "Split to train on.", "NAME")] = "train"
    val_split: Annotated[str, Knob(DATA, "Split to evaluate on.", "NAME", also=("split",))] = (
        "validation"
    )
    """`val`, `valid` and `test`-less folders are found as timm finds them."""
    class_map: Annotated[str, Knob(DATA, "File that maps class names to indices.", "FILE")] = ""
    dataset_download: Annotated[
        bool, Knob(DATA, "Let torchvision or the hub fetch the data set.")
    ] = False
    batch_size: Annotated[
        int | None,
        Knob(
            DATA,
            "Images per step.",
            "N",
            shown=f"the recipe's, else {DEFAULT_BATCH_SIZE}",
            least=1,
            also=("b",),
        ),
    ] = None
    workers: Annotated[int, Knob(DATA, "Loader processes.", "N", least=0, also=("j",))] = 2
    cache: Annotated[
        CacheKind,
        Knob(DATA, "Training: keep decoded images in memory; auto: where they fit."),
    ] = "auto"
    train_num_samples: Annotated[
        int | None,
        Knob(DATA, "Images in the training split of a stream that does not say it.", "N", least=1),
    ] = None
    val_num_samples: Annotated[
        int | None,
        Knob(
            DATA,
            "Images in the validation split of a stream that does not say it.",
            "N",
            least=1,
        ),
    ] = None

    @property
    def n_batch(self) -> int:
        """Images per step, never None."""
        return DEFAULT_BATCH_SIZE if self.batch_size is None else self.batch_size


@dataclass(frozen=True)
class SourceRecord:
    """Where a float network came from: enough to build its architecture again without its weights.

    Made by `network.source`, stored in every folder irbin writes, read by `network.folder`.
    """

    spec: str
    """What the user typed, file paths made absolute."""
    architecture: str
    """Factory: `timm:resnet18`, `torchvision:resnet18`, `paper:resnet20`,
    `module:package.mod:factory`."""
    num_classes: int
    """Outputs of the classifier; 0 for a backbone."""
    preprocessing: Preprocessing
    """How images are fed to it."""
    model_kwargs: dict[str, JsonValue] = field(default_factory=dict)
    """Further arguments of the factory, as given with `--model-kwargs`."""
    trained: bool = False
    """Weights were loaded; False means random initialisation, which is no teacher and no
    baseline."""
    weights: str | None = None
    """File or tag the weights came from."""
    class_names: tuple[str, ...] | None = None
    """In the order of the outputs, where known."""
    state_key: str | None = None
    """Where in the checkpoint file the weights lie, if that had to be said."""
    remap: bool = False
    """The checkpoint file's tensors may be matched by their order."""
    ignore_extra: bool = False
    """The checkpoint file may hold more than the network has."""
    reparameterized: bool = False
    """Multi-branch blocks were fused once the weights were loaded."""
    stated_by: dict[str, str] | None = None
    """Who stated each field of `preprocessing`, in words; one that is missing was a guess. None in
    folders written before it was kept."""
    published_names: bool = False
    """`class_names` are those of whoever published the weights, for people to read; a data set may
    call the same classes otherwise."""


LayerKind = Literal["conv2d", "linear", "other"]


@dataclass(frozen=True)
class LayerRecord:
    """One layer with weights, as found. Made by `network.trace`, read by `network.plan`."""

    name: str
    """Dotted path in the module tree; the first one where the module is reachable by several."""
    kind: LayerKind
    """`other` is a layer with a weight matrix that irbin does not binarize (ConvTranspose2d,
    LSTM …)."""
    type_name: str
    """Class name of the float layer."""
    weight_shape: tuple[int, ...]
    """(out_channels, in_channels / groups, kernel_height, kernel_width) or (out_features,
    in_features)."""
    groups: int
    """1 for linear layers."""
    has_bias: bool
    """Whether a bias vector of out_channels floats belongs to it."""
    n_macs: int
    """Multiply-adds per image, all calls together; 0 for a layer that never ran."""
    input_shape: tuple[int, ...]
    """Of one image, without the batch axis; () for a layer that never ran."""
    output_shape: tuple[int, ...]
    """Of one image, without the batch axis; () for a layer that never ran."""
    is_first: bool = False
    """No other layer with weights lies between the network's input and it."""
    is_last: bool = False
    """No other layer with weights lies between it and the network's output."""
    is_shortcut: bool = False
    """A 1×1 convolution that alone forms the bypass branch of a residual addition."""
    is_depthwise: bool = False
    """groups == in_channels > 1."""
    activations: tuple[str, ...] = ()
    """Replaceable non-negative activations (ReLU and kin) that make its input non-negative; graph
    node names for functional ones, dotted module paths for modules."""
    never_negative: str = ""
    """What else makes its input non-negative and cannot be replaced (`softmax`, `sigmoid` …); ''
    if nothing."""
    obstacle: str = ""
    """Why it cannot be binarized at all (own forward, weight read from outside, never called …);
    '' if it can."""
    followed_by: str = ""
    """Class or function name of the first thing that reads its output; shown with `--json`."""
    is_gate: bool = False
    """Part of a squeeze-excite gate: between a global pooling and the product it controls."""
    has_gain: bool = False
    """Its weight is standardized and scaled by a learned gain per output channel."""
    keeps_size: bool = False
    """Its output's size matters: no norm behind it absorbs a scale, and nothing in the source
    standardizes its weight."""
    unseen: str = ""
    """Why tracing does not see it; its facts then come from a recorded run alone. '' if it does."""
    always_negative: str = ""
    """How it is known that its input is negative everywhere; '' if it is not."""
    signs_of_inputs: tuple[str, ...] = ()
    """Activations in front of it whose sign is that of their input, but for rounding: module paths,
    and graph node names with `()` for functions."""
    tied_to: tuple[str, ...] = ()
    """Other layers whose weight is the same parameter: all of them are binary, or none."""


@dataclass(frozen=True)
class LayerGraph:
    """All layers in execution order. Made by `network.trace`, read by `network.plan`."""

    layers: tuple[LayerRecord, ...]
    """Layers with weights, each once."""
    input_size: tuple[int, int, int]
    """(channels, height, width) that tracing used."""
    n_other_params: int
    """Parameters outside `layers`: norms, PReLU, position embeddings, class tokens."""
    other_bytes: int
    """Bytes those and the buffers beside them take in a packed folder at float32: a batch norm
    counts 2 vectors."""
    n_other_floats: int
    """How many of the numbers behind `other_bytes` are floating, hence halved by `--float-dtype
    float16`."""
    activation_channels: dict[str, int] = field(default_factory=dict)
    """Channels of every activation named in `layers`; 1 where a slope per channel does not fit."""
    other_macs: int = 0
    """Multiply-adds per image of products of activations, as in attention: in no layer, never
    binary. 0 also in folders written before they were counted."""
    n_fusable: int = 0
    """Layers that fusing multi-branch blocks would save (`--reparameterize`)."""


@dataclass(frozen=True)
class Decision:
    """What happens to one layer, and why. Made by `network.plan`, read by everything after."""

    layer: LayerRecord
    """The facts it rests on."""
    binary: bool
    """Whether the layer is binarized."""
    reason: str
    """In words a user can act on: `first layer`, `1×1 shortcut`, `kept by rule 'layer4.*'`,
    `binary` …"""
    packed_bytes: int
    """Predicted size in the packed folder with float32 rest: bits, exponents, bias."""

    @property
    def n_params(self) -> int:
        """Weights and bias."""
        n = 1
        for size in self.layer.weight_shape:
            n *= size
        return n + (self.layer.has_bias + self.layer.has_gain) * self.layer.weight_shape[0]

    @property
    def float_bytes(self) -> int:
        """Size as float32."""
        return 4 * self.n_params


@dataclass(frozen=True)
class PlanOptions:
    """What the user asked for. Made by callers, read by `network.plan` and `network.rewrite`."""

    bits: Annotated[Bits, Knob(PLAN, "Weights and activations binary, or weights only.")] = "1w1a"
    activation: Annotated[Activation, Knob(PLAN, "What replaces a ReLU that feeds a sign.")] = (
        "hardtanh"
    )
    """Of every non-negative activation, ReLU or kin."""
    sign_threshold: Annotated[
        SignThreshold,
        Knob(PLAN, "Where an activation's sign changes; learned: per channel."),
    ] = "zero"
    """Learned: one number per input channel of each binary layer."""
    shortcut: Annotated[
        Shortcut, Knob(PLAN, "bireal: a shortcut round every binary convolution.")
    ] = "none"
    downsample: Annotated[
        Downsample, Knob(PLAN, "avgpool: shortcuts average pixels instead of dropping them.")
    ] = "keep"
    """`avgpool` puts average pooling in place of the strides on the network's own shortcuts."""
    binarizer: Annotated[
        Literal["libra", "plain"],
        Knob(PLAN, "Weights, forward: Libra-PB, or sign with the mean |w|."),
    ] = "libra"
    balance: Annotated[
        Balance,
        Knob(PLAN, "What Libra-PB subtracts from a filter; median: half the signs are +1."),
    ] = "mean"
    estimator: Annotated[
        Estimator, Knob(PLAN, "Sign, backward: EDE, clipped straight-through, or a triangle.")
    ] = "ede"
    weight_estimator: Annotated[
        WeightEstimator,
        Knob(PLAN, "The weights' sign, backward, where it is not the activations'."),
    ] = "same"
    keep: Annotated[
        tuple[str, ...],
        Knob(PLAN, "Leave these layers float: a glob, or re: and a regex.", "PATTERN"),
    ] = ()
    binarize: Annotated[
        tuple[str, ...],
        Knob(PLAN, "Binarize these although the default keeps them.", "PATTERN"),
    ] = ()
    """Wins over the default policy, not over `keep`."""


@dataclass(frozen=True)
class Plan:
    """Every layer's fate. Made by `network.plan`, read by `network.rewrite` and reports."""

    options: PlanOptions
    """As asked for."""
    decisions: tuple[Decision, ...]
    """In execution order."""
    input_size: tuple[int, int, int]
    """(channels, height, width) the MACs are counted at."""
    n_other_params: int
    """See `LayerGraph.n_other_params`."""
    other_bytes: int
    """See `LayerGraph.other_bytes`."""
    n_other_floats: int
    """See `LayerGraph.n_other_floats`."""
    activation_channels: dict[str, int] = field(default_factory=dict)
    """See `LayerGraph.activation_channels`."""
    other_macs: int = 0
    """See `LayerGraph.other_macs`."""
    n_fusable: int = 0
    """See `LayerGraph.n_fusable`."""
    keeps_called_signs: bool = False
    """`sign_keeping` holds for activations called as functions too, and those made of several parts
    are one. False in folders written before it did."""

    @property
    def binary_names(self) -> tuple[str, ...]:
        """Names of the layers to binarize."""
        return tuple(d.layer.name for d in self.decisions if d.binary)

    @property
    def replaced_activations(self) -> tuple[str, ...]:
        """Activations that feed a sign and are replaced, each once; none at 1w32a."""
        if self.options.bits == "1w32a" or self.options.activation == "keep":
            return ()
        names = [a for d in self.decisions if d.binary for a in d.layer.activations]
        return tuple(dict.fromkeys(names))

    @property
    def sign_keeping(self) -> tuple[str, ...]:
        """Activations that feed a sign, which is that of their input, each once; none at 1w32a."""
        if self.options.bits == "1w32a":
            return ()
        names = [a for d in self.decisions if d.binary for a in d.layer.signs_of_inputs]
        return tuple(dict.fromkeys(names))

    @property
    def binary_macs(self) -> int:
        """Multiply-adds per image whose weights are binary."""
        return sum(d.layer.n_macs for d in self.decisions if d.binary)

    @property
    def float_macs(self) -> int:
        """Multiply-adds per image of the layers that stay float."""
        return sum(d.layer.n_macs for d in self.decisions if not d.binary)

    @property
    def n_macs(self) -> int:
        """Multiply-adds per image, products of activations included."""
        return self.binary_macs + self.float_macs + self.other_macs

    @property
    def float_bytes(self) -> int:
        """The float network's parameters as float32."""
        return sum(d.float_bytes for d in self.decisions) + 4 * self.n_other_params

    def packed_bytes(self, float_dtype: FloatDtype = "float32") -> int:
        """Predicted bytes of all tensors in the packed folder; headers and JSON come on top."""
        total = sum(d.packed_bytes for d in self.decisions) + self.other_bytes
        if float_dtype == "float32":
            return total
        n_floats = self.n_other_floats
        for d in (d for d in self.decisions if d.packed_bytes):  # one that never runs is not stored
            n_floats += d.layer.has_bias * d.layer.weight_shape[0] if d.binary else d.n_params
            if d.binary and (self.options.binarizer == "plain" or d.layer.has_gain):
                n_floats += d.layer.weight_shape[0]  # scales
        return total - 2 * n_floats


@dataclass(frozen=True)
class Estimate:
    """What a plan gains, before anyone trains. Made by `estimate`, read by reports.

    Seconds are of one image at batch 1 on one thread of an AVX-512 x86 processor; on others trust
    their ratio only.
    """

    float_seconds: float
    """Of the float network in torch."""
    packed_seconds: float
    """Of the packed network; the sum of `packed_parts`."""
    packed_parts: dict[str, float]
    """Seconds of the packed network by what takes them, the longest first."""
    binary_macs: float
    """Share of the multiply-adds that become binary, 0 to 1; products of activations count as
    float ones."""
    binary_bytes: float
    """Share of the float network's bytes that become bits, 0 to 1."""
    shrinkage: float
    """How many times smaller the packed folder's tensors are than the float network's."""
    verdict: str = ""
    """One line: the shares, the estimated speed-up, the shrinkage."""
    advice: tuple[str, ...] = ()
    """Why it gains little and what to do, a sentence each; empty where it is worth it."""

    @property
    def speed_up(self) -> float:
        """How many times faster the packed network is estimated to be; 1 where nothing runs."""
        return self.float_seconds / self.packed_seconds if self.packed_seconds else 1.0


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of one network on one data set. Made by `evaluation`, read by reports."""

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
    """Throughput of the whole pass, decoding included."""
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


@dataclass(frozen=True)
class LayerAgreement:
    """How the packed network's input bits of one layer compare. Made by `agreement`."""

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
    """One image whose top-1 differs, and where it began. Made by `agreement`."""

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
    """Packed against trained binary network. Made by `agreement`, read by reports."""

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
class LayerSensitivity:
    """What binarizing one layer or block alone does. Made by `sensitivity`, read by reports."""

    name: str
    """The layer, or the module around a block's layers."""
    layers: tuple[str, ...]
    """What was binary while it was measured."""
    loss: float
    """Mean cross-entropy on the sample, nats; nan where it was not finite."""
    top1: float
    """Per cent of the sample."""
    loss_increase: float
    """Above the float network's loss, nats; nan where that is not finite."""
    standard_error: float
    """Of `loss_increase`, over the images of the sample."""
    bytes_saved: int
    """In the packed folder."""
    seconds_saved: float
    """Of one image on one thread, estimated; may be negative."""


@dataclass(frozen=True)
class PathPoint:
    """A network on the way from float to binary. Made by `sensitivity`, read by reports."""

    n_binary: int
    """Layers."""
    packed_bytes: int
    """Predicted bytes of all tensors in the packed folder."""
    seconds: float
    """Of one image on one thread, estimated."""
    loss: float
    """Mean cross-entropy on the sample, nats; nan where it was not finite."""
    top1: float
    """Per cent of the sample."""
    on_front: bool = False
    """No other measured network is as small and as accurate."""


@dataclass(frozen=True)
class Budget:
    """What a network may cost. Made by callers, read by `analysis` and reports."""

    kind: BudgetKind
    """Of what."""
    limit: float
    """Bytes of the packed folder's tensors, milliseconds, or points of top-1."""


@dataclass(frozen=True)
class Proposal:
    """The layers to binarize for a budget. Made by `sensitivity`, read by reports."""

    budget: Budget
    """That it keeps."""
    options: PlanOptions
    """What to plan with: the user's own and the `keep` rules for everything else."""
    keep: tuple[str, ...]
    """The rules that came on top of the user's."""
    binary: tuple[str, ...]
    """Layers, in execution order."""
    point: PathPoint
    """What it costs and does, without training."""


@dataclass(frozen=True)
class Sensitivity:
    """How a float network bears binarization. Made by `sensitivity`, read by reports."""

    source: str
    """What was analyzed."""
    by: Grouping
    """Whether layers or blocks were measured."""
    ranked_by: Ranking
    """What the loss is set against: bytes, or estimated time where the budget is one of latency."""
    options: PlanOptions
    """What was planned with."""
    n_images: int
    """The sample."""
    n_calibration: int
    """Training images that batch norm was re-estimated on."""
    layers: tuple[LayerSensitivity, ...]
    """The ranking: what costs least loss for what it saves comes first."""
    path: tuple[PathPoint, ...]
    """The float network, then more and more of the ranking binary, last everything."""
    proposal: Proposal | None = None
    """For the budget; None where none was given or none meets it."""
    unmet: str = ""
    """Why there is no proposal although a budget was given."""
    notes: tuple[str, ...] = ()
    """What a reader has to know."""
    interrupted: bool = False
    """Ctrl-C ended it: layers, points or the proposal are missing."""


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
    """All files of the folder together."""
    float_bytes: int
    """The float network as float32."""
    n_binary: int
    """Binary layers."""
    n_nodes: int
    """Nodes of the program."""
    float_dtype: FloatDtype
    """Storage of everything that is not bits."""


@dataclass(frozen=True)
class StepRecord:
    """Where training stands. Made by `training.loop` every step, read by the live display."""

    epoch: int
    """Counts from 0."""
    n_epochs: int
    step: int
    """Within the epoch, counts from 1."""
    n_steps: int
    """Per epoch."""
    images_per_second: float
    """Mean over the epoch so far."""
    loss: float
    """Mean over the epoch so far."""
    top1: float
    """Training accuracy over the epoch so far, per cent; nan where mixup blurs the targets."""
    lr: float
    t: float
    """EDE sharpness; nan where nothing is binary."""
    k: float
    """EDE amplitude; nan where nothing is binary."""
    seconds_left: float
    """Estimate for all remaining epochs."""
    waiting: float = 0.0
    """Share of the epoch's time so far that steps waited for images, 0 to 1."""
    stage: str = ""
    """As in `EpochRecord`."""


@dataclass(frozen=True)
class LayerDiagnostics:
    """One row of `diagnostics.csv`: a binary layer at an epoch's end.

    Made by `training.diagnostics`, read by `training.symptoms` and reports. Shares are 0 to 1. At
    1w32a, where no activation is binary, what concerns activations is nan.
    """

    epoch: int
    """Counts from 0."""
    layer: str
    """Dotted name."""
    flip_ratio: float
    """Share of the weights' signs that differ from those at the end of the epoch before."""
    never_flipped: float
    """Share of the weights whose sign was never seen to change since the run began."""
    weight_entropy: float
    """Mean over filters of H(share of +1), bits: 1 is balanced (IR-Net, §3.2)."""
    weight_gradient: float
    """Share of the weights whose gradient is usable: g'(ŵ) ≥ 0.1 under the present t and k."""
    activation_entropy: float
    """Mean over input channels of H(share of +1), bits."""
    dead_channels: float
    """Share of the input channels whose sign is the same on more than 99 % of a batch's pixels."""
    activation_gradient: float
    """Share of the activations with usable gradient."""
    statistics_gap: float
    """How far the batch's mean is from the running mean of the next batch norm: mean over channels
    of |difference| in running standard deviations; nan where none follows."""


@dataclass(frozen=True)
class EpochRecord:
    """One row of `summary.csv`. Made by `training.loop`."""

    epoch: int
    train_loss: float
    train_top1: float
    eval_loss: float
    eval_top1: float
    eval_top5: float
    lr: float
    t: float
    """EDE sharpness at the epoch's end; nan where nothing is binary."""
    k: float
    """EDE amplitude at the epoch's end; nan where nothing is binary."""
    images_per_second: float
    seconds: float
    waiting: float = math.nan
    """Share of the steps' time spent waiting for images, 0 to 1."""
    flip_ratio: float = math.nan
    """This and what follows: means over the binary layers of `LayerDiagnostics`."""
    never_flipped: float = math.nan
    weight_entropy: float = math.nan
    weight_gradient: float = math.nan
    activation_entropy: float = math.nan
    dead_channels: float = math.nan
    activation_gradient: float = math.nan
    statistics_gap: float = math.nan
    stage: str = ""
    """What is binary in a run of several stages: nothing (`float`), `activations`, all (`binary`);
    empty where the run has one stage."""

    @property
    def counts(self) -> bool:
        """Whether what was evaluated is the network that the run is for: that of its last stage."""
        return self.stage in ("", "binary")


@dataclass(frozen=True)
class RunRecord:
    """How a fine-tune went. Made by `training.loop`, read by reports."""

    path: str
    """Run folder."""
    epochs: tuple[EpochRecord, ...]
    """All epochs so far."""
    best_epoch: int
    """Epoch of the best `eval_top1` of those that count, −1 if none was evaluated."""
    best_top1: float
    """Per cent."""
    interrupted: bool
    """Ctrl-C ended it early; `last` holds where."""


@dataclass(frozen=True)
class Curve:
    """How a run learned: in each field one figure for every evaluated epoch. Made by `history`."""

    epoch: tuple[int, ...]
    """Counted from 1."""
    train_loss: tuple[float, ...]
    eval_loss: tuple[float, ...]
    top1: tuple[float, ...]
    """Per cent, of the trained form."""


@dataclass(frozen=True)
class ZooRun:
    """A run that an entry of the zoo comes from, without any machine's paths. Made by `history`."""

    commands: tuple[str, ...]
    """What to type, in order, to repeat it with the irbin that wrote this."""
    recipe: str
    """Name of the recipe that set the defaults, as it is called today."""
    knobs: dict[str, JsonValue]
    """Every knob as it was in the end; knobs that came later are missing, and were off."""
    seed: int
    epochs: int
    """That were done; `knobs` says how many were wanted."""
    seconds: float
    """Of all its epochs, evaluation included."""
    started: str
    """Date and time, UTC."""
    machine: dict[str, JsonValue]
    """Processor, cores, memory, device, processes, threads."""
    versions: dict[str, str]
    """Of irbin, torch, timm, NumPy, Python."""
    git: dict[str, JsonValue] | None
    """Revision that the run was started in, and whether files differed; None outside."""
    data: dict[str, JsonValue]
    """`DataOptions`, and the fingerprint of the images."""
    curve: Curve


@dataclass(frozen=True)
class ZooRecord:
    """What an entry of the zoo is and how it came about. Made by `zookeeper`, read by reports."""

    name: str
    network: str
    """Architecture, as in `SourceRecord`."""
    bits: Bits | None
    """Of a packed network; None for a float one."""
    dataset: str
    """Name of the data set."""
    n_images: int
    """Images that the stored files were evaluated on: a whole validation split."""
    top1: float
    """Per cent, of the stored files."""
    top5: float
    """Per cent."""
    loss: float
    """Mean cross-entropy, nats."""
    kept: Literal["best", "last"]
    """Which of its last run's networks it is."""
    kept_epoch: int
    """Of that run, counted from 1."""
    teacher: str | None
    """The trained float network that it came from or was distilled from; None if from scratch."""
    teacher_top1: float | None
    """Per cent, on the same images."""
    size_bytes: int
    """Of the files that run it, as `irbin eval` counts: a packed folder's three, or the float
    network's weights."""
    tensor_bytes: int
    """Of the tensors in them alone."""
    float_bytes: int
    """Of the float network's parameters as float32."""
    added: str
    """Date, UTC."""
    runs: tuple[ZooRun, ...]
    """Oldest first, its own last. Those before are where it began or was taught, as far as no other
    entry of the zoo tells that."""

    def __post_init__(self) -> None:
        """Checks that it came from somewhere."""
        if not self.runs:
            raise UsageError("`runs`: expected at least one run, got none")

    @property
    def hours(self) -> float:
        """Of all runs."""
        return sum(run.seconds for run in self.runs) / 3600


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
class Latency:
    """How long one call took. Made by `timing`, read by reports."""

    median_ms: float
    """Of all runs."""
    p10_ms: float
    """A tenth of the runs were faster."""
    p90_ms: float
    """A tenth of the runs were slower."""
    n_runs: int
    """Runs that were counted."""


@dataclass(frozen=True)
class BenchEntry:
    """One network on one runtime. Made by `benchmarks`, read by reports."""

    name: str
    """`packed`, `float`, or a peer: `onnxruntime int8` …"""
    version: str
    """Of the package that ran it."""
    latency: Latency
    """Of one batch."""
    images_per_second: float
    """Batch size over the median."""
    peak_bytes: int | None
    """Memory that loading and running it added to a process; None where it was not measured."""


@dataclass(frozen=True)
class NodeTiming:
    """One call inside the packed network. Made by `runtime.profile`, read by reports."""

    layer: str
    """Whose weights it has, or its name in the program."""
    kernel: str
    """`bconv2d`, `conv2d`, `max_pool2d` …; `torch …` where torch computes."""
    steps: tuple[str, ...]
    """What is fused into it, in order."""
    shape: tuple[int, ...]
    """Of its result, without the batch."""
    median_us: float
    """Per batch."""
    binary_macs: int
    """1-bit multiply-adds per image."""
    float_macs: int
    """Float multiply-adds per image."""


@dataclass(frozen=True)
class KernelRate:
    """A binary convolution against its limit. Made by `kernels.rates`, read by reports."""

    implementation: str
    """Which kernels."""
    shape: tuple[int, int, int]
    """(channels, height, width) in and out of a 3×3 convolution."""
    output: Literal["floats", "bits", "block"]
    """What it writes: scaled floats, bits by thresholds, or all that a residual block does."""
    gmacs: float
    """10⁹ 1-bit multiply-adds a second, median."""
    register_gmacs: float
    """Of the inner loop's operations on registers alone, median, in the same run."""


@dataclass(frozen=True)
class Machine:
    """Where something was measured. Made by `timing`, read by reports."""

    processor: str
    """As it calls itself."""
    n_cores: int
    """That this process may use."""
    load: float
    """Mean number of running processes in the minute before; what else ran."""
    python: str
    """Version."""
    torch: str
    """Version."""
    irbin: str
    """Version."""
    kernels: str
    """The active implementation."""
    thread_pool: str
    """The OpenMP library whose threads the kernels share with torch, or `own`."""


@dataclass(frozen=True)
class BenchRecord:
    """A packed network against its float one, and others. Made by `benchmarks`, read by reports."""

    source: str
    """What was benchmarked."""
    batch_size: int
    """Images a call."""
    n_threads: int
    """Of every runtime."""
    input_size: tuple[int, int, int]
    """(channels, height, width)."""
    machine: Machine
    """Where."""
    entries: tuple[BenchEntry, ...]
    """The packed network first."""
    nodes: tuple[NodeTiming, ...]
    """Of the packed network, in order."""
    register_gmacs: float
    """1-bit multiply-adds on registers alone, 10⁹ a second, one thread; nan without kernels."""
    float_register_gmacs: float
    """The same for float32."""
    overhead_us: float = float("nan")
    """What it takes to call all kernels of one batch, measured with kernels that do nothing:
    Python, and bringing torch's results into the kernels' order."""
    estimated_speed_up: float | None = None
    """What `estimate` says of the plan; None where it says nothing: other batches, more threads."""
    load_ms: float | None = None
    """From `irbin.load` to a network that can run, in a fresh process that imported irbin and
    torch; None where there is no folder to load."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    @property
    def limit_ms(self) -> float:
        """What one batch takes if every multiply-add runs at the register-only rate of a thread."""
        binary = sum(node.binary_macs for node in self.nodes) / self.register_gmacs
        floats = sum(node.float_macs for node in self.nodes) / self.float_register_gmacs
        return (binary + floats) / 1e6 * self.batch_size


@dataclass(frozen=True)
class TrainBenchEntry:
    """A training step of one network. Made by `train_benchmarks`, read by reports."""

    name: str
    """`binary` or `float`."""
    latency: Latency
    """Of a step, its images included."""
    images_per_second: float
    """Images of a step over the median."""
    data_ms: float
    """Getting and augmenting the images; this and the other parts are medians."""
    forward_ms: float
    """Forward pass and loss."""
    backward_ms: float
    """Backward pass."""
    optimizer_ms: float
    """The optimizer, the schedules, and what clips gradients."""
    saved_bytes: int | None
    """What a forward pass keeps for the backward one where nothing is compiled, beside parameters
    and buffers; None where it was not counted."""


@dataclass(frozen=True)
class TrainBenchRecord:
    """Training steps, binary beside float. Made by `train_benchmarks`, read by reports."""

    source: str
    """What was benchmarked."""
    batch_size: int
    """Images a step."""
    n_threads: int
    """On the CPU."""
    input_size: tuple[int, int, int]
    """(channels, height, width)."""
    device: str
    """torch's name of it."""
    machine: Machine
    """Where."""
    settings: str
    """How both networks were computed and by what they were moved, in words."""
    images: str
    """Where they came from, in words."""
    entries: tuple[TrainBenchEntry, ...]
    """The binary network first, then the float one."""

    @property
    def ratio(self) -> float:
        """How many times the float step's median the binary step's is."""
        binary, floats = self.entries
        return binary.latency.median_ms / floats.latency.median_ms


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # a tenth of a second that `irbin --help` does not need

    return TypeAdapter(kind)


def _as_in_json(value: Any) -> Any:
    """Lists in place of tuples, at any depth."""
    if isinstance(value, dict):
        return {key: _as_in_json(item) for key, item in value.items()}
    return [_as_in_json(item) for item in value] if isinstance(value, list | tuple) else value


def to_json(record: object) -> JsonValue:
    """Plain JSON values (dict, list, str, int, float, bool, None) of a record."""
    kind: Any = type(record)
    return _adapter(kind).dump_python(record, mode="json")


def changed_fields(record: object) -> JsonValue:
    """As `to_json`, without fields that hold their default."""
    kind: Any = type(record)
    return _adapter(kind).dump_python(record, mode="json", exclude_defaults=True)


def from_json(kind: type[_T], value: JsonValue, where: str) -> _T:
    """The record of type `kind` behind JSON values.

    Args:
        kind: a record class of this module.
        value: what `json.load` gave.
        where: file name for the message.

    Raises:
        UsageError: a field is missing or has the wrong type. Unknown fields are ignored.
    """
    from pydantic import ValidationError

    try:
        key: Any = kind  # a cached function wants to see that it can be hashed
        record: _T = _adapter(key).validate_python(value)
        return record
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top level"
        raise UsageError(f"{where}: at `{place}`: {first['msg']}") from error
