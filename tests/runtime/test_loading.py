"""A packed network without torch: arrays in and out, and an `nn.Module` once somebody asks."""

import copy
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import irbin
from irbin.artifact.read import read_artifact
from irbin.errors import UsageError
from irbin.kernels import native
from irbin.runtime.loading import PackedWithoutTorch, load
from irbin.runtime.model import PackedModel
from irbin.zoo.entries import entry_names, located

SMALL = "zoo:resnet20-cifar10-1w1a"
PACKED = [
    name for name in entry_names() if (Path(located(f"zoo:{name}")) / "program.json").exists()
]

WITHOUT = """
import sys
import numpy as np
import irbin
for name in sys.argv[2:]:
    model = irbin.load(f"zoo:{name}")
    x = np.load(f"{sys.argv[1]}/x.npy")
    np.save(f"{sys.argv[1]}/{name}.npy", model(x))
    assert isinstance(model, object) and not isinstance(model, dict)
    assert not hasattr(model, "__array__")
    print(repr(model))
sys.exit(int("torch" in sys.modules))
"""

BOTH = """
import pickle, sys
import numpy as np
import irbin
model = irbin.load("zoo:resnet20-cifar10-1w1a")
x = np.ones((2, 3, 32, 32), np.float32)
wanted = model(x)
again = pickle.loads(pickle.dumps(model))
assert np.array_equal(again(x), wanted)
assert "torch" not in sys.modules
assert model.eval() is model  # what only a module has
assert "torch" in sys.modules
import torch
from irbin.runtime.model import PackedModel
assert type(model) is PackedModel
assert isinstance(again, torch.nn.Module) and isinstance(again, PackedModel)
both = torch.nn.Sequential(again, torch.nn.Softmax(1)).eval()
assert np.array_equal(again(torch.from_numpy(x)).numpy(), wanted)
assert torch.equal(both(torch.from_numpy(x)), torch.from_numpy(wanted).softmax(1))
assert type(again) is PackedModel
"""


def run(code, *args):
    command = [sys.executable, "-W", "error", "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def small():
    return load(SMALL)


def light():
    """As `load` makes it in a process without torch."""
    return PackedWithoutTorch(read_artifact(located(SMALL)))


@pytest.mark.skipif(not native.is_fast_at_floats(), reason="torch computes floats here")
def test_the_zoo_runs_without_torch_and_gives_the_same_bits(images, tmp_path):
    np.save(tmp_path / "x.npy", images)
    done = run(WITHOUT, tmp_path, *PACKED)
    assert (done.returncode, done.stderr) == (0, "")
    for name, shown in zip(PACKED, done.stdout.splitlines(), strict=True):
        model = load(f"zoo:{name}")
        assert shown == repr(model)
        found = torch.from_numpy(np.load(tmp_path / f"{name}.npy"))
        assert torch.equal(found, model(torch.from_numpy(images)))


@pytest.mark.skipif(not native.is_fast_at_floats(), reason="torch computes floats here")
@pytest.mark.slow
def test_it_turns_into_a_module_where_torch_comes():
    done = run(BOTH)
    assert (done.returncode, done.stderr) == (0, "")


class TestTurning:
    def test_it_is_a_packed_model_to_whoever_asks(self, small):
        model = light()
        assert isinstance(model, PackedModel)
        assert isinstance(model, nn.Module)
        assert repr(model) == repr(small)
        assert type(model) is PackedWithoutTorch  # being asked changes nothing

    @pytest.mark.parametrize(
        "ask",
        [
            lambda model: model.eval(),
            lambda model: model.state_dict(),
            lambda model: model._modules,
            lambda model: nn.Sequential(model).to(torch.float64),
            lambda model: model(torch.zeros(1, 3, 32, 32)),
            lambda model: model.register_forward_hook(lambda *_: None),
        ],
        ids=["eval", "state_dict", "_modules", "parent", "tensor", "hook"],
    )
    def test_what_only_a_module_has_makes_it_one(self, images, small, ask):
        model = light()
        wanted = model(images)
        ask(model)
        assert type(model) is PackedModel
        assert np.array_equal(model(images), wanted)
        assert model.state_dict().keys() == small.state_dict().keys()

    def test_what_nobody_has_is_told(self):
        with pytest.raises(AttributeError, match=r"PackedModel.*no attribute 'nonsense'"):
            _ = light().nonsense

    @pytest.mark.parametrize(
        "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
    )
    def test_a_copy_gives_the_same_answers(self, images, copied):
        model = light()
        assert np.array_equal(copied(model)(images), model(images))

    def test_a_forward_hook_sees_arrays_too(self, images):
        model, seen = light(), []
        model.register_forward_hook(lambda _, given, y: seen.append((given, y)))
        y = model(images)
        assert seen[0][0][0] is images
        assert seen[0][1] is y

    def test_many_threads_may_turn_it_while_others_call_it(self, images, small):
        model, wanted = light(), small(images)
        right, start = [], threading.Barrier(8)

        def work(i):
            start.wait()
            for _ in range(3):
                right.append(np.array_equal(model(images), wanted))
                right.append(i % 2 == 0 or model.train() is model)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert right == [True] * 48
        assert type(model) is PackedModel

    def test_the_package_takes_it(self):
        assert irbin.benchmark(light(), n_runs=1, memory=False).entries


def unaligned(x):
    raw = np.empty(x.nbytes + 1, np.uint8)[1:]
    raw[:] = x.view(np.uint8).reshape(-1)
    return raw.view(np.float32).reshape(x.shape)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


class TestArrays:
    @pytest.mark.parametrize("n", [0, 1, 2, 5])
    def test_arrays_come_back_as_arrays_with_the_tensors_bits(self, small, images, n):
        found = small(images[:n])
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.float32
        assert np.array_equal(found, small(torch.from_numpy(images[:n])).numpy())

    @pytest.mark.parametrize("runs_torch", [False, True])
    @pytest.mark.parametrize(
        "change",
        [
            lambda x: x.astype(np.float64),
            lambda x: x.astype(">f4"),
            lambda x: np.asfortranarray(x),
            lambda x: x[..., ::-1].copy()[..., ::-1],
            lambda x: x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
            unaligned,
            read_only,
            lambda x: np.stack((x, x), -1)[..., 0],
        ],
        ids=["f8", ">f4", "F", "backwards", "channels-last", "unaligned", "read-only", "strided"],
    )
    def test_however_they_lie(self, images, change, runs_torch):
        model = PackedModel(read_artifact(located(SMALL)), float_convs=not runs_torch)
        wanted = model(torch.from_numpy(images))
        given = change(images)
        before = given.copy()
        assert np.array_equal(model(given), wanted.numpy())
        assert np.array_equal(given, before)

    def test_an_answer_is_the_callers_own(self, small, images):
        first = small(images)
        kept = first.copy()
        second = small(-images)
        second[:] = 0
        assert np.array_equal(first, kept)

    def test_infinite_in_float32_is_infinite(self, small, images):
        big = images.astype(np.float64)
        big[0, 0, 0, 0] = 1e300
        assert np.array_equal(small(big), small(torch.from_numpy(big)).numpy(), equal_nan=True)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, complex, object])
    def test_what_is_not_floating_is_refused(self, small, dtype):
        name = np.dtype(dtype).name
        with pytest.raises(UsageError, match=rf"^expected floating images, got {name}; bytes "):
            small(np.zeros((1, 3, 32, 32), dtype))

    def test_another_size_is_refused(self, small):
        message = r"^expected images of shape \(N, 3, 32, 32\), got \(1, 3, 32, 31\)$"
        with pytest.raises(UsageError, match=message):
            small(np.zeros((1, 3, 32, 31), np.float32))

    def test_every_value_is_shown(self, small, images):
        seen = {}
        given = small.run(images, lambda node, value: seen.update({node.name: value}))
        assert np.array_equal(given, small(images))
        tensors = {}
        small.run(torch.from_numpy(images), lambda node, value: tensors.update({node.name: value}))
        assert seen.keys() == tensors.keys()
        name = small.program.outputs[0]
        assert np.array_equal(seen[name], tensors[name].numpy())
