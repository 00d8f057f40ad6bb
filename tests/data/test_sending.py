from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import irbin
from irbin.data.augment import BatchAugmentation
from irbin.data.batches import Images, Loader
from irbin.data.cached import CachedLoader, Pixels
from irbin.data.images import Augmentation
from irbin.data.order import Feed
from irbin.data.sending import moved, sent
from irbin.records.options import DataOptions, Preprocessing

SMALL = Preprocessing((3, 8, 8), (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")


class Waiting(TorchDispatchMode):
    """Names the operations within for which a CPU waits for a GPU, and counts bytes sent."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.n_bytes = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            source = args[0] if name == "_to_copy" else args[1]
            if source.device.type != result.device.type:
                self.n_bytes += source.numel() * source.element_size()
                quick = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
                if not quick:
                    self.found.append(name)
        elif name in WAITING:
            self.found.append(name)
        return result


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors of a GPU without their numbers; pinning does nothing."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def test_an_array_keeps_shape_type_and_values() -> None:
    for values in (np.arange(6).reshape(2, 3).T, np.array([], np.float32), np.array([True])):
        tensor = sent(values, CPU)
        assert np.array_equal(tensor.numpy(), values)
        assert tensor.numpy().dtype == values.dtype


def test_copies_that_are_waited_for_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_cuda(monkeypatch), Waiting() as waiting:
        torch.from_numpy(np.arange(4)).to(CUDA)
        sent(np.arange(4), CUDA)
    assert (waiting.found, waiting.n_bytes) == (["_to_copy"], 64)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [CUDA, CPU])
@pytest.mark.parametrize(
    "knobs",
    [
        Augmentation(crop_padding=1, hflip=0.5, vflip=0.5),
        Augmentation(crop_padding=0, train_interpolation="random"),
        Augmentation(crop_padding=1, color_jitter=0.4),
        Augmentation(crop_padding=0, color_jitter=0.4),
        None,
    ],
    ids=["padded", "resized", "padded, colors", "resized, colors", "none"],
)
def test_no_batch_waits_for_the_gpu(
    knobs: Augmentation | None, kept: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are indices of every pixel sent: some numbers an image, or the images themselves."""
    n = 16
    monkeypatch.setattr(Loader, "check_labels", lambda loader, labels: None)
    dataset = Images(range(n), lambda image: image, SMALL, 0, "numbers", knobs)
    with fake_cuda(monkeypatch):
        pixels = Pixels(
            torch.empty((n, 3, 8, 8), dtype=torch.uint8, device=kept),
            torch.empty(n, dtype=torch.int64, device=kept),
        )
        loader = CachedLoader(
            dataset, pixels, DataOptions(batch_size=n), Feed(training=True, device=CUDA)
        )
        with Waiting() as waiting:
            images, labels = next(iter(loader))
    assert images.device.type == labels.device.type == "cuda"
    assert images.shape == (n, 3, 8, 8)
    assert waiting.found == []
    assert waiting.n_bytes <= n * (3 * 64 * (kept.type == "cpu") + 16 * 8)


def test_augmentation_on_the_cpu_sends_nothing() -> None:
    augment = BatchAugmentation(Augmentation(crop_padding=1, color_jitter=0.4), SMALL)
    draws = augment.drawn(0, 0, np.arange(4))
    with Waiting() as waiting:
        augment(torch.zeros((4, 3, 8, 8), dtype=torch.uint8), draws)
    assert waiting.n_bytes == 0


@pytest.mark.parametrize(
    ("kind", "pinned", "quick"),
    [
        ("cuda", True, True),
        ("cuda", False, False),
        ("mps", False, False),
        ("mps", True, False),
        ("xpu", True, False),
        ("cpu", False, False),
    ],
)
def test_only_copies_from_pinned_memory_to_cuda_are_not_waited_for(
    kind: str, pinned: bool, quick: bool
) -> None:
    tensor = Mock(spec=torch.Tensor)
    tensor.is_pinned.return_value = pinned
    device = torch.device(kind)
    assert moved(tensor, device) is tensor.to.return_value
    tensor.to.assert_called_once_with(device, non_blocking=quick)


def test_nothing_else_moves_batches_without_waiting() -> None:
    root = Path(irbin.__file__).parent
    users = {
        file.relative_to(root).as_posix()
        for file in root.rglob("*.py")
        if "non_blocking=" in file.read_text(encoding="utf-8")
    }
    assert users == {"data/sending.py"}
