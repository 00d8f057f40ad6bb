from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method, binary_layers
from irbin.errors import SourceError, TrainingError
from irbin.records.training import EpochRecord, LayerDiagnostics
from irbin.rewriting.network import Network
from irbin.watching.diagnostics import (
    MAX_IMAGES,
    Diagnostics,
    epoch_means,
    read_diagnostics,
    write_diagnostics,
)

from .conftest import Root, conv, linear

MakeNetwork = Callable[..., Network]

ROW = LayerDiagnostics(0, "a.conv", 0.25, 1 / 3, 1.0, 0.5, math.nan, 0.0, math.nan, 1e-7)


def only(module: nn.Module, images: torch.Tensor, amp: str | None = None) -> LayerDiagnostics:
    (row,) = Diagnostics(module).measure(images, 3, amp)
    assert row.epoch == 3
    return row


def same(a: Sequence[LayerDiagnostics], b: Sequence[LayerDiagnostics]) -> bool:
    return repr(a) == repr(b)  # nan is nan here


def negate(layer: BinaryConv2d | BinaryLinear, n: int) -> None:
    """Changes the sign of the first `n` weights of a `plain` layer."""
    with torch.no_grad():
        layer.weight.view(-1)[:n] *= -1


def test_a_float_network_is_not_even_run(make_network: MakeNetwork) -> None:
    diagnostics = Diagnostics(make_network(binary=False).module)
    diagnostics.look()
    assert diagnostics.measure(torch.empty(0), 0) == ()  # which it could not run on
    assert diagnostics.state() == {}
    diagnostics.load_state({})


def test_flips_are_counted_from_epoch_to_epoch_and_ever() -> None:
    layer = linear(8, 4, Method("plain"))
    diagnostics = Diagnostics(layer)
    images = torch.randn(16, 8)
    (row,) = diagnostics.measure(images, 0)
    assert (row.layer, row.flip_ratio, row.never_flipped) == ("", 0.0, 1.0)
    negate(layer, 8)
    diagnostics.look()
    negate(layer, 4)  # back
    (row,) = diagnostics.measure(images, 1)
    assert (row.flip_ratio, row.never_flipped) == (4 / 32, 24 / 32)
    (row,) = diagnostics.measure(images, 2)
    assert (row.flip_ratio, row.never_flipped) == (0.0, 24 / 32)
    negate(layer, 16)  # and nobody looks but the measurement
    (row,) = diagnostics.measure(images, 3)
    assert (row.flip_ratio, row.never_flipped) == (16 / 32, 16 / 32)


def test_a_flip_between_two_looks_is_not_seen() -> None:
    layer = linear(8, 4, Method("plain"))
    diagnostics = Diagnostics(layer)
    negate(layer, 8)
    negate(layer, 8)
    assert diagnostics.measure(torch.randn(16, 8), 0)[0].never_flipped == 1.0


@pytest.mark.parametrize("binarizer", ["libra", "libra-latent", "plain"])
def test_signs_are_those_of_the_frozen_layer(binarizer: str) -> None:
    torch.manual_seed(0)
    layer = conv(8, 16, Method(binarizer))
    with torch.no_grad():
        layer.weight += 0.02
    diagnostics = Diagnostics(layer)
    before = layer.frozen()[0]
    with torch.no_grad():
        layer.weight.copy_(torch.randn_like(layer.weight))
    (row,) = diagnostics.measure(torch.randn(2, 8, 5, 5), 0)
    flipped = (layer.frozen()[0] != before).float().mean()
    assert row.flip_ratio == pytest.approx(float(flipped), rel=1e-5)
    p = (layer.frozen()[0] > 0).float().flatten(1).mean(1).double()
    entropy = -(p * p.log2() + (1 - p) * (1 - p).log2()).mean()
    assert row.weight_entropy == pytest.approx(float(entropy), rel=1e-5)


def test_at_the_end_of_ede_a_quarter_of_normal_values_has_usable_gradients() -> None:
    layer = linear(64, 64)
    layer.phase.set_range(10, 10)
    torch.manual_seed(0)
    row = only(layer, torch.randn(128, 40, 64))
    assert row.activation_gradient == pytest.approx(0.24, abs=0.01)
    assert row.weight_gradient == pytest.approx(0.21, abs=0.05)  # of uniform ones, standardized


def test_weights_are_judged_by_their_own_estimator() -> None:
    layer = linear(64, 64, Method(weight_estimator="identity"))
    layer.phase.set_range(1000, 1000)
    torch.manual_seed(0)
    row = only(layer, torch.randn(128, 64))
    assert row.activation_gradient < 0.01
    assert row.weight_gradient == 1


def test_only_the_first_images_are_run() -> None:
    x = torch.ones(MAX_IMAGES + 1, 8)
    x[MAX_IMAGES] = -1
    assert only(linear(), x).activation_entropy == 0


def test_a_layer_that_does_not_run_has_weights_only() -> None:
    row = only(Root(lambda self, x: x, layer=linear()), torch.randn(4, 8))
    assert row.weight_gradient == 1
    assert all(map(math.isnan, astuple(row)[6:]))


def walk(module: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for layer in binary_layers(module).values():
            layer.weight += 0.3 * torch.randn_like(layer.weight)


@pytest.mark.slow
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3))
def test_a_run_that_goes_on_has_the_records_of_one_that_never_stopped(
    n_in: int, n_out: int, cut: int
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(linear(n_in, 3), linear(3, n_out))
    diagnostics = Diagnostics(module)
    images = torch.randn(8, n_in)

    def steps(diagnostics: Diagnostics, begin: int, end: int) -> list[LayerDiagnostics]:
        rows: list[LayerDiagnostics] = []
        for step in range(begin, end):
            walk(module, step)
            if step % 2:
                diagnostics.look()
            else:
                rows += diagnostics.measure(images, step)
        return rows

    steps(diagnostics, 0, cut)
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = load(save(diagnostics.state()))
    rows = steps(diagnostics, cut, 5)
    resumed = Diagnostics(module)
    module.load_state_dict(weights)
    resumed.load_state(state)
    assert same(steps(resumed, cut, 5), rows)
    before, after = diagnostics.state(), resumed.state()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_masks_take_a_bit_a_weight() -> None:
    sizes = [tensor.numel() for tensor in Diagnostics(linear(9, 1)).state().values()]
    assert sizes == [2, 2]


@pytest.mark.parametrize(
    ("wrong", "got"),
    [({}, "none"), (Diagnostics(linear(9, 4)).state(), "5")],
    ids=["nothing", "another_size"],
)
def test_another_networks_state_is_refused(wrong: dict[str, torch.Tensor], got: str) -> None:
    with pytest.raises(TrainingError) as error:
        Diagnostics(linear()).load_state(wrong)
    assert str(error.value) == (
        f"expected 4 bytes of signs of layer ``, got {got}: they are another network's"
    )


def test_means_are_columns_of_the_epoch_and_leave_out_what_is_unknown() -> None:
    other = replace(ROW, flip_ratio=0.75, activation_entropy=0.5, activation_gradient=math.nan)
    means = epoch_means([ROW, other])
    assert means.keys() <= {field.name for field in fields(EpochRecord)}
    assert (means["flip_ratio"], means["activation_entropy"]) == (0.5, 0.5)
    assert math.isnan(means["activation_gradient"])
    assert all(map(math.isnan, epoch_means([]).values()))


def test_rows_come_back_from_the_file_as_they_were(tmp_path: Path) -> None:
    rows = (ROW, replace(ROW, epoch=1, layer='odd, "name"'))
    write_diagnostics(tmp_path, rows)
    assert same(read_diagnostics(tmp_path, 2), rows)
    assert same(read_diagnostics(tmp_path, 1), rows[:1])
    assert read_diagnostics(tmp_path, 0) == ()
    header = (tmp_path / "diagnostics.csv").read_text().splitlines()[0]
    assert header == ",".join(field.name for field in fields(LayerDiagnostics))


def test_measured_rows_keep_every_digit_in_the_file(
    make_network: MakeNetwork, tmp_path: Path
) -> None:
    rows = Diagnostics(make_network().module).measure(torch.randn(16, 3, 8, 8), 0)
    write_diagnostics(tmp_path, rows)
    assert same(read_diagnostics(tmp_path, 1), rows)
    lines = (tmp_path / "diagnostics.csv").read_text().splitlines()
    assert max(len(cell) for line in lines[1:] for cell in line.split(",")) <= len("1.23456e-05")


def test_without_rows_there_is_no_file(tmp_path: Path) -> None:
    write_diagnostics(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
    assert read_diagnostics(tmp_path, 1) == ()


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    write_diagnostics(tmp_path, [ROW])
    file = tmp_path / "diagnostics.csv"
    file.write_text(file.read_text().replace("0.25", "much"))
    with pytest.raises(SourceError) as error:
        read_diagnostics(tmp_path, 1)
    assert str(error.value) == (f"{file}, line 2: expected a number under `flip_ratio`, got `much`")


def test_what_is_not_binary_yet_has_no_figures_and_does_not_flip() -> None:
    layer = conv(method=Method("plain"))
    module, images = Root(lambda self, x: self.layer(x), layer=layer), torch.randn(4, 2, 5, 5)
    diagnostics = Diagnostics(module)
    layer.phase.set_stage(binary_weights=False, binary_activations=False)
    negate(layer, 10)
    diagnostics.look()
    (row,) = diagnostics.measure(images, 0)
    assert all(math.isnan(value) for value in astuple(row)[2:])
    layer.phase.set_stage(binary_weights=False, binary_activations=True)
    negate(layer, 20)
    (row,) = diagnostics.measure(images, 1)
    assert math.isnan(row.flip_ratio)
    assert math.isfinite(row.activation_entropy)
    layer.phase.set_stage(binary_weights=True, binary_activations=True)
    negate(layer, 18)
    (row,) = diagnostics.measure(images, 2)
    assert (row.flip_ratio, row.never_flipped) == (0.25, 0.75)


def test_weights_that_recu_clamps_have_no_usable_gradient() -> None:
    layer = conv(method=Method("plain"))
    with torch.no_grad():
        layer.weight.fill_(0.01)
        layer.weight[:, 0, 0, 0] = 0.1  # one of 18, and far beyond the others
    module, images = Root(lambda self, x: self.layer(x), layer=layer), torch.randn(4, 2, 5, 5)
    assert only(module, images).weight_gradient == 1
    layer.phase.set_clamp(0.85, 0.99)
    assert only(module, images).weight_gradient == pytest.approx(17 / 18, abs=1e-5)
