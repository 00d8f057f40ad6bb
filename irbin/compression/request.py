"""What `compress` is asked for, checked before any work, and held against what was begun."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from irbin.analysis.budget import check_reachable, parse_budget
from irbin.analysis.choices import choices
from irbin.compression.folder import FLOAT, began, check_same, keep
from irbin.compression.watcher import Watcher
from irbin.data import check_splits, open_dataset
from irbin.errors import UsageError
from irbin.exporting import export
from irbin.files import named
from irbin.html.page import check_drawing
from irbin.launch import launched
from irbin.planning.plan import make_plan
from irbin.processes import open_device
from irbin.recipes.file import RecipeFile, plan_options
from irbin.recipes.request import Request, asked
from irbin.records.analysis import Budget
from irbin.records.compression import Compression, CompressOptions
from irbin.records.given import check_is
from irbin.records.json import JsonValue, changed_fields
from irbin.records.options import DataOptions, SourceOptions, check_given
from irbin.records.plan import PlanOptions
from irbin.rewriting.conversion import make_binary
from irbin.rewriting.network import Network
from irbin.runs.folder import FREE_KNOBS
from irbin.runs.listener import ignore
from irbin.sources.opened import check_classifier, open_network, refuse_own_source
from irbin.tracing.trace import trace

_FREE_DATA = ("workers", "cache", "dataset_download")
"""How images are read, which may change from call to call; `cache` as far as training lets it."""


@dataclass
class Work:
    """One call of `compress`: what was asked, and how far it has come. Made by `begin`."""

    out: Path
    request: Request
    data: DataOptions
    """As given: the recipe's batch size is for the recipe's training alone."""
    plan: PlanOptions
    """As asked for, without what a budget proposes."""
    budget: Budget | None
    device: str
    watcher: Watcher
    record: Compression

    @property
    def float_source(self) -> tuple[str | Path, SourceOptions]:
        """The float network that is made binary, and how to read it."""
        if not self.record.trains_float:
            return self.request.source, self.request.source_options
        return self.out / FLOAT, SourceOptions(seed=self.request.source_options.seed)

    def note(self, **changes: Any) -> None:
        """Changes the record, and writes it."""
        self.record = replace(self.record, **changes)
        keep(self.record)


@dataclass(frozen=True)
class Wish:
    """The arguments of `compress` that say how, unresolved. Made and read by `compression`."""

    recipe: str | RecipeFile | None
    overrides: Mapping[str, JsonValue] | None
    further: CompressOptions
    options: Mapping[str, Any]


def begin(
    source: str | Path | None,
    out: str | Path,
    data: DataOptions,
    source_options: SourceOptions | None,
    wish: Wish,
    *,
    resume: bool,
    device: str,
    watcher: Watcher,
) -> Work:
    """Checks everything that can be known before work begins, and makes OUT, or finds it.

    Raises:
        UsageError: see `compress`.
        SourceError, PlanError, DataError: the network, its plan, the images.
    """
    if launched().size > 1:
        raise UsageError(
            f"expected one process, got {launched().size}: `compress` runs in one; run its steps "
            "one by one, and fine-tuning alone in several"
        )
    check_given(source_options, data, needs_data=True)
    check_drawing("compress")
    if source is not None:
        check_is("source", source, (str, Path), "a name or a path; a live network cannot go on")
    request = asked(source, source_options, recipe=wish.recipe, overrides=wish.overrides, data=data)
    request.recipe(converted=True)  # whether its knobs can be meant
    plan = plan_options({**(request.file.convert or {}), **wish.options})
    budget = None if wish.further.budget is None else parse_budget(wish.further.budget)
    open_device(device)
    place = Path(out)
    wanted = _asked(request, data, plan, budget, wish.further.train_float)
    record = began(place)
    if record is not None:
        if not resume:
            raise UsageError(f"`{out}` exists: `resume=True` goes on with it, `out=` names another")
        check_same(record, wanted, place)
        return Work(place, request, data, plan, budget, device, watcher, record)
    refuse_own_source(out, request.source)
    with watcher.stages() as stage:
        stage("reading the network", 0, 0)
        network = open_network(request.source, request.source_options)
        trains_float = _trains_float(network, wish.further.train_float, named=source is not None)
        beside = _check_network(network, plan, budget)
        stage("looking for images", 0, 0)
        _check_images(network, data, new_classes=trains_float)
    with named(place):
        place.mkdir(parents=True, exist_ok=True)
    began_trained = network.source.weights is not None
    record = Compression(str(place), wanted, trains_float, began_trained, beside_bytes=beside)
    keep(record)
    return Work(place, request, data, plan, budget, device, watcher, record)


def _trains_float(network: Network, wanted: bool | None, *, named: bool) -> bool:
    """Whether the float network is to be trained first: else a random one would be the teacher.

    A recipe that names its network says itself how that is trained.
    """
    return wanted if wanted is not None else named and not network.source.trained


def _check_network(network: Network, options: PlanOptions, budget: Budget | None) -> int:
    """Refuses a network that cannot be made binary as asked for.

    Returns:
        See `Compression.beside_bytes`.

    Raises:
        UsageError: it is converted already or has no classifier, or the budget is out of reach.
        TraceError, PlanError: see `tracing.trace` and `planning.plan`.
        ConvertError, LowerError: how large it would be cannot be found out.
    """
    if network.plan is not None:
        raise UsageError(
            f"expected a float network, got `{network.source.spec}`, which is converted already; "
            "`irbin finetune` and `irbin export` go on with it"
        )
    check_classifier(network.source, "compress")
    graph = trace(network.module, network.source.preprocessing.input_size)
    if budget is None:
        make_plan(graph, options)
        return 0
    space = choices(graph, options, "layer")
    check_reachable(budget, space, "budget=")
    if budget.kind != "bytes":
        return 0
    beside = _beside(network, options)
    check_reachable(budget, space, "budget=", beside)
    return beside


_FURTHER = 1.1
"""Times the description's bytes where all is binary: layers that stay float have other words."""


def _beside(network: Network, options: PlanOptions) -> int:
    """Bytes of a packed folder's description, however many layers are binary."""
    converted = make_binary(network, options, None, 0, ignore)
    with TemporaryDirectory(prefix="irbin-") as place:
        record = export(converted, Path(place) / "packed")
    return math.ceil(_FURTHER * (record.total_bytes - record.tensor_bytes))


def _check_images(network: Network, data: DataOptions, *, new_classes: bool) -> None:
    """Refuses data that cannot be trained or evaluated on.

    Raises:
        DataError: a split is missing or empty, or has other classes than the network or the other.
    """
    seen = network.source.preprocessing
    training = open_dataset(data, data.train_split, seen, training=True)
    validation = open_dataset(data, data.val_split, seen)
    by_map = bool(data.class_map) or new_classes
    check_splits(network.source, training, validation, by_map=by_map)


def _asked(
    request: Request,
    data: DataOptions,
    plan: PlanOptions,
    budget: Budget | None,
    train_float: bool | None,
) -> dict[str, JsonValue]:
    """What decides the result, by argument; what is free to change is left out."""
    file = request.file
    images = {k: v for k, v in changed_fields(data).items() if k not in _FREE_DATA}
    if data.data_dir is not None:
        images["data_dir"] = str(Path(data.data_dir).expanduser().absolute())
    return {
        "source": _absolute(str(request.source)),
        "source_options": changed_fields(request.source_options),
        "data": images,
        "recipe": file.name or None,
        "recipe_file": {
            f"{file.name}: {name}": value
            for name, value in {**file.knobs, "batch_size": file.batch_size}.items()
            if value is not None and name not in FREE_KNOBS
        },
        "overrides": {k: v for k, v in request.overrides.items() if k not in FREE_KNOBS},
        "plan": changed_fields(plan),
        "budget": None if budget is None else f"{budget.kind} {budget.limit:.12g}",
        "train_float": train_float,
    }


def _absolute(source: str) -> str:
    path = Path(source).expanduser()
    return str(path.absolute()) if path.exists() else source
