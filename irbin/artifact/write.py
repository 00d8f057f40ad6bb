"""A lowered network to a packed folder, whole or not at all, exactly as large as the plan said."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from irbin.artifact.schema import (
    CARD_FILE,
    CONFIG_FILE,
    FORMAT_VERSION,
    PROGRAM_FILE,
    TENSORS_FILE,
    Manifest,
    manifest_to_json,
)
from irbin.errors import ArtifactError
from irbin.files import whole_folder
from irbin.messages import without_folders
from irbin.program.lowered import Lowered
from irbin.records.feeding import fault_of
from irbin.records.options import FloatDtype, SourceRecord
from irbin.records.plan import Plan
from irbin.records.results import ExportRecord
from irbin.version import __version__

_log = logging.getLogger("irbin")


def write_artifact(
    lowered: Lowered,
    source: SourceRecord,
    plan: Plan,
    path: Path,
    float_dtype: FloatDtype = "float32",
    *,
    overwrite: bool = False,
    card: Callable[[Manifest, int], str] | None = None,
) -> ExportRecord:
    """Writes `config.json`, `program.json` and `packed.safetensors` into the folder `path`.

    Args:
        lowered: the trained network.
        source: where its float network came from; of paths the last part is written, since the
            folder is made to be given away.
        plan: what was binarized; its predicted bytes are held against the tensors'.
        path: folder to make; its parents too.
        float_dtype: storage of everything that is float32 in the program.
        overwrite: replace `path` if it exists.
        card: gives the text of a `README.md` beside them, of the manifest and their bytes.

    Raises:
        ArtifactError: `path` exists, the images that `source` tells of cannot be fed, or a value
            overflows `float_dtype`.
    """
    if fault := fault_of(source.preprocessing):  # as the reader would
        raise ArtifactError(f"the network's record of its images, `source.preprocessing`: {fault}")
    if path.exists() and not overwrite:
        raise ArtifactError(f"`{path}` exists; choose another folder or allow overwriting")
    stored = {name: _stored(name, t, float_dtype) for name, t in lowered.tensors.items()}
    _note_sizes(stored, plan, float_dtype)
    manifest = Manifest(__version__, float_dtype, _without_folders(source), plan)
    with whole_folder(path, overwrite=overwrite) as partial:
        _write_json(partial / CONFIG_FILE, manifest_to_json(manifest))
        _write_json(partial / PROGRAM_FILE, lowered.program.to_json())
        metadata = {"format": "pt", "irbin.format_version": str(FORMAT_VERSION)}
        # not save_file, whose file only its owner may read
        (partial / TENSORS_FILE).write_bytes(_in_order(save(stored, metadata=metadata)))
        total_bytes = sum(file.stat().st_size for file in partial.iterdir())
        if card is not None:
            (partial / CARD_FILE).write_text(card(manifest, total_bytes), encoding="utf-8")
    return ExportRecord(
        path=str(path),
        predicted_bytes=plan.packed_bytes(float_dtype),
        tensor_bytes=_n_bytes(stored.values()),
        total_bytes=total_bytes,
        float_bytes=plan.float_bytes,
        n_binary=len(plan.binary_names),
        n_nodes=len(lowered.program.nodes),
        float_dtype=float_dtype,
    )


def _without_folders(source: SourceRecord) -> SourceRecord:
    weights = None if source.weights is None else without_folders(source.weights)
    return replace(source, spec=without_folders(source.spec), weights=weights)


def _in_order(file: bytes) -> bytes:
    """A file of safetensors whose metadata stand in order: it writes them in a random one.

    So the same network gives the same bytes.
    """
    start, end = 8, 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[start:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(text) <= end - start, "it has the same words"
    return file[:start] + text.ljust(end - start) + file[end:]


def _stored(name: str, tensor: Tensor, float_dtype: FloatDtype) -> Tensor:
    if tensor.dtype != torch.float32:
        return tensor.contiguous()
    stored = tensor.to(getattr(torch, float_dtype)).contiguous()
    if bool((torch.isinf(stored) & torch.isfinite(tensor)).any()):
        raise ArtifactError(
            f"`{name}`: {tensor.abs().max().item():.4g} is too large for {float_dtype}; "
            "store it as bfloat16 or float32"
        )
    return stored


def _note_sizes(stored: dict[str, Tensor], plan: Plan, float_dtype: FloatDtype) -> None:
    """Holds the tensors against the plan, layer by layer, and names the first that differs.

    Only told: a network that was trained is written. What lies beside the layers may differ:
    constants that a network's code computes (tables of relative positions, say) are only known once
    it is lowered; so may a layer of which the answers do not need everything. `ExportRecord` has
    both numbers.
    """
    predicted, actual = plan.packed_bytes(float_dtype), _n_bytes(stored.values())
    if predicted == actual:
        return
    rest = dict(stored)
    for decision in plan.decisions:
        name = decision.layer.name
        own = {key: rest.pop(key) for key in list(rest) if _layer_of(key) == name}
        # the plan counts float32 layer by layer; only its total knows of half precision
        n_bytes = sum(
            t.numel() * (4 if t.is_floating_point() else t.element_size()) for t in own.values()
        )
        if n_bytes > decision.packed_bytes:
            _log.warning(
                "layer `%s`: the plan predicted %d bytes of float32 and bits, its tensors have %d "
                "(%s); the packed network is right, please report this",
                name,
                decision.packed_bytes,
                n_bytes,
                ", ".join(own),
            )
            return


def _layer_of(tensor_name: str) -> str:
    return tensor_name.rpartition(".")[0]


def _n_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
