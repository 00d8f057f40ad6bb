"""torchvision's names become networks: `torchvision:NAME` or `torchvision:NAME.WEIGHTS`.

The builders are always called without weights, and the weights read by our own reader: torchvision
would unpickle them. What a builder changes when it is given weights is repeated here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torchvision.models
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode

from irbin.errors import SourceError, UsageError
from irbin.network.checkpoint import load_into, read_checkpoint, renamed
from irbin.network.fetch import fetch_url
from irbin.network.nearest import nearest
from irbin.network.network import Network
from irbin.network.unpickle import first_line
from irbin.records import Preprocessing, SourceOptions, SourceRecord

_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Training-only heads, which make the output a tuple; left out."""

_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""Names in the published DenseNet files, from before PyTorch forbade dots in module names."""


def load_torchvision(name: str, options: SourceOptions) -> Network:
    """A float network by torchvision's name, without the `torchvision:` prefix.

    Raises:
        SourceError: an unknown model or weights (nearest names), or weights that cannot be fetched.
        UsageError: a factory argument or channel count that the model does not take.
    """
    architecture, _, tag = name.partition(".")
    weights = _weights(architecture, tag)
    seen = _preprocessing(weights, options)
    n_pretrained = len(weights.meta["categories"]) if weights else 1000
    num_classes = n_pretrained if options.num_classes is None else options.num_classes
    pretrained = options.pretrained
    kwargs = {**_implied(architecture, seen, pretrained), **options.model_kwargs}
    module = _create(architecture, num_classes, kwargs)
    if pretrained:
        if weights is None:
            raise SourceError(
                f"torchvision has no pretrained weights for `{architecture}`; "
                "give `--no-pretrained` for random ones"
            )
        path = fetch_url(weights.url, f"torchvision:{architecture}.{weights.name}")
        tensors = modernized(architecture, read_checkpoint(path).tensors)
        if num_classes != n_pretrained:
            tensors = _with_new_head(tensors, module.state_dict(), n_pretrained, num_classes)
        load_into(module, tensors, f"`{path}`")
    known_names = weights is not None and pretrained and num_classes == n_pretrained
    record = SourceRecord(
        spec=f"torchvision:{name}",
        architecture=f"torchvision:{architecture}",
        num_classes=num_classes,
        preprocessing=seen,
        model_kwargs=kwargs,
        trained=pretrained,
        weights=f"{architecture}.{weights.name}" if weights and pretrained else None,
        class_names=tuple(weights.meta["categories"]) if weights and known_names else None,
    )
    return Network(module, record)


def build_torchvision(source: SourceRecord, name: str) -> nn.Module:
    """The architecture with random weights; `name` is torchvision's."""
    return _create(name, source.num_classes, source.model_kwargs)


def modernized(architecture: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` of a published file under today's names, without auxiliary heads."""
    auxiliary = _AUXILIARY.get(architecture, ())
    is_densenet = architecture.startswith("densenet")

    def rename(name: str) -> str | None:
        if auxiliary and name.startswith(auxiliary):
            return None
        return _OLD_DENSENET.sub(r"\1\2", name) if is_densenet else name

    return renamed(tensors, rename)


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


def _preprocessing(weights: Any | None, options: SourceOptions) -> Preprocessing:
    channels, *size = options.input_size or (options.in_chans or 3, 0, 0)
    if channels != 3:
        raise UsageError(
            f"`in_chans`: torchvision's networks take 3 channels, got {channels}; "
            "timm's take any number"
        )
    if weights is None:
        height, width = size if options.input_size else (224, 224)
        return Preprocessing(input_size=(3, height, width), interpolation="bilinear")
    preset = weights.transforms()
    crop, resize = preset.crop_size[0], preset.resize_size[0]
    height, width = size if options.input_size else (crop, crop)
    mode = preset.interpolation
    return Preprocessing(
        input_size=(3, height, width),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=mode.value if isinstance(mode, InterpolationMode) else str(mode),
        crop_pct=round(crop / resize, 6),
    )


def _implied(architecture: str, seen: Preprocessing, pretrained: bool) -> dict[str, Any]:
    """Factory arguments that torchvision derives from weights, or that fix the input size."""
    height, width = seen.input_size[1:]
    if architecture.startswith("vit_"):
        return {"image_size": height}
    if architecture.startswith("maxvit"):
        return {"input_size": [height, width]}
    if architecture in _AUXILIARY:
        # the published weights expect images normalized to [−1, 1]; the network converts them
        return {"aux_logits": False, "init_weights": False, "transform_input": pretrained}
    return {}


def _create(architecture: str, num_classes: int, kwargs: Mapping[str, Any]) -> nn.Module:
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
    return module


def _with_new_head(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], n_from: int, n_to: int
) -> dict[str, Tensor]:
    """`tensors` with the classifier's replaced by the network's own random ones."""
    mixed = renamed(tensors, lambda name: name)
    for name, tensor in own.items():
        if name in mixed and mixed[name].shape != tensor.shape:
            shape, theirs = tuple(tensor.shape), tuple(mixed[name].shape)
            if (shape[0], theirs[0]) == (n_to, n_from) and shape[1:] == theirs[1:]:
                mixed[name] = tensor
    return mixed
