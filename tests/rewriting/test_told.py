"""What a rewritten forward leaves out or reads anew is told, or stays as the source has it."""

from __future__ import annotations

import copy
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import irbin
from irbin import SourceOptions
from irbin.errors import TraceError

SIZE = (3, 8, 8)


class Base(nn.Module):
    """Its ReLUs are functions, so that converting rewrites the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.n0 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.body, self.n1 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def features(self, x: Tensor) -> Tensor:
        return self.n1(self.body(F.relu(self.n0(self.stem(x)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


def converted(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    how = SourceOptions(input_size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)
    return irbin.convert(module, source_options=how).module.eval()


def told_of(module: nn.Module, caplog: pytest.LogCaptureFixture) -> list[str]:
    converted(module)
    told = [r.getMessage() for r in caplog.records if "is rewritten" in r.getMessage()]
    return [re.sub(r"\.py:\d+", ".py", line) for line in told]


class Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=-0.5)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class OwnBackward(Base):
    def features(self, x: Tensor) -> Tensor:
        return super().features(Clamp.apply(x))


class Sets(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        self.aux_loss = y.square().mean()
        return self.head(y.mean((2, 3)))


class Settings(Base):
    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(scale=1.5, depth=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)) * self.config.scale)


class NumpyDrop(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        if self.training and np.random.rand() > 1:
            y = y * 2
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (
            OwnBackward,
            "without the backward of its `torch.autograd.Function` (rewriting/test_told.py): "
            "gradients are those of what its forward computes",
        ),
        (
            Sets,
            "and no longer sets `aux_loss`: what it keeps there (losses, feature maps, counts) "
            "stays as it is now; let it return what is needed",
        ),
        (
            Settings,
            "with what it computes from `config.scale` (rewriting/test_told.py) as it is now: "
            "setting it later changes nothing",
        ),
        (
            NumpyDrop,
            "with random numbers drawn once for all: what it decides by them (LayerDrop) is the "
            "same from now on, in training too",
        ),
    ],
)
def test_what_goes_is_told(kind: type[Base], what: str, caplog: pytest.LogCaptureFixture) -> None:
    assert told_of(kind(), caplog) == [f"the forward of `{kind.__name__}` is rewritten {what}"]


def test_settings_are_the_networks_own_afterwards() -> None:
    net = Settings()
    config = net.config
    converted(net)
    assert net.config is config
    assert type(config.scale) is float


class Held(Base):
    """Scales by an attribute that is neither a parameter nor a buffer nor a float."""

    def __init__(self, scale: Any) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)) * self.scale)


@pytest.mark.parametrize(
    ("scale", "later"),
    [
        (torch.tensor(2.0), torch.tensor(-3.0)),
        (torch.full((8,), 2.0), torch.full((8,), -3.0)),
        (np.float64(2), np.float64(-3)),
        (np.float32(2), np.float32(-3)),
        (np.int64(2), np.int64(-3)),
    ],
    ids=["tensor", "tensors", "float64", "float32", "int64"],
)
def test_a_plain_attribute_is_read_whenever_the_forward_runs(
    scale: Any, later: Any, caplog: pytest.LogCaptureFixture
) -> None:
    module = converted(Held(scale))
    x = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(0))
    before = module(x) - module.head.bias
    twin = copy.deepcopy(module)
    module.scale = later
    torch.testing.assert_close(module(x) - module.head.bias, before * -1.5)
    torch.testing.assert_close(twin(x) - module.head.bias, before)
    assert not [r for r in caplog.records if "as it is now" in r.getMessage()]


class Counts(Base):
    """Its buffer counts in training; what it holds has no effect on one answer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.count.add_(1)
        return super().forward(x)


class Follows(Counts):
    """Its buffer follows the images' mean in training."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.count.mul_(0.9).add_(x.detach().mean() + 1)
        return super().forward(x - self.count)


@pytest.mark.parametrize("kind", [Counts, Follows])
def test_buffers_written_in_training_alone_are_so_when_rewritten(kind: type[Counts]) -> None:
    net = kind()
    module = converted(net).eval()
    x = torch.randn(2, *SIZE)
    module(x)
    assert float(module.count) == 0 == float(net.count)
    module.train()(x)
    assert float(module.count) != 0


@pytest.mark.parametrize("kind", [Counts, Follows])
def test_where_random_numbers_decide_too_they_are_told_and_left(kind: type[Counts]) -> None:
    class Draws(kind):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if float(torch.rand(())) >= 0 else x

    message = (
        r"^the traced graph of `Draws` writes to `count` in evaluation mode too, which "
        r"the network does in training alone \(`if self.training`\), so functional "
    )
    with pytest.raises(TraceError, match=message):
        converted(Draws())


def test_a_call_of_the_classs_own_is_named_as_what_no_graph_has() -> None:
    class Doubles(Base):
        def __call__(self, x: Tensor) -> Tensor:
            return 2 * super().__call__(x)

    with pytest.raises(TraceError, match=r"\(what its class's own `__call__` does is in no graph"):
        converted(Doubles())


def test_a_forward_that_writes_into_its_images_is_told_so() -> None:
    class Shifts(Base):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.sub_(0.5))

    with pytest.raises(irbin.IrbinError, match=r"writes to `x`$"):
        converted(Shifts())
