"""The journey through the public verbs, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import irbin
from irbin import DataOptions, SourceOptions, exporting, verbs
from irbin.binary.layers import binary_layers, phase_of
from irbin.data import eval_loader
from irbin.demo.network import demo_net
from irbin.errors import SourceError, UsageError
from irbin.records.in_c import COptions

SPEC = "module:irbin.demo.network:demo_net"
THREE = SourceOptions(num_classes=3)


@pytest.fixture
def data(pictures28: Path) -> DataOptions:
    return DataOptions(data_dir=str(pictures28), batch_size=9, workers=0)


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory, pictures28: Path) -> Path:
    """A folder with `float`, `converted`, `run` and `packed`, made once."""
    home = tmp_path_factory.mktemp("journey")
    data = DataOptions(data_dir=str(pictures28), batch_size=9, workers=0)
    few = {"epochs": 2, "lr": 0.01}
    irbin.finetune(SPEC, home / "float", data=data, source_options=THREE, overrides=few)
    irbin.convert(home / "float", home / "converted", shortcut="bireal")
    irbin.finetune(home / "converted", home / "run", data=data, overrides=few)
    irbin.export(home / "run", home / "packed")
    return home


@pytest.mark.slow
def test_packed_answers_are_the_trained_ones(journey: Path, data: DataOptions) -> None:
    agreement = irbin.compare(journey / "run", journey / "packed", data=data)
    assert agreement.n_images == 18
    assert agreement.equal_top1 == 100
    binary = irbin.evaluate(journey / "run", data=data)
    packed = irbin.evaluate(journey / "packed", data=data, input_type="float32")
    assert (binary.kind, packed.kind) == ("binary", "packed")
    assert binary.top1 == packed.top1
    assert binary.per_class == packed.per_class
    assert list(packed.per_class) == ["bars", "dots", "plain"]
    assert packed.size_bytes < binary.size_bytes / 8


@pytest.mark.slow
def test_answers_of_every_image_are_kept_where_they_are_asked_for(
    journey: Path, data: DataOptions
) -> None:
    found = irbin.evaluate(journey / "packed", data=data, predictions=2)
    assert found.answers is not None
    told = list(irbin.predict(journey / "packed", Path(data.data_dir or "") / "val", topk=2))
    assert [one.told for one in found.answers] == told
    right = sum(one.is_right for one in found.answers)
    assert 100 * right / len(told) == pytest.approx(found.top1)
    assert irbin.evaluate(journey / "packed", data=data).answers is None
    assert found.counts is not None
    assert {one.name: one.recall for one in found.counts.figures()} == found.per_class


@pytest.mark.slow
def test_a_packed_network_is_evaluated_on_bytes_where_it_reads_them(
    journey: Path, data: DataOptions
) -> None:
    packed, pixels, labels = irbin.load(journey / "packed"), [], []
    assert packed.why_floats == ""
    for folder in sorted((Path(data.data_dir or "") / "val").iterdir()):
        for file in sorted(folder.iterdir()):
            pixels.append(np.asarray(Image.open(file).convert("L"))[..., None])
            labels.append(("bars", "dots", "plain").index(folder.name))
    logits = torch.from_numpy(packed.bytes(np.stack(pixels)))
    wanted = F.cross_entropy(logits, torch.tensor(labels)).item()
    found = irbin.evaluate(journey / "packed", data=data)
    assert found.input_type == "bytes"
    assert found.loss == pytest.approx(wanted, rel=1e-6)
    floats = irbin.evaluate(journey / "packed", data=data, input_type="float32")
    assert floats.input_type == "float32"
    assert floats.loss != found.loss
    assert floats.loss == pytest.approx(found.loss, rel=0.05)
    # another normalization is folded anew
    fed = SourceOptions(mean=(0.1,), std=(0.6,))
    other = irbin.evaluate(journey / "packed", data=data, source_options=fed)
    as_floats = irbin.evaluate(
        journey / "packed", data=data, source_options=fed, input_type="float32"
    )
    assert (other.input_type, other.preprocessing.mean) == ("bytes", (0.1,))
    assert abs(other.loss - as_floats.loss) < abs(other.loss - found.loss) / 10


@pytest.mark.slow
def test_networks_that_are_not_packed_read_floats(journey: Path, data: DataOptions) -> None:
    assert irbin.evaluate(journey / "run", data=data).input_type == "float32"
    assert irbin.evaluate(journey / "run", data=data, input_type="bytes").input_type == "float32"
    with pytest.raises(UsageError, match=r"^`input_type`: expected one of `bytes`, `float32`"):
        irbin.evaluate(journey / "run", data=data, input_type="uint8")  # type: ignore[arg-type]


def test_a_fine_tuned_float_network_is_a_teacher_and_knows_its_classes(journey: Path) -> None:
    network = irbin.open_network(journey / "converted")
    assert network.source.trained
    assert network.source.class_names == ("bars", "dots", "plain")
    assert network.source.spec == str(journey / "float" / "best")


def test_a_run_remembers_what_was_asked_for(journey: Path) -> None:
    args = yaml.safe_load((journey / "run" / "args.yaml").read_text())
    assert args["command"] == {
        "source": str(journey / "converted"),
        "recipe": None,
        "overrides": {"epochs": 2, "lr": 0.01},
        "teacher": None,
        "convert": None,
    }


def test_the_packed_model_needs_no_architecture(journey: Path) -> None:
    model = irbin.load(journey / "packed")
    assert isinstance(model, nn.Module)
    assert model(torch.zeros(5, 1, 28, 28)).shape == (5, 3)


def test_plan_of_a_converted_network_is_the_one_it_was_made_with(journey: Path) -> None:
    assert irbin.plan(journey / "run") == irbin.plan(journey / "converted")
    with pytest.raises(UsageError, match="expected a float network to plan with `bits`, got one"):
        irbin.plan(journey / "run", bits="1w32a")


@pytest.mark.slow
def test_a_teacher_that_is_gone_is_told_with_what_to_do(
    journey: Path, data: DataOptions, tmp_path: Path
) -> None:
    shutil.copytree(journey / "float", tmp_path / "float")
    irbin.convert(tmp_path / "float", tmp_path / "converted")
    shutil.rmtree(tmp_path / "float")
    with pytest.raises(SourceError, match=r"float network to distill from is gone .*`teacher=`"):
        irbin.finetune(tmp_path / "converted", tmp_path / "run", data=data)
    assert not (tmp_path / "run").exists()
    irbin.finetune(
        tmp_path / "converted",
        tmp_path / "run",
        data=data,
        teacher=journey / "float",
        overrides={"epochs": 1},
    )


def test_a_teacher_without_distillation_is_refused(journey: Path, data: DataOptions) -> None:
    with pytest.raises(UsageError, match="`teacher` was given but the recipe does not distill"):
        irbin.finetune(
            journey / "converted",
            journey / "no",
            data=data,
            teacher=journey / "float",
            overrides={"distill": False},
        )


@pytest.mark.slow
def test_calibration_moves_the_statistics_and_nothing_else(
    journey: Path, data: DataOptions
) -> None:
    plain = irbin.convert(journey / "float").module.state_dict()
    seen = []
    calibrated = irbin.convert(
        journey / "float", data=data, calibrate=20, stage=lambda *told: seen.append(told)
    ).module.state_dict()
    moved = {key for key in plain if not torch.equal(plain[key], calibrated[key])}
    assert moved
    assert all("running_" in key or "num_batches" in key for key in moved)
    assert [name for name, _, n in seen if not n] == [
        "reading the network",
        "tracing the network",
        "replacing layers",
        "checking that the result can be exported",
    ]
    assert seen[-1] == ("calibrating", 18, 20)  # whole batches of nine


def test_a_packed_network_has_a_card_that_tells_the_run(journey: Path, tmp_path: Path) -> None:
    text = (journey / "packed" / "README.md").read_text("utf-8")
    assert "The packed network: not measured. In training, the network that it was packed" in text
    assert "| epochs | 2 |" in text
    assert "| data | 28 |" in text
    irbin.export(journey / "converted", tmp_path / "untrained")
    untrained = (tmp_path / "untrained" / "README.md").read_text("utf-8")
    assert "| data | not recorded |" in untrained
    how = "2 epochs of 28, recipe default"
    told = f"| float weights | trained by irbin |\n| which were trained | {how} |\n"
    assert told in text
    assert told in untrained


@pytest.mark.slow
def test_what_is_made_to_be_given_away_names_no_folder(journey: Path, tmp_path: Path) -> None:
    """Packed from a source with a whole path, and written from one."""
    irbin.export_c(journey / "run", tmp_path / "c", c_options=COptions(test_images=1))
    irbin.export_onnx(journey / "packed", tmp_path / "net.onnx")
    files = [
        path
        for folder in (journey / "packed", tmp_path)
        for path in folder.rglob("*")
        if path.is_file()
    ]
    here = str(journey).encode()
    assert [file.name for file in files if here in file.read_bytes()] == []


@pytest.mark.parametrize("calibrate", [-1, 8])
def test_calibration_wants_images(journey: Path, calibrate: int) -> None:
    with pytest.raises(UsageError, match="`calibrate`"):
        irbin.convert(journey / "float", calibrate=calibrate)


def test_each_verb_wants_its_form_of_network(
    journey: Path, data: DataOptions, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="expected a float network, got one that is converted"):
        irbin.convert(journey / "converted", tmp_path / "again")
    with pytest.raises(UsageError, match="expected a converted network, got a float one"):
        irbin.export(journey / "float", tmp_path / "packed")
    with pytest.raises(UsageError, match="needs a converted network, got a float one"):
        irbin.compare(journey / "float", journey / "packed", data=data)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_existing_output_is_refused_and_overwritten_on_request(
    journey: Path, tmp_path: Path
) -> None:
    for verb, source in ((irbin.convert, "float"), (irbin.export, "run")):
        out = tmp_path / source
        verb(journey / source, out)
        with pytest.raises(UsageError, match="exists; choose another folder, or give"):
            verb(journey / source, out)
        verb(journey / source, out, overwrite=True)
        assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_a_live_module_is_converted_and_exported_but_not_saved(tmp_path: Path) -> None:
    module = demo_net(num_classes=4)
    options = SourceOptions(input_size=(1, 28, 28))
    network = irbin.convert(module, source_options=options)
    assert len(binary_layers(network.module)) == 6
    assert not binary_layers(module)
    irbin.export(network, tmp_path / "packed")
    assert irbin.load(tmp_path / "packed")(torch.zeros(1, 1, 28, 28)).shape == (1, 4)
    with pytest.raises(SourceError, match="nothing says how to build `live:DemoNet` again"):
        irbin.convert(module, tmp_path / "converted", source_options=options)
    assert not (tmp_path / "converted").exists()


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["1w1a", "1w32a"])
def test_how_signs_are_trained_leaves_no_trace_in_what_is_packed(
    journey: Path, tmp_path: Path, bits: str
) -> None:
    options = ({}, {"estimator": "triangle"}, {"weight_estimator": "identity"})
    for i, given in enumerate(options):
        network = irbin.convert(journey / "float", bits=bits, **given)
        if given:
            phase_of(network.module).set_range(1, 3, "even")
        irbin.export(network, tmp_path / str(i))
    folders = [tmp_path / str(i) for i in range(len(options))]
    assert len({(folder / "program.json").read_bytes() for folder in folders}) == 1
    first, *others = (load_file(folder / "packed.safetensors") for folder in folders)
    for other in others:
        assert first.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_a_network_that_was_converted_before_there_were_estimators_for_weights_opens(
    journey: Path, tmp_path: Path
) -> None:
    shutil.copytree(journey / "converted", tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    config["irbin"]["plan"]["options"].pop("weight_estimator", None)
    config["irbin"]["plan"]["options"]["estimator"] = "ste"
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    layers = binary_layers(irbin.open_network(tmp_path / "old").module).values()
    assert {layer.method.estimator_of_weights for layer in layers} == {"ste"}


def test_evaluation_normalizes_where_it_computes(
    journey: Path, data: DataOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent to a GPU are bytes, a quarter of the numbers they become."""
    made = []

    def spy(*args: Any, **kwargs: Any) -> Any:
        made.append(eval_loader(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(verbs, "eval_loader", spy)
    irbin.evaluate(journey / "run", data=data, device="cpu:0")  # unlike "cpu", a device to name
    irbin.evaluate(journey / "packed", data=data, device="cpu:0")
    assert [str(loader.device) for loader in made] == ["cpu:0", "cpu"]


def test_evaluating_with_another_class_count_is_an_error(data: DataOptions) -> None:
    with pytest.raises(irbin.IrbinError, match=r"expected 10 classes, .* got 3 .*`num_classes=3`"):
        irbin.evaluate(SPEC, data=data)


@pytest.fixture
def renamed(pictures28: Path, tmp_path: Path) -> DataOptions:
    """The same pictures under other classes' names."""
    shutil.copytree(pictures28, tmp_path / "renamed")
    for split in ("train", "val"):
        for old, new in (("bars", "apple"), ("dots", "pear"), ("plain", "plum")):
            (tmp_path / "renamed" / split / old).rename(tmp_path / "renamed" / split / new)
    return DataOptions(data_dir=str(tmp_path / "renamed"), batch_size=9, workers=0)


@pytest.mark.slow
def test_other_classes_than_were_learned_are_no_data_to_judge_by(
    journey: Path, renamed: DataOptions, tmp_path: Path
) -> None:
    message = r"was trained on \(`bars`, `dots`, `plain`\), got `apple`, `pear`, `plum` in"
    for name in ("float", "run", "packed"):
        with pytest.raises(irbin.IrbinError, match=message):
            irbin.evaluate(journey / name, data=renamed)
    with pytest.raises(irbin.IrbinError, match=message):
        irbin.compare(journey / "run", journey / "packed", data=renamed)
    with pytest.raises(irbin.IrbinError, match=message):
        irbin.convert(journey / "float", tmp_path / "c", data=renamed, calibrate=9)
    with pytest.raises(irbin.IrbinError, match=message):
        irbin.analyze(journey / "float", data=renamed)
    with pytest.raises(irbin.IrbinError, match=message):
        irbin.finetune(journey / "converted", tmp_path / "r", data=renamed)
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_without_a_teacher_new_classes_are_learned(
    journey: Path, renamed: DataOptions, tmp_path: Path
) -> None:
    few = {"epochs": 1, "distill": False}
    irbin.finetune(journey / "converted", tmp_path / "r", data=renamed, overrides=few)
    assert irbin.open_network(tmp_path / "r").source.class_names == ("apple", "pear", "plum")


@pytest.fixture
def own(journey: Path, tmp_path: Path) -> Path:
    """A copy of the journey that may be harmed."""
    shutil.copytree(journey, tmp_path / "own")
    irbin.convert(
        tmp_path / "own" / "float" / "best", tmp_path / "own" / "converted", overwrite=True
    )
    return tmp_path / "own"


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_takes_the_place_of_what_it_is_made_from(
    own: Path, data: DataOptions, overwrite: bool
) -> None:
    before = listing(own)
    best = own / "float" / "best"
    (own / "link").symlink_to(best)
    for out in (
        best,
        best / "inside",
        own / "float",
        own,
        own / "link",
        own / "x" / ".." / "float",
    ):
        with pytest.raises(UsageError, match="must stay as it is; choose another place"):
            irbin.convert(best, out, overwrite=overwrite)
    (own / "link").unlink()
    for out in (own / "converted", own / "converted" / "run", own, own / "float" / "best"):
        with pytest.raises(UsageError, match="must stay as it is; choose another place"):
            irbin.finetune(own / "converted", out, data=data)
    for out in (own / "run", own / "run" / "best", own / "run" / "packed", own):
        with pytest.raises(UsageError, match="must stay as it is; choose another place"):
            irbin.export(own / "run", out, overwrite=overwrite)
    assert listing(own) == before


@pytest.mark.slow
def test_a_checkpoint_file_in_the_output_folder_stays(own: Path) -> None:
    torch.save(irbin.open_network(own / "float").module.state_dict(), own / "converted" / "w.pth")
    how = SourceOptions(model=SPEC, num_classes=3)
    with pytest.raises(UsageError, match=r"holds the source `.*w\.pth`, which must stay"):
        irbin.convert(
            own / "converted" / "w.pth", own / "converted", source_options=how, overwrite=True
        )
    assert (own / "converted" / "w.pth").exists()


@pytest.mark.slow
def test_a_converted_network_does_not_replace_a_float_one(own: Path) -> None:
    shutil.copytree(own / "float" / "best", own / "other")
    before = listing(own / "other")
    with pytest.raises(
        UsageError, match="holds a float network, which `overwrite=True` does not rep"
    ):
        irbin.convert(own / "float", own / "other", overwrite=True)
    assert listing(own / "other") == before
    irbin.convert(own / "float", own / "converted", overwrite=True)


@pytest.mark.slow
def test_a_converted_network_is_no_teacher(own: Path, data: DataOptions) -> None:
    with pytest.raises(UsageError, match=r"`teacher`: expected a float network, got .*converted"):
        irbin.finetune(own / "converted", own / "new", data=data, teacher=own / "run")
    shutil.rmtree(own / "float" / "best")
    shutil.copytree(own / "run" / "best", own / "float" / "best")
    with pytest.raises(SourceError, match=r"distill from is gone .*holds a converted network now"):
        irbin.finetune(own / "converted", own / "new", data=data)
    assert not (own / "new").exists()


@pytest.mark.slow
def test_a_run_goes_on_with_images_fed_as_it_began(
    journey: Path, data: DataOptions, tmp_path: Path
) -> None:
    few = {"epochs": 1}
    irbin.finetune(journey / "converted", tmp_path / "r", data=data, overrides=few)
    again = {"data": data, "overrides": few, "resume": True}
    irbin.finetune(journey / "converted", tmp_path / "r", **again)
    other = SourceOptions(mean=(0.25,))
    with pytest.raises(irbin.IrbinError, match=r"differ: was `mean` \(0\.286,\), now \(0\.25,\)"):
        irbin.finetune(journey / "converted", tmp_path / "r", source_options=other, **again)


TIED = """
from torch import nn

def net():
    layers = [nn.Conv2d(6, 6, 3, padding=1, bias=False) for _ in range(3)]
    layers[2].weight = layers[0].weight
    found = nn.Sequential(nn.Conv2d(3, 6, 3, 4))
    for layer in layers:
        found.extend([layer, nn.BatchNorm2d(6)])
    return found.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)])
"""


@pytest.mark.slow
def test_a_weight_of_two_layers_is_one_from_conversion_to_the_packed_network(
    tmp_path: Path, data: DataOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tied_layers.py").write_text(TIED)
    monkeypatch.syspath_prepend(tmp_path)
    how = SourceOptions(input_size=(3, 28, 28), mean=(0.5,) * 3, std=(0.25,) * 3)
    knobs = {"epochs": 2, "lr": 0.1, "grad_accum_steps": 2, "model_ema": True}
    made = irbin.convert("module:tied_layers:net", tmp_path / "converted", source_options=how)
    assert made.plan is not None
    assert made.plan.binary_names == ("1", "3", "5")
    irbin.finetune(tmp_path / "converted", tmp_path / "run", data=data, overrides=knobs)
    module = irbin.open_network(tmp_path / "run").module
    assert module[1].weight is module[5].weight is not module[3].weight
    assert not torch.equal(module[1].weight, made.module[1].weight)
    assert sum(p is module[1].weight for p in module.parameters()) == 1
    irbin.export(tmp_path / "run", tmp_path / "packed")
    agreement = irbin.compare(tmp_path / "run", tmp_path / "packed", data=data)
    assert agreement.equal_top1 == 100
    assert all(layer.n_flipped == 0 for layer in agreement.layers)


def test_a_file_above_the_output_is_named_before_the_work(
    journey: Path, data: DataOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room, work in ((verbs, "make_binary"), (verbs, "finetune_network"), (exporting, "lower")):
        monkeypatch.setattr(room, work, lambda *_, name=work: pytest.fail(name))
    (tmp_path / "my.py").write_text("mine")
    out = tmp_path / "my.py" / "out"
    message = r"`.*out` cannot be made: `.*my\.py` is no folder"
    with pytest.raises(UsageError, match=message):
        irbin.convert(journey / "float", out)
    with pytest.raises(UsageError, match=message):
        irbin.finetune(journey / "converted", out, data=data)
    with pytest.raises(UsageError, match=message):
        irbin.export(journey / "run", out)
    assert [path.name for path in tmp_path.iterdir()] == ["my.py"]
