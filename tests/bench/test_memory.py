import pytest
import torch

from irbin.bench import memory
from irbin.bench.timing import peak_bytes


@pytest.mark.slow
@pytest.mark.skipif(not memory.STATUS.is_file(), reason="the system does not tell")
def test_a_larger_batch_takes_more_memory_in_the_float_network(folder):
    # in processes of their own: this one may hold freed memory, which would be taken first
    small, large = (
        peak_bytes("irbin.bench.memory", ["float", str(folder / "packed"), n, "1"])
        for n in ("1", "256")
    )
    assert small is not None
    assert large is not None
    assert large > small + 256 * 4 * 16 * 32 * 32  # one layer's result at least


@pytest.mark.slow
def test_a_system_that_does_not_tell_gives_none(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "nothing")
    assert memory.measure("packed", str(folder / "packed"), 1, torch.get_num_threads()) is None


@pytest.mark.slow
def test_a_system_that_does_not_reset_gives_none(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "RESET", tmp_path / "no" / "folder")
    assert memory.measure("packed", str(folder / "packed"), 1, torch.get_num_threads()) is None
