"""A packed network's model card: `README.md` in its folder, with the front matter that hubs read.

What was not measured is called that; nothing is made up. Names from data sets and folders are
escaped, since whoever named them did not write Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from irbin.artifact.schema import Manifest
from irbin.messages import counted, without_folders
from irbin.records.card import CardFacts, TrainedFacts
from irbin.records.compression import Timing
from irbin.records.options import NetworkForm
from irbin.records.results import Evaluation

NOT_MEASURED = "not measured"
LONGEST_NAMES = 100
"""Classes that a card names."""

_FORMS: dict[NetworkForm, str] = {"float": "float", "binary": "trained, binary", "packed": "packed"}


def card(manifest: Manifest, facts: CardFacts) -> str:
    """The whole text, Markdown behind YAML front matter.

    Args:
        manifest: of the packed folder.
        facts: what is known beside it.
    """
    head = yaml.safe_dump(_front_matter(manifest, facts), sort_keys=False, allow_unicode=True)
    sections = (_what(manifest, facts), _accuracy(facts), _how_made(manifest, facts), _USE)
    text = "\n\n".join("\n".join(lines) for lines in sections)
    return f"---\n{head}---\n\n{text}\n"


def escaped(text: str) -> str:
    """A text on one line that Markdown, tables and HTML show as it is."""
    words = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]()#!|~<>&$])", _entity, words)


def _entity(match: re.Match[str]) -> str:
    return f"&#{ord(match[1])};" if match[1] in "<>&|`" else f"\\{match[1]}"


def _front_matter(manifest: Manifest, facts: CardFacts) -> dict[str, Any]:
    is_classifier = manifest.source.num_classes > 0
    task = "image-classification" if is_classifier else "image-feature-extraction"
    head: dict[str, Any] = {
        "library_name": "irbin",
        "pipeline_tag": task,
        "tags": [task, "irbin", "binary-neural-network", manifest.plan.options.bits],
    }
    if facts.licence is not None:
        head["license"] = facts.licence
    if facts.base_model is not None:
        head["base_model"] = facts.base_model
        head["base_model_relation"] = "quantized"
    return head


def _what(manifest: Manifest, facts: CardFacts) -> list[str]:
    source, plan = manifest.source, manifest.plan
    name = escaped(source.architecture.rpartition(":")[2])
    channels, height, width = source.preprocessing.input_size
    n_binary, n_layers = len(plan.binary_names), len(plan.decisions)
    how = "weights and activations" if plan.options.bits == "1w1a" else "weights"
    return [
        f"# {name} at one bit a weight",
        "",
        f"A `{plan.options.bits}` network: {how} of {n_binary} of its {n_layers} layers are signs, "
        "as in [IR-Net](https://arxiv.org/abs/1909.10788), packed by irbin. The folder is data: "
        "nothing in it is executed.",
        "",
        "| | |",
        "|---|---|",
        f"| size | {facts.total_bytes:,} bytes in three files; as float32 {plan.float_bytes:,} |",
        f"| images | {channels} × {height} × {width}, mean {_numbers(source.preprocessing.mean)}, "
        f"deviation {_numbers(source.preprocessing.std)}, "
        f"{escaped(source.preprocessing.interpolation)} |",
        f"| answers | {_classes(manifest)} |",
        f"| floats stored as | {manifest.float_dtype} |",
        f"| speed | {_speed(facts.timing)} |",
        f"| licence of the weights it was made from | {escaped(facts.licence or 'not stated')} |",
    ]


def _classes(manifest: Manifest) -> str:
    source = manifest.source
    if not source.num_classes:
        return "features, no classes"
    named = source.class_names or ()
    shown = ", ".join(escaped(name) for name in named[:LONGEST_NAMES])
    more = ", …" * (len(named) > LONGEST_NAMES)
    return counted(source.num_classes, "class") + (f": {shown}{more}" if shown else "")


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _speed(timing: Timing | None) -> str:
    if timing is None:
        return NOT_MEASURED
    beside = ""
    if timing.float_ms is not None:
        beside = f"; the float network in torch {escaped(timing.torch)} {timing.float_ms:.3g} ms"
    return (
        f"{timing.packed_ms:.3g} ms an image on {counted(timing.n_threads, 'thread')} of "
        f"{escaped(timing.processor)}, {escaped(timing.kernels)} kernels{beside}"
        + ", other work beside"
        * timing.is_busy
    )


def _accuracy(facts: CardFacts) -> list[str]:
    lines = ["## Accuracy", ""]
    if not any(one.kind == "packed" for one in facts.evaluations):
        lines.append(f"The packed network: {NOT_MEASURED}.{_validated(facts.trained)}")
        return lines
    lines += ["| form | top-1 % | top-5 % | images | bytes |", "|---|---|---|---|---|"]
    lines += [_row(one) for one in facts.evaluations]
    where = f" of {escaped(facts.trained.data)}" if facts.trained else ""
    lines += ["", f"On every image of the validation split{where}; ± holds 95 % of chance."]
    return lines


def _row(one: Evaluation) -> str:
    cells = (
        _FORMS.get(one.kind, one.kind),
        f"{one.top1:.2f} ± {one.top1_margin:.2f}",
        f"{one.top5:.2f} ± {one.top5_margin:.2f}",
        f"{one.n_images:,}",
        f"{one.size_bytes:,}",
    )
    return f"| {' | '.join(cells)} |"


def _validated(trained: TrainedFacts | None) -> str:
    """What the run's own record says, of the trained form."""
    if trained is None or trained.best_epoch < 1:
        return ""
    return (
        f" In training, the network that it was packed from reached {trained.best_top1:.2f} % "
        f"top-1 in validation after epoch {trained.best_epoch}."
    )


def _unnamed(trained: bool) -> str:
    return "trained by irbin" if trained else "none"


def _how_made(manifest: Manifest, facts: CardFacts) -> list[str]:
    source, trained = manifest.source, facts.trained
    weights = without_folders(source.weights) if source.weights else _unnamed(source.trained)
    lines = ["## How it was made", "", "| | |", "|---|---|"]
    rows = {
        "architecture": escaped(source.architecture),
        "float weights": escaped(weights),
        **_float_training(facts.float_trained),
        "data": escaped(trained.data) if trained else "not recorded",
        "recipe": escaped(without_folders(trained.recipe)) if trained else "not recorded",
        "epochs": str(trained.epochs) if trained else "not recorded",
        "written by": f"irbin {escaped(manifest.irbin_version)}",
    }
    return [*lines, *(f"| {name} | {value} |" for name, value in rows.items())]


def _float_training(trained: TrainedFacts | None) -> dict[str, str]:
    if trained is None:
        return {}
    recipe = escaped(without_folders(trained.recipe))
    epochs = f"{counted(trained.epochs, 'epoch')} of {escaped(trained.data)}, recipe {recipe}"
    return {"which were trained": epochs}


_USE = [
    "## How to use it",
    "",
    "Where irbin is installed:",
    "",
    "```sh",
    "irbin predict FOLDER cat.png",
    "```",
    "",
    "```python",
    "import irbin",
    "",
    'model = irbin.load("FOLDER")  # needs neither timm nor the architecture\'s code',
    'print(model.predict("cat.png"))',
    "```",
    "",
    "`FOLDER` is this folder, or `hf-hub:OWNER/NAME` where it lies on the hub.",
]
