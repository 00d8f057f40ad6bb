"""Checkpoint files whose tensors or archives are no plain ones: one line that names the file."""

from __future__ import annotations

import zipfile

import pytest
import torch

from irbin.checkpoints.checkpoint import read_checkpoint
from irbin.errors import SourceError


def sparse():
    with torch.sparse.check_sparse_tensor_invariants():
        return torch.sparse_coo_tensor(torch.tensor([[0], [0]]), torch.ones(1), (2**31, 2**31))


ODD = {
    "4 TiB": (lambda: torch.zeros(1).expand(2**40), "4 bytes expanded to (1099511627776,)"),
    "no numbers": (lambda: torch.empty(3, device="meta"), "without numbers"),
    "sparse": (sparse, "a sparse_coo tensor"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_tensor_that_is_no_plain_one_is_told(tmp_path, name):
    make, words = ODD[name]
    torch.save({"w": make()}, tmp_path / "odd.pth")
    with pytest.raises(SourceError) as caught:
        read_checkpoint(tmp_path / "odd.pth")
    assert words in str(caught.value)
    assert "odd.pth" in str(caught.value)


def test_a_number_repeated_a_little_is_plain(tmp_path):
    torch.save({"w": torch.zeros(1).expand(8)}, tmp_path / "odd.pth")
    assert read_checkpoint(tmp_path / "odd.pth").tensors["w"].shape == (8,)


def test_an_archive_that_unpacks_to_more_is_told(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "good.pth")
    with (
        zipfile.ZipFile(tmp_path / "good.pth") as good,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in good.namelist():
            bomb.writestr(name, good.read(name) + b"\0" * 100_000)
    with pytest.raises(SourceError, match=r"bomb\.pth`: expected an archive as `torch\.save`"):
        read_checkpoint(tmp_path / "bomb.pth")


@pytest.mark.parametrize("odd", [[1, 2], torch.zeros(2), "a", {1: 2}])
def test_arguments_of_another_form_are_told(tmp_path, odd):
    content = {"state_dict": {"w": torch.zeros(2)}, "args": {"model_kwargs": odd}}
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(SourceError, match=r"odd\.pth`: expected names and values in `args\.model_"):
        read_checkpoint(tmp_path / "odd.pth")


def test_an_index_nested_without_end_is_told(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text("[" * 100_000)
    with pytest.raises(SourceError, match="levels of lists and objects"):
        read_checkpoint(path)
