"""A network as a folder: `config.json` in timm's words plus ours, and `model.safetensors`.

A float network of timm's can be read back by timm itself (`timm.create_model("local-dir:…")`); the
key `irbin` holds the source and the plan, without which no converted network could be built again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from irbin.artifact.schema import is_packed_folder
from irbin.checkpoints.checkpoint import load_into, read_checkpoint
from irbin.errors import SourceError, UsageError
from irbin.files import read_json, refuse_taken, whole_folder
from irbin.messages import system_says
from irbin.records.feeding import fault_of
from irbin.records.json import JsonValue, from_json, to_json
from irbin.records.options import SourceRecord
from irbin.records.plan import Plan
from irbin.rewriting.network import Network
from irbin.sources.spec import PREFIXES, build
from irbin.version import __version__

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

FolderKind = Literal["network", "run", "packed", "timm"]

_TIMM_KEYS = ("first_conv", "classifier", "pool_size", "fixed_input_size", "min_input_size")
"""What timm's own configuration says about the architecture, kept for timm's sake."""


def save_folder(network: Network, path: Path, *, overwrite: bool = False) -> None:
    """Writes `path` whole or not at all.

    Args:
        network: float or converted.
        path: folder to make.
        overwrite: replace an existing network folder.

    Raises:
        UsageError: `path` exists (see `refuse_existing`).
        SourceError: the network cannot be built again from its record, or the disk refuses.
    """
    refuse_existing(path, overwrite)
    refuse_unbuildable(network, path)
    try:
        with whole_folder(path, overwrite=overwrite) as partial:
            fill_folder(network, partial)
    except OSError as error:
        raise SourceError(f"`{path}` cannot be written: {system_says(error)}") from error


def refuse_unbuildable(network: Network, path: Path) -> None:
    """Refuses a network that no folder could give back.

    Args:
        network: to be saved.
        path: where, to be told.

    Raises:
        SourceError: its record does not say how it is built.
    """
    if not network.source.architecture.startswith(tuple(f"{kind}:" for kind in PREFIXES)):
        raise SourceError(
            f"`{path}`: nothing says how to build `{network.source.architecture}` again; "
            "put it behind a factory and name it `module:PACKAGE.MODULE:FACTORY`"
        )


def fill_folder(network: Network, path: Path) -> None:
    """Writes a network's files into an empty folder.

    Args:
        network: float or converted, see `refuse_unbuildable`.
        path: the folder.
    """
    text = json.dumps(_config(network), indent=2, ensure_ascii=False)
    (path / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    tensors = _separate(network.module.state_dict())
    # not save_file, whose file only its owner may read
    (path / WEIGHTS_FILE).write_bytes(save(tensors, metadata={"format": "pt"}))


def load_folder(path: Path) -> Network:
    """The network of a folder that `save_folder` wrote, with its weights.

    A float network's record then names this folder as its source, since its weights are here; a
    converted one's goes on naming the float network it was made from.

    Raises:
        SourceError: a file is missing, damaged or of another version, or the weights do not fit.
    """
    source, plan = _records(path)
    network = Network(build(source), source)
    if plan is not None:
        from irbin.rewriting.rewrite import rewrite  # a float network needs no tracing

        network = rewrite(network, plan, in_place=True, check=False)  # was checked when made
    weights = path / WEIGHTS_FILE
    load_into(network.module, read_checkpoint(weights).tensors, f"`{weights}`")
    if plan is None:
        source = replace(source, spec=str(path.absolute()))
    return Network(network.module, source, plan)


def recorded(path: Path) -> SourceRecord:
    """What a network folder says of its source, without its weights.

    Raises:
        SourceError: see `load_folder`.
    """
    return _records(path)[0]


def folder_kind(path: Path) -> FolderKind | None:
    """What a folder holds: irbin's network, a run, a packed network, timm's network, or None.

    Raises:
        SourceError: its `config.json` is not JSON.
    """
    if not path.is_dir():
        return None
    if is_packed_folder(path):
        return "packed"
    if (path / "args.yaml").is_file() and any((path / part).is_dir() for part in ("last", "best")):
        return "run"
    config = _read_config(path)
    if config is None:
        return None
    return "network" if "irbin" in config else "timm"


def network_folder(path: Path) -> Path:
    """The network folder behind a network or run folder: of a run `best`, else `last`.

    Raises:
        SourceError: `path` is neither.
    """
    kind = folder_kind(path)
    if kind == "network":
        return path
    if kind == "run":
        for part in ("best", "last"):
            if folder_kind(path / part) == "network":
                return path / part
    raise SourceError(f"`{path}`: expected a network or run folder of irbin's, found neither")


def refuse_existing(path: Path, overwrite: bool, kind: FolderKind = "network") -> None:
    """Checks, before any work is done, that `path` may be written.

    Args:
        path: folder to write.
        overwrite: an existing one of the same `kind` may go.
        kind: what is about to be written.

    Raises:
        UsageError: it exists; with `overwrite`, it is something else than such a folder or an empty
            one, which irbin will not delete.
    """
    is_such = path.is_dir() and (not any(path.iterdir()) or folder_kind(path) == kind)
    refuse_taken(path, overwrite, is_such, f"{kind} folder")


def refuse_float(path: Path) -> None:
    """Checks that no float network stands where a converted one is about to be written.

    Raises:
        UsageError: one does; it may be somebody's teacher.
    """
    if folder_kind(path) != "network":
        return
    ours = (_read_config(path) or {}).get("irbin")
    if not isinstance(ours, Mapping) or ours.get("plan") is None:
        raise UsageError(
            f"`{path}` holds a float network, which `overwrite=True` does not replace by a "
            "converted one; choose another folder"
        )


def _read_config(path: Path) -> dict[str, Any] | None:
    """`config.json` of a folder; None where there is none."""
    file = path / CONFIG_FILE
    if not file.is_file():
        return None
    try:
        config = read_json(file)
    except (ValueError, OSError) as error:
        raise SourceError(
            f"`{file}`: expected JSON, the file is cut short or damaged ({error})"
        ) from error
    if not isinstance(config, dict):
        raise SourceError(f"`{file}`: expected a JSON object, got a {type(config).__name__}")
    return config


def _records(path: Path) -> tuple[SourceRecord, Plan | None]:
    ours = (_read_config(path) or {}).get("irbin")
    if not isinstance(ours, Mapping) or ours.get("format") != "network":
        raise SourceError(f"`{path}`: expected a folder written by `irbin convert` or `finetune`")
    where = (
        f"`{path / CONFIG_FILE}` (written by irbin {ours.get('version')}, this is {__version__})"
    )
    missing = [f"`irbin.{key}`" for key in ("source", "plan") if key not in ours]
    if missing:
        raise SourceError(f"{where}: {' and '.join(missing)} missing; write the folder anew")
    try:
        source = from_json(SourceRecord, ours["source"], where)
        plan = ours["plan"]
        records = source, None if plan is None else from_json(Plan, plan, where)
    except UsageError as error:  # the file is wrong, not the command
        raise SourceError(str(error)) from error
    if fault := fault_of(source.preprocessing):
        raise SourceError(f"{where}: at `source.preprocessing`: {fault}")
    return records


def _config(network: Network) -> dict[str, JsonValue]:
    """timm's keys, then ours."""
    source = network.source
    config: dict[str, JsonValue] = {
        "architecture": source.architecture.removeprefix("timm:"),
        "num_classes": source.num_classes,
    }
    n_features = getattr(network.module, "num_features", None)
    if isinstance(n_features, int):
        config["num_features"] = n_features
    if source.model_kwargs:
        config["model_args"] = source.model_kwargs
    if source.class_names:
        config["label_names"] = list(source.class_names)
    config["pretrained_cfg"] = _pretrained_cfg(network)
    config["irbin"] = {
        "version": __version__,
        "format": "network",
        "source": to_json(source),
        "plan": None if network.plan is None else to_json(network.plan),
    }
    return config


def _pretrained_cfg(network: Network) -> dict[str, JsonValue]:
    """How images are fed, in timm's words, and what timm knows of the architecture."""
    theirs = getattr(network.module, "pretrained_cfg", None)
    theirs = theirs if isinstance(theirs, Mapping) else {}
    cfg: dict[str, JsonValue] = {key: theirs[key] for key in _TIMM_KEYS if key in theirs}
    cfg.update(to_json(network.source.preprocessing))
    del cfg["small_as_is"]  # ours alone
    cfg["num_classes"] = network.source.num_classes
    return cfg


def _separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every name with memory of its own, as safetensors demands; aliases are written twice.

    So the file has every name that the network has, and any program can read it.
    """
    seen: set[int] = set()
    tensors = {}
    for name, value in state.items():
        tensor = value.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        seen.add(storage.data_ptr())
        tensors[name] = tensor
    return tensors
