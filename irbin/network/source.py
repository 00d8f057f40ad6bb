"""What a user has, a name or a checkpoint file, becomes a float network and its record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from irbin.errors import SourceError, UsageError
from irbin.network.checkpoint import CHECKPOINT_SUFFIXES, Checkpoint, load_into, read_checkpoint
from irbin.network.from_module import build_module, load_module
from irbin.network.from_timm import build_timm, for_channels, load_timm
from irbin.network.from_torchvision import build_torchvision, load_torchvision, modernized
from irbin.network.network import Network
from irbin.network.paper import build_paper
from irbin.records import Preprocessing, SourceOptions, SourceRecord

PREFIXES = ("torchvision", "paper", "module", "timm")
_TIMM_PREFIXES = ("hf-hub", "hf_hub", "local-dir")

AVERAGED_MARK = " (averaged)"
"""Ends `SourceRecord.weights` where a checkpoint's averaged weights were taken."""


def load_source(spec: str, options: SourceOptions) -> Network:
    """The float network that `spec` names.

    Args:
        spec: a timm name (`resnet18`, `timm:resnet18`, `resnet18.a1_in1k`, `hf-hub:…`,
            `local-dir:…`), `torchvision:NAME`, `paper:NAME`, `module:package.mod:factory`, or a
            checkpoint file.
        options: how to read it; `options.model` names the architecture of a bare checkpoint.

    Raises:
        SourceError: an unknown name (nearest ones), weights that cannot be fetched or read, or a
            checkpoint that does not fit its model.
        UsageError: options that contradict each other or the source.
    """
    _check_options(options)
    if is_checkpoint(spec):
        return _load_checkpoint(Path(spec).expanduser().absolute(), options)
    if options.model is not None:
        raise UsageError(
            f"`model`: names the architecture of a checkpoint file, and `{spec}` is no file"
        )
    return _load_named(spec, options)


def build(source: SourceRecord) -> nn.Module:
    """The architecture of `source` with random weights; fetches nothing.

    Raises:
        SourceError: the architecture is unknown here.
    """
    kind, name = _split(source.architecture)
    if kind == "torchvision":
        return build_torchvision(source, name)
    if kind == "paper":
        return build_paper(name, source.num_classes, source.preprocessing.input_size[0])
    if kind == "module":
        return build_module(name, source.model_kwargs)
    if kind == "timm":
        return build_timm(source, name)
    raise SourceError(
        f"`architecture`: expected `timm:`, `torchvision:`, `paper:` or `module:`, "
        f"got `{source.architecture}`"
    )


def reload(source: SourceRecord) -> Network:
    """The float network of a record again, with its weights, from where they came.

    Raises:
        SourceError: the weights are gone, or are a folder (`network.open` reads those).
    """
    if not is_checkpoint(source.spec):
        # what a module's factory was given stands in its `model_kwargs` already
        is_module = source.architecture.startswith("module:")
        options = SourceOptions(
            pretrained=source.trained,
            num_classes=None if is_module else source.num_classes,
            input_size=source.preprocessing.input_size,
            model_kwargs=source.model_kwargs,
        )
        return _load_named(source.spec, options)
    use_ema = (source.weights or "").endswith(AVERAGED_MARK)
    tensors = read_checkpoint(Path(source.spec), use_ema).tensors
    module = build(source)
    load_into(module, _fitted(source.architecture, tensors), f"`{source.spec}`")
    return Network(module, source)


def is_checkpoint(spec: str) -> bool:
    """Whether `spec` is to be read as a checkpoint file: it is one, or its ending says so."""
    if spec.partition(":")[0] in (*PREFIXES, *_TIMM_PREFIXES):
        return False
    return spec.endswith(CHECKPOINT_SUFFIXES) or Path(spec).expanduser().is_file()


def _split(spec: str) -> tuple[str, str]:
    """(`torchvision`, name) and the like; ('', spec) where no prefix of ours stands in front."""
    kind, colon, name = spec.partition(":")
    return (kind, name) if colon and kind in PREFIXES else ("", spec)


def _load_named(spec: str, options: SourceOptions) -> Network:
    kind, name = _split(spec)
    if kind == "torchvision":
        return load_torchvision(name, options)
    if kind == "paper":
        return _load_paper(name, options)
    if kind == "module":
        return load_module(name, options)
    return load_timm(name, options)


def _load_paper(name: str, options: SourceOptions) -> Network:
    if options.model_kwargs:
        raise UsageError(f"`model_kwargs`: `paper:{name}` takes none, got {options.model_kwargs}")
    channels, height, width = options.input_size or (3, 32, 32)
    channels = options.in_chans or channels
    num_classes = 10 if options.num_classes is None else options.num_classes
    module = build_paper(name, num_classes, channels)
    # the authors feed CIFAR with ImageNet's statistics; 32×32 images are not resized
    statistics = Preprocessing()
    seen = Preprocessing(
        input_size=(channels, height, width),
        mean=for_channels(statistics.mean, channels),
        std=for_channels(statistics.std, channels),
        crop_pct=1.0,
    )
    spec = f"paper:{name}"
    return Network(module, SourceRecord(spec, spec, num_classes, seen))


def _load_checkpoint(path: Path, options: SourceOptions) -> Network:
    checkpoint = read_checkpoint(path, options.use_ema)
    architecture = options.model or checkpoint.architecture
    if architecture is None:
        raise SourceError(
            f"`{path}` does not say which architecture it belongs to; give `--model NAME`"
        )
    if is_checkpoint(architecture):
        raise UsageError(f"`model`: expected an architecture's name, got the file `{architecture}`")
    network = _load_named(architecture, _completed(options, checkpoint))
    source = network.source
    tensors = _fitted(source.architecture, checkpoint.tensors)
    load_into(network.module, tensors, f"`{path}`")
    given = checkpoint.input_args if options.model is None else {}
    source = replace(
        source,
        spec=str(path),
        preprocessing=_as_trained(source.preprocessing, given),
        trained=True,
        weights=str(path) + AVERAGED_MARK * options.use_ema,
    )
    return Network(network.module, source)


def _completed(options: SourceOptions, checkpoint: Checkpoint) -> SourceOptions:
    """`options` for building the checkpoint's architecture: what it states itself fills the gaps.

    With `options.model` the user overrules the file: only its class count is believed then.
    """
    num_classes = options.num_classes
    if num_classes is None:
        num_classes = checkpoint.num_classes
    bare = replace(options, model=None, pretrained=False, num_classes=num_classes)
    return bare if options.model else _with_stated(bare, checkpoint)


def _with_stated(options: SourceOptions, checkpoint: Checkpoint) -> SourceOptions:
    stated = checkpoint.input_args
    in_chans = options.in_chans or stated.get("in_chans")
    size = options.input_size or _stated_size(stated, in_chans or 3)
    kwargs = {**checkpoint.model_kwargs, **options.model_kwargs}
    return replace(options, in_chans=in_chans, input_size=size, model_kwargs=kwargs)


def _stated_size(stated: dict[str, Any], channels: int) -> tuple[int, int, int] | None:
    """(channels, height, width) as timm's `--input-size` or `--img-size` set it."""
    if "input_size" in stated:
        channels, height, width = stated["input_size"]
        return channels, height, width
    if "img_size" in stated:
        return channels, stated["img_size"], stated["img_size"]
    return None


def _as_trained(seen: Preprocessing, stated: dict[str, Any]) -> Preprocessing:
    """`seen` with the statistics and resampling that a checkpoint's training arguments set."""
    channels = seen.input_size[0]
    changes: dict[str, Any] = {
        key: for_channels(stated[key], channels) for key in ("mean", "std") if stated.get(key)
    }
    changes.update({k: stated[k] for k in ("interpolation", "crop_pct") if stated.get(k)})
    return replace(seen, **changes)


def _fitted(architecture: str, tensors: dict[str, Any]) -> dict[str, Any]:
    kind, name = _split(architecture)
    return modernized(name, tensors) if kind == "torchvision" else tensors


def _check_options(options: SourceOptions) -> None:
    if options.num_classes is not None and options.num_classes < 1:
        raise UsageError(f"`num_classes`: expected 1 or more, got {options.num_classes}")
    if options.in_chans is not None and options.in_chans < 1:
        raise UsageError(f"`in_chans`: expected 1 or more, got {options.in_chans}")
    if options.input_size is None:
        return
    if min(options.input_size) < 1:
        raise UsageError(f"`input_size`: expected positive sizes, got {options.input_size}")
    if options.in_chans not in (None, options.input_size[0]):
        raise UsageError(
            f"`in_chans` is {options.in_chans} but `input_size` starts with {options.input_size[0]}"
        )
