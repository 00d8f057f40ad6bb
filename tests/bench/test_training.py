"""Training steps on small networks: what is measured, not how fast it is."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

import irbin
from irbin.bench import training
from irbin.bench.training import benchmark_training, endless, timed_step
from irbin.errors import TrainingError, UsageError
from irbin.processes import alone
from irbin.recipes.request import resolve_recipe
from irbin.records.options import DataOptions, SourceOptions
from irbin.rewriting.network import Network
from irbin.runs.listener import ignore
from irbin.training import prepare
from irbin.training.run import PARTS
from tests.conftest import write_pictures

SOURCE = "paper:resnet20"
PLAIN = {"amp": "off", "channels_last": False, "compile": False}
CPU = alone(torch.device("cpu"))


@pytest.fixture(scope="module")
def record():
    return benchmark_training(
        SOURCE, batch_size=4, n_runs=2, n_threads=1, overrides=PLAIN, shortcut="bireal"
    )


@pytest.mark.slow
def test_the_binary_network_comes_first_then_its_float_one(record):
    assert [entry.name for entry in record.entries] == ["binary", "float"]
    assert (record.source, record.batch_size, record.input_size) == (SOURCE, 4, (3, 32, 32))
    assert record.ratio == (
        record.entries[0].latency.median_ms / record.entries[1].latency.median_ms
    )


@pytest.mark.slow
def test_parts_make_up_the_step(record):
    for entry in record.entries:
        parts = [getattr(entry, f"{part}_ms") for part in PARTS]
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(entry.latency.median_ms)  # of two steps
        assert entry.latency.n_runs == 2
        assert entry.images_per_second == pytest.approx(4e3 / entry.latency.median_ms)


@pytest.mark.slow
def test_settings_and_images_are_told_in_words(record):
    assert record.settings == (
        "training in float32 (asked for), channels-first (asked for), not compiled (asked for); "
        "adamw, no teacher"
    )
    assert record.images == "images: random, augmented in batches"


def made(recipe=None, batch_size=4, **overrides):
    """Both runs, as the benchmark makes them."""
    network = irbin.open_network(SOURCE)
    settings = resolve_recipe(recipe, {**PLAIN, "distill": False, **overrides}, converted=True)
    networks = training._networks(network, None, {})
    train = training._loader(networks["binary"], settings, None, batch_size, CPU, ignore)
    return training._runs(networks, settings, train, CPU, ignore)[0]


def taken(run, n_batches=1):
    return list(islice(endless(run.train), n_batches))


def of(run):
    return {name: value.clone() for name, value in run.module.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["binary", "float"])
def test_a_step_moves_every_parameter_and_has_a_finite_loss(name):
    run = made("paper-resnet20-cifar10")[name]
    before = of(run)
    seconds, loss = timed_step(run, taken(run), 0)
    assert 0 < loss < 100
    assert all(value > 0 for value in seconds.values())
    for parameter, _ in run.module.named_parameters():
        assert not torch.equal(before[parameter], run.module.state_dict()[parameter]), parameter
    assert all(parameter.grad is None for parameter in run.module.parameters())


@pytest.mark.slow
def test_a_step_of_two_batches_is_that_of_both():
    runs = made("paper-resnet20-cifar10", batch_size=2, grad_accum_steps=2)
    for run in runs.values():
        before = of(run)
        timed_step(run, taken(run, 2), 0)
        assert not torch.equal(before["conv1.weight"], run.module.conv1.weight)
    assert (
        benchmark_training(
            SOURCE, batch_size=2, n_runs=2, overrides={**PLAIN, "grad_accum_steps": 2}
        ).batch_size
        == 4
    )


@pytest.mark.slow
def test_edes_phase_moves():
    run = made()["binary"]
    timed_step(run, taken(run), 99)
    assert float(run.phase.t) > run.recipe.t_min
    assert made()["float"].phase is None


@pytest.mark.slow
def test_both_networks_are_optimized_alike():
    binary, floats = made("paper-resnet20-cifar10").values()
    assert binary.recipe == floats.recipe
    assert type(binary.optimizer) is type(floats.optimizer)
    assert binary.teacher is floats.teacher is None


@pytest.mark.slow
def test_epochs_follow_one_another_in_other_orders():
    run = made()["float"]
    n = len(run.train)
    batches = taken(run, 2 * n)
    assert not torch.equal(batches[0][0], batches[n][0])


@pytest.mark.slow
def test_saved_tensors_are_those_of_the_backward_pass():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1, bias=False), torch.nn.ReLU())
    run = made()["float"]
    fake = training.replace(run, network=Network(module, run.network.source))
    images = torch.randn(2, 3, 8, 8)
    floats = images.numel() + 2 * 4 * 8 * 8  # the images and ReLU's output; no weight
    assert training.saved_bytes(fake, images) == 4 * floats


@pytest.mark.slow
def test_nothing_is_counted_where_nobody_asks():
    found = benchmark_training(SOURCE, batch_size=2, n_runs=2, overrides=PLAIN, memory=False)
    assert [entry.saved_bytes for entry in found.entries] == [None, None]


@pytest.mark.slow
def test_a_live_network_is_left_as_it_is():
    network = irbin.open_network(SOURCE)
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    benchmark_training(network, batch_size=2, n_runs=2, overrides=PLAIN)
    assert all(torch.equal(before[k], v) for k, v in network.module.state_dict().items())


@pytest.mark.slow
def test_a_converted_folder_is_measured_beside_its_float_network(tmp_path):
    irbin.convert(SOURCE, tmp_path / "c", source_options=SourceOptions(num_classes=7))
    found = benchmark_training(tmp_path / "c", batch_size=2, n_runs=2, overrides=PLAIN)
    assert [entry.name for entry in found.entries] == ["binary", "float"]
    with pytest.raises(
        UsageError,
        match=r"^expected a float network to plan with `shortcut`, got one that is converted "
        r"already$",
    ):
        benchmark_training(tmp_path / "c", overrides=PLAIN, shortcut="bireal")


@pytest.mark.slow
def test_real_images_come_from_a_folder(tmp_path):
    write_pictures(tmp_path, 32)
    found = benchmark_training(
        SOURCE,
        source_options=SourceOptions(num_classes=3),
        data=DataOptions(str(tmp_path), batch_size=4, workers=0),
        n_runs=2,
        overrides=PLAIN,
    )
    assert found.batch_size == 4
    assert found.images.startswith("images: 36 + 18 decoded once")


@pytest.mark.slow
def test_the_recipe_augments_random_images():
    with pytest.raises(UsageError, match="`aa: rand-m9` changes image by image"):
        benchmark_training(SOURCE, overrides={**PLAIN, "aa": "rand-m9"})


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_it(monkeypatch):
    monkeypatch.setattr(
        "irbin.training.run.labels_loss", lambda answers, *_: answers[0].sum() * float("nan")
    )
    with pytest.raises(
        TrainingError,
        match=r"^expected a finite loss from the binary network, got nan in step 1; `amp='off'` "
        r"or a recipe with a smaller `lr` may help$",
    ):
        benchmark_training(SOURCE, batch_size=2, overrides=PLAIN)


def test_threads_are_as_they_were_afterwards(monkeypatch):
    before, seen = torch.get_num_threads(), []

    def opened(*_):
        seen.append(torch.get_num_threads())
        raise UsageError("no such network")

    monkeypatch.setattr(training, "open_network", opened)
    with pytest.raises(UsageError, match="no such network"):
        benchmark_training(SOURCE, n_threads=before + 1)
    assert (seen, torch.get_num_threads()) == ([before + 1], before)


def test_a_recipe_that_makes_no_sense_is_told_before_anything_runs(monkeypatch):
    monkeypatch.delattr(training, "open_network")
    with pytest.raises(UsageError, match=r"^`recipe`: expected a name that .*, got `nonsense`$"):
        benchmark_training(SOURCE, recipe="nonsense")


@pytest.mark.slow
def test_compiling_is_asked_for_as_in_training(monkeypatch):
    asked = []

    def compiled(module, recipe, shape, device, required):
        asked.append((shape, required))
        return module

    monkeypatch.setattr(prepare, "compiled", compiled)
    told = []
    benchmark_training(
        SOURCE,
        batch_size=2,
        n_runs=2,
        overrides={**PLAIN, "compile": True},
        report=lambda *stage: told.append(stage[0]),
    )
    assert asked == [((2, 3, 32, 32), True)] * 2
    assert told[:2] == ["compiling the binary network", "compiling the float network"]
