"""An ONNX file as a network: evaluated and asked like any other, refused where it is another's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import irbin
from irbin.artifact.read import read_artifact
from irbin.errors import ArtifactError, SourceError, UsageError
from irbin.onnx import package as packages
from irbin.onnx.metadata import metadata_of, n_params_in, source_in
from irbin.onnx.session import open_onnx
from irbin.sources.opened import param_count, size_bytes
from irbin.zoo.entries import located

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ENTRY = "zoo:resnet20-cifar10-1w1a"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    out = tmp_path_factory.mktemp("onnx") / "r20.onnx"
    irbin.export_onnx(ENTRY, out)
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Ten classes of the network's, two images each."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name in read_artifact(located(ENTRY)).manifest.source.class_names:
        (folder / "val" / name).mkdir(parents=True)
        for index in range(2):
            pixels = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "val" / name / f"{index}.png")
    return folder


def changed(file, to, **told: str | None):
    """The file with other metadata; None takes one away."""
    model = onnx.load(file)
    kept = {one.key: one.value for one in model.metadata_props} | told
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {k: v for k, v in kept.items() if v is not None})
    onnx.save(model, to)
    return to


def test_it_is_evaluated_as_the_packed_network_is(file, pictures) -> None:
    data = irbin.DataOptions(data_dir=str(pictures), batch_size=8, workers=0)
    theirs = irbin.evaluate(str(file), data=data)
    ours = irbin.evaluate(ENTRY, data=data, input_type="float32")
    assert theirs.kind == "onnx"
    assert theirs.n_images == ours.n_images == 20
    assert theirs.top1 == ours.top1
    assert theirs.loss == pytest.approx(ours.loss, abs=1e-5)
    assert theirs.size_bytes == file.stat().st_size
    assert theirs.param_count == ours.param_count
    assert theirs.preprocessing == ours.preprocessing
    assert list(theirs.per_class) == list(ours.per_class)


def test_it_predicts(file, pictures) -> None:
    pairs = zip(
        irbin.predict(str(file), str(pictures / "val")),
        irbin.predict(ENTRY, str(pictures / "val"), input_type="float32"),
        strict=True,
    )
    for theirs, ours in pairs:
        assert theirs.best[0].name == ours.best[0].name
        assert theirs.best[0].probability == pytest.approx(ours.best[0].probability, abs=1e-5)


def test_the_record_is_the_packed_folders() -> None:
    artifact = read_artifact(located(ENTRY))
    told = metadata_of(artifact)
    assert source_in(told, "x") == artifact.manifest.source
    assert n_params_in(told, "x") == param_count(irbin.load(ENTRY))


def test_a_file_knows_its_size_and_takes_no_other_images(file) -> None:
    network = open_onnx(file)
    assert size_bytes(file, network) == file.stat().st_size
    assert network(torch.zeros(0, 3, 32, 32)).shape == (0, 10)
    with pytest.raises(UsageError, match=r"expected images \(N, 3, 32, 32\), got \(1, 3, 16, 16\)"):
        network(torch.zeros(1, 3, 16, 16))


def test_another_programs_file_is_refused(file, tmp_path) -> None:
    foreign = changed(file, tmp_path / "foreign.onnx", format=None)
    with pytest.raises(ArtifactError, match="expected an ONNX file that irbin wrote"):
        open_onnx(foreign)


@pytest.mark.parametrize(
    "told",
    [
        {"source": None},
        {"source": "[]"},
        {"source": "{"},
        {"preprocessing": '{"input_size": 3}'},
        {"preprocessing": json.dumps({"input_size": [3, 32, 32], "std": [0, 1, 1]})},
        {"preprocessing": json.dumps({"input_size": [3, 48, 48]})},
        {"class_names": "7"},
        {"param_count": "many"},
        {"param_count": "9" * 5000},
    ],
)
def test_metadata_that_are_none(file, tmp_path, told) -> None:
    with pytest.raises(ArtifactError, match=r"net\.onnx`") as caught:
        open_onnx(changed(file, tmp_path / "net.onnx", **told))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 1, 100, 60_000])
def test_a_file_that_was_cut_short(file, tmp_path, keep: int) -> None:
    short = tmp_path / "short.onnx"
    short.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match=r"short\.onnx`: expected an ONNX file that"):
        open_onnx(short)


def test_gits_pointer_is_told(tmp_path) -> None:
    note = tmp_path / "net.onnx"
    note.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 71714\n")
    with pytest.raises(ArtifactError, match="git lfs pull"):
        open_onnx(note)


def test_it_cannot_be_converted(file, tmp_path) -> None:
    with pytest.raises(SourceError, match="is an ONNX file, which cannot be trained or converted"):
        irbin.convert(str(file), tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_a_missing_package_is_one_line(file, monkeypatch) -> None:
    def gone(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(packages.importlib, "import_module", gone)
    with pytest.raises(UsageError, match=r"expected the package `onnxruntime` .*'irbin\[onnx\]'"):
        open_onnx(file)
