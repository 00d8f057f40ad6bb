"""Options given in Python: another type is told in one line, when the record is made."""

from pathlib import Path
from typing import Any

import pytest

import irbin
from irbin.errors import UsageError
from irbin.records.options import DataOptions, SourceOptions


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input_size": "3x16x16"}, "`input_size`: expected 3 whole numbers in a tuple, got `'3x"),
        ({"input_size": 16}, "`input_size`: expected 3 whole numbers in a tuple, got `16`"),
        ({"input_size": (3, 16.0, 16)}, "`input_size`: expected 3 whole numbers in a tuple"),
        ({"img_size": (16, 16)}, "`img_size`: expected a whole number, got `.16, 16.`"),
        ({"img_size": True}, "`img_size`: expected a whole number, got `True`"),
        ({"mean": "0.5"}, "`mean`: expected numbers in a tuple, got `'0.5'`"),
        ({"std": (1, "2", 3)}, "`std`: expected numbers in a tuple"),
        ({"crop_pct": "a"}, "`crop_pct`: expected a number, got `'a'`"),
        ({"crop_mode": 3}, "`crop_mode`: expected one of center, squash, border, got `3`"),
        ({"num_classes": "10"}, "`num_classes`: expected a whole number, got `'10'`"),
        ({"model_kwargs": [1]}, "`model_kwargs`: expected a dictionary, got `.1.`"),
        ({"model_kwargs": None}, "`model_kwargs`: expected a dictionary, got None"),
        ({"pretrained": "no"}, "`pretrained`: expected True or False, got `'no'`"),
        ({"state_key": 3}, "`state_key`: expected a text, got `3`"),
        ({"seed": "a"}, "`seed`: expected a whole number from 0 to 9223372036854775807, got `'a'`"),
        ({"seed": 1.0}, "`seed`: expected a whole number from 0 to 9223372036854775807, got `1.0`"),
        (
            {"seed": True},
            "`seed`: expected a whole number from 0 to 9223372036854775807, got `True`",
        ),
        ({"seed": -1}, "`seed`: expected a whole number from 0 to 9223372036854775807, got `-1`"),
        ({"seed": 2**63}, "`seed`: expected a whole number from 0 to 9223372036854775807, got `92"),
        ({"input_size": (3, 10**20, 9)}, r"`input_size`: expected sizes from 1 to 65,536, got \(3"),
        ({"img_size": 65537}, "`img_size`: expected sizes from 1 to 65,536, got 65537"),
        ({"in_chans": 10**20}, "`in_chans`: expected sizes from 1 to 65,536, got 1000000"),
    ],
)
def test_how_to_read_a_source(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SourceOptions(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data_dir": 3}, "`data_dir`: expected a text, got `3`"),
        ({"dataset": object()}, "`dataset`: expected a text, got a `object`"),
        ({"val_split": None}, "`val_split`: expected a text, got None"),
        ({"batch_size": "a"}, "`batch_size`: expected a whole number, got `'a'`"),
        ({"batch_size": 2.5}, "`batch_size`: expected a whole number, got `2.5`"),
        ({"batch_size": 0}, "`batch_size`: expected 1 or more, got 0"),
        ({"batch_size": 10**20}, "`batch_size`: expected at most 1,000,000,000, got 1000000000000"),
        ({"workers": 1025}, "`workers`: expected at most 1,024, got 1025"),
        ({"workers": -1}, "`workers`: expected 0 or more, got -1"),
        ({"workers": "2"}, "`workers`: expected a whole number, got `'2'`"),
        ({"val_num_samples": -3}, "`val_num_samples`: expected 1 or more, got -3"),
        ({"cache": "no"}, "`cache`: expected one of auto, ram, device, off, got `'no'`"),
    ],
)
def test_how_to_read_images(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DataOptions(**given)


def test_what_can_be_meant_is_taken() -> None:
    """One number stands for all channels, as the note on guessed normalization says."""
    found = SourceOptions(mean=0, std=1 / 255, input_size=[3, 16, 16])  # type: ignore[arg-type]
    assert (found.mean, found.std) == ((0.0,), (1 / 255,))
    assert DataOptions(data_dir=Path("data"), batch_size=1, workers=0).n_batch == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [None, "DATA", {"data_dir": "DATA"}, 3])
def test_verbs_take_images_as_data_options(data: Any, tmp_path: Path) -> None:
    says = pytest.raises(
        UsageError, match=r"`data`: expected `irbin.DataOptions\(data_dir=…\)`, got"
    )
    for name in ("evaluate", "analyze"):
        with says:
            getattr(irbin, name)("test_resnet", data=data)
    with says:
        irbin.finetune("test_resnet", tmp_path / "run", data=data)
    with says:
        irbin.compare("test_resnet", "packed", data=data)
    if data is not None:
        with says:
            irbin.convert("test_resnet", data=data)


def test_verbs_take_how_to_read_as_source_options(tmp_path: Path) -> None:
    given: Any = {"img_size": 16}
    says = pytest.raises(UsageError, match=r"`source_options`: expected `irbin.SourceOptions\(…\)`")
    for call in (irbin.plan, irbin.convert):
        with says:
            call("test_resnet", source_options=given)
    with says:
        irbin.open_network("test_resnet", given)
    with says:
        irbin.export("test_resnet", tmp_path / "packed", source_options=given)
    with says:
        irbin.evaluate("test_resnet", source_options=given, data=DataOptions("DATA"))


def test_an_option_of_another_record_is_sent_there() -> None:
    with pytest.raises(UsageError, match=r"give `source_options=irbin.SourceOptions\(input_size=…"):
        irbin.convert("test_resnet", input_size=(3, 16, 16), source_options=UNTRAINED)
    with pytest.raises(UsageError, match=r"give `data=irbin.DataOptions\(batch_size=…"):
        irbin.convert("test_resnet", batch_size=4, source_options=UNTRAINED)


def test_other_arguments_of_another_type(tmp_path: Path) -> None:
    nothing: Any = 3
    for call, message in (
        (lambda: irbin.load(nothing), "`path`: expected"),
        (lambda: irbin.convert("test_resnet", nothing, source_options=UNTRAINED), "`out`: expect"),
        (lambda: irbin.convert("test_resnet", recipe=nothing), "`recipe`: expected a name or a fi"),
        (lambda: irbin.convert("test_resnet", calibrate="3"), "`calibrate`: expected a number"),
        (
            lambda: irbin.finetune("r", tmp_path, data=DataOptions("d"), overrides=["epochs=1"]),
            "`overrides`: expected `a dictionary of knobs`, got",
        ),
        (lambda: irbin.export("r", tmp_path, float_dtype="float8"), "`float_dtype`: expected one"),
    ):
        with pytest.raises(UsageError, match=message):
            call()  # type: ignore[no-untyped-call]


UNTRAINED = SourceOptions(pretrained=False)
