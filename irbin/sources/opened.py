"""Whatever names a network (string, path, something live), opened; and what can be told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TypeGuard

import torch
from torch import nn

from irbin.artifact.schema import FILES
from irbin.errors import SourceError, UsageError
from irbin.files import check_place
from irbin.hub.repository import located
from irbin.launch import launched
from irbin.messages import counted
from irbin.onnx.session import OnnxNetwork, is_onnx, open_onnx
from irbin.records.given import check_is
from irbin.records.options import (
    DEFAULT_SEED,
    NetworkForm,
    SourceOptions,
    SourceRecord,
    check_given,
)
from irbin.rewriting.network import Network, is_converted
from irbin.runtime.loading import load as load_packed
from irbin.runtime.model import PackedModel
from irbin.sources.by_name import open_network as open_by_name
from irbin.sources.by_name import reopen
from irbin.sources.feeding import as_asked
from irbin.sources.folder import folder_kind, network_folder
from irbin.sources.from_module import plain_module, preprocessing_in
from irbin.sources.spec import check_options
from irbin.tracing.calling import count_classes

Source = str | Path | nn.Module | Network


def open_network(source: Source, source_options: SourceOptions | None = None) -> Network:
    """A float or converted network behind whatever names one.

    Args:
        source: spec, checkpoint, network or run folder; or a live module (its classes are counted
            by running it once on zeros of `source_options.input_size`).
        source_options: how to read it.

    Raises:
        SourceError: it cannot be read, is a packed folder, or a converted network's module without
            its plan.
    """
    check_given(source_options)
    options = source_options or SourceOptions()
    if isinstance(source, Network):
        record = as_asked(source.source, options)
        return source if record is source.source else replace(source, source=record)
    if isinstance(source, nn.Module) and not isinstance(source, PackedModel):
        _refuse_bare(source)
        return _network_of_module(source, options)
    if not isinstance(source, str | Path):
        raise SourceError(f"expected a name, a path or a network, got {_described(source)}")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(DEFAULT_SEED if options.seed is None else options.seed)
        return open_by_name(str(source), options)


def _described(source: object) -> str:
    """What was given in a network's place, and what to do."""
    if isinstance(source, type):
        return f"the class `{source.__name__}`; give an instance of it, `{source.__name__}(…)`"
    if isinstance(source, Mapping):
        return "a dictionary; load a state dict into its network first, and give that"
    if isinstance(source, PackedModel):
        return "a packed network, which cannot be trained or converted again"
    word = type(source).__name__
    return f"a `{word}`" if source is not None else "None"


def open_any(
    source: Source | PackedModel, source_options: SourceOptions | None = None
) -> Network | PackedModel:
    """As `open_network`, and packed folders too: a `Network` or a `PackedModel`."""
    if isinstance(source, PackedModel):
        return source
    if is_packed(source):
        return load_packed(Path(source))
    if isinstance(source, nn.Module):  # a converted one too: it runs without its plan
        return _network_of_module(source, source_options or SourceOptions())
    return open_network(source, source_options)


def open_answering(
    source: Source | PackedModel, source_options: SourceOptions | None = None
) -> Network | PackedModel | OnnxNetwork:
    """As `open_any`, and ONNX files that irbin wrote: whatever answers images."""
    return open_onnx(source) if is_onnx(source) else open_any(source, source_options)


def is_packed(source: object) -> TypeGuard[str | Path]:
    """Whether this names a packed folder, one of the zoo's or another.

    Raises:
        SourceError: the zoo has no such entry.
    """
    return isinstance(source, str | Path) and folder_kind(located(source)) == "packed"


def _network_of_module(module: nn.Module, options: SourceOptions) -> Network:
    """A live module as a float network, taken to be trained: somebody made it for a purpose."""
    check_options(options)
    module, notes = plain_module(module)
    name = type(module).__name__
    seen, by = preprocessing_in(module, options)
    num_classes = 0 if options.num_classes == 0 else count_classes(module, seen, name)
    record = SourceRecord(name, f"live:{name}", num_classes, seen, trained=True, stated_by=by)
    return Network(module, as_asked(record, options), notes=notes)


def _refuse_bare(module: nn.Module) -> None:
    """Refuses a converted network's module: nothing there says what was planned."""
    if is_converted(module):
        raise SourceError(
            f"expected a float network, got the `{type(module).__name__}` of one that is converted "
            "already; give the `Network` that `irbin.convert` or `irbin.open_network` returned, "
            "not its `.module`"
        )


def refuse_own_source(out: str | Path, *sources: Source | PackedModel | None) -> None:
    """Checks, before any work is done, that an output can be made and is not what it is from.

    Args:
        out: file or folder to write.
        sources: what it is made from; of a network also the float one that its record names.

    Raises:
        UsageError: `out` is one of them, lies in one, or holds one; or nothing can be made there.
    """
    check_is("out", out, (str, PathLike), "a folder's path")
    place = Path(out).expanduser().resolve()
    for source in sources:
        for path in _places(source):
            if place == path:
                how = "is the source itself"
            elif path in place.parents:
                how = f"lies in the source `{path}`"
            elif place in path.parents:
                how = f"holds the source `{path}`"
            else:
                continue
            raise UsageError(f"`{out}` {how}, which must stay as it is; choose another place")
    if launched().rank == 0:  # the one that writes; another machine may not see the place
        check_place(Path(out))


def _places(source: Source | PackedModel | None) -> list[Path]:
    """Files and folders that a source is read from."""
    names: list[str] = []
    if isinstance(source, str | Path):
        names.append(str(source))
    elif isinstance(source, Network):
        names.append(source.source.spec)
    paths = []
    for name in names:
        path = located(name.removeprefix("local-dir:")).expanduser()
        if path.is_file() or (path.is_dir() and (":" in name or folder_kind(path) is not None)):
            paths.append(path.resolve())
    return paths


def teacher_of(
    network: Network,
    teacher: Source | None,
    source_options: SourceOptions | None,
    opened: Network | None = None,
) -> nn.Module | None:
    """The float network to distill from: the one given, or the converted network's own source.

    Args:
        network: what learns.
        teacher: what was given.
        source_options: how to read that.
        opened: the converted network's own source, where it was opened just now and nobody else
            has it; None opens it again.

    Returns:
        In evaluation mode; None where nothing is given and the source was never trained.

    Raises:
        SourceError: the source is gone, or a converted network stands there.
        UsageError: the teacher has another number of classes, or is a converted network.
    """
    if teacher is None:
        if not network.source.trained or network.plan is None:
            return None
        try:
            chosen = opened or reopen(network.source)
            if chosen.plan is not None:
                raise SourceError(f"`{network.source.spec}` holds a converted network now")
        except SourceError as error:
            raise SourceError(
                f"the float network to distill from is gone ({error}); "
                "name it with `teacher=`, or give `distill=False`"
            ) from error
    else:
        chosen = open_network(teacher, source_options)
        if chosen.plan is not None:
            raise UsageError(
                f"`teacher`: expected a float network, got `{name_of(teacher)}`, which is converted"
            )
    if chosen.source.num_classes != network.source.num_classes:
        raise UsageError(
            f"`teacher` has {counted(chosen.source.num_classes, 'class')}, the network "
            f"{network.source.num_classes}; they must agree"
        )
    return chosen.module.eval()


def check_classifier(record: SourceRecord, task: str) -> None:
    """Refuses a backbone where labels are needed.

    Args:
        record: of the network.
        task: what cannot be done with it.

    Raises:
        UsageError: it has no classifier.
    """
    if record.num_classes == 0:
        raise UsageError(
            f"cannot {task} `{record.spec}`: it has no classifier, only features; attach a head "
            "and do it in a loop of your own, as docs/your-own-network.md shows"
        )


def name_of(source: Source | PackedModel) -> str:
    """What the user called it: as typed; of something live the record's spec or the class."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Network | PackedModel):
        return source_record(source).spec
    return type(source).__name__


def source_record(network: Network | PackedModel | OnnxNetwork) -> SourceRecord:
    """Where the float network came from."""
    return network.manifest.source if isinstance(network, PackedModel) else network.source


def runnable(network: Network | PackedModel | OnnxNetwork) -> tuple[nn.Module, NetworkForm]:
    """What to call with images, and which form of the network that is."""
    if isinstance(network, OnnxNetwork):
        return network, "onnx"
    if isinstance(network, PackedModel):
        return network, "packed"
    is_float = network.plan is None and not is_converted(network.module)
    return network.module, "float" if is_float else "binary"


def param_count(network: Network | PackedModel | OnnxNetwork) -> int:
    """Parameters of the network as it trains; a packed one is asked for its plan."""
    if isinstance(network, OnnxNetwork):
        return network.n_params
    if not isinstance(network, PackedModel):
        return sum(p.numel() for p in network.module.parameters())
    plan = network.manifest.plan
    return sum(d.n_params for d in plan.decisions) + plan.n_other_params


def size_bytes(source: object, network: Network | PackedModel | OnnxNetwork) -> int:
    """Bytes of the files evaluated: a packed folder's three, a network folder's tensors."""
    if isinstance(network, OnnxNetwork):
        return network.n_bytes
    if isinstance(source, str | Path):
        path = located(source)
        match folder_kind(path):
            case "packed":
                return sum((path / name).stat().st_size for name in FILES)
            case "network" | "run":
                return (network_folder(path) / "model.safetensors").stat().st_size
    return 4 * param_count(network)
