"""Batches that several threads share in parts: how they are cut, same bits, failures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import irbin
from irbin.artifact.read import Artifact
from irbin.artifact.schema import Manifest
from irbin.errors import ArtifactError
from irbin.kernels import native
from irbin.program.lower import lower
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.runtime import engine as runtime_engine
from irbin.runtime import parts as runtime_parts
from irbin.runtime.arrays import comes_by_image, longer
from irbin.runtime.given import WHOLE_BATCH
from irbin.runtime.model import PackedModel
from irbin.runtime.parts import LEAST_BUSY, sizes_of_parts

needs_native = pytest.mark.skipif(
    not native.is_native() or not native.is_fast_at_floats(), reason="the plans are compiled ones"
)
SMALL = "zoo:resnet20-cifar10-1w1a"
MANIFEST = Manifest(
    "0",
    "float32",
    SourceRecord("s", "timm:s", 2, Preprocessing()),
    Plan(PlanOptions(), (), (3, 8, 8), 0, 0, 0),
)


@given(n=st.integers(0, 700), most=st.integers(1, 40), n_threads=st.integers(1, 9))
def test_parts_are_the_batch_and_keep_threads_busy(n, most, n_threads):
    sizes = sizes_of_parts(n, most, n_threads)
    if not sizes:
        return
    assert sum(sizes) == n
    assert max(sizes) <= most
    assert set(sizes[:-1]) <= {sizes[0]}
    assert 1 <= sizes[-1] <= sizes[0]
    rounds = math.ceil(len(sizes) / n_threads)
    assert n / (rounds * sizes[0] * n_threads) >= LEAST_BUSY


@pytest.mark.parametrize(
    ("n", "most", "n_threads", "sizes"),
    [
        (256, 16, 2, [16] * 16),
        (100, 16, 2, [13] * 7 + [9]),
        (8, 16, 2, [4, 4]),
        (2, 16, 2, [1, 1]),
        (3, 16, 2, []),  # one would wait for a third of the time
        (1, 16, 2, []),
        (0, 16, 2, []),
        (256, 16, 1, []),
        (3, 16, 4, []),
        (256, WHOLE_BATCH, 2, []),
    ],
)
def test_how_a_batch_is_cut(n, most, n_threads, sizes):
    assert sizes_of_parts(n, most, n_threads) == sizes


@needs_native
@pytest.mark.parametrize("n", [2, 3, 5, 8, 33])
@pytest.mark.parametrize("n_threads", [2, 3])
def test_answers_are_one_threads(n, n_threads, monkeypatch):
    model = irbin.load(SMALL)
    random = np.random.default_rng(n)
    images = random.standard_normal((n, 3, 32, 32)).astype(np.float32)
    pixels = random.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8)
    monkeypatch.setattr(runtime_engine, "kernel_threads", lambda: 1)
    one = model(images), model.bytes(pixels)
    monkeypatch.setattr(runtime_engine, "kernel_threads", lambda: n_threads)
    several = model(images), model.bytes(pixels)
    for found, wanted in zip(several, one, strict=True):
        assert np.array_equal(found, wanted)
        assert found.flags.owndata or found.base.flags.owndata
    assert torch.equal(model(torch.from_numpy(images)), torch.from_numpy(one[0]))


@needs_native
def test_each_part_runs_from_the_first_layer_to_the_last(monkeypatch):
    model = irbin.load(SMALL)
    images = np.zeros((8, 3, 32, 32), np.float32)

    def calls(n_threads):
        monkeypatch.setattr(runtime_engine, "kernel_threads", lambda: n_threads)
        before = sum(native.n_calls().values())
        model(images)
        return sum(native.n_calls().values()) - before

    assert calls(2) == 2 * calls(1)
    assert calls(4) == 4 * calls(1)
    assert calls(16) == calls(1)  # fewer images than threads: these share each layer


@needs_native
def test_schedules_are_used_again(monkeypatch):
    made = []
    real = runtime_parts.Schedule

    def schedule(work, n):
        made.append(n)
        return real(work, n)

    monkeypatch.setattr(runtime_parts, "Schedule", schedule)
    monkeypatch.setattr(runtime_engine, "kernel_threads", lambda: 2)
    model = irbin.load(SMALL)
    for _ in range(3):
        model(np.zeros((25, 3, 32, 32), np.float32))
    assert made == [13, 12]


@needs_native
def test_a_failure_names_the_node(monkeypatch):
    monkeypatch.setattr(runtime_engine, "kernel_threads", lambda: 2)
    model = irbin.load(SMALL)
    images = np.zeros((4, 3, 32, 32), np.float32)
    wanted = model(images)

    def no_memory(seats, parts, results, n_threads):
        real(seats, parts, results, n_threads)
        raise MemoryError

    real = runtime_parts.run_parts
    monkeypatch.setattr(runtime_parts, "run_parts", no_memory)
    with pytest.raises(ArtifactError, match="out of memory for 2 images; try fewer at once"):
        model(images)
    monkeypatch.setattr(runtime_parts, "run_parts", real)
    assert np.array_equal(model(images), wanted)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_room_for_more_images_lies_as_those_do(axis):
    x = np.moveaxis(np.arange(2 * 3 * 4 * 5.0).reshape(2, 4, 5, 3), -1, axis)
    assert comes_by_image(x, 2)
    room = longer(x, 7)
    assert room.shape == (7, *x.shape[1:])
    assert room.strides == x.strides
    assert not comes_by_image(x, 3)
    assert not comes_by_image(x[:, ::2], 2)
    assert not comes_by_image(x.transpose(1, 0, 2, 3), 2)


class Maps(nn.Module):
    """Two results: one with its channels innermost in memory, one that is a view of a third."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3, bias=False)

    def forward(self, x):
        y = torch.relu(self.conv(torch.relu(self.stem(x))))
        return y, torch.nn.functional.adaptive_avg_pool2d(y, 1).flatten(1)


@needs_native
@pytest.mark.parametrize("n", [2, 7])
def test_maps_of_parts_lie_as_those_of_a_batch(n, monkeypatch):
    lowered = lower(Maps().eval(), (3, 9, 9))
    model = PackedModel(Artifact("", MANIFEST, lowered.program, lowered.tensors))
    x = torch.randn(n, 3, 9, 9, generator=torch.Generator().manual_seed(n))
    monkeypatch.setattr(runtime_engine, "kernel_threads", lambda: 1)
    wanted = model(x)
    monkeypatch.setattr(runtime_engine, "kernel_threads", lambda: 2)
    for found, one in zip(model(x), wanted, strict=True):
        assert torch.equal(found, one)
        assert found.stride() == one.stride()
