"""A folder read back, and every way of damaging one."""

import ast
import inspect
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from irbin.artifact import read
from irbin.artifact.read import read_artifact
from irbin.artifact.write import write_artifact
from irbin.errors import ArtifactError
from irbin.runtime.arrays import as_tensor


@pytest.fixture
def folder(exported, tmp_path):
    write_artifact(*exported.arguments, tmp_path / "p")
    return tmp_path / "p"


def edit_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_tensors(folder, change):
    tensors = load_file(folder / "packed.safetensors")
    tensors = {name: t.clone() for name, t in tensors.items()}
    change(tensors)
    save_file(tensors, folder / "packed.safetensors", metadata={"format": "pt"})


@pytest.mark.slow
def test_what_was_written_is_read(exported, folder):
    artifact = read_artifact(folder)
    assert artifact.program == exported.lowered.program
    assert artifact.manifest.source == exported.source
    assert artifact.manifest.plan == exported.plan
    assert artifact.tensors.keys() == exported.lowered.tensors.keys()
    wanted = exported.lowered.tensors
    assert all(torch.equal(as_tensor(t), wanted[n]) for n, t in artifact.tensors.items())


@pytest.mark.parametrize("float_dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened(exported, tmp_path, float_dtype):
    write_artifact(*exported.arguments, tmp_path / "p", float_dtype)
    tensors = read_artifact(tmp_path / "p").tensors
    for name, wanted in exported.lowered.tensors.items():
        found = as_tensor(tensors[name])
        assert found.dtype == wanted.dtype
        half = wanted.to(getattr(torch, float_dtype)) if wanted.is_floating_point() else wanted
        assert torch.equal(found, half.to(wanted.dtype))


@pytest.mark.parametrize("name", ["config.json", "program.json", "packed.safetensors"])
class TestDamagedFiles:
    def test_missing(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(ArtifactError, match=f"has no `{name}`"):
            read_artifact(folder)

    @pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99], ids=str)
    def test_cut_short(self, folder, name, share):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ArtifactError, match=f"{name}: cut short or damaged"):
            read_artifact(folder)

    def test_noise(self, folder, name):
        (folder / name).write_bytes(bytes(range(256)) * 8)
        with pytest.raises(ArtifactError, match=f"{name}: cut short or damaged"):
            read_artifact(folder)


def test_no_folder(tmp_path):
    with pytest.raises(ArtifactError, match="found no folder there"):
        read_artifact(tmp_path / "nothing")


def test_another_version(folder):
    edit_json(folder / "config.json", lambda v: v.update(format_version=7))
    with pytest.raises(ArtifactError, match="expected format version 1, got 7; read it with"):
        read_artifact(folder)


def test_an_operator_that_is_not_allowed(folder):
    edit_json(folder / "program.json", lambda v: v["nodes"][1].update(op="aten.relu_.default"))
    with pytest.raises(ArtifactError, match=r"program\.json: node `conv2d`: operator `aten\.relu_"):
        read_artifact(folder)


def test_a_missing_tensor(folder):
    edit_tensors(folder, lambda tensors: tensors.pop("6.scale_log2"))
    with pytest.raises(ArtifactError, match=r"tensor `6\.scale_log2` is missing"):
        read_artifact(folder)


def test_a_tensor_too_many(folder):
    edit_tensors(folder, lambda tensors: tensors.update(extra=torch.zeros(1)))
    with pytest.raises(ArtifactError, match="tensor `extra` is not a constant of the program"):
        read_artifact(folder)


@pytest.mark.parametrize(
    "value", [torch.zeros(3, 4, 1), torch.zeros(4, 3), torch.zeros(3, 4, dtype=torch.float16)]
)
def test_a_wrong_shape_or_type(folder, value):
    edit_tensors(folder, lambda tensors: tensors.update({"7.weight": value}))
    with pytest.raises(ArtifactError, match=r"tensor `7\.weight`: expected float32\[3,4\], got "):
        read_artifact(folder)


def test_a_wrong_shape_in_both_files(folder):
    """The program's own arguments say how many bytes a row has."""
    edit_json(folder / "program.json", lambda v: v["constants"].update({"6.bits": "uint8[4,2]"}))
    edit_tensors(folder, lambda t: t.update({"6.bits": torch.zeros(4, 2, dtype=torch.uint8)}))
    with pytest.raises(ArtifactError, match=r"`weight_bits` of `bgemm`: expected a constant"):
        read_artifact(folder)


@pytest.mark.parametrize("bit", [5, 6, 7])
def test_a_set_tail_bit(folder, bit):
    def set_bit(tensors):
        tensors["3.bits"][2, 1, 0, 1] |= 1 << bit  # 13 channels leave bits 5 to 7 of byte 1

    edit_tensors(folder, set_bit)
    with pytest.raises(ArtifactError, match=r"tensor `3\.bits`: a tail bit is set beyond .* 12"):
        read_artifact(folder)


def test_a_bit_in_use_is_no_tail(folder):
    edit_tensors(folder, lambda tensors: tensors["3.bits"][2, 1, 0, 1].bitwise_or_(1 << 4))
    assert read_artifact(folder).tensors["3.bits"][2, 1, 0, 1] & 1 << 4


def test_an_exponent_below_float32(folder):
    edit_tensors(folder, lambda tensors: tensors["3.scale_log2"].fill_(-127))
    with pytest.raises(ArtifactError, match="expected exponents from −126 to 127"):
        read_artifact(folder)


@pytest.mark.slow
def test_reading_and_running_import_no_training_code():
    code = (
        "import sys, irbin.runtime.model; "
        "banned = ('timm', 'torchvision', 'irbin.binary', 'irbin.tracing', "
        "'irbin.rewriting', 'irbin.sources', 'irbin.training', "
        "'irbin.program.lower'); print([m for m in sys.modules if m.startswith(banned)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_is_unpickled():
    names = {n.id for n in ast.walk(ast.parse(inspect.getsource(read))) if isinstance(n, ast.Name)}
    assert not names & {"pickle", "eval", "exec"}


@pytest.mark.parametrize("name", ["config.json", "program.json", "packed.safetensors"])
def test_gits_pointer_is_told(folder, name):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 46830571\n"
    (folder / name).write_text(pointer)
    message = rf"{name}: expected a packed folder's file, got git's pointer to a file of 46,830,571"
    with pytest.raises(ArtifactError, match=message):
        read_artifact(folder)


@pytest.mark.parametrize(
    ("named", "value", "said"),
    [
        ("num_classes", 4, "expected 3, as the program answers, got 4"),
        ("num_classes", -3, "expected 3, as the program answers, got -3"),
        ("num_classes", 10**18, "expected 3, as the program answers"),
        ("class_names", ["a", "b"], "expected 3 names, got 2"),
        ("class_names", [], "expected 3 names, got 0"),
    ],
)
def test_classes_are_those_that_the_program_answers(folder, named, value, said):
    edit_json(folder / "config.json", lambda config: config["source"].update({named: value}))
    with pytest.raises(ArtifactError, match=f"config.json: at `source`: `{named}`: {said}"):
        read_artifact(folder)


@pytest.mark.parametrize(
    ("named", "change", "said"),
    [
        ("input_size", lambda size: [size[0], size[1] + 1, size[2]], "expected .* takes, got "),
        ("input_size", lambda size: [1, *size[1:]], "expected .*, got "),
        ("mean", lambda _: [0.5, 0.5], "expected a number for each of 3 channels, got 2"),
        ("std", lambda _: [0.5] * 4, "expected a number for each of 3 channels, got 4"),
        ("interpolation", lambda _: "sinc", "expected one of "),
        ("crop_pct", lambda _: 0, "expected a share above 0, got 0"),
    ],
)
def test_images_are_fed_as_the_program_takes_them(exported, folder, named, change, said):
    size = list(exported.source.preprocessing.input_size)

    def edit(config):
        feeding = config["source"].setdefault("preprocessing", {})
        feeding.update({"mean": [0.5], "std": [0.5], "input_size": size})
        feeding[named] = change(size)

    edit_json(folder / "config.json", edit)
    with pytest.raises(ArtifactError, match=rf"config\.json: at `source[.`].*`: {said}"):
        read_artifact(folder)


@pytest.mark.parametrize("name", ["config.json", "program.json"])
def test_a_key_that_stands_twice_is_told(folder, name):
    text = (folder / name).read_text()
    key = next(iter(json.loads(text)))
    (folder / name).write_text('{"' + key + '": 1, ' + text.lstrip()[1:])
    message = rf"^.*{name}: cut short or damaged: expected each key once, got '{key}' twice$"
    with pytest.raises(ArtifactError, match=message):
        read_artifact(folder)


def doubled(file):
    """The bytes of a safetensors file whose first tensor has two entries of one name."""
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    name = next(n for n in header if n != "__metadata__")
    text = data[8:end].rstrip()[:-1] + b"," + json.dumps({name: header[name]}).encode()[1:]
    return len(text).to_bytes(8, "little") + text + data[end:], name


def test_a_tensor_that_stands_twice_in_the_header_is_told(folder):
    file = folder / "packed.safetensors"
    data, name = doubled(file)
    file.write_bytes(data)
    assert name in load_file(file)  # safetensors takes one of them
    message = rf"^.*safetensors: cut short or damaged: expected each key once, got '{name}' twice$"
    with pytest.raises(ArtifactError, match=message):
        read_artifact(folder)


NO_FILES = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a folder": lambda path: path.symlink_to("."),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="of Windows")
@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("name", ["config.json", "program.json", "packed.safetensors"])
def test_what_is_no_file_is_told_and_not_waited_for(folder, name, make):
    (folder / name).unlink()
    make(folder / name)
    message = rf"^`.*`: expected a packed folder, but what is called `{name}` in it is no file$"
    with pytest.raises(ArtifactError, match=message):
        read_artifact(folder)


@pytest.mark.parametrize("name", ["config.json", "program.json", "packed.safetensors"])
def test_another_file_of_the_folder_in_its_place_is_told(folder, name):
    other = "config.json" if name == "program.json" else "program.json"
    (folder / name).unlink()
    (folder / name).symlink_to(other)
    with pytest.raises(ArtifactError, match=rf"{name}: ") as raised:
        read_artifact(folder)
    assert "\n" not in str(raised.value)


def test_a_link_to_a_file_elsewhere_is_read_as_that(folder, tmp_path):
    for name in ("config.json", "program.json", "packed.safetensors"):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
    assert read_artifact(folder).program == read_artifact(tmp_path).program
