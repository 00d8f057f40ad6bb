from __future__ import annotations

import pytest

from irbin.records.plan import PlanOptions
from irbin.records.training import EpochRecord
from irbin.watching.seen import FEW_STEPS, Seen


def seen(n_done: int, steps: int, n_epochs: int) -> Seen:
    """A run whose epochs have `steps` each."""
    epoch = EpochRecord(0, 1.0, 50.0, 1.0, 50.0, 90.0, 0.1, 1.0, 1.0, 100.0, 10.0, steps=steps)
    return Seen([epoch] * n_done, [], 10, n_epochs, PlanOptions())


def test_nothing_is_too_early_in_a_run_of_an_older_irbin_which_wrote_no_steps() -> None:
    assert not seen(1, 0, 1).is_short
    assert not seen(1, 0, 1).is_too_early


@pytest.mark.parametrize("steps", [1, 7, FEW_STEPS // 10])
def test_a_run_is_short_as_a_whole_or_early_in_it_never_both(steps: int) -> None:
    for n_epochs in (1, 9, 10, 99):
        for n_done in range(1, n_epochs + 1):
            run = seen(n_done, steps, n_epochs)
            assert run.n_steps == n_done * steps
            assert run.is_short == (n_epochs * steps < FEW_STEPS)
            assert run.is_too_early == (n_done * steps < FEW_STEPS <= n_epochs * steps)
