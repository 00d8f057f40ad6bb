"""What no image reaches is a constant once there is one image."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from irbin.emit.placed import placed
from irbin.emit.ready import engine_of
from irbin.emit.settled import settled
from irbin.runtime.work import integers
from tests.emit.test_words import SIZE, artifact


class Places(nn.Module):
    """Waves made for as many images as there are, and a mean of the image."""

    def forward(self, x):
        waves = torch.ones(x.shape[0], 1, *SIZE[1:]).cumsum(3).sin()
        return x + torch.cat((waves, waves.cos() / 2), 3)[..., 1:5], x.exp()


def test_nodes_that_no_image_reaches_are_computed() -> None:
    one = artifact(Places())
    engine = engine_of(one)
    given = settled(engine, integers(engine.work, 1))
    made = {node.name for node in one.program.nodes if node.op.startswith(("aten.cat", "aten.sin"))}
    assert made <= given.keys()
    assert not given.keys() & set(one.program.outputs)
    wanted = torch.ones(5, 4).cumsum(1).sin()
    (sine,) = (name for name in given if name.startswith("sin"))
    assert np.array_equal(given[sine][0, 0], wanted)


def test_they_are_no_calls_and_nothing_that_c_sums_in_its_order() -> None:
    calls = placed(artifact(Places()))
    assert len(calls.calls) == 2
    assert calls.by_definition == ("exp",)
