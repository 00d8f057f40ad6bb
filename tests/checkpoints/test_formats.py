import builtins
import io
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from irbin.checkpoints import formats
from irbin.checkpoints.checkpoint import read_checkpoint
from irbin.checkpoints.formats import INDEX_FILES, index_in, read_content
from irbin.errors import SourceError

TENSORS = {"b.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, -2.0])}


def shards(folder: Path, suffix: str = "safetensors") -> Path:
    """`TENSORS` as two shards and their index, as the hub's programs write them."""
    is_safe = suffix == "safetensors"
    place = {}
    for n, (name, tensor) in enumerate(TENSORS.items(), 1):
        file = f"model-0000{n}-of-00002.{suffix}"
        (save_file if is_safe else torch.save)({name: tensor}, folder / file)
        place[name] = file
    index = folder / INDEX_FILES[0 if is_safe else 1]
    index.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": place}))
    return index


def rewrite(index: Path, **places: object) -> None:
    content = json.loads(index.read_text())
    content["weight_map"] |= {name.replace("_", "."): place for name, place in places.items()}
    index.write_text(json.dumps(content))


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_come_together(tmp_path: Path, suffix: str) -> None:
    index = shards(tmp_path, suffix)
    assert index_in(tmp_path) == index
    found = read_content(index).entries
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    assert index_in(tmp_path) is None


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = shards(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    message = f"`{index}`: its shard `model-00002-of-00002.safetensors` is missing; download it"
    with pytest.raises(SourceError, match=f"^{re.escape(message)} again$"):
        read_content(index)


def test_a_tensor_that_its_shard_lacks_is_named(tmp_path: Path) -> None:
    index = shards(tmp_path)
    rewrite(index, c_weight="model-00001-of-00002.safetensors")
    message = (
        f"`{index}`: expected the tensor `c.weight` in its shard "
        "`model-00001-of-00002.safetensors`, found none"
    )
    with pytest.raises(SourceError, match=f"^{re.escape(message)}$"):
        read_content(index)


@pytest.mark.parametrize(
    "place",
    [
        "../secret.bin",
        "/etc/passwd",
        "sub/model.bin",
        "..",
        ".",
        "",
        "..\\secret.bin",
        7,
        None,
        "model.safetensors.index.json",
    ],
)
def test_shards_lie_beside_the_index_and_nowhere_else(tmp_path: Path, place: object) -> None:
    folder = tmp_path / "network"
    (folder / "sub").mkdir(parents=True)
    for outside in (tmp_path / "secret.bin", folder / "sub" / "model.bin"):
        torch.save({"a.bias": torch.ones(2)}, outside)
    index = shards(folder)
    rewrite(index, a_bias=place)
    message = f"`{index}`: expected shards beside it, got `{place}`; only file names are read"
    with pytest.raises(SourceError, match=f"^{re.escape(message)}$"):
        read_content(index)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ('{"weight_map": {', "expected JSON, the file is cut short or damaged"),
        ("[]", "expected an index of shards with `weight_map`, found none"),
        ('{"weight_map": {}}', "expected an index of shards with `weight_map`, found none"),
        ('{"weight_map": ["a"]}', "expected an index of shards with `weight_map`, found none"),
    ],
)
def test_an_index_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    index = tmp_path / INDEX_FILES[0]
    index.write_text(text)
    with pytest.raises(SourceError, match=message):
        read_content(index)


def test_a_missing_index(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file; expected a checkpoint"):
        read_content(tmp_path / INDEX_FILES[0])


def test_a_shard_never_runs_code(tmp_path: Path) -> None:
    index = shards(tmp_path, "bin")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model-00001-of-00002.bin")
    with pytest.raises(SourceError, match="would run code to unpickle"):
        read_content(index)


def test_only_a_file_of_torch_keeps_its_order(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "a.pth")
    save_file(TENSORS, tmp_path / "a.bin")  # the content decides
    assert list(read_content(tmp_path / "a.pth").entries) == ["b.weight", "a.bias"]
    assert list(read_content(tmp_path / "a.bin").entries) == ["a.bias", "b.weight"]
    assert read_content(tmp_path / "a.pth").is_ordered
    assert not read_content(tmp_path / "a.bin").is_ordered
    assert not read_content(shards(tmp_path, "bin")).is_ordered


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 46830571\n"


@pytest.mark.parametrize("name", ["w.pth", "model.safetensors", "pytorch_model.bin"])
def test_gits_pointer_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(POINTER)
    message = r"got git's pointer to a file of 46,830,571 bytes that was not fetched; run `git lfs"
    with pytest.raises(SourceError, match=message):
        read_content(tmp_path / name)


@pytest.mark.parametrize("name", ["w.npz", "w.pth"])
def test_numpys_arrays_are_told(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        np.savez(file, a=np.zeros(2), b=np.zeros(3))
    with pytest.raises(SourceError, match=r"got 2 arrays of NumPy \(\.npz\); save"):
        read_content(tmp_path / name)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_file_of_torchs_is_opened_once(
    is_zip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=is_zip)
    opened: list[str] = []
    real = io.open

    def counting(file: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(str(file))
        return real(file, *args, **kwargs)

    monkeypatch.setattr(io, "open", counting)
    monkeypatch.setattr(builtins, "open", counting)
    assert read_checkpoint(path).is_ordered
    assert opened.count(str(path)) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, ONES)])
def test_a_script_of_torch_is_told_as_one(tmp_path: Path, make: Any) -> None:
    """Its code is compressed, which was taken for another program's packing."""
    make(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())).save(tmp_path / "net.pt")
    with pytest.raises(SourceError, match=r"net\.pt`: expected a state dict, got a TorchScript"):
        read_content(tmp_path / "net.pt")


ONES = torch.ones(1, 2)


def test_ctrl_c_while_a_file_is_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")

    def load_file(*_: object, **__: object) -> dict[str, torch.Tensor]:
        try:  # as safetensors does
            os.kill(os.getpid(), signal.SIGINT)
        except BaseException as error:
            raise SafetensorError("could not determine the shape") from error
        return {}

    monkeypatch.setattr(formats, "load_file", load_file)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            read_content(tmp_path / "model.safetensors")
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_path_that_is_no_text_is_not_called_damaged(tmp_path: Path) -> None:
    place = tmp_path / "\udcff"
    place.mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").rename(place / "w.safetensors")
    with pytest.raises(
        SourceError, match=r"/\\udcff/w.*: expected a path in UTF-8, safetensors re"
    ):
        read_content(place / "w.safetensors")
