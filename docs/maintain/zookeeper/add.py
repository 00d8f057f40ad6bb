"""A run → an entry of the zoo: its network stored, evaluated from there, and its record."""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from docs.maintain.zookeeper.begun import began_with, teacher_of_run
from docs.maintain.zookeeper.history import history
from docs.maintain.zookeeper.page import page
from docs.maintain.zookeeper.portable import portable
from irbin import verbs
from irbin.artifact.schema import CARD_FILE
from irbin.errors import SourceError, UsageError
from irbin.files import whole_folder, write_file
from irbin.records.json import from_json, to_json
from irbin.records.options import DataOptions, SourceRecord
from irbin.records.results import Evaluation
from irbin.records.zoo import ZooRecord
from irbin.rewriting.network import Network
from irbin.runs.tables import read_summary
from irbin.sources.by_name import reopen
from irbin.sources.folder import folder_kind, network_folder, save_folder
from irbin.sources.opened import open_network, param_count
from irbin.zoo import entries


def add(
    run: str | Path,
    name: str,
    data: DataOptions,
    *,
    last: bool = False,
    replace_better: bool = False,
) -> ZooRecord:
    """Makes `irbin/zoo/NAME`, whole or not at all, and the zoo's page.

    Args:
        run: folder of a run, binary or float; its `best` is taken, or its `last` without one.
        name: of the entry, such as `resnet20-cifar10-1w1a`.
        data: images to evaluate on.
        last: take `last` although there is a `best`: that was chosen on these very images.
        replace_better: also replace an entry whose top-1 is higher.

    Raises:
        UsageError: no name, no run, it answers with NaN, or what is there is better.
        SourceError: the run, or a network it came from, cannot be read.
    """
    if not entries.is_name(name):
        raise UsageError(
            f"expected a name of small letters, digits and hyphens, such as "
            f"`resnet20-cifar10-1w1a`, got `{name}`"
        )
    run = Path(run)
    if folder_kind(run) != "run":
        raise UsageError(f"expected the folder of a run with a `best` or `last`, got `{run}`")
    taken = run / "last" if last else network_folder(run)
    network, runs = open_network(taken), history(run)
    plan, kept, taught = network.plan, _kept(run, taken.name), _teacher(run, data)
    with whole_folder(entries.ROOT / name) as folder:
        tensor_bytes = _store(network, name, folder)
        measured = verbs.evaluate(folder, data=data)
        if not math.isfinite(measured.loss):
            raise UsageError(f"expected a network that answers, got a loss of {measured.loss}")
        if not replace_better:
            _refuse_worse(name, measured.top1)
        record = ZooRecord(
            name=name,
            network=network.source.architecture,
            bits=None if plan is None else plan.options.bits,
            dataset=Path(data.dataset or data.data_dir or "").absolute().name,
            **_accuracy(measured),
            kept=kept.part,
            kept_epoch=kept.epoch,
            teacher=None if taught is None else taught.name,
            teacher_top1=None if taught is None else taught.top1,
            size_bytes=measured.size_bytes,
            tensor_bytes=tensor_bytes,
            float_bytes=4 * param_count(network) if plan is None else plan.float_bytes,
            added=datetime.now(UTC).date().isoformat(),
            runs=runs,
        )
        (folder / entries.RECORD_FILE).write_text(text(record), encoding="utf-8")
    write_file(entries.ROOT / "README.md", page(entries.all_records()).encode())
    return record


def text(record: ZooRecord) -> str:
    """Indented JSON, a curve's numbers on one line."""
    content = json.dumps(to_json(record), indent=1, ensure_ascii=False, allow_nan=False)
    numbers = re.compile(r"\[([\d\s,.e+-]+)\]")
    return numbers.sub(lambda match: f"[{' '.join(match[1].split())}]", content) + "\n"


def _store(network: Network, name: str, folder: Path) -> int:
    """Writes the network's files without any path of this machine; returns its tensors' bytes."""
    source = from_json(SourceRecord, portable(to_json(network.source)), "source")
    if network.plan is not None:
        stored = verbs.export(replace(network, source=source), folder, overwrite=True)
        (folder / CARD_FILE).unlink()  # the record tells more, and what was measured
        return stored.tensor_bytes
    source = replace(source, spec=f"{entries.PREFIX}{name}")
    module = _in_half(network.module)
    save_folder(replace(network, module=module, source=source), folder, overwrite=True)
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def _in_half(module: nn.Module) -> nn.Module:
    """A copy with its weights in float16: tensors of two or more axes, which are nearly all bytes.

    Batch norm stays float32: a running variance may be smaller than float16 knows.
    """
    module = copy.deepcopy(module)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() > 1 and tensor.dtype == torch.float32:
            tensor.data = tensor.data.half()
    return module


def _refuse_worse(name: str, top1: float) -> None:
    if name in entries.entry_names() and (old := entries.read_record(name).top1) > top1:
        raise UsageError(
            f"`{entries.PREFIX}{name}` has {old:.2f} % top-1, this run {top1:.2f} %; "
            "`--replace` takes it all the same"
        )


class _Kept(NamedTuple):
    part: Literal["best", "last"]
    epoch: int


def _kept(run: Path, part: str) -> _Kept:
    """Which network of the run is taken, and of which epoch, counted from 1."""
    epochs = read_summary(run)
    evaluated = [e for e in epochs if e.counts and math.isfinite(e.eval_top1)]
    if part == "best" and evaluated:
        return _Kept("best", max(evaluated, key=lambda e: e.eval_top1).epoch + 1)
    return _Kept("last", epochs[-1].epoch + 1)


class _Teacher(NamedTuple):
    name: str
    top1: float


def _teacher(run: Path, data: DataOptions) -> _Teacher | None:
    """The trained float network that the run learned from, or began with.

    Raises:
        SourceError: it is gone.
    """
    source, named = began_with(run), teacher_of_run(run)
    if named is None and not source.trained:
        return None
    try:
        network = reopen(source) if named is None else open_network(named)
    except SourceError as error:
        raise SourceError(f"the float network of `{run}` is gone: {error}") from error
    return _Teacher(str(portable(named or source.spec)), verbs.evaluate(network, data=data).top1)


def _accuracy(measured: Evaluation) -> dict[str, Any]:
    return {name: getattr(measured, name) for name in ("n_images", "top1", "top5", "loss")}
