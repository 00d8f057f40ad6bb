"""Twelve families, one or more for each policy of `docs/families.md`: planned; a few converted,
trained by one step and exported, in the sweep all."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest
import torch

from docs.maintain.coverage import BITS, EQUAL, journey
from irbin.planning.plan import make_plan
from irbin.records.options import SourceOptions
from irbin.records.plan import LayerRecord, PlanOptions
from irbin.sources.spec import load_source
from irbin.tracing.trace import trace

SAMPLE = {
    "residual, batch norm": ("test_resnet", 64, {"first layer": 1, "last layer": 1}),
    "plain, no norm": ("torchvision:squeezenet1_1", 64, {"first layer": 1, "last layer": 1}),
    "channel shuffle": ("torchvision:shufflenet_v2_x0_5", 64, {"depthwise": 19}),
    "depthwise-separable, squeeze-excite": (
        "mobilenetv3_small_050",
        64,
        {"depthwise": 11, "squeeze-excite gate": 18},
    ),
    "scaled weight standardization": ("test_nfnet", 64, {"squeeze-excite gate": 8}),
    "ConvNeXt": ("test_convnext", 64, {"depthwise": 9}),
    "ViT": ("test_vit", 160, {"first layer": 1, "last layer": 1}),
    "convolution and attention": ("test_coatnet", 160, {"last layer": 1}),
    "products of branches": ("starnet_s050", 64, {"first layer": 1, "last layer": 1}),
    "MLP-Mixer": ("gmixer_12_224", 224, {"first layer": 1, "last layer": 1}),
    "reparameterized": ("test_byobnet", 64, {"first layer": 1, "last layer": 1}),
    "not traceable, weights read past forward": (
        "vit_tiny_patch16_dinov3_qkvb",
        64,
        {"its weight is read by `linear`": 12},
    ),
}


WALKED = {"test_resnet": ("1w1a",), "test_vit": ("1w1a",), "test_byobnet": ("1w32a",)}
"""In the fast suite, at which widths; the sweep walks all at both."""


@pytest.mark.slow
@pytest.mark.parametrize(("source", "size", "reasons"), SAMPLE.values(), ids=SAMPLE)
def test_family_is_planned_by_its_policy(source, size, reasons) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other people's networks
        network = load_source(source, SourceOptions(pretrained=False, input_size=(3, size, size)))
        plan = make_plan(trace(network.module, (3, size, size)), PlanOptions())
    found = Counter(d.reason.partition(",")[0] for d in plan.decisions if not d.binary)
    assert {reason: found[reason] for reason in reasons} == reasons
    by_size = {d.layer.keeps_size for d in plan.decisions if d.binary}
    assert by_size == KEEPS_SIZE[source]


def goes_all_the_way(source, widths) -> None:
    size = next(size for name, size, _ in SAMPLE.values() if name == source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other people's networks
        row = journey("sample", source, size, widths)
    for bits in widths:
        assert getattr(row, f"agreement_{bits}").startswith(EQUAL)
    assert row.train_steps == 1
    if "1w1a" in widths:
        assert row.packed_bytes < row.float_bytes


@pytest.mark.slow
@pytest.mark.parametrize(("source", "widths"), WALKED.items(), ids=WALKED)
def test_what_converts_takes_a_step_and_answers_packed_as_trained(source, widths) -> None:
    goes_all_the_way(source, widths)


@pytest.mark.sweep
@pytest.mark.parametrize("source", [source for source, _, _ in SAMPLE.values()])
def test_every_family_of_the_sample_goes_all_the_way_at_both_widths(source) -> None:
    goes_all_the_way(source, BITS)


KEEPS_SIZE = {
    "test_resnet": {False},
    "torchvision:squeezenet1_1": {True},
    "torchvision:shufflenet_v2_x0_5": {False},
    "mobilenetv3_small_050": {False, True},  # the head's convolution has no norm
    "test_nfnet": {False},
    "test_convnext": {True},
    "test_vit": {True},
    "test_coatnet": {True, False},
    "starnet_s050": {True, False},
    "gmixer_12_224": {True},
    "test_byobnet": {False},
    "vit_tiny_patch16_dinov3_qkvb": {True},
}


def layers(source: str) -> list[LayerRecord]:
    network = load_source(source, SourceOptions(pretrained=False, input_size=(3, 64, 64)))
    return list(trace(network.module, (3, 64, 64)).layers)


@pytest.mark.slow
def test_standardized_convolutions_keep_their_gain() -> None:
    found = layers("test_nfnet")
    assert sum(layer.has_gain for layer in found) == 25
    assert not any(layer.obstacle for layer in found)


@pytest.mark.slow
def test_learned_affines_behind_a_relu_do_not_hide_it() -> None:
    found = layers("hgnetv2_b0")
    assert all("StdConv" not in layer.type_name for layer in found)
    assert sum(bool(layer.activations) for layer in found) >= 24


@pytest.mark.slow
def test_squared_relus_are_replaced_as_a_whole() -> None:
    found = layers("poolformerv2_s12")
    assert sum(bool(layer.activations) for layer in found) == 12
    assert not any(layer.never_negative for layer in found)


def test_a_random_network_stays_random_but_loses_its_zeros() -> None:
    from docs.maintain.coverage import randomize

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    torch.nn.init.zeros_(network[1].weight)
    randomize(network)
    assert all(bool(p.any()) for p in network.parameters())
    assert bool((network[1].running_var > 0).all())
