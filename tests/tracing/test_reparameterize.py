"""Reparameterizing: exact before binarizing, refused afterwards, repeated on reading."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import timm
import torch
from timm.utils import reparameterize_model
from torch import nn

from irbin import verbs
from irbin.binary.layers import binary_layers
from irbin.errors import ConvertError, SourceError
from irbin.records.options import SourceOptions
from irbin.sources.spec import build, load_source
from irbin.tracing.reparameterize import check_fused, n_fusable, refuse_fusing, reparameterize

SIZE = (3, 64, 64)
OPTIONS = SourceOptions(pretrained=False, num_classes=10, input_size=SIZE)


@pytest.fixture(scope="module")
def repvgg() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("repvgg_a0", num_classes=10).eval()


@pytest.mark.slow
def test_fusing_a_float_network_changes_no_answer_and_leaves_it_alone(repvgg) -> None:
    before = copy.deepcopy(repvgg.state_dict())
    fused = reparameterize(repvgg, "repvgg_a0")
    check_fused(repvgg, fused, SIZE, "repvgg_a0")
    assert n_fusable(repvgg) == 22
    assert n_fusable(fused) == 0
    assert repvgg.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in repvgg.state_dict().items())


@pytest.mark.slow
def test_a_network_that_answers_differently_is_refused(repvgg) -> None:
    fused = reparameterize(repvgg, "repvgg_a0")
    with torch.no_grad():
        fused.head.fc.bias.add_(1)
    with pytest.raises(SourceError, match=r"`n` answers differently after fusing \(by 1\); leave"):
        check_fused(repvgg, fused, SIZE, "n")


def test_a_network_without_blocks_to_fuse_says_so() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    assert n_fusable(network) == 0
    message = "^`reparameterize=True`: `mine` has no blocks that can be fused; leave it out$"
    with pytest.raises(SourceError, match=message):
        reparameterize(network, "mine")


@pytest.mark.slow
def test_the_source_option_fuses_and_its_record_rebuilds_the_fused_form() -> None:
    network = load_source("repvgg_a0", replace(OPTIONS, reparameterize=True))
    assert network.source.reparameterized
    assert build(network.source).state_dict().keys() == network.module.state_dict().keys()
    plain = load_source("repvgg_a0", OPTIONS)
    assert len(plain.module.state_dict()) > len(network.module.state_dict())


@pytest.mark.slow
def test_a_converted_network_refuses_to_be_fused_and_keeps_its_layers() -> None:
    converted = verbs.convert(load_source("repvgg_a0", OPTIONS)).module
    n_binary = len(binary_layers(converted))
    message = (
        r"^`stages\.0\.0\.reparameterize\(\)` would replace binary layers by float ones; fuse "
        r"before binarizing: `irbin.convert\(reparameterize=True\)`$"
    )
    with pytest.raises(ConvertError, match=message):
        reparameterize_model(converted)
    assert len(binary_layers(copy.deepcopy(converted))) == n_binary > 0


@pytest.mark.slow
def test_modules_without_binary_layers_may_still_be_fused(repvgg) -> None:
    network = copy.deepcopy(repvgg)
    refuse_fusing(network)
    assert n_fusable(network) == 22
