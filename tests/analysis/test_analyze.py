"""`analyze` on the demo network: what is measured, once each, and budgets kept."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import irbin
from irbin import DataOptions, SourceOptions
from irbin.analysis import measure
from irbin.analysis.analyze import UNTRAINED
from irbin.demo.network import demo_net
from irbin.errors import UsageError
from irbin.planning.plan import make_plan
from irbin.records.analysis import Analysis
from irbin.records.options import Preprocessing, SourceRecord
from irbin.rewriting.network import Network
from irbin.tracing.trace import trace

SIZE = (1, 28, 28)
FEW = {"samples": 18, "calibrate": 18, "points": 3}


@pytest.fixture
def data(pictures28: Path) -> DataOptions:
    return DataOptions(data_dir=str(pictures28), batch_size=9, workers=0)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return live(demo_net(num_classes=3))


def live(module: nn.Module) -> Network:
    """A network of three classes that counts as trained."""
    seen = Preprocessing(SIZE, (0.3,), (0.3,))
    return Network(module.eval(), SourceRecord("live", "live:net", 3, seen, trained=True))


def analyze(network: Network, data: DataOptions, **options: object) -> Analysis:
    return irbin.analyze(network, data=data, **{**FEW, **options})  # type: ignore[arg-type]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The binary layers of every network that is made."""
    seen: list[tuple[str, ...]] = []
    rewrite = measure.rewrite

    def watched(network, plan, **kwargs):  # type: ignore[no-untyped-def]
        seen.append(plan.binary_names)
        return rewrite(network, plan, **kwargs)

    monkeypatch.setattr(measure, "rewrite", watched)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["1w1a", "1w32a"])
def test_every_layer_is_measured_alone_and_nothing_twice(network, data, measured, bits) -> None:
    found = analyze(network, data, bits=bits)
    names = irbin.plan(network, bits=bits).binary_names
    assert sorted(layer.name for layer in found.layers) == sorted(names)
    assert measured[: len(names)] == [(name,) for name in names]
    assert len(set(measured)) == len(measured)
    assert found.n_images == found.n_calibration == 18
    assert all(layer.bytes_saved > 0 for layer in found.layers)


@pytest.mark.slow
def test_the_path_leads_from_float_to_all_binary_by_the_ranking(network, data, measured) -> None:
    found = analyze(network, data)
    plan = irbin.plan(network)
    first, *_, last = found.path
    assert (first.n_binary, first.packed_bytes) == (0, plan.float_bytes)
    assert (last.n_binary, last.packed_bytes) == (6, plan.packed_bytes())
    assert 2 <= len(found.path) <= 1 + FEW["points"]
    sizes = [point.packed_bytes for point in found.path]
    assert sizes == sorted(sizes, reverse=True)
    order = [layer.name for layer in found.layers]
    for layers in measured[6:]:
        assert set(layers) == set(order[: len(layers)])
    assert any(point.on_front for point in found.path)


@pytest.mark.slow
def test_a_block_is_measured_together(network, data, measured) -> None:
    found = analyze(network, data, by="block")
    assert {layer.name for layer in found.layers} == {"stage1", "stage2", "stage3"}
    assert all(len(layer.layers) == 2 for layer in found.layers)
    assert measured[0] == ("stage1.conv1", "stage1.conv2")


@pytest.mark.slow
def test_the_network_and_its_modes_are_left_as_they_were(network, data) -> None:
    network.module.train()
    before = copy.deepcopy(network.module.state_dict())
    analyze(network, data)
    assert network.module.training
    after = network.module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.slow
def test_the_same_again(network, data) -> None:
    assert analyze(network, data) == analyze(network, data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"bits": "1w32a"}, {"activation": "prelu"}, {"shortcut": "bireal", "keep": ["stage1"]}],
    ids=str,
)
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_size_is_kept_by_the_plan_that_is_proposed(network, data, options, share) -> None:
    full = irbin.plan(network, **options)
    limit = int(full.packed_bytes() + share * (full.float_bytes - full.packed_bytes()))
    proposal = analyze(network, data, max_bytes=limit, points=1, **options).proposal
    graph = trace(network.module, SIZE)
    again = make_plan(graph, proposal.options)
    assert again.packed_bytes() == proposal.point.packed_bytes <= limit
    assert again.binary_names == proposal.binary
    assert proposal.options.keep == (*options.get("keep", ()), *proposal.keep)
    assert replace(proposal.options, keep=full.options.keep) == full.options


@pytest.mark.slow
def test_a_latency_is_kept_and_ranks_by_time(network, data) -> None:
    whole = analyze(network, data).path
    limit = 1e3 * (whole[0].seconds + whole[-1].seconds) / 2
    found = analyze(network, data, max_latency=limit)
    assert found.ranked_by == "time"
    assert 1e3 * found.proposal.point.seconds <= limit
    assert found.proposal.point.n_binary < 6


class TestDrop:
    @pytest.mark.slow
    def test_every_point_of_a_generous_one_is_binary(self, network, data) -> None:
        proposal = analyze(network, data, max_drop=100).proposal
        assert proposal.keep == ()
        assert proposal.point.n_binary == 6

    @pytest.mark.slow
    def test_what_is_lost_is_measured_and_within_it(self, network, data, monkeypatch) -> None:
        tops = {0: 90.0, 1: 89.0, 2: 88.0, 3: 85.0, 4: 70.0, 5: 60.0, 6: 50.0}
        self.pretend(monkeypatch, tops)
        for limit, n in ((1, 1), (1.5, 1), (2, 2), (19, 3), (29.9, 4), (30, 5), (39, 5), (40, 6)):
            proposal = analyze(network, data, max_drop=limit).proposal
            assert proposal.point.n_binary == n
            assert proposal.point.top1 >= 90 - limit

    def test_one_that_nothing_meets_is_told_with_the_smallest(
        self, network, data, monkeypatch
    ) -> None:
        self.pretend(monkeypatch, {n: 90.0 - 7 * n for n in range(7)})
        found = analyze(network, data, max_drop=1)
        assert found.proposal is None
        assert len(found.layers) == 6
        assert found.unmet == (
            f"`max_drop=`: expected at least 7.00 points, which `{found.layers[0].name}` alone "
            "costs on the sample before fine-tuning, got 1"
        )

    def pretend(self, monkeypatch: pytest.MonkeyPatch, tops: dict[int, float]) -> None:
        """Top-1 by the number of binary layers."""

        def fake(self: measure.LossMeter, names: frozenset[str]) -> measure.Measured:
            n_hits = round(10 * tops[len(names)])
            return measure.Measured(torch.ones(1000).double(), torch.arange(1000) < n_hits)

        monkeypatch.setattr(measure.LossMeter, "_measure", fake)


@pytest.mark.slow
def test_budgets_out_of_reach_are_told_before_anything_is_measured(network, data, measured) -> None:
    smallest = irbin.plan(network).packed_bytes()
    with pytest.raises(UsageError) as error:
        analyze(network, data, max_bytes=smallest - 1)
    assert str(error.value) == (
        f"`max_bytes=`: expected at least {smallest:,} bytes, which every useful layer binary "
        f"gives, got {smallest - 1:,} bytes"
    )
    with pytest.raises(UsageError) as error:
        analyze(network, data, max_bytes=1, max_drop=1.0)
    assert str(error.value) == (
        "expected one budget, got `max_bytes=`, `max_drop=`; give one of them"
    )
    with pytest.raises(UsageError, match="`max_latency=`: expected less than"):
        analyze(network, data, max_latency=1e6)
    assert measured == []


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("samples", 0, "1 or more"),
        ("calibrate", -1, "0 or more"),
        ("points", 0, "1 or more"),
        ("points", 1.5, "a whole number"),
        ("by", "network", "one of layer, block"),
        ("max_drop", "1", "a number"),
    ],
)
def test_values_that_cannot_be_meant_are_told(network, data, name, value, wanted) -> None:
    with pytest.raises(UsageError, match=rf"^`{name}`: expected {wanted}.*, got .*{value}.*$"):
        analyze(network, data, **{name: value})


@pytest.mark.slow
def test_a_converted_network_is_refused(network, data) -> None:
    with pytest.raises(UsageError, match="expected a float network, got one that is converted"):
        analyze(irbin.convert(network), data)


def test_a_backbone_is_refused(network, data) -> None:
    features = replace(network, source=replace(network.source, num_classes=0))
    with pytest.raises(UsageError, match="cannot analyze `live`: it has no classifier"):
        analyze(features, data)


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured(network, data) -> None:
    def stop_at(n: int):  # type: ignore[no-untyped-def]
        def report(done: int, total: int) -> None:
            if done == n:
                raise KeyboardInterrupt

        return report

    found = analyze(network, data, report=stop_at(4), max_bytes=600_000)
    assert (found.interrupted, len(found.layers), len(found.path)) == (True, 2, 1)
    assert found.proposal is None
    assert len(analyze(network, data, report=stop_at(9)).path) > 1
    with pytest.raises(KeyboardInterrupt):
        analyze(network, data, report=stop_at(1))


@pytest.mark.slow
def test_progress_ends_where_it_said(network, data) -> None:
    seen: list[tuple[int, int]] = []
    analyze(network, data, report=lambda *step: seen.append(step), max_drop=50)
    totals = {total for _, total in seen}
    assert len(totals) == 1
    assert all(done <= total for done, total in seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.slow
def test_an_untrained_network_is_noted(data) -> None:
    spec = "module:irbin.demo.network:demo_net"
    found = irbin.analyze(spec, data=data, source_options=SourceOptions(num_classes=3), **FEW)
    assert found.notes == (UNTRAINED,)
    assert found.source == spec


class Mixer(nn.Module):
    """Linear layers on patches, layer norm, no batch norm, a functional activation."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 32, 7, 7)
        self.norm = nn.LayerNorm(32)
        self.fc1, self.fc2 = nn.Linear(32, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = x + self.fc2(torch.relu(self.fc1(self.norm(x))))
        return self.head(x.mean(1))


@pytest.fixture
def mixer() -> Network:
    torch.manual_seed(0)
    return live(Mixer())


@pytest.mark.parametrize("bits", ["1w1a", "1w32a"])
def test_without_batch_norm_nothing_is_calibrated(mixer, data, bits) -> None:
    found = analyze(mixer, data, bits=bits)
    assert found.n_calibration == 0
    assert {layer.name for layer in found.layers} == {"fc1", "fc2"}
    assert found.path[-1].n_binary == 2


@pytest.mark.slow
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("with_norm", [True, False])
def test_what_is_not_finite_ranks_last_and_is_not_proposed(
    network, mixer, data, monkeypatch, with_norm, value
) -> None:
    chosen, broken, part = (
        (network, "stage1.conv1", "stem") if with_norm else (mixer, "fc2", "embed")
    )
    rewrite = measure.rewrite

    def breaking(*args, **kwargs):  # type: ignore[no-untyped-def]
        found = rewrite(*args, **kwargs)
        if found.plan.binary_names == (broken,):
            found.module.get_submodule(part).weight.data.fill_(value)
        return found

    monkeypatch.setattr(measure, "rewrite", breaking)
    found = analyze(chosen, data, max_bytes=irbin.plan(chosen).float_bytes - 6000)
    last = found.layers[-1]
    assert last.name == broken
    assert math.isnan(last.loss)
    assert math.isnan(last.loss_increase)
    assert last.top1 == 0
    assert broken not in found.proposal.binary
