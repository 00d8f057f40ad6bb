"""Under which licence weights were published, where whoever published them says so."""

from __future__ import annotations

import timm

from irbin.records.options import SourceRecord


def published(source: SourceRecord) -> tuple[str | None, str | None]:
    """The licence of the weights that a network began with, and the hub's repository of them.

    Returns:
        As the hub spells them (`apache-2.0`, `timm/resnet18.a1_in1k`); None for what timm, the only
        one that states it by name, does not know.
    """
    if source.weights is None or not source.architecture.startswith("timm:"):
        return None, None
    try:
        known = timm.models.get_pretrained_cfg(source.weights, allow_unregistered=True)
    except RuntimeError:  # an architecture of timm's without this tag
        return None, None
    return (known.license or None, known.hf_hub_id or None) if known else (None, None)
