"""Operators that mix images are told as that, whether a rule or only running them says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.errors import LowerError, MixedImagesError
from irbin.program.lower import lower


class Calls(nn.Module):
    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.call = nn.Conv2d(3, 4, 1), call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.conv(x))


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda y: y - y.max(),
    "min": lambda y: y - y.min(),
    "sort": lambda y: y.sort(0)[0],
    "logsumexp": lambda y: y - torch.logsumexp(y, 0),
    "median": lambda y: y - y.median(),
    "median of places": lambda y: y - y.median(0)[0],
    "norm": lambda y: y / y.norm(),
    "argmax": lambda y: y * y.argmax(),
    "argmax of images": lambda y: y * y.argmax(0),
    "cumsum": lambda y: y.cumsum(0),
    "cumprod": lambda y: y.cumprod(0),
    "cummax": lambda y: y.cummax(0)[0],
    "std": lambda y: y / y.std(),
    "normalize": lambda y: F.normalize(y, dim=0),
    "flip": lambda y: y.flip(0),
    "flipud": lambda y: torch.flipud(y),
    "roll": lambda y: y.roll(1, 0),
    "topk": lambda y: y + y.topk(1, 0)[0],
    "kthvalue": lambda y: y - y.kthvalue(1, 0)[0],
    "quantile": lambda y: y - y.quantile(0.5),
    "diff": lambda y: y - torch.diff(y, dim=0, prepend=y[:1]),
    "index_select": lambda y: y + y.index_select(0, torch.tensor([0])),
    "gather": lambda y: y.gather(0, torch.zeros_like(y, dtype=torch.int64)),
    "cdist": lambda y: torch.cdist(y.flatten(1), y.flatten(1)),
    "any": lambda y: y * (y > 0).any(),
    "count_nonzero": lambda y: y * torch.count_nonzero(y),
    "nanmean": lambda y: y - y.nanmean(),
}


@pytest.mark.parametrize("call", MIXING.values(), ids=MIXING)
def test_it_mixes_images(call: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(
        MixedImagesError, match=r"\(program/test_foreign\.py:\d+\) mixes the images of a batch; a"
    ):
        lower(Calls(call).eval(), (3, 4, 4))


ALONE: dict[str, Callable[[Tensor], Tensor]] = {
    "asin": torch.asin,
    "sort": lambda y: y.sort(1)[0],
    "cumprod": lambda y: y.cumprod(2),
    "logcumsumexp": lambda y: torch.logcumsumexp(y, 1),
    "gather": lambda y: y.gather(1, torch.zeros_like(y, dtype=torch.int64)),
}


@pytest.mark.parametrize("call", ALONE.values(), ids=ALONE)
def test_others_that_are_not_in_the_vocabulary_do_not(call: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(LowerError, match="is not one that a packed network may use") as caught:
        lower(Calls(call).eval(), (3, 4, 4))
    assert not isinstance(caught.value, MixedImagesError)
