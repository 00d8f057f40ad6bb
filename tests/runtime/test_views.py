"""Other looks at an array are arrays, as torch's are tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irbin.program.types import Node, Ref, TensorType
from irbin.runtime.views import look, view

LOOKS = (
    ((4,), "aten.select.int", (0, 1)),
    ((4,), "aten.select.int", (-1, -1)),
    ((2, 3), "aten.select.int", (1, 2)),
    ((4,), "aten.slice.Tensor", (0, 1, 2, 1)),
    ((1,), "aten.squeeze.dim", (0,)),
    ((1,), "aten.reshape.default", ((),)),
    ((1,), "aten.expand.default", ((3, -1),)),
    ((), "aten.unsqueeze.default", (0,)),
)


@pytest.mark.parametrize(("shape", "op", "args"), LOOKS, ids=str)
def test_a_look_is_an_array_of_torchs_shape_and_numbers(shape, op, args):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    node = Node("y", op, (Ref("x"), *args), {}, TensorType("float32", ()))
    _, name, overload = op.split(".")
    wanted = getattr(getattr(torch.ops.aten, name), overload)(torch.from_numpy(array), *args)
    for found in (look(node, array, {}), view(node, array, {})):
        assert isinstance(found, np.ndarray)
        assert found.shape == tuple(wanted.shape)
        assert np.array_equal(found, wanted.numpy())
