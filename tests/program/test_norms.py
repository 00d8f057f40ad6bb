"""Which norms are kernels, and what beside them is left to torch."""

from __future__ import annotations

import pytest

from irbin.program.norms import Norm, norm_of
from irbin.program.types import Dtype, Node, Ref, TensorType

F32 = "float32"
IMAGE, ROWS = TensorType(F32, ("N", 12, 4, 5)), TensorType(F32, ("N", 7, 12))
TYPES = {
    "image": IMAGE,
    "rows": ROWS,
    "halves": TensorType("float16", ("N", 7, 12)),
    "vector": TensorType(F32, (12,)),
    "computed": TensorType(F32, (12,)),
    "few": TensorType(F32, (5,)),
}
CONSTANTS = {"vector", "few"}
vector = Ref("vector")


def layer(source: str, *args, **kwargs) -> Norm | None:
    node = Node("y", "aten.layer_norm.default", (Ref(source), *args), kwargs, TYPES[source])
    return norm_of(node, TYPES, CONSTANTS)


def group(source: str, *args, **kwargs) -> Norm | None:
    node = Node("y", "aten.group_norm.default", (Ref(source), *args), kwargs, TYPES[source])
    return norm_of(node, TYPES, CONSTANTS)


def rms(source: str, *args) -> Norm | None:
    node = Node("y", "aten.rms_norm.default", (Ref(source), *args), {}, TYPES[source])
    return norm_of(node, TYPES, CONSTANTS)


def test_rms_norms_over_the_last_axis():
    assert rms("rows", (12,)) == Norm(0, 2.0**-23, None, None, is_centered=False)
    assert rms("rows", (12,), vector, 1e-6) == Norm(0, 1e-6, "vector", None, is_centered=False)
    assert rms("rows", (12,), None, None) == rms("rows", (12,))
    assert rms("rows", (7, 12)) is None
    assert rms("rows", (12,), Ref("computed")) is None


def test_layer_norms_over_the_last_axis():
    assert layer("rows", (12,)) == Norm(0, 1e-5, None, None)
    assert layer("rows", (12,), vector, vector, 1e-6) == Norm(0, 1e-6, "vector", "vector")
    assert layer("rows", (12,), None, vector, 0, True) == Norm(0, 0.0, None, "vector")
    assert layer("image", (5,), Ref("few")) == Norm(0, 1e-5, "few", None)


def test_group_norms_of_images():
    assert group("image", 3) == Norm(3, 1e-5, None, None)
    assert group("image", 12, vector, vector, 1e-6, False) == Norm(12, 1e-6, "vector", "vector")


@pytest.mark.parametrize(
    "found",
    [
        layer("rows", (7, 12)),
        layer("image", (12,)),
        layer("halves", (12,)),
        layer("rows", (12,), Ref("computed")),
        layer("rows", (12,), Ref("few")),
        layer("rows", (12,), None, None, -1.0),
        layer("rows", (12,), None, None, Ref("few")),
        layer("rows", (12,), eps=1e-5),
        group("image", 5),
        group("image", 0),
        group("image", Dtype(F32)),
        group("rows", 1),
        group("image", 3, Ref("few")),
    ],
)
def test_others_are_torchs(found):
    assert found is None


def test_nor_is_what_is_another_operator_or_type():
    assert norm_of(Node("y", "aten.relu.default", (Ref("rows"),), {}, ROWS), TYPES, ()) is None
    other = Node("y", "aten.layer_norm.default", (Ref("rows"), (12,)), {}, IMAGE)
    assert norm_of(other, TYPES, ()) is None
