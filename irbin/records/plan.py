"""Layers as found, what becomes of them, and what that gains; torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from irbin.records.knob import PLAN, Knob
from irbin.records.options import FloatDtype

Bits = Literal["1w1a", "1w32a"]
Activation = Literal["hardtanh", "prelu", "rprelu", "keep"]
SignThreshold = Literal["zero", "learned"]
Shortcut = Literal["none", "bireal"]
Downsample = Literal["keep", "avgpool"]
Balance = Literal["mean", "median"]
Estimator = Literal["ede", "ste", "triangle"]
WeightEstimator = Literal["same", "ede", "ste", "triangle", "identity"]


LayerKind = Literal["conv2d", "linear", "other"]


@dataclass(frozen=True)
class LayerRecord:
    """One layer with weights, as found. Made by `tracing.trace`, read by `planning.plan`."""

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
    """Class or function name of the first thing that reads its output; in JSON alone."""
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
    and graph node names with `()` for functions. `PATH(*)` means all that are called as functions
    while the module PATH, '' for the network, runs: one that cannot be traced."""
    rounded_sign: str = ""
    """The call that ends an activation of this kind, of several calls in a forward that cannot be
    traced, with its line: nothing can keep its sign there. '' if there is none."""
    tied_to: tuple[str, ...] = ()
    """Other layers whose weight is the same parameter: all of them are binary, or none."""


@dataclass(frozen=True)
class LayerGraph:
    """All layers in execution order. Made by `tracing.trace`, read by `planning.plan`."""

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
    """How many of the numbers behind `other_bytes` are floating, hence halved by
    `float_dtype="float16"`."""
    activation_channels: dict[str, int] = field(default_factory=dict)
    """Channels of every activation named in `layers`; 1 where a slope per channel does not fit."""
    other_macs: int = 0
    """Multiply-adds per image of products of activations, as in attention: in no layer, never
    binary. 0 also in folders written before they were counted."""
    n_fusable: int = 0
    """Layers that fusing multi-branch blocks would save (`reparameterize`)."""


@dataclass(frozen=True)
class Decision:
    """What happens to one layer, and why. Made by `planning.plan`, read by everything after."""

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
    """What the user asked for. Made by callers, read by `planning.plan` and `rewriting.rewrite`."""

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
    """Every layer's fate. Made by `planning.plan`, read by `rewriting.rewrite` and reports."""

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


FITTED_TO = "avx512_vpopcntdq"
"""For which of `irbin kernels` speed is estimated: whose prices `planning.estimate` knows."""


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
