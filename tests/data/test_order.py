from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbin.data.order import Deal, alternating_flips, make_deal, uniforms
from irbin.errors import UsageError


@given(
    n_images=st.integers(1, 300),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 5),
    accumulation=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_ranks_together_see_the_order_of_one_process(
    n_images: int, batch_size: int, world_size: int, accumulation: int, epoch: int
) -> None:
    parts = [
        Deal(n_images, batch_size, 5, rank, world_size, accumulation) for rank in range(world_size)
    ]
    global_batch = batch_size * world_size * accumulation
    one = Deal(n_images, global_batch, 5)
    for part in parts:
        assert len(part) == accumulation * len(one)
    mine = [list(part.batches(epoch)) for part in parts]
    for step, expected in enumerate(one.batches(epoch)):
        micro = range(step * accumulation, (step + 1) * accumulation)
        shown = [mine[rank][m] for m in micro for rank in range(world_size)]
        assert np.concatenate(shown).tolist() == expected.tolist()


@given(start=st.integers(0, 12), rank=st.integers(0, 2))
def test_batches_from_any_start_are_the_rest(start: int, rank: int) -> None:
    deal = Deal(100, 4, 1, rank, 3, 2)
    whole = [batch.tolist() for batch in deal.batches(7)]
    assert [batch.tolist() for batch in deal.batches(7, start)] == whole[start:]


def test_a_small_data_set_is_one_batch_where_one_process_trains_alone() -> None:
    assert make_deal(5, 8, 0, 0, 1, 1).batch_size == 5
    message = (
        r"^`batch_size`: expected at most 15 images in a step, got 16: "
        r"8 a batch × 2 processes × 1 accumulated$"
    )
    with pytest.raises(UsageError, match=message):
        make_deal(15, 8, 0, 0, 2, 1)
    with pytest.raises(UsageError, match=r"got 16: 8 a batch × 1 process × 2 accumulated$"):
        make_deal(15, 8, 0, 0, 1, 2)
    with pytest.raises(UsageError, match=r"^`rank`: expected 0 to 1, got 2$"):
        make_deal(99, 8, 0, 2, 2, 1)
    assert len(make_deal(16, 8, 0, 1, 2, 1)) == 1


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=5), st.integers(1, 30))
def test_draws_of_an_image_do_not_depend_on_its_neighbours(
    indices: list[int], n_draws: int
) -> None:
    together = uniforms(3, 1, np.array(indices), n_draws)
    alone = [uniforms(3, 1, np.array([index]), n_draws)[0] for index in indices]
    assert np.array_equal(together, np.array(alone))
    assert together.min() >= 0
    assert together.max() < 1


@given(seed=st.integers(0, 2**32), epoch=st.integers(0, 1000))
def test_alternating_flips_are_half_of_an_epoch_and_the_other_half_of_the_next(
    seed: int, epoch: int
) -> None:
    indices = np.arange(1000)
    flips = alternating_flips(seed, epoch, indices)
    assert 400 < flips.sum() < 600
    assert np.array_equal(flips, ~alternating_flips(seed, epoch + 1, indices))
    assert np.array_equal(flips[[5, 999, 5]], alternating_flips(seed, epoch, np.array([5, 999, 5])))


def test_draws_are_uniform_and_differ_between_images_epochs_and_seeds() -> None:
    draws = uniforms(0, 0, np.arange(20_000), 4)
    counts = np.stack([np.histogram(column, 10, (0, 1))[0] for column in draws.T])
    assert abs(counts / 2000 - 1).max() < 0.1
    assert len(np.unique(draws)) == draws.size
    others = [uniforms(1, 0, np.arange(20_000), 4), uniforms(0, 1, np.arange(20_000), 4)]
    for other in (*others, np.roll(draws, 1, axis=0), np.roll(draws, 1, axis=1)):
        assert abs(np.corrcoef(draws.ravel(), other.ravel())[0, 1]) < 0.02
