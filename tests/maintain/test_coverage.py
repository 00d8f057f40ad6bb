"""Rows of the coverage page: written whole, read back, judged and shown."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from docs.maintain.coverage import (
    EQUAL,
    ROUNDING,
    STEP,
    Row,
    _verdict,
    append_row,
    page,
    read_rows,
    train_step,
    write_rows,
)
from irbin.records.results import Agreement, LayerAgreement


def row(source: str = "net", family: str = "fam", **values) -> Row:
    defaults = {
        "n_layers": 10,
        "n_binary": 8,
        "macs_share": 91.5,
        "float_bytes": 4000,
        "packed_bytes": 400,
        "speed_up": 3.2,
        "agreement_1w1a": EQUAL,
        "agreement_1w32a": EQUAL,
    }
    return Row(family, source, 64, **{**defaults, **values})


def test_rows_read_back_as_they_were_written(tmp_path) -> None:
    rows = [row(), row('a "quoted", one', agreement_1w1a="LowerError: x, y\nz", seconds=1.5)]
    for one in rows:
        append_row(one, tmp_path / "rows.csv")
    assert read_rows(tmp_path / "rows.csv") == rows
    assert read_rows(tmp_path / "none.csv") == []
    rows[1].c = "refused: softmax, sin"
    write_rows(rows, tmp_path / "rows.csv")
    assert read_rows(tmp_path / "rows.csv") == rows
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def agreement(*layers: LayerAgreement, difference: float = 0.0) -> Agreement:
    return Agreement(2, 100.0, difference, layers, ())


@pytest.mark.parametrize(
    ("difference", "is_equal"),
    [(0.0, True), (2 * ROUNDING, True), (2.1 * ROUNDING, False), (float("nan"), False)],
)
def test_without_a_flipped_sign_answers_agree_within_rounding(difference, is_equal) -> None:
    layers = [LayerAgreement("a", 100, 0, 0.0)]
    found = _verdict(agreement(*layers, difference=difference), 2.0, 0.0)
    assert (found == EQUAL) is is_equal


def test_flips_that_begin_near_zero_are_rounding_and_others_are_not() -> None:
    clean, near, far = (
        LayerAgreement("a", 100, 0, 0.0),
        LayerAgreement("b", 100, 1, 2e-8),
        LayerAgreement("c", 100, 9, 3.0),
    )
    assert _verdict(agreement(clean, near, far), 1.0, 0.0) == (
        "equal but for rounding: 10 of 300 signs differ, begins at `b`, |x| ≤ 2e-08"
    )
    assert _verdict(agreement(clean, far, near), 1.0, 9.0) == (
        "10 of 300 signs differ, begins at `c`, |x| ≤ 3"
    )


@pytest.mark.parametrize(
    ("difference", "own", "is_equal"),
    [(1.0, 0.5, True), (1.1, 0.5, False), (float("nan"), 9.0, False), (float("inf"), 9.0, False)],
)
def test_answers_may_differ_as_the_trained_networks_own_do(difference, own, is_equal) -> None:
    found = _verdict(agreement(difference=difference), 1.0, own)
    assert found.startswith(EQUAL) is is_equal
    if is_equal:
        assert found == (
            "equal but for rounding: answers differ by 1 of the largest, the trained network's by "
            "0.5 from its own in float64"
        )


def test_page_has_a_line_a_network_and_explains_those_that_fail() -> None:
    rows = [
        row("torchvision:b", "torchvision"),
        row("near", agreement_1w1a="equal but for rounding: …, |x| ≤ 2e-08", unseen=3),
        row("bad", agreement_1w32a="LowerError: no", packed_bytes=0),
    ]
    text = page(rows)
    assert "2 of 3 networks went all the way" in text
    assert "| fam | `near` | 64 | 8 / 10* | 91.5 % | 10.0× | 400 | 3.2× | ≈ ≤ 2e-08 | yes |" in text
    assert "| torchvision | `b` | 64 | 8 / 10 |" in text
    assert "- `bad`: equal; 1w32a: LowerError: no" in text
    assert text.index("`bad`") < text.index("`near`") < text.index("`b`")


def test_page_counts_rows_that_were_made_without_training() -> None:
    assert "2 of these rows were made without the training step" in page(
        [row("a"), row("b"), row("c", train_steps=1)]
    )
    assert "without the training step" not in page([row(train_steps=1)])


class TwoHeads(nn.Module):
    """One of them in training alone, and a layer that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head, self.aux, self.idle = nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu().mean((2, 3))
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def test_a_training_step_moves_every_used_weight_by_a_bounded_way_and_keeps_the_modes() -> None:
    torch.manual_seed(0)
    network, state = TwoHeads().eval(), torch.get_rng_state()
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    network.stem.train()
    train_step(network, torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    moved = {n: (p.detach() - before[n]).norm().item() for n, p in network.named_parameters()}
    assert {n for n, way in moved.items() if way == 0} == {"idle.weight", "idle.bias"}
    assert sum(way**2 for way in moved.values()) ** 0.5 <= STEP * 1.001
    assert {n for n, m in network.named_modules() if m.training} == {"stem"}
    assert not any(p.grad is not None for p in network.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_a_training_step_refuses_gradients_that_are_not_finite() -> None:
    network = TwoHeads()
    nn.init.constant_(network.head.weight, float("inf"))
    with pytest.raises(RuntimeError, match="non-finite"):
        train_step(network, torch.randn(4, 3, 8, 8))
