"""What was asked for: sources, data, how images are fed; torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from irbin.bounds import MAX_REACH
from irbin.errors import UsageError
from irbin.records.given import check_is, check_record, check_whole
from irbin.records.json import JsonValue
from irbin.records.knob import DATA, IMAGES, NETWORK, Knob

NetworkForm = Literal["float", "binary", "packed", "onnx"]
FloatDtype = Literal["float32", "float16", "bfloat16"]
FloatMath = Literal["float32", "bfloat16"]
CacheKind = Literal["auto", "ram", "device", "off"]


CALIBRATION_IMAGES = 1024
"""Images for batch-norm statistics after converting, where data was given but no number; a few
batches do."""


SMALL_SIDE = 96
"""Longest side in pixels of an input that counts as small: MNIST's 28 to STL-10's 96, below any
network for photographs that timm holds."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input. Made by `sources.spec`, read by `data`."""

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


LARGEST_SEED = 2**63 - 1
"""Which torch's generators take."""
DEFAULT_SEED = 42
"""Where neither the caller nor a recipe says."""
THE_SOURCES = "the source's"
"""What None stands for in most of `SourceOptions`."""


@dataclass(frozen=True)
class SourceOptions:
    """How to read what the user named. Made by the command line, read by `sources.spec`."""

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
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, int | float):  # one number is meant for every channel
                object.__setattr__(self, name, (float(value),))
        check_record(self)
        check_whole("seed", self.seed, least=0, most=LARGEST_SEED)
        for name in ("input_size", "img_size", "in_chans"):
            value = getattr(self, name)
            sides = (value or 1,) if value is None or isinstance(value, int) else value
            if max(sides, default=1) > MAX_REACH:
                raise UsageError(f"`{name}`: expected sizes from 1 to {MAX_REACH:,}, got {value}")
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
    workers: Annotated[
        int, Knob(DATA, "Loader processes.", "N", least=0, most=1024, also=("j",))
    ] = 2
    cache: Annotated[
        CacheKind,
        Knob(DATA, "Training: keep decoded images in memory; auto: where they fit."),
    ] = "auto"
    train_num_samples: Annotated[
        int | None,
        Knob(DATA, "Images in the training split, where a stream does not say it.", "N", least=1),
    ] = None
    val_num_samples: Annotated[
        int | None,
        Knob(DATA, "Images in the validation split, where a stream does not say it.", "N", least=1),
    ] = None

    def __post_init__(self) -> None:
        check_record(self, values=True)

    @property
    def n_batch(self) -> int:
        """Images per step, never None."""
        return DEFAULT_BATCH_SIZE if self.batch_size is None else self.batch_size


def check_given(
    source_options: object = None,
    data: object = None,
    *,
    needs_data: bool = False,
    float_dtype: object = "float32",
) -> SourceOptions:
    """Refuses arguments of a verb that are no records of options.

    Returns:
        How to read the source; the defaults where None was given.

    Args:
        source_options: None where none were given.
        data: None where none were given.
        needs_data: None is refused too.
        float_dtype: storage of what is not bits.

    Raises:
        UsageError: says how they are made.
    """
    if source_options is not None:
        how = "irbin.SourceOptions(…)"
        check_is("source_options", source_options, SourceOptions, how)
    if needs_data or data is not None:
        check_is("data", data, DataOptions, "irbin.DataOptions(data_dir=…)")
    if float_dtype not in get_args(FloatDtype):
        known = ", ".join(get_args(FloatDtype))
        raise UsageError(f"`float_dtype`: expected one of {known}, got `{float_dtype}`")
    return source_options if isinstance(source_options, SourceOptions) else SourceOptions()


@dataclass(frozen=True)
class SourceRecord:
    """Where a float network came from: enough to build its architecture again without its weights.

    Made by `sources.spec`, stored in every folder irbin writes, read by `sources.folder`.
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
    """Further arguments of the factory, as `SourceOptions` gives them."""
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


def _as_in_json(value: Any) -> Any:
    """Lists in place of tuples, at any depth."""
    if isinstance(value, dict):
        return {key: _as_in_json(item) for key, item in value.items()}
    return [_as_in_json(item) for item in value] if isinstance(value, list | tuple) else value
