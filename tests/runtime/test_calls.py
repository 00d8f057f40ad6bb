from __future__ import annotations

import pytest
import torch

from irbin.artifact.read import Artifact
from irbin.artifact.schema import Manifest
from irbin.errors import ArtifactError
from irbin.program.program import Program
from irbin.program.types import Dtype, Node, Ref, TensorType
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.runtime.calls import in_order, node_call
from irbin.runtime.model import PackedModel
from irbin.runtime.operators import operation

MANIFEST = Manifest(
    "0",
    "float32",
    SourceRecord("s", "timm:s", 2, Preprocessing()),
    Plan(PlanOptions(), (), (3, 8, 8), 0, 0, 0),
)
F32, U8 = "float32", "uint8"
X = TensorType(F32, ("N", 8, 4, 4))
BYTES = TensorType(U8, ("N", 4, 4, 1))
CONSTANTS = {"w": TensorType(U8, (8, 1, 1, 1)), "k": TensorType(F32, (8, 8, 3, 3))}


def packed(*nodes: Node) -> PackedModel:
    program = Program({"x": X}, CONSTANTS, nodes, (nodes[-1].name,))
    tensors = {"w": torch.zeros(8, 1, 1, 1, dtype=torch.uint8), "k": torch.zeros(8, 8, 3, 3)}
    return PackedModel(Artifact("", MANIFEST, program, tensors), float_convs=True)


def liar(kind: TensorType) -> Node:
    """It declares what it does not give."""
    return Node("liar", "aten.slice.Tensor", (Ref("x"), 2, 0, 2), {}, kind)


class TestDeclaredTypes:
    """Kernels read as many bytes as a file declares; it must not be more than there are."""

    def refuses(self, *nodes: Node) -> None:
        model = packed(*nodes)
        for n in (1, 2):
            for _ in range(2):
                message = r"^node `liar` \([\w.]+\) fails: it gives .*, but .* is declared$"
                with pytest.raises(ArtifactError, match=message):
                    model(torch.zeros(n, 8, 4, 4))

    def test_of_bits(self):
        args = (Ref("liar"), Ref("w"), None, None, 8, (1, 1), (0, 0, 0, 0), (1, 1), 1)
        bits = Node("bits", "bitpack", (Ref("x"), 1, 1), {}, BYTES)
        part = Node("liar", "aten.slice.Tensor", (Ref("bits"), 1, 0, 2), {}, BYTES)
        self.refuses(bits, part, Node("y", "bconv2d", args, {}, X))

    def test_of_images(self):
        y = TensorType(F32, ("N", 8, 2, 2))
        self.refuses(liar(X), Node("y", "aten.conv2d.default", (Ref("liar"), Ref("k")), {}, y))
        self.refuses(liar(X), Node("y", "aten.max_pool2d.default", (Ref("liar"), 2), {}, y))

    def test_of_floats(self):
        first = Node("a", "aten.relu.default", (Ref("liar"),), {}, X)
        self.refuses(liar(X), first, Node("y", "aten.mul.Tensor", (Ref("a"), 2.0), {}, X))

    def test_of_what_is_added(self):
        y = TensorType(F32, ("N", 8, 2, 2))
        conv = Node("conv", "aten.conv2d.default", (Ref("x"), Ref("k")), {}, y)
        part = Node("liar", "aten.slice.Tensor", (Ref("x"), 2, 0, 1), {}, y)
        self.refuses(part, conv, Node("y", "aten.add.Tensor", (Ref("conv"), Ref("liar")), {}, y))

    def test_of_element_types(self):
        half = Node("liar", "aten._to_copy.default", (Ref("x"),), {"dtype": Dtype("float16")}, X)
        y = TensorType(F32, ("N", 8, 2, 2))
        self.refuses(half, Node("y", "aten.conv2d.default", (Ref("liar"), Ref("k")), {}, y))

    def test_of_several_tensors(self):
        parts = Node("liar", "aten.split.Tensor", (Ref("x"), 4, 1), {}, X)
        y = TensorType(F32, ("N", 8, 2, 2))
        with pytest.raises(ArtifactError, match=r"^node `liar`: `aten\.split\.Tensor` gives"):
            packed(parts, Node("y", "aten.max_pool2d.default", (Ref("liar"), 2), {}, y))
        half = TensorType(F32, ("N", 4, 4, 4))
        parts = Node("liar", "aten.split.Tensor", (Ref("x"), 2, 1), {}, (half, half))
        part = Node("y", "getitem", (Ref("liar"), 0), {}, half)
        self.refuses(parts, part)

    @pytest.mark.parametrize("size", [1, 9])
    def test_of_a_windows_result(self, size):
        y = TensorType(F32, ("N", 8, size, size))
        message = r"^node `y` \(aten.conv2d.default\): gives \[1, 8, 2, 2\] for 1 image, but "
        with pytest.raises(ArtifactError, match=message):
            packed(Node("y", "aten.conv2d.default", (Ref("x"), Ref("k")), {}, y))


class TestNodeCall:
    VALUES = (("x", torch.tensor([1.0, -2.0])), ("y", torch.tensor([3.0, 5.0])))

    def result(self, op: str, *args, constants=(), **kwargs):
        node = Node("z", op, args, kwargs, TensorType(F32, (2,)))
        values = dict(self.VALUES)
        node_call(node, operation(op), dict(constants))(values, 1)
        return values["z"]

    def test_values_and_constants_are_filled_in_wherever_they_stand(self):
        x, y = Ref("x"), Ref("y")
        c = torch.tensor([10.0, 20.0])
        known = {"c": c, "n": 2}
        assert self.result("aten.relu.default", x).tolist() == [1, 0]
        assert self.result("aten.add.Tensor", x, y).tolist() == [4, 3]
        assert self.result("aten.add.Tensor", x, Ref("c"), constants=known).tolist() == [11, 18]
        assert self.result("aten.add.Tensor", Ref("c"), x, constants=known).tolist() == [11, 18]
        assert self.result("aten.add.Tensor", x, y, alpha=2).tolist() == [7, 8]
        assert self.result("aten.mul.Tensor", x, other=y).tolist() == [3, -10]
        joined = self.result("aten.cat.default", (x, Ref("c"), y), constants=known)
        assert joined.tolist() == [1, -2, 10, 20, 3, 5]
        assert self.result("aten.reshape.default", x, (Ref("n"), 1), constants=known).shape == (
            2,
            1,
        )

    def test_element_types_are_torchs(self):
        assert (
            self.result("aten._to_copy.default", Ref("x"), dtype=Dtype("int8")).dtype is torch.int8
        )


@pytest.mark.parametrize(("axis", "strides"), [(1, (60, 1, 15, 3)), (3, (60, 20, 5, 1))])
def test_in_order_has_channels_innermost(axis, strides):
    x = torch.randn(2, 3, 4, 5)
    for one in (x, x.contiguous(memory_format=torch.channels_last), x.flip(2)[:, :, ::1]):
        found = in_order(one, axis)
        assert found.stride() == strides
        assert torch.equal(found, one)
        assert in_order(found, axis) is found
