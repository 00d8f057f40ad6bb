from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from irbin.data import open_dataset
from irbin.errors import UsageError
from irbin.evaluation.labelled import Labelled
from irbin.processes import ALONE
from irbin.records.options import DataOptions, Preprocessing


def collected(pictures: Path, names: tuple[str, ...] | None, n_outputs: int) -> Labelled:
    data = DataOptions(data_dir=str(pictures))
    dataset = open_dataset(data, "validation", Preprocessing((3, 28, 28)))
    kept = Labelled(dataset, names, 2, ALONE)
    for n in (3, 1):
        kept(torch.eye(n_outputs)[:n], torch.arange(n))
    return kept


def test_images_are_named_in_the_order_of_the_data_set(pictures28: Path) -> None:
    kept = collected(pictures28, ("a", "b", "c"), 3)
    assert [Path(one.told.image).name for one in kept.found] == ["0.png", "1.png", "2.png", "3.png"]
    assert [one.label_name for one in kept.found] == ["a", "b", "c", "a"]
    assert all(one.is_right for one in kept.found)


@pytest.mark.parametrize("names", [None, ("a", "b", "c"), ("a", "b", "c", "d", "e")])
def test_outputs_without_a_name_are_numbers(
    pictures28: Path, names: tuple[str, ...] | None
) -> None:
    kept = collected(pictures28, names, 4)
    assert [one.name for one in kept.found[1].told.best] == (["b", "a"] if names else ["1", "0"])


def test_several_processes_are_refused(pictures28: Path) -> None:
    data = DataOptions(data_dir=str(pictures28))
    dataset = open_dataset(data, "validation", Preprocessing((3, 28, 28)))
    with pytest.raises(UsageError, match="collected by one process, got 2 processes"):
        Labelled(dataset, None, 5, replace(ALONE, size=2))
