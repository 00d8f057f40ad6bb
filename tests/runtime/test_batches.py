"""An image's answer is the same bits in any batch, wherever torch computes no sum."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from irbin.kernels import native
from irbin.program.types import Node
from irbin.runtime.loading import load
from irbin.zoo.entries import entry_names, located

PACKED = [
    name for name in entry_names() if (Path(located(f"zoo:{name}")) / "program.json").exists()
]
COPIES = ("aten.reshape.default", "aten.sym_size.int")
"""What torch may run: nodes that compute nothing."""


@pytest.mark.skipif(not native.is_fast_at_floats(), reason="torch computes floats here")
@pytest.mark.parametrize("name", PACKED)
def test_an_answer_of_the_zoo_depends_on_its_image_alone(name):
    model = load(f"zoo:{name}")
    x = torch.randn(100, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = model(x)
    for first, n in ((0, 1), (41, 1), (99, 1), (7, 3)):
        assert torch.equal(model(x[first : first + n]), whole[first : first + n])


@pytest.mark.skipif(not native.is_fast_at_floats(), reason="torch computes floats here")
@pytest.mark.parametrize("name", PACKED)
def test_torch_computes_nothing_of_the_zoo(name):
    left = {item.op for item in load(f"zoo:{name}").items if isinstance(item, Node)}
    assert left <= set(COPIES)
