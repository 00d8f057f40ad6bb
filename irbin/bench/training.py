"""`benchmark_training`: a binary training step beside the float one of the same network.

Both networks get what `training.loop` gives them, with one recipe and the same images, and a round
is a step of each, so that whatever else the machine does falls on both alike.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from irbin.allocation import memory_kept
from irbin.bench.timing import latency, machine
from irbin.data.batches import Loader
from irbin.data.images import Augmentation
from irbin.data.synthetic import random_loader
from irbin.errors import TrainingError, UsageError
from irbin.evaluation.modes import autocast
from irbin.processes import Group, alone, open_device
from irbin.recipes.file import RecipeFile, read_recipe
from irbin.recipes.recipe import Recipe
from irbin.recipes.request import resolve_recipe
from irbin.records.bench import TimingOptions, TrainBenchEntry, TrainBenchRecord
from irbin.records.given import LARGEST, check_whole
from irbin.records.json import JsonValue
from irbin.records.knob import taken
from irbin.records.options import DataOptions, SourceOptions
from irbin.rewriting.network import Network
from irbin.runs.listener import Stage, ignore
from irbin.sources.opened import Source, check_classifier, name_of, open_network
from irbin.sources.spec import build
from irbin.training.precision import WORTH_COMPILING, decide, uses_channels_last
from irbin.training.prepare import make_run, open_loaders
from irbin.training.run import DATA, PARTS, Run
from irbin.verbs import convert

BINARY, FLOAT = "binary", "float"
WARM_UP = 2
"""Rounds before those that count."""


class Stopwatch:
    """Adds up the seconds of a step's parts, waiting for the device at the end of each.

    Attributes:
        seconds: by part, in the order of `PARTS`.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._device = device
        self._begin = time.perf_counter()

    def lap(self, part: str) -> None:
        """What passed since the last lap belongs to `part`."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.seconds[part] += now - self._begin
        self._begin = now


def benchmark_training(
    source: Source,
    *,
    source_options: SourceOptions | None = None,
    data: DataOptions | None = None,
    batch_size: int = 128,
    recipe: str | None = None,
    overrides: Mapping[str, JsonValue] | None = None,
    device: str = "cpu",
    report: Stage | None = None,
    **options: Any,
) -> TrainBenchRecord:
    """Times a training step of a binary network and of its float one, part by part.

    Nobody teaches either, and amp, memory format and compiling are decided as for a long run. The
    source is left as it is.

    Args:
        source: a float network, converted in memory; or a converted one, whose float network is
            built anew.
        source_options: how to read it.
        data: real images; its batch size counts. None draws random ones of the network's size.
        batch_size: images a batch, where `data` is None.
        recipe: name or file, for both networks, which may also say how to convert; None takes
            `default`.
        overrides: fields of `Recipe` that win over the recipe.
        device: torch's name of it.
        report: told of progress.
        options: fields of `TimingOptions` (`n_threads`, `n_runs`, `memory`), and, for a float
            source, of `PlanOptions`.

    Raises:
        UsageError: a recipe or options that make no sense, or a network without a classifier.
        SourceError, PlanError, ConvertError, DataError: there is nothing to train.
        TrainingError: a loss that is not finite, or torch.compile was asked for and fails.
    """
    timing, plan = taken(TimingOptions, options)
    check_whole("batch_size", batch_size, least=1, most=LARGEST)
    report = report or ignore
    file = read_recipe(recipe)
    settings = resolve_recipe(file, {**(overrides or {}), "distill": False}, converted=True)
    before = torch.get_num_threads()
    torch.set_num_threads(timing.n_threads or before)
    try:
        where = machine()  # its load is the one before
        group = alone(open_device(device))
        networks = _networks(open_network(source, source_options), file, plan)
        train = _loader(networks[BINARY], settings, data, batch_size, group, report)
        runs, path = _runs(networks, settings, train, group, report)
        with memory_kept():
            times = _timed(runs, timing.n_runs, report)
        images = next(iter(train))[0]
        return TrainBenchRecord(
            source=name_of(source),
            batch_size=train.batch_size * settings.grad_accum_steps,
            n_threads=torch.get_num_threads(),
            input_size=networks[BINARY].source.preprocessing.input_size,
            device=device,
            machine=where,
            settings=f"{path}; {settings.opt}, no teacher",
            images=train.why,
            entries=tuple(
                _entry(name, run, times[name], saved_bytes(run, images) if timing.memory else None)
                for name, run in runs.items()
            ),
        )
    finally:
        torch.set_num_threads(before)


def _networks(network: Network, recipe: RecipeFile, options: dict[str, Any]) -> dict[str, Network]:
    """The binary network and its float one, neither of them the user's own."""
    check_classifier(network.source, "train")
    if network.plan is not None:
        if options:
            given = ", ".join(f"`{name}`" for name in sorted(options))
            raise UsageError(
                f"expected a float network to plan with {given}, got one that is converted already"
            )
        binary = replace(network, module=copy.deepcopy(network.module))
        return {BINARY: binary, FLOAT: Network(build(network.source), network.source)}
    own = replace(network, module=copy.deepcopy(network.module))
    return {BINARY: convert(network, recipe=recipe, **options), FLOAT: own}


def _loader(
    network: Network,
    recipe: Recipe,
    data: DataOptions | None,
    batch_size: int,
    group: Group,
    report: Stage,
) -> Loader:
    """Training batches as the loop gets them."""
    if data is not None:
        return open_loaders(network, data, recipe, group, report)[0]
    source = network.source
    knobs = {field.name: getattr(recipe, field.name) for field in fields(Augmentation)}
    return random_loader(
        source.preprocessing,
        source.num_classes,
        Augmentation(**knobs),
        batch_size,
        seed=recipe.seed,
        device=group.device,
        accumulation=recipe.grad_accum_steps,
        channels_last=uses_channels_last(recipe, network.module, group.device),
    )


def _runs(
    networks: dict[str, Network],
    recipe: Recipe,
    train: Loader,
    group: Group,
    report: Stage,
) -> tuple[dict[str, Run], str]:
    """Both networks ready to train, and how they will, in words."""
    shape = networks[BINARY].source.preprocessing.input_size
    module = networks[BINARY].module.to(group.device)
    must_compile = recipe.compile is True
    recipe, path = decide(recipe, module, shape, WORTH_COMPILING, group.device)
    runs = {}
    for name, network in networks.items():
        if recipe.compile:
            report(f"compiling the {name} network", 0, 0)
        network.module.to(group.device)
        runs[name] = make_run(  # one process, neither saved nor evaluated
            network,
            recipe,
            Path(),
            group,
            (train, train),
            n_steps=WORTH_COMPILING,
            must_compile=must_compile,
        )
        runs[name].module.train()
    return runs, path


def _timed(runs: dict[str, Run], n_runs: int, report: Stage) -> dict[str, list[dict[str, float]]]:
    """Seconds of every part of every counted step, by network."""
    times: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    first = runs[BINARY]
    batches = endless(first.train)
    for number in range(WARM_UP + n_runs):
        watch = Stopwatch(first.group.device)
        drawn = [next(batches) for _ in range(first.recipe.grad_accum_steps)]
        watch.lap(DATA)
        # who goes first finds the images in the cache
        for name in sorted(runs, reverse=number % 2 == 1):
            own = [(images.clone(), labels) for images, labels in drawn]
            seconds, loss = timed_step(runs[name], own, number)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"expected a finite loss from the {name} network, got {loss} in step "
                    f"{number + 1}; `amp='off'` or a recipe with a smaller `lr` may help"
                )
            if number >= WARM_UP:
                seconds[DATA] += watch.seconds[DATA]
                times[name].append(seconds)
        report("timing", number + 1, WARM_UP + n_runs)
    return times


def timed_step(
    run: Run, batches: list[tuple[Tensor, Tensor]], number: int
) -> tuple[dict[str, float], float]:
    """One step of a run, and how long its parts take.

    Args:
        run: what it works with; its network moves on.
        batches: images and labels of the whole step; images may be changed in place.
        number: of the step, from 0.

    Returns:
        Seconds by part, and the last batch's loss.
    """
    watch = Stopwatch(run.group.device)
    batch = run.step(batches, number, lap=watch.lap)
    return watch.seconds, batch.loss.item()


def endless(loader: Loader) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch after the other."""
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        yield from loader
        epoch += 1


def saved_bytes(run: Run, images: Tensor) -> int:
    """Bytes that a forward pass, not compiled, keeps until the backward one.

    Parameters and buffers, which are there anyway, do not count.

    Args:
        run: whose network and mixed precision; the statistics of its norms move.
        images: (batch, channels, height, width).
    """
    module = run.module
    own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # which an output does not hold itself alive by

    def unpack(tensor: Tensor) -> Tensor:
        return tensor

    with saved_tensors_hooks(pack, unpack), autocast(run.group.device, run.recipe.amp):
        logits = module(images)
    del logits  # held until here, so that no storage took the place of another
    return sum(sizes.values())


def _entry(
    name: str, run: Run, times: list[dict[str, float]], n_bytes: int | None
) -> TrainBenchEntry:
    step = latency([sum(seconds.values()) for seconds in times])
    data, forward, backward, optimizer = (
        latency([seconds[part] for seconds in times]).median_ms for part in PARTS
    )
    n_images = run.train.batch_size * run.recipe.grad_accum_steps
    return TrainBenchEntry(
        name, step, 1e3 * n_images / step.median_ms, data, forward, backward, optimizer, n_bytes
    )
