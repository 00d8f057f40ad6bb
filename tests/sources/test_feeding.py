from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

import irbin
from irbin.demo.network import demo_net
from irbin.errors import UsageError
from irbin.records.options import DataOptions, Preprocessing, SourceOptions, SourceRecord
from irbin.sources.feeding import FIELDS, after_training, as_asked, guess, stated

SEEN = Preprocessing()
RECORD = SourceRecord("x", "timm:x", 3, SEEN, trained=True, stated_by=stated("timm"))
NET = "module:irbin.demo.network:demo_net"


def test_nothing_asked_for_changes_nothing() -> None:
    assert as_asked(RECORD, SourceOptions()) is RECORD
    assert as_asked(RECORD, None) is RECORD


def test_what_is_asked_for_wins_and_says_so() -> None:
    options = SourceOptions(mean=(0.5,), std=(0.1, 0.2, 0.3), interpolation="bilinear", img_size=64)
    found = as_asked(RECORD, options)
    assert found.preprocessing == replace(
        SEEN, input_size=(3, 64, 64), mean=(0.5,) * 3, std=(0.1, 0.2, 0.3), interpolation="bilinear"
    )
    assert found.stated_by == {
        "mean": "given by flag",
        "std": "given by flag",
        "interpolation": "given by flag",
        "crop_pct": "timm",
        "crop_mode": "timm",
    }


@pytest.mark.parametrize(
    "options", [SourceOptions(crop_pct=1.0), SourceOptions(crop_mode="squash")]
)
def test_a_crop_asked_for_is_taken_at_any_size(options: SourceOptions) -> None:
    assert RECORD.preprocessing.small_as_is
    assert not as_asked(RECORD, options).preprocessing.small_as_is


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SourceOptions(mean=(0.1, 0.2)), "`mean`: expected one number, or one for each of 3 chan"),
        (SourceOptions(std=(0.0,)), "`std`: expected a number above 0, got 0"),
        (SourceOptions(std=(float("nan"),)), "`std`: expected a number above 0, got nan"),
        (SourceOptions(mean=(float("inf"),)), "`mean`: expected a finite number"),
        (SourceOptions(crop_pct=0.0), "`crop_pct`: expected a share above 0"),
        (SourceOptions(interpolation="cubic"), "`interpolation`: expected one of nearest, "),
        (SourceOptions(crop_mode="middle"), "`crop_mode`: expected one of center, squash, border"),
        (SourceOptions(in_chans=1), "takes images of 3 channels, got 1"),
    ],
)
def test_what_cannot_be_meant(options: SourceOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        as_asked(RECORD, options)


def test_a_guess_is_told_of_trained_networks_alone() -> None:
    by = {"mean": "a", "interpolation": "b"}
    assert "std 0.229 0.224 0.225 is a guess" in guess(replace(RECORD, stated_by=by))
    assert "`mean=` and `std=`" in guess(replace(RECORD, stated_by={}))
    for silent in (
        RECORD,
        replace(RECORD, trained=False, stated_by={}),
        replace(RECORD, stated_by=None),
    ):
        assert guess(silent) == ""


def test_training_settles_what_was_a_guess() -> None:
    learned = after_training(replace(RECORD, stated_by={"mean": "a"}))
    assert learned == {**dict.fromkeys(FIELDS, "as trained"), "mean": "a"}


def opened(spec: str, **options) -> SourceRecord:
    return irbin.open_network(spec, SourceOptions(**options)).source


def test_who_states_it_by_kind_of_source(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    torch.save(state, tmp_path / "bare.pth")
    arguments = argparse.Namespace(num_classes=3, mean=[0.1, 0.2, 0.3], crop_pct=0.9)
    torch.save({"arch": "test_resnet", "state_dict": state, "args": arguments}, tmp_path / "t.pth")
    assert opened(str(tmp_path / "bare.pth"), model="test_resnet", num_classes=3).stated_by == {}
    trained = opened(str(tmp_path / "t.pth"))
    assert trained.stated_by == stated("the checkpoint's training arguments", ["mean", "crop_pct"])
    assert trained.preprocessing.mean == (0.1, 0.2, 0.3)
    assert not trained.preprocessing.small_as_is  # timm crops at any size
    assert opened(NET).stated_by == stated(
        "the module's pretrained_cfg", ["mean", "std", "interpolation", "crop_pct"]
    )
    assert opened("paper:resnet20").stated_by == {}


def test_a_hub_folder_states_what_stands_in_its_config(tmp_path: Path) -> None:
    cfg = {"input_size": [3, 160, 160], "mean": [0.5] * 3, "num_classes": 3}
    config = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": cfg}
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    torch.save(state, tmp_path / "pytorch_model.bin")
    record = opened(f"local-dir:{tmp_path}")
    assert record.stated_by == stated("timm's pretrained_cfg", ["mean"])
    assert "std" in guess(record)


def test_a_live_module_states_it_as_its_factory_would() -> None:
    network = irbin.open_network(demo_net(3))
    assert network.source.preprocessing.input_size == (1, 28, 28)
    assert network.source.preprocessing.mean == (0.286,)


@pytest.fixture
def data(pictures28: Path) -> DataOptions:
    return DataOptions(data_dir=str(pictures28), batch_size=9, workers=0)


@pytest.mark.slow
def test_a_network_of_pixels_from_0_to_255_goes_all_the_way(
    data: DataOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few, three = {"epochs": 2, "lr": 0.01}, SourceOptions(num_classes=3)
    irbin.finetune(NET, tmp_path / "float", data=data, source_options=three, overrides=few)
    network = irbin.open_network(tmp_path / "float")
    (std,) = network.source.preprocessing.std
    stem = network.module.stem.weight
    # a convolution of the pixels themselves: same answers, up to the border
    network.module.stem.weight = torch.nn.Parameter(stem / (255 * std))
    torch.save(network.module.state_dict(), tmp_path / "raw.pth")
    how = SourceOptions(model=NET, num_classes=3, mean=(0.0,), std=(1 / 255,))
    shifted = irbin.evaluate(
        tmp_path / "float", data=data, source_options=SourceOptions(mean=(0.0,), std=(std,))
    )
    raw = irbin.evaluate(tmp_path / "raw.pth", data=data, source_options=how)
    assert raw.loss == pytest.approx(shifted.loss, rel=1e-4)
    assert raw.preprocessing.std == (1 / 255,)
    assert raw.stated_by is not None
    assert raw.stated_by["std"] == "given by flag"
    irbin.convert(tmp_path / "raw.pth", tmp_path / "converted", source_options=how)
    irbin.finetune(tmp_path / "converted", tmp_path / "run", data=data, overrides=few)
    irbin.export(tmp_path / "run", tmp_path / "packed")
    for name in ("converted", "run", "packed"):
        found = irbin.evaluate(tmp_path / name, data=data)
        assert (found.preprocessing.mean, found.preprocessing.std) == ((0.0,), (1 / 255,))
    config = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert config["pretrained_cfg"]["std"] == [1 / 255]
    assert "small_as_is" not in config["pretrained_cfg"]


@pytest.mark.slow
def test_a_folder_can_be_evaluated_at_another_size(data: DataOptions, tmp_path: Path) -> None:
    few, three = {"epochs": 1}, SourceOptions(num_classes=3)
    irbin.finetune(NET, tmp_path / "float", data=data, source_options=three, overrides=few)
    found = irbin.evaluate(tmp_path / "float", data=data, source_options=SourceOptions(img_size=32))
    assert found.preprocessing.input_size == (1, 32, 32)
    with pytest.raises(UsageError, match="both say how large"):
        irbin.open_network(tmp_path / "float", SourceOptions(img_size=32, input_size=(1, 32, 32)))
