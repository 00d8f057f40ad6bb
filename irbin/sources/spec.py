"""What a user has, a name or a checkpoint file, becomes a float network and its record."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from irbin.checkpoints.checkpoint import CHECKPOINT_SUFFIXES, Checkpoint, read_checkpoint
from irbin.checkpoints.filling import Filled, Target, fill
from irbin.checkpoints.matching import as_backbone, as_is
from irbin.errors import SourceError, UsageError
from irbin.records.options import Preprocessing, SourceOptions, SourceRecord
from irbin.rewriting.network import Network
from irbin.sources.feeding import as_asked, for_channels, stated
from irbin.sources.from_module import build_module, load_module, plain_module
from irbin.sources.from_timm import build_timm, load_timm
from irbin.sources.from_torchvision import (
    build_torchvision,
    load_torchvision,
    modernized,
    refuse_headless,
)
from irbin.sources.paper import build_paper, paper_network
from irbin.tracing.calling import count_classes
from irbin.tracing.reparameterize import check_fused, reparameterize

PREFIXES = ("torchvision", "paper", "module", "timm")
_TIMM_PREFIXES = ("hf-hub", "hf_hub", "local-dir")

_LOG = logging.getLogger("irbin")

AVERAGED_MARK = " (averaged)"
"""Ends `SourceRecord.weights` where a checkpoint's averaged weights were taken."""


def load_source(spec: str, options: SourceOptions) -> Network:
    """The float network that `spec` names.

    Args:
        spec: a timm name (`resnet18`, `timm:resnet18`, `resnet18.a1_in1k`, `hf-hub:…`,
            `local-dir:…`), `torchvision:NAME`, `paper:NAME`, `module:package.mod:factory`, or a
            checkpoint file.
        options: how to read it; `options.model` names the architecture of a bare checkpoint.

    Returns:
        Its `notes` say what was taken for granted; each is logged as a warning of `irbin`, too.

    Raises:
        SourceError: an unknown name (nearest ones), weights that cannot be fetched or read, or a
            checkpoint that does not fit its model.
        UsageError: options that contradict each other or the source.
    """
    check_options(options)
    if is_checkpoint(spec):
        network = _load_checkpoint(Path(spec).expanduser().absolute(), options)
    else:
        _refuse_file_options(spec, options)
        network = _load_named(spec, options)
    if options.reparameterize:
        network = _fused(replace(network, source=replace(network.source, reparameterized=True)))
    for note in network.notes:
        _LOG.warning("%s", note)
    return replace(network, source=as_asked(network.source, options))


def build(source: SourceRecord) -> nn.Module:
    """The architecture of `source` with random weights; fetches nothing.

    Raises:
        SourceError: the architecture is unknown here.
    """
    module = _build(source)
    if not source.reparameterized:
        return module
    return reparameterize(module, source.architecture)


def _build(source: SourceRecord) -> nn.Module:
    """The architecture as it is trained, before any fusing."""
    kind, name = _split(source.architecture)
    if kind == "torchvision":
        return build_torchvision(source, name)
    if kind == "paper":
        return build_paper(name, source.num_classes, source.preprocessing.input_size[0])
    if kind == "module":
        module, _ = plain_module(build_module(name, source.model_kwargs))
        if any(is_lazy(t) for t in (*module.parameters(), *module.buffers())):
            count_classes(module, source.preprocessing, source.spec)  # the first images make them
        return module
    if kind == "timm":
        return build_timm(source, name)
    raise SourceError(
        f"`architecture`: expected `timm:`, `torchvision:`, `paper:` or `module:`, "
        f"got `{source.architecture}`"
    )


def reload(source: SourceRecord) -> Network:
    """The float network of a record again, with its weights, from where they came.

    Raises:
        SourceError: the weights are gone, or are a folder (`sources.by_name` reads those).
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
        return _fused(replace(_load_named(source.spec, options), source=source))
    use_ema = (source.weights or "").endswith(AVERAGED_MARK)
    file = read_checkpoint(Path(source.spec), use_ema, source.state_key)
    network = Network(_build(source), source)
    options = SourceOptions(
        num_classes=source.num_classes,
        input_size=source.preprocessing.input_size,
        remap=source.remap,
        ignore_extra=source.ignore_extra,
    )
    _fill(network, file, source.spec, options)
    return _fused(network)


def _fused(network: Network) -> Network:
    """`network` reparameterized, if its record says so."""
    source = network.source
    if not source.reparameterized:
        return network
    module = reparameterize(network.module, source.architecture)
    check_fused(network.module, module, source.preprocessing.input_size, source.architecture)
    return replace(network, module=module)


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
    refuse_headless(f"paper:{name}", options)
    own = paper_network(name)
    size = options.size_of(own.preprocessing.input_size)
    channels = size[0]
    num_classes = own.num_classes if options.num_classes is None else options.num_classes
    module = own.build(num_classes, channels)
    seen = replace(
        own.preprocessing,
        input_size=size,
        mean=for_channels(own.preprocessing.mean, channels),
        std=for_channels(own.preprocessing.std, channels),
    )
    spec = f"paper:{name}"
    return Network(module, SourceRecord(spec, spec, num_classes, seen, stated_by={}))


def _load_checkpoint(path: Path, options: SourceOptions) -> Network:
    checkpoint = read_checkpoint(path, options.use_ema, options.state_key)
    architecture = options.model or checkpoint.architecture
    if architecture is None:
        raise SourceError(
            f"`{path}` does not say which architecture it belongs to; give `model='NAME'`"
        )
    if is_checkpoint(architecture):
        raise UsageError(f"`model`: expected an architecture's name, got the file `{architecture}`")
    network = _load_named(architecture, _completed(options, checkpoint))
    filled = _fill(network, checkpoint, str(path), options)
    source = network.source
    given = checkpoint.input_args if options.model is None else {}
    source = replace(
        source,
        spec=str(path),
        preprocessing=_as_trained(source.preprocessing, given),
        stated_by={**(source.stated_by or {}), **_stated_by(given)},
        trained=not filled.head_is_new,
        weights=str(path) + AVERAGED_MARK * options.use_ema,
        state_key=options.state_key,
        remap=options.remap,
        ignore_extra=options.ignore_extra,
    )
    return Network(network.module, source, notes=filled.notes)


def _fill(network: Network, file: Checkpoint, path: str, options: SourceOptions) -> Filled:
    """Loads `file` into the network, in place; head and stem follow what the options ask for."""
    source = network.source
    target = Target(
        network.module,
        source.num_classes,
        source.preprocessing.input_size[0],
        build=partial(_variant, source),
        other_classes=options.num_classes is not None,
        other_channels=options.in_chans is not None or options.input_size is not None,
    )
    kind, name = _split(source.architecture)
    rename = partial(modernized, name) if kind == "torchvision" else as_is
    if kind == "timm" and source.model_kwargs.get("features_only"):
        rename = partial(as_backbone, network.module)
    return fill(
        target,
        file,
        f"`{path}`",
        remap=options.remap,
        rename=rename,
        ignore_extra=options.ignore_extra,
    )


def _variant(source: SourceRecord, num_classes: int, in_chans: int) -> nn.Module:
    """The architecture of `source` for other numbers of classes and image channels."""
    seen = source.preprocessing
    numbers = {"num_classes": num_classes, "in_chans": in_chans}
    kwargs = {k: numbers.get(k, v) for k, v in source.model_kwargs.items()}  # a module's factory's
    seen = replace(seen, input_size=(in_chans, *seen.input_size[1:]))
    return build(replace(source, num_classes=num_classes, preprocessing=seen, model_kwargs=kwargs))


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
    """(channels, height, width) as timm's `input_size` or `img_size` set it."""
    if "input_size" in stated:
        channels, height, width = stated["input_size"]
        return channels, height, width
    if "img_size" in stated:
        return channels, stated["img_size"], stated["img_size"]
    return None


def _stated_by(given: dict[str, Any]) -> dict[str, str]:
    said = [name for name, value in given.items() if value]
    return stated("the checkpoint's training arguments", said)


def _as_trained(seen: Preprocessing, given: dict[str, Any]) -> Preprocessing:
    """`seen` with the statistics and resampling that a checkpoint's training arguments set."""
    channels = seen.input_size[0]
    changes: dict[str, Any] = {
        key: for_channels(given[key], channels) for key in ("mean", "std") if given.get(key)
    }
    changes.update({k: given[k] for k in ("interpolation", "crop_pct") if given.get(k)})
    if "crop_pct" in changes:
        changes["small_as_is"] = False  # timm crops at any size
    return replace(seen, **changes)


def _refuse_file_options(spec: str, options: SourceOptions) -> None:
    if options.model is not None:
        raise UsageError(
            f"`model=`: names the architecture of a checkpoint file, and `{spec}` is no file"
        )
    for name in ("state_key", "remap", "ignore_extra"):
        given = getattr(options, name)
        if given:
            raise UsageError(f"`{name}=`: says how to read a checkpoint file, and `{spec}` is none")


def check_options(options: SourceOptions) -> None:
    """Refuses options that contradict each other.

    Raises:
        UsageError: they do, or one cannot be meant.
    """
    if options.use_ema and options.state_key is not None:
        raise UsageError(
            f"`use_ema` and `state_key` both choose the weights, got `{options.state_key}`; "
            "give one of them"
        )
    if options.num_classes is not None and options.num_classes < 0:
        raise UsageError(
            f"`num_classes`: expected 1 or more, or 0 for no head, got {options.num_classes}"
        )
    if options.in_chans is not None and options.in_chans < 1:
        raise UsageError(f"`in_chans`: expected 1 or more, got {options.in_chans}")
    if options.img_size is not None and options.input_size is not None:
        raise UsageError("`img_size` and `input_size` both say how large images are; give one")
    if options.img_size is not None and options.img_size < 1:
        raise UsageError(f"`img_size`: expected 1 or more, got {options.img_size}")
    if options.input_size is None:
        return
    if len(options.input_size) != 3:
        raise UsageError(
            f"`input_size`: expected (channels, height, width), got {tuple(options.input_size)}; "
            "irbin converts networks of images, and a Conv1d has no binary form"
        )
    if min(options.input_size) < 1:
        raise UsageError(f"`input_size`: expected positive sizes, got {options.input_size}")
    if options.in_chans not in (None, options.input_size[0]):
        raise UsageError(
            f"`in_chans={options.in_chans}`, but `input_size=` starts with {options.input_size[0]}"
        )
