"""torchvision's names become networks: `torchvision:NAME` or `torchvision:NAME.WEIGHTS`.

The builders are always called without weights, and the weights read by our own reader: torchvision
would unpickle them. What a builder changes when it is given weights is repeated here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torchvision.models
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode

from irbin.checkpoints.checkpoint import read_checkpoint
from irbin.checkpoints.filling import Filled, Target, fill
from irbin.checkpoints.wrapping import renamed
from irbin.errors import SourceError, UsageError
from irbin.messages import first_line, nearest
from irbin.records.options import Preprocessing, SourceOptions, SourceRecord
from irbin.rewriting.network import Network
from irbin.sources.feeding import for_channels, stated
from irbin.sources.fetch import fetch_url

_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Training-only heads, which make the output a tuple; left out."""

_OLD_VIT = re.compile(r"\bmlp\.linear_([12])\.")
"""Names in the published vision transformers; an MLP's layers have numbers today."""

_VIT_LAYERS = {"1": 0, "2": 3}

_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""Names in the published DenseNet files, from before PyTorch forbade dots in module names."""


def load_torchvision(name: str, options: SourceOptions) -> Network:
    """A float network by torchvision's name, without the `torchvision:` prefix.

    Raises:
        SourceError: an unknown model or weights (nearest names), or weights that cannot be fetched.
        UsageError: a factory argument that the model does not take, or no classes.
    """
    architecture, _, tag = name.partition(".")
    refuse_headless(f"torchvision:{architecture}", options)
    weights = _weights(architecture, tag)
    seen = _preprocessing(architecture, weights, options)
    n_pretrained = len(weights.meta["categories"]) if weights else 1000
    num_classes = n_pretrained if options.num_classes is None else options.num_classes
    pretrained = options.pretrained
    kwargs = {**_implied(architecture, seen, pretrained), **options.model_kwargs}
    channels = seen.input_size[0]
    module = _create(architecture, num_classes, kwargs, channels)
    filled = Filled()
    if pretrained:
        if weights is None:
            raise SourceError(
                f"torchvision has no pretrained weights for `{architecture}`; "
                "give `pretrained=False` for random ones"
            )
        path = fetch_url(weights.url, f"torchvision:{architecture}.{weights.name}")
        target = Target(
            module,
            num_classes,
            channels,
            build=lambda n, chans: _create(architecture, n, kwargs, chans),
            other_classes=num_classes != n_pretrained,
            other_channels=channels != 3,
        )
        rename = partial(modernized, architecture)
        filled = fill(target, read_checkpoint(path), f"`{path}`", rename=rename)
    known_names = weights is not None and pretrained and num_classes == n_pretrained
    record = SourceRecord(
        spec=f"torchvision:{name}",
        architecture=f"torchvision:{architecture}",
        num_classes=num_classes,
        preprocessing=seen,
        model_kwargs=kwargs,
        trained=pretrained and not filled.head_is_new,
        weights=f"{architecture}.{weights.name}" if weights and pretrained else None,
        class_names=tuple(weights.meta["categories"]) if weights and known_names else None,
        stated_by=stated("torchvision's weights") if weights and pretrained else {},
        published_names=True,
    )
    return Network(module, record, notes=filled.notes)


def build_torchvision(source: SourceRecord, name: str) -> nn.Module:
    """The architecture with random weights; `name` is torchvision's."""
    channels = source.preprocessing.input_size[0]
    return _create(name, source.num_classes, source.model_kwargs, channels)


def modernized(architecture: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` of a published file under today's names, without auxiliary heads."""
    auxiliary = _AUXILIARY.get(architecture, ())
    is_densenet = architecture.startswith("densenet")
    is_vit = architecture.startswith("vit_")

    def rename(name: str) -> str | None:
        if auxiliary and name.startswith(auxiliary):
            return None
        if is_vit:
            return _OLD_VIT.sub(lambda match: f"mlp.{_VIT_LAYERS[match[1]]}.", name)
        return _OLD_DENSENET.sub(r"\1\2", name) if is_densenet else name

    return renamed(tensors, rename)


def refuse_headless(name: str, options: SourceOptions) -> None:
    """Says that `name` cannot do without its classifier.

    Raises:
        UsageError: `options` ask for 0 classes.
    """
    if options.num_classes == 0:
        raise UsageError(
            f"`num_classes`: `{name}` always has a classifier; expected 1 or more, got 0 "
            "(timm's networks can do without)"
        )


def _weights(architecture: str, tag: str) -> Any | None:
    """The entry of torchvision's weights table: `tag`, or the default where that is empty."""
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        close = nearest(architecture, known)
        raise SourceError(
            f"unknown model `torchvision:{architecture}`{close}; expected a classifier"
        )
    table = torchvision.models.get_model_weights(architecture)
    if not tag:
        return getattr(table, "DEFAULT", None)
    if tag not in table.__members__:
        listed = ", ".join(f"`{member}`" for member in table.__members__) or "none"
        raise SourceError(f"`torchvision:{architecture}` has no weights `{tag}`; it has {listed}")
    return table[tag]


def _preprocessing(architecture: str, weights: Any | None, options: SourceOptions) -> Preprocessing:
    if weights is None:
        size = options.size_of((3, 224, 224))
        channels = size[0]
        plain = Preprocessing(interpolation="bilinear")
        return replace(
            plain,
            input_size=size,
            mean=for_channels(plain.mean, channels),
            std=for_channels(plain.std, channels),
        )
    preset = weights.transforms()
    crop, resize = preset.crop_size[0], preset.resize_size[0]
    size = options.size_of((3, crop, crop))
    channels = size[0]
    mode = preset.interpolation
    mean, std = tuple(preset.mean), tuple(preset.std)
    if architecture in _AUXILIARY and channels != 3:
        mean, std = (0.5,), (0.5,)  # what the network's own conversion of three channels comes to
    return Preprocessing(
        input_size=size,
        mean=for_channels(mean, channels),
        std=for_channels(std, channels),
        interpolation=mode.value if isinstance(mode, InterpolationMode) else str(mode),
        crop_pct=round(crop / resize, 6),
    )


def _implied(architecture: str, seen: Preprocessing, pretrained: bool) -> dict[str, Any]:
    """Factory arguments that torchvision derives from weights, or that fix the input size."""
    channels, height, width = seen.input_size
    if architecture.startswith("vit_"):
        return {"image_size": height}
    if architecture.startswith("maxvit"):
        return {"input_size": [height, width]}
    if architecture in _AUXILIARY:
        # the published weights expect images normalized to [−1, 1]; the network converts them
        return {
            "aux_logits": False,
            "init_weights": False,
            "transform_input": pretrained and channels == 3,
        }
    return {}


def _create(
    architecture: str, num_classes: int, kwargs: Mapping[str, Any], channels: int
) -> nn.Module:
    try:
        module: nn.Module = torchvision.models.get_model(
            architecture, weights=None, num_classes=num_classes, **kwargs
        )
    except TypeError as error:
        raise UsageError(f"`torchvision:{architecture}`: {first_line(error)}") from error
    except (ValueError, RuntimeError) as error:
        raise SourceError(
            f"`torchvision:{architecture}` cannot be built: {first_line(error)}"
        ) from error
    return module if channels == 3 else _for_channels(module, channels)


def _for_channels(module: nn.Module, channels: int) -> nn.Module:
    """`module`, in place, with its first convolution for another number of image channels."""
    conv = next(m for m in module.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3)
    conv.in_channels = channels
    conv.weight = nn.Parameter(adapt_input_conv(channels, conv.weight.detach()))
    return module
