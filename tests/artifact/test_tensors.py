"""A file of tensors as arrays: the numbers that torch reads, bit for bit."""

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from irbin.artifact.tensors import read_stored
from irbin.program.types import DTYPES
from irbin.runtime.arrays import as_tensor, dtype_name

SPECIAL = [0.0, -0.0, 1.0, -1.5, 6e-8, 1e-40, 65504.0, float("inf"), float("-inf"), float("nan")]


def saved(tmp_path, **tensors):
    save_file(tensors, tmp_path / "t.safetensors")
    return read_stored(tmp_path / "t.safetensors")


def bits(tensor):
    return tensor.contiguous().view(torch.uint8) if tensor.numel() else tensor


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_is_read_as_torch_reads_it(tmp_path, dtype):
    kind = getattr(torch, dtype)
    values = torch.tensor(SPECIAL if kind.is_floating_point else [0, 1, 100, 1]).to(kind)
    shapes = {"row": values, "box": values.reshape(2, -1), "none": values[:0].reshape(3, 0, 2)}
    stored = saved(tmp_path, one=values[1].clone(), **{k: v.clone() for k, v in shapes.items()})
    for name, wanted in (("one", values[1]), *shapes.items()):
        found = stored[name].as_dtype(dtype)
        assert dtype_name(found) == dtype
        assert tuple(found.shape) == tuple(wanted.shape) == stored[name].shape
        assert torch.equal(bits(as_tensor(found).reshape(-1)), bits(wanted.reshape(-1)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened_exactly(tmp_path, dtype):
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(getattr(torch, dtype))
    found = saved(tmp_path, every=every)["every"].as_dtype("float32")
    assert isinstance(found, np.ndarray)
    wanted = every.float().numpy()
    assert np.array_equal(found, wanted, equal_nan=True)
    assert np.array_equal(np.signbit(found), np.signbit(wanted))


def test_arrays_are_the_readers_own(tmp_path):
    first = saved(tmp_path, t=torch.ones(3))["t"].array()
    first[:] = 2
    assert read_stored(tmp_path / "t.safetensors")["t"].array().tolist() == [1, 1, 1]


def test_a_type_that_no_program_has_keeps_the_files_word(tmp_path):
    stored = saved(tmp_path, t=torch.ones(2, 3).to(torch.float8_e4m3fn))
    assert str(stored["t"]) == "F8_E4M3[2,3]"


def test_what_is_damaged_is_refused(tmp_path):
    (tmp_path / "t.safetensors").write_bytes(bytes(range(256)))
    with pytest.raises(SafetensorError):
        read_stored(tmp_path / "t.safetensors")
