from __future__ import annotations

import pytest
import torch

from irbin.cli.device import pick_device
from irbin.errors import UsageError


@pytest.mark.parametrize(("has_cuda", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_cuda_where_there_is_one(monkeypatch, has_cuda: bool, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert pick_device("auto") == device


def test_a_device_that_exists_is_taken() -> None:
    assert pick_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["", "gpu", "cuda:99"])
def test_a_device_that_does_not_exist_is_an_error(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^`--device`: .* got `{name}`; try `cpu` or `auto`$"):
        pick_device(name)
