"""timm's names become networks: registry names, `hf-hub:…` and `local-dir:…`.

Weights are read as data whatever timm's version does by default: local folders by our own reader,
downloads under torch's switch that refuses code.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from timm.data import resolve_data_config
from torch import nn

from irbin.checkpoints.checkpoint import Checkpoint, check_finite, read_checkpoint
from irbin.checkpoints.formats import weights_in
from irbin.checkpoints.matching import by_name
from irbin.errors import IrbinError, SourceError, UsageError
from irbin.hub.reach import asking_the_hub, hub_unreachable, is_unreachable
from irbin.messages import counted, first_line, nearest, one_line
from irbin.records.options import Preprocessing, SourceOptions, SourceRecord
from irbin.rewriting.network import Network
from irbin.sources.feeding import for_channels, stated
from irbin.sources.fetch import url_unreachable
from irbin.sources.timm_names import TimmModel, find_timm


def load_timm(name: str, options: SourceOptions) -> Network:
    """A float network by timm's name, without the `timm:` prefix.

    Raises:
        SourceError: an unknown model or tag (nearest names), or weights that cannot be fetched
            (where they were looked for).
        UsageError: a factory argument that the model does not take, or classes for a backbone.
    """
    model = find_timm(name)
    size = options.size_of(model.cfg["input_size"])
    kwargs = {**model.model_args, **options.model_kwargs}
    fixed = model.cfg.get("fixed_input_size") or "img_size" in kwargs
    if options.sets_size and fixed and "img_size" not in options.model_kwargs:
        kwargs["img_size"] = list(size[1:])
    num_classes = _num_classes(model, options, kwargs)
    kwargs = {k: v for k, v in kwargs.items() if k not in ("num_classes", "in_chans")}
    file = _folder_weights(model.folder) if model.folder and options.pretrained else None
    module, file = _create_filled(model, size[0], num_classes, kwargs, options.pretrained, file)
    _refuse_hooks(module, model.architecture)
    names = model.cfg.get("label_names")
    notes = _notes(model, num_classes, size[0]) if options.pretrained else {}
    record = SourceRecord(
        spec=f"local-dir:{model.folder}" if model.folder else name,
        architecture=f"timm:{model.architecture}",
        num_classes=num_classes,
        preprocessing=preprocessing_of(model.cfg, size),
        model_kwargs=kwargs,
        trained=options.pretrained and "head" not in notes,
        weights=model.weights if options.pretrained else None,
        class_names=tuple(names) if names and len(names) == num_classes else None,
        stated_by=stated("timm's pretrained_cfg", model.stated) if options.pretrained else {},
        published_names=True,
    )
    return Network(module, record, notes=(*(file.notes if file else ()), *notes.values()))


def build_timm(source: SourceRecord, name: str) -> nn.Module:
    """The architecture with random weights; `name` is its registry name."""
    seen = source.preprocessing
    overlay = {
        "input_size": seen.input_size,
        "mean": seen.mean,
        "std": seen.std,
        "interpolation": seen.interpolation,
        "crop_pct": seen.crop_pct,
        "crop_mode": seen.crop_mode,
        "num_classes": source.num_classes,
    }
    model = find_timm(name)
    model = replace(model, cfg={**model.cfg, **overlay})
    return _create(model, seen.input_size[0], source.num_classes, source.model_kwargs, False)


def preprocessing_of(cfg: Mapping[str, Any], size: tuple[int, int, int]) -> Preprocessing:
    """How images are fed, from a timm configuration, at `size` (channels, height, width)."""
    data = resolve_data_config(pretrained_cfg=dict(cfg))
    return Preprocessing(
        input_size=size,
        mean=for_channels(data["mean"], size[0]),
        std=for_channels(data["std"], size[0]),
        interpolation=data["interpolation"],
        crop_pct=data["crop_pct"],
        crop_mode=data["crop_mode"],
    )


def _num_classes(model: TimmModel, options: SourceOptions, kwargs: Mapping[str, Any]) -> int:
    """Outputs of the classifier; 0 for a backbone."""
    if not kwargs.get("features_only"):
        stated = options.num_classes
        return kwargs.get("num_classes", model.cfg["num_classes"]) if stated is None else stated
    if options.num_classes:
        raise UsageError(
            f"`num_classes`: `{model.architecture}` with `features_only` has no classifier; "
            f"expected nothing or 0, got {options.num_classes}"
        )
    return 0


def _notes(model: TimmModel, num_classes: int, in_chans: int) -> dict[str, str]:
    """What timm does to weights for other classes or channels, by what it does it to."""
    notes = {}
    their_classes, their_channels = model.cfg["num_classes"], model.cfg["input_size"][0]
    if num_classes not in (0, their_classes):
        theirs = f"has {their_classes}" if their_classes else "has no such head"
        notes["head"] = (
            f"`{model.weights}`: its classifier re-initialised at random for {num_classes} "
            f"classes, the file {theirs}; train it"
        )
    if in_chans != their_channels:
        notes["stem"] = (
            f"`{model.weights}`: its first convolution adapted from {their_channels} to "
            f"{in_chans} image channels, as timm does"
        )
    return notes


def _refuse_hooks(module: nn.Module, architecture: str) -> None:
    if isinstance(module, timm.models.FeatureHookNet):
        raise SourceError(
            f"`{architecture}` with `features_only`: timm takes its features by hooks, which "
            "cannot be traced; return them from a module of your own, named "
            "`module:PACKAGE.MODULE:FACTORY`"
        )


_OF_FILES = (
    "checkpoint_path",
    "cache_dir",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
)
"""Arguments of `timm.create_model` that say which files it reads, not what it builds."""


def _refuse_files(model: TimmModel, kwargs: Mapping[str, Any]) -> None:
    """A network folder, perhaps a stranger's, must not choose what timm reads or downloads."""
    if said := [name for name in _OF_FILES if name in kwargs]:
        raise UsageError(
            f"`{model.architecture}`: expected arguments of the architecture, got `{said[0]}`, "
            "which names a file; give a checkpoint as the source, with `model=`"
        )


def _create(
    model: TimmModel,
    in_chans: int,
    num_classes: int,
    kwargs: dict[str, Any],
    pretrained: bool,
    file: Checkpoint | None = None,
) -> nn.Module:
    """Builds the network, with its weights if `pretrained`: those of `file`, or timm's."""
    _refuse_files(model, kwargs)
    cfg, sizes = dict(model.cfg), {"num_classes": num_classes, "in_chans": in_chans}
    if file is not None:
        cfg.update(state_dict=file.tensors, source=None, file=None, custom_load=False)
    elif pretrained and not any(cfg.get(key) for key in ("url", "file", "hf_hub_id")):
        raise SourceError(_without_weights(model))
    try:
        with asking_the_hub() if pretrained else nullcontext():
            module: nn.Module = timm.create_model(
                model.architecture, pretrained=pretrained, pretrained_cfg=cfg, **sizes, **kwargs
            )
    except IrbinError:
        raise
    except Exception as error:  # whatever the hub, its transport or the model's code raises
        raise _explain(model, cfg, kwargs, pretrained, error) from error
    for part in module.modules():  # a backbone holds the network it wraps
        if isinstance(theirs := vars(part).get("pretrained_cfg"), dict):
            theirs.pop("state_dict", None)
    if pretrained:
        check_finite(module.state_dict(), f"weights of `{model.weights}`")
    return module


def _create_filled(
    model: TimmModel,
    in_chans: int,
    num_classes: int,
    kwargs: dict[str, Any],
    pretrained: bool,
    file: Checkpoint | None,
) -> tuple[nn.Module, Checkpoint | None]:
    """As `_create`; a folder's names may have a prefix too many, as transformers write them."""
    try:
        return _create(model, in_chans, num_classes, kwargs, pretrained, file), file
    except SourceError:
        if file is None:
            raise
        # with the file's own head, which timm then replaces where another is asked for
        bare = _create(model, in_chans, int(model.cfg["num_classes"]), kwargs, False)
        match = by_name(bare.state_dict(), file.tensors, f"`{model.weights}`")
        if match is None or not match.how:
            raise
        told = f"`{model.weights}`: {counted(len(match.tensors), 'tensor')} matched {match.how}"
        file = replace(file, tensors=match.tensors, notes=(*file.notes, told))
        return _create(model, in_chans, num_classes, kwargs, pretrained, file), file


def _folder_weights(folder: Path) -> Checkpoint:
    """The weights of a timm folder, by the file that timm itself would take."""
    if (file := weights_in(folder)) is not None:
        return read_checkpoint(file)
    raise SourceError(
        f"`{folder}`: expected `model.safetensors` or another weights file, found none"
    )


def _without_weights(model: TimmModel) -> str:
    tagged = timm.models.list_pretrained()
    close = nearest(model.architecture, [name.partition(".")[0] for name in tagged])
    return (
        f"timm has no pretrained weights for `{model.architecture}`{close}; "
        "give `pretrained=False` for random ones, or a checkpoint file with `model=`"
    )


def _explain(
    model: TimmModel,
    cfg: Mapping[str, Any],
    kwargs: dict[str, Any],
    pretrained: bool,
    error: Exception,
) -> IrbinError:
    """The error to raise when timm could not build a network."""
    if isinstance(error, TypeError) and "unexpected keyword" in str(error):
        return UsageError(f"`{model.architecture}`: {first_line(error)}; given {sorted(kwargs)}")
    if model.folder is None and pretrained and is_unreachable(error):
        if cfg.get("hf_hub_id"):
            return hub_unreachable(model.weights, cfg["hf_hub_id"], error)
        return url_unreachable(model.weights, str(cfg.get("url") or cfg.get("file")), error)
    what = f"weights of `{model.weights}`" if pretrained else f"`{model.architecture}`"
    verb = "cannot be loaded" if pretrained else "cannot be built"
    return SourceError(f"{what} {verb}: {type(error).__name__}: {one_line(error)}")
