from __future__ import annotations

from dataclasses import fields

import pytest

from irbin.cli.options import DataFlags
from irbin.cli.source_options import SourceFlags
from irbin.errors import UsageError
from irbin.records.options import DataOptions, SourceOptions


def test_the_defaults_are_the_records() -> None:
    assert SourceFlags().options("net") == SourceOptions()
    assert DataFlags(dataset="torch/cifar10").options() == DataOptions(dataset="torch/cifar10")


def test_every_data_option_has_its_flag() -> None:
    assert {f.name for f in fields(DataFlags)} == {f.name for f in fields(DataOptions)}


def test_every_source_option_has_its_flag() -> None:
    names = {f.name for f in fields(SourceFlags)} - {"checkpoint"}
    own = {"seed"}  # convert has it, and finetune among the recipe's
    assert names == {f.name for f in fields(SourceOptions)} - own


def test_no_data_set_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"^expected a data set, got none; give `--data-dir`"):
        DataFlags().options()


@pytest.mark.parametrize(
    ("source", "model", "checkpoint", "spec", "architecture"),
    [
        ("net", None, None, "net", None),
        ("w.pth", "net", None, "w.pth", "net"),
        (None, "net", None, "net", "net"),
        ("net", None, "w.pth", "w.pth", "net"),
        (None, "net", "w.pth", "w.pth", "net"),
        ("net", "net", "w.pth", "w.pth", "net"),
        (None, None, "w.pth", "w.pth", None),
    ],
)
def test_source_model_and_checkpoint_name_one_network(
    source: str | None,
    model: str | None,
    checkpoint: str | None,
    spec: str,
    architecture: str | None,
) -> None:
    flags = SourceFlags(model=model, checkpoint=checkpoint)
    assert flags.named(source) == spec
    assert flags.options(source).model == architecture


def test_two_architectures_for_one_checkpoint_are_an_error() -> None:
    with pytest.raises(UsageError, match=r"got `a` and `b`; give one of them"):
        SourceFlags(model="b", checkpoint="w.pth").named("a")


def test_sizes_are_positive() -> None:
    with pytest.raises(UsageError, match=r"expected three sizes ≥ 1"):
        SourceFlags(input_size=(3, 0, 32)).options("net")
