import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from torch import nn

from irbin.artifact.read import read_artifact
from irbin.artifact.write import write_artifact
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, Method
from irbin.errors import ArtifactError
from irbin.kernels import reference
from irbin.program.lower import lower
from irbin.program.lowered import Lowered


def test_folder_holds_three_files_and_nothing_is_left_beside_it(exported, tmp_path):
    record = write_artifact(*exported.arguments, tmp_path / "deep" / "p")
    files = {f.name: f.stat().st_size for f in (tmp_path / "deep" / "p").iterdir()}
    assert set(files) == {"config.json", "program.json", "packed.safetensors"}
    assert [f.name for f in (tmp_path / "deep").iterdir()] == ["p"]
    assert record.total_bytes == sum(files.values())
    assert record.tensor_bytes == record.predicted_bytes == exported.plan.packed_bytes()
    assert (record.n_binary, record.n_nodes) == (2, len(exported.lowered.program.nodes))


def test_a_card_lies_beside_them_and_is_not_counted(exported, tmp_path):
    told = []

    def card(manifest, n_bytes):
        told.append((manifest.source.class_names, n_bytes))
        return "# muñeca\n"

    record = write_artifact(*exported.arguments, tmp_path / "p", card=card)
    assert (tmp_path / "p" / "README.md").read_text("utf-8") == "# muñeca\n"
    assert told == [(exported.arguments[1].class_names, record.total_bytes)]
    sizes = [f.stat().st_size for f in (tmp_path / "p").iterdir() if f.name != "README.md"]
    assert record.total_bytes == sum(sizes)


def test_no_way_through_folders_is_written(exported, tmp_path):
    """A packed folder is given away, by `push` or by hand."""
    source = dataclasses.replace(
        exported.source, spec="/home/me/float/best", weights="local-dir:/home/me/net"
    )
    write_artifact(exported.lowered, source, exported.plan, tmp_path / "p")
    written = read_artifact(tmp_path / "p").manifest.source
    assert (written.spec, written.weights) == ("best", "local-dir:net")
    assert all(b"/home" not in file.read_bytes() for file in (tmp_path / "p").iterdir())


@pytest.mark.parametrize("float_dtype", ["float32", "float16", "bfloat16"])
def test_bytes_are_those_predicted(exported, tmp_path, float_dtype):
    record = write_artifact(*exported.arguments, tmp_path / "p", float_dtype)
    assert record.tensor_bytes == exported.plan.packed_bytes(float_dtype)
    with safe_open(tmp_path / "p" / "packed.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"
        assert file.get_tensor("0.weight").dtype == getattr(torch, float_dtype)
        assert file.get_tensor("3.bits").dtype == torch.uint8


def test_the_same_network_gives_the_same_bytes(exported, tmp_path):
    """safetensors puts metadata in an order that changes from call to call."""
    written = set()
    for n in range(8):
        write_artifact(*exported.arguments, tmp_path / str(n))
        written.add((tmp_path / str(n) / "packed.safetensors").read_bytes())
    assert len(written) == 1


def test_json_is_utf8_and_strict(exported, tmp_path):
    write_artifact(*exported.arguments, tmp_path / "p")
    text = (tmp_path / "p" / "config.json").read_bytes().decode("utf-8")
    assert json.loads(text)["source"]["class_names"][2] == "muñeca"
    assert "NaN" not in text


@pytest.mark.slow
def test_golden_bytes_of_the_worked_example_in_the_format_page():
    layer = nn.Conv2d(10, 1, 1, bias=False)
    signs = torch.tensor([1.0, -1, 1, 1, -1, 1, 1, 1, -1, -1])
    with torch.no_grad():
        layer.weight.copy_(signs.view(1, 10, 1, 1))
    net = nn.Sequential(BinaryConv2d.from_float(layer, Method("plain"), EdePhase()))
    bits = lower(net, (10, 1, 1)).tensors["0.bits"]
    assert bits.shape == (1, 1, 1, 2)
    assert bits.numpy().tobytes().hex() == "1203"


def test_golden_numbers_of_the_worked_convolution_in_the_format_page():
    x = torch.tensor([-0.5, 2.0]).view(1, 1, 1, 2).numpy()
    bits = reference.bitpack(x, 1)
    assert bits.tobytes().hex() == "0100"
    weight_bits = torch.tensor([1, 1], dtype=torch.uint8).view(1, 1, 2, 1).numpy()
    scale, bias = torch.tensor([-1], dtype=torch.int8).numpy(), torch.tensor([0.25]).numpy()
    y = reference.bconv2d(bits, weight_bits, scale, bias, 1, border=(1, 0, 0, 0))
    assert y.tolist() == [[[[0.75, 0.25]]]]


def test_what_would_be_refused_when_it_is_read_is_not_written(exported, tmp_path):
    fed = dataclasses.replace(exported.source.preprocessing, mean=(0.5, 0.5))
    source = dataclasses.replace(exported.source, preprocessing=fed)
    with pytest.raises(ArtifactError, match="`mean`: expected a number for each of") as caught:
        write_artifact(exported.lowered, source, exported.plan, tmp_path / "p")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_existing_folder_is_kept_unless_told(exported, tmp_path):
    path = tmp_path / "p"
    path.mkdir()
    (path / "mine.txt").write_text("x")
    with pytest.raises(ArtifactError, match="exists; choose another folder"):
        write_artifact(*exported.arguments, path)
    assert [f.name for f in path.iterdir()] == ["mine.txt"]
    write_artifact(*exported.arguments, path, overwrite=True)
    assert not (path / "mine.txt").exists()
    assert [f.name for f in tmp_path.iterdir()] == ["p"]


def test_leftovers_of_a_broken_write_do_not_disturb(exported, tmp_path):
    (tmp_path / "p.partial").mkdir()
    (tmp_path / "p.partial" / "junk").write_text("x")
    write_artifact(*exported.arguments, tmp_path / "p")
    assert not (tmp_path / "p" / "junk").exists()


def test_a_failing_write_leaves_nothing(exported, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("irbin.artifact.write.save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_artifact(*exported.arguments, tmp_path / "p")
    assert not list(tmp_path.iterdir())


def test_a_layer_that_is_larger_than_predicted_is_named_and_written(exported, tmp_path, caplog):
    decisions = list(exported.plan.decisions)
    decisions[2] = dataclasses.replace(decisions[2], packed_bytes=7)
    plan = dataclasses.replace(exported.plan, decisions=tuple(decisions))
    write_artifact(exported.lowered, exported.source, plan, tmp_path / "p")
    assert (
        "layer `6`: the plan predicted 7 bytes of float32 and bits, its tensors have 8"
        in (caplog.messages[0])
    )


def test_constants_beside_the_layers_may_be_more_than_predicted(exported, tmp_path):
    plan = dataclasses.replace(exported.plan, other_bytes=0)
    record = write_artifact(exported.lowered, exported.source, plan, tmp_path / "p")
    assert record.tensor_bytes - record.predicted_bytes == exported.plan.other_bytes > 0


def test_half_precision_overflow_is_named(exported, tmp_path):
    tensors = {n: t.clone() for n, t in exported.lowered.tensors.items()}
    tensors["1.multiply"][3] = 70000
    lowered = Lowered(exported.lowered.program, tensors)
    with pytest.raises(ArtifactError, match=r"`1\.multiply`: 7e\+04 is too large for float16"):
        write_artifact(lowered, exported.source, exported.plan, tmp_path / "p", "float16")
    write_artifact(lowered, exported.source, exported.plan, tmp_path / "p", "bfloat16")
