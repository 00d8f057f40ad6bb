"""What torch sums in an order of its own is computed by definition, where C is to equal it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irbin.emit.definitions import DEFINITIONS
from irbin.emit.folder import write_c
from irbin.emit.ready import by_definition, engine_of
from irbin.kernels import tensor_reference
from irbin.records.in_c import COptions
from irbin.report.export import c_line
from tests.emit.test_equal import artifact


def test_each_takes_and_gives_tensors_as_torchs() -> None:
    x, y = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 5, 6)
    matmul, softmax = DEFINITIONS["aten.matmul.default"], DEFINITIONS["aten.softmax.int"]
    assert np.array_equal(matmul(x, y), tensor_reference.matmul(x.numpy(), y.numpy()))
    assert np.array_equal(softmax(x, 2), tensor_reference.softmax(x.numpy(), 2))
    attend = DEFINITIONS["aten.scaled_dot_product_attention.default"]
    root = DEFINITIONS["aten.pow.Tensor_Scalar"]
    assert np.array_equal(root(x.abs(), 0.5), np.sqrt(x.abs().numpy()))
    assert np.array_equal(root(x, 3), x**3)  # torch's
    by_letters, turned = DEFINITIONS["aten.einsum.default"], np.swapaxes(x.numpy(), -1, -2)
    wanted = tensor_reference.matmul(x.numpy(), turned)
    assert np.array_equal(by_letters("abij,abkj->abik", [x, x]), wanted)
    assert torch.allclose(by_letters("abij->ij", [x]), x.sum((0, 1)))  # torch's
    wanted = tensor_reference.attention(x.numpy(), x.numpy(), x.numpy(), scale=0.5)
    assert np.array_equal(attend(x, x, x, None, 0.0, False, scale=0.5), wanted)


FOLDED = "conv1d conv_transpose2d einsum exp linalg_vector_norm pow rsqrt sqrt std sum var"


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("attends", ()),
        ("products", ("conv2d", "matmul", "scaled_dot_product_attention")),
        ("folds", tuple(FOLDED.split())),
    ],
)
def test_an_export_says_what_is_torchs_when_loaded(tmp_path, name: str, operators) -> None:
    assert by_definition(artifact(name), engine_of(artifact(name))) == operators
    record = write_c(artifact(name), tmp_path / "c", spec=name, options=COptions("net"))
    assert record.by_definition == operators
    told = (tmp_path / "c" / "README.md").read_text()
    assert ("those of `irbin.load`, bit for bit" in told) == (not operators)
    assert all(f"`{operator}`" in told for operator in operators)
    words = f"torch adds in an order of its own there: {', '.join(operators)}"
    assert (words in c_line(record).plain) == bool(operators)
