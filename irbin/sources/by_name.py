"""Whatever a command takes for a network, opened: a folder by its kind, a checkpoint, or a name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from irbin.checkpoints.formats import index_in, weights_in
from irbin.errors import SourceError, UsageError
from irbin.hub.repository import is_on_hub, located
from irbin.onnx.session import is_onnx
from irbin.records.options import SourceOptions, SourceRecord
from irbin.rewriting.network import Network
from irbin.sources.feeding import as_asked
from irbin.sources.folder import folder_kind, load_folder, network_folder
from irbin.sources.spec import check_options, is_checkpoint, load_source, reload
from irbin.sources.timm_names import is_timm_name
from irbin.tracing.calling import count_classes
from irbin.zoo.entries import is_entry


def open_network(spec: str, options: SourceOptions) -> Network:
    """The float or converted network behind `spec`.

    Args:
        spec: a network or run folder of irbin's, a timm folder, a checkpoint file, a folder of
            shards with their index, `zoo:NAME`, or another name; see `sources.spec.load_source`.
        options: how to read it; a folder of irbin's says everything itself.

    Raises:
        SourceError: it does not exist, cannot be read, or is a packed folder.
        UsageError: options that contradict it.
    """
    path = located(spec).expanduser()
    kind = folder_kind(path)
    if kind == "packed":
        raise SourceError(
            f"`{spec}` is a packed folder, which cannot be trained or converted again; "
            "`irbin inspect` and `irbin eval` take it"
        )
    if is_onnx(path):
        raise SourceError(
            f"`{spec}` is an ONNX file, which cannot be trained or converted; `irbin eval` and "
            "`irbin predict` take those that irbin wrote"
        )
    if kind in ("network", "run"):
        network = load_folder(network_folder(path))
        if is_entry(spec) or is_on_hub(spec):  # it is found wherever irbin is installed
            network = replace(network, source=replace(network.source, spec=spec))
        _refuse_contradictions(spec, options, network.source)
        return _fed(network, options)
    if index := index_in(path) if kind is None or options.model else None:
        return load_source(str(index), options)
    if kind in (None, "timm") and options.model and path.is_dir() and (file := weights_in(path)):
        return load_source(str(file), options)
    if kind == "timm":
        return load_source(f"local-dir:{path.absolute()}", options)
    if _is_path(spec) or (path.is_dir() and not is_timm_name(spec)):
        _check_path(spec, path)
    return load_source(spec, options)


def reopen(source: SourceRecord) -> Network:
    """The float network that a record names, with its weights: the source of a converted network.

    Raises:
        SourceError: what it names is gone or has changed.
    """
    is_folder = Path(source.spec).is_absolute() and not is_checkpoint(source.spec)
    is_ours = is_on_hub(source.spec) and folder_kind(located(source.spec)) is not None
    if is_folder or is_ours or is_entry(source.spec):
        return open_network(source.spec, SourceOptions())
    return reload(source)


def _fed(network: Network, options: SourceOptions) -> Network:
    """A folder's network with images as the user asks for them.

    Raises:
        UsageError: it does not run at the size asked for.
    """
    check_options(options)
    source = as_asked(network.source, options)
    if source.preprocessing.input_size != network.source.preprocessing.input_size:
        count_classes(network.module, source.preprocessing, source.spec)  # whether it runs
    return replace(network, source=source)


def _is_path(spec: str) -> bool:
    """Whether `spec` is written as only a path can be."""
    if is_checkpoint(spec):
        return True
    if ":" in spec:
        return False
    separators = (os.sep, os.altsep or os.sep)
    return spec.startswith((".", "~")) or any(mark in spec for mark in separators)


def _check_path(spec: str, path: Path) -> None:
    if path.is_dir():
        if file := weights_in(path):
            raise SourceError(
                f"`{spec}`: expected a folder whose `config.json` says what it holds, found the "
                f"weights `{file.name}` alone; give `model='NAME'`"
            )
        raise SourceError(
            f"`{spec}`: expected a folder with `config.json` (a network), `args.yaml` (a run) or "
            "`program.json` (a packed network), found none of them"
        )
    if path.exists():
        return
    hub = f"; a hub repository is written `hf-hub:{spec}`" if spec.count("/") == 1 else ""
    raise SourceError(f"`{spec}`: no such file or folder{hub}")


def _refuse_contradictions(spec: str, options: SourceOptions, source: SourceRecord) -> None:
    """A folder says everything itself: options that say otherwise are a mistake, not a wish."""
    size = source.preprocessing.input_size
    wanted = {
        "model": (options.model, source.architecture),
        "num_classes": (options.num_classes, source.num_classes),
        "in_chans": (options.in_chans, size[0]),
        "input_size": (options.input_size and options.input_size[0], size[0]),
        "model_kwargs": (options.model_kwargs or None, source.model_kwargs),
        "state_key": (options.state_key, source.state_key),
        "remap": (options.remap or None, source.remap),
        "ignore_extra": (options.ignore_extra or None, source.ignore_extra),
        "reparameterize": (options.reparameterize or None, source.reparameterized),
    }
    for name, (given, told) in wanted.items():
        if given is not None and given != told:
            raise UsageError(
                f"`{name}`: the folder `{spec}` says {told} itself, got {given}; leave it out"
            )
