import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from irbin.checkpoints.checkpoint import load_into, read_checkpoint
from irbin.errors import SourceError


class Evil:
    """Would make a file if it were unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def network(n_out: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, n_out))


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".tar", ".bin"])
def test_plain_state_dict_round_trips(tmp_path: Path, suffix: str, legacy: bool) -> None:
    state = network().state_dict()
    path = tmp_path / f"a{suffix}"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    assert_same(read_checkpoint(path).tensors, state)


@pytest.mark.parametrize("name", ["a.safetensors", "misnamed.bin"])
def test_safetensors_are_known_by_content(tmp_path: Path, name: str) -> None:
    state = network().state_dict()
    save_file(state, tmp_path / name)
    assert_same(read_checkpoint(tmp_path / name).tensors, state)


@pytest.mark.parametrize("key", ["state_dict", "model"])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_wrappings_are_undone(tmp_path: Path, key: str, prefix: str) -> None:
    state = network().state_dict()
    path = tmp_path / "a.pth"
    torch.save({key: {prefix + k: v for k, v in state.items()}, "epoch": 3}, path)
    assert_same(read_checkpoint(path).tensors, state)


@pytest.mark.parametrize(
    ("plain", "averaged"), [("state_dict", "state_dict_ema"), ("model", "model_ema")]
)
def test_averaged_weights_are_taken_on_request(tmp_path: Path, plain: str, averaged: str) -> None:
    one, two = network().state_dict(), network().state_dict()
    wrapped = {f"module.{k}": v for k, v in two.items()} | {"n_averaged": torch.tensor(5)}
    torch.save({plain: one, averaged: wrapped}, tmp_path / "a.pth")
    assert_same(read_checkpoint(tmp_path / "a.pth").tensors, one)
    assert_same(read_checkpoint(tmp_path / "a.pth", use_ema=True).tensors, two)


def test_missing_averaged_weights_are_an_error(tmp_path: Path) -> None:
    torch.save({"state_dict": network().state_dict()}, tmp_path / "a.pth")
    with pytest.raises(
        SourceError, match=r"`state_dict_ema`, `model_ema`.*leave out `use_ema=True`"
    ):
        read_checkpoint(tmp_path / "a.pth", use_ema=True)


def test_timm_training_checkpoint_names_its_architecture(tmp_path: Path) -> None:
    arguments = argparse.Namespace(
        num_classes=3,
        model_kwargs={"drop_rate": 0.1},
        img_size=64,
        in_chans=None,
        mean=[0.5],
        lr=0.1,
    )
    content = {
        "epoch": 3,
        "arch": "resnet10t",
        "version": 2,
        "args": arguments,
        "metric": 50.0,
        "state_dict": network().state_dict(),
        "optimizer": {"state": {}, "param_groups": []},
    }
    torch.save(content, tmp_path / "last.pth.tar")
    checkpoint = read_checkpoint(tmp_path / "last.pth.tar")
    assert checkpoint.architecture == "timm:resnet10t"
    assert checkpoint.num_classes == 3
    assert checkpoint.model_kwargs == {"drop_rate": 0.1}
    assert checkpoint.input_args == {"img_size": 64, "mean": [0.5]}


def test_versions_of_modules_survive_prefixes(tmp_path: Path) -> None:
    wrapped = nn.DataParallel(network())
    torch.save(wrapped.state_dict(), tmp_path / "a.pth")
    versions = read_checkpoint(tmp_path / "a.pth").tensors._metadata
    assert versions["1"] == {"version": 2}
    assert "" in versions


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"`.*a\.pth`: no such file; expected a checkpoint"):
        read_checkpoint(tmp_path / "a.pth")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected a checkpoint file, got a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.touch()
    with pytest.raises(SourceError, match="expected a checkpoint, the file is empty"):
        read_checkpoint(path)


@pytest.mark.slow
@given(share=st.floats(0.02, 0.98), kind=st.sampled_from(["zip", "legacy", "safetensors"]))
@example(share=0.10262348786091054, kind="legacy")  # between a module and the name in it
def test_file_cut_short_anywhere(
    tmp_path_factory: pytest.TempPathFactory, share: float, kind: str
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.pth"
    if kind == "safetensors":
        save_file(network().state_dict(), path)
    else:
        torch.save(network().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: max(1, int(share * len(content)))])
    with pytest.raises(SourceError, match=r"cut short|damaged|not a checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content", [b"hello world, this is no checkpoint", b"\x00" * 64, b"PK\x03\x04junk", b"\x80junk"]
)
def test_not_a_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(SourceError, match=r"not a checkpoint|damaged"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle2", "pickle4"])
def test_pickle_with_code_is_refused_by_name_and_not_run(tmp_path: Path, how: str) -> None:
    path, target = tmp_path / "a.pth", tmp_path / "made by code"
    content = {"state_dict": Evil(target)}
    if how.startswith("pickle"):
        path.write_bytes(pickle.dumps(content, protocol=int(how[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(
        SourceError, match=r"would run code to unpickle `posix.mkdir`, which is refused"
    ):
        read_checkpoint(path)
    assert not target.exists()


def test_environment_cannot_turn_unpickling_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, target = tmp_path / "a.pth", tmp_path / "made by code"
    torch.save({"state_dict": Evil(target)}, path)
    with pytest.raises(SourceError, match="which is refused"):
        read_checkpoint(path)
    assert not target.exists()


def test_whole_pickled_module_is_refused_with_advice(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "a.pth")
    with pytest.raises(
        SourceError, match=r"`torch.nn.modules.linear.Linear`.*save `model.state_dict"
    ):
        read_checkpoint(tmp_path / "a.pth")


def test_no_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "a.pth")
    with pytest.raises(SourceError, match="of tensors, found none under `epoch`, `lr`"):
        read_checkpoint(tmp_path / "a.pth")
    torch.save({}, tmp_path / "a.pth")
    with pytest.raises(SourceError, match=r"of tensors, found none$"):
        read_checkpoint(tmp_path / "a.pth")


def test_not_a_mapping(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "a.pth")
    with pytest.raises(SourceError, match="expected a state dict, got a Tensor"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_are_not_finite_name_the_tensor(
    tmp_path: Path, bad: float, suffix: str
) -> None:
    state = network().state_dict()
    state["3.weight"][1, 2] = bad
    path = tmp_path / f"a{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    with pytest.raises(SourceError, match=r"`3.weight` has 1 NaN or infinite of 12"):
        read_checkpoint(path)


def test_integers_and_halves_are_finite(tmp_path: Path) -> None:
    state = {
        "a": torch.tensor([-0.0, 1e-40]),
        "b": torch.zeros(2, dtype=torch.int64),
        "c": torch.ones(2, dtype=torch.bfloat16),
        "d": torch.zeros(0),
    }
    save_file(state, tmp_path / "a.safetensors")
    assert_same(read_checkpoint(tmp_path / "a.safetensors").tensors, state)


def test_load_into_copies_everything() -> None:
    one, two = network(), network()
    load_into(two, one.state_dict(), "`x`")
    assert_same(two.state_dict(), one.state_dict())


def test_load_into_does_without_batch_counters() -> None:
    one, two = network(), network()
    state = {k: v for k, v in one.state_dict().items() if not k.endswith("num_batches_tracked")}
    load_into(two, state, "`x`")
    assert_same(two.state_dict(), one.state_dict())


def test_load_into_names_what_differs() -> None:
    state = dict(network().state_dict())
    state["backbone.weight"] = state.pop("0.weight")
    message = (
        r"`x` does not fit the network: missing `0.weight`; unexpected `backbone.weight`; "
        r"wrong `model=`, or another class count"
    )
    with pytest.raises(SourceError, match=message):
        load_into(network(), state, "`x`")


def test_load_into_counts_what_it_does_not_name() -> None:
    with pytest.raises(SourceError, match=r"missing `0.weight`, `0.bias`, `1.weight` and 5 more"):
        load_into(network(), {}, "`x`")


def test_load_into_suggests_the_class_count() -> None:
    with pytest.raises(SourceError) as caught:
        load_into(network(10), network(7).state_dict(), "`x`")
    assert str(caught.value) == (
        "`x` does not fit the network: `3.weight` (7, 4) instead of (10, 4), "
        "`3.bias` (7,) instead of (10,); it may have 7 classes: give `num_classes=`"
    )


def test_load_into_knows_a_converted_networks_file() -> None:
    state = {**network().state_dict(), "ede.t": torch.tensor(1.0), "ede.k": torch.tensor(1.0)}
    with pytest.raises(SourceError, match="belongs to a converted network: give its folder"):
        load_into(network(), state, "`x`")
