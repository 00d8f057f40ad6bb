"""Every rule a program is held to, broken once."""

import pytest

from irbin.errors import ArtifactError
from irbin.program.program import Program
from irbin.program.types import Dtype, Node, Ref, TensorType

F32, U8, I8 = "float32", "uint8", "int8"
X = TensorType(F32, ("N", 20, 6, 6))
CONSTANTS = {
    "w.bits": TensorType(U8, (4, 3, 3, 3)),
    "w.scale_log2": TensorType(I8, (4,)),
    "w.bias": TensorType(F32, (4,)),
    "l.bits": TensorType(U8, (5, 3)),
    "l.scale_log2": TensorType(I8, (5,)),
}
PACK = Node("b", "bitpack", (Ref("x"), 1, 1), {}, TensorType(U8, ("N", 6, 6, 3)))
CONV_ARGS = (
    Ref("b"),
    Ref("w.bits"),
    Ref("w.scale_log2"),
    Ref("w.bias"),
    20,
    (1, 1),
    (1, 1, 1, 1),
    (1, 1),
    1,
)
CONV_TYPE = TensorType(F32, ("N", 4, 6, 6))
ROWS = Node("r", "bitpack", (Ref("x"), 1, 1), {}, TensorType(U8, ("N", 6, 6, 3)))


def program(*nodes: Node) -> Program:
    return Program({"x": X}, CONSTANTS, nodes, (nodes[-1].name,))


def conv(change: dict[int, object], kind: TensorType = CONV_TYPE) -> Node:
    args = tuple(change.get(i, value) for i, value in enumerate(CONV_ARGS))
    return Node("y", "bconv2d", args, {}, kind)


def test_a_right_program_passes():
    assert program(PACK, conv({})).outputs == ("y",)
    gemm = Node(
        "y",
        "bgemm",
        (Ref("b"), Ref("l.bits"), Ref("l.scale_log2"), None, 20),
        {},
        TensorType(F32, ("N", 6, 6, 5)),
    )
    assert program(PACK, gemm)
    unpack = Node("y", "bitunpack", (Ref("w.bits"), None, 20), {}, TensorType(F32, (4, 20, 3, 3)))
    assert program(unpack)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (conv({4: 25}), r"expected 4 bytes innermost|expected a constant"),
        (conv({4: 24}, TensorType(F32, ("N", 4, 5, 6))), r"gives float32\[N,4,6,6\], but"),
        (conv({5: (0, 1)}), "`stride` of `bconv2d`: expected 2 numbers ≥ 1"),
        (conv({6: (1, 1, 1)}), "`border` of `bconv2d`: expected 4 numbers ≥ 0"),
        (conv({6: (1, 1, 1, -1)}), "`border`"),
        (conv({7: (9, 9)}), "the kernel reaches over 19 pixels"),
        (conv({8: 3}), "do not divide by 3 groups"),
        (
            conv({2: Ref("l.scale_log2")}),
            r"`scale_log2` of `bconv2d`: expected a constant int8\[4\]",
        ),
        (conv({3: Ref("w.scale_log2")}), "`bias` of `bconv2d`: expected float32"),
        (conv({0: Ref("x")}), "`bits` of `bconv2d`: expected uint8"),
        (conv({1: Ref("b")}), "expected a constant"),
        (conv({0: Ref("later")}), "it reads `later`, which nothing before it gives"),
        (Node("y", "bconv2d", CONV_ARGS[:-1], {"groups": 1}, CONV_TYPE), "by position"),
        (Node("y", "bconv2d", CONV_ARGS[:-1], {}, CONV_TYPE), "lacks its argument `groups`"),
        (Node("x", "aten.relu.default", (Ref("x"),), {}, X), "its name is taken already"),
        (Node("y", "aten.rand_like.default", (Ref("x"),), {}, X), "not one of those a program may"),
        (Node("y", "os.system", ("true",), {}, X), "operator `os.system` is not one"),
        (Node("y", "aten.relu.default", (Ref("x"), 1), {}, X), "takes at most 1 arguments, got 2"),
        (
            Node("y", "aten.relu.default", (), {"self": 1.0}, X),
            "`self` of `aten.relu.default`: exp",
        ),
        (Node("y", "aten.relu.default", (Ref("x"),), {"self": Ref("x")}, X), "`self` twice"),
        (Node("y", "aten.relu.default", (Ref("x"),), {"out": Ref("x")}, X), "no argument `out`"),
        (Node("y", "aten.pow.Scalar", (True, "x"), {}, X), "expected Tensor, got 'x'"),
        (Node("y", "aten.sum.default", (Ref("x"),), {"dtype": "float32"}, X), "expected dtype"),
        (Node("y", "getitem", (Ref("x"), 0), {}, X), "expected Tensors"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_broken_rule_is_named(node, message):
    with pytest.raises(ArtifactError, match=message):
        program(PACK, node)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((Ref("x"), 4, 1), "axis 4"),
        ((Ref("x"), 0, 1), "axis 0"),  # the batch has no size to pack
        ((Ref("x"), 1, 3), "in 3 groups"),
        ((Ref("w.bits"), 1, 1), "expected float32"),
        ((Ref("x"), -1, 1), "expected at least 0"),
    ],
)
def test_bitpack_knows_its_axis(args, message):
    with pytest.raises(ArtifactError, match=message):
        program(Node("y", "bitpack", args, {}, TensorType(U8, ("N", 6, 6, 3))))


def test_a_dot_too_long_for_float32_is_refused():
    n = (1 << 24) + 8
    constants = {"w.bits": TensorType(U8, (1, n // 8))}
    nodes = (
        Node("b", "bitpack", (Ref("x"), 1, 1), {}, TensorType(U8, ("N", n // 8))),
        Node("y", "bgemm", (Ref("b"), Ref("w.bits"), None, None, n), {}, TensorType(F32, ("N", 1))),
    )
    with pytest.raises(ArtifactError, match="is longer than 16777216"):
        Program({"x": TensorType(F32, ("N", n))}, constants, nodes, ("y",))


@pytest.mark.parametrize(
    ("op", "args", "kwargs"),
    [
        ("aten.add.Tensor", (Ref("x"), 1.5), {"alpha": 2}),
        ("aten.sum.dim_IntList", (Ref("x"), (2, 3), True), {"dtype": Dtype("float64")}),
        ("aten.sum.dim_IntList", (Ref("x"), None), {}),
        ("aten.max_pool2d.default", (Ref("x"), 2), {}),
        ("aten.cat.default", ((Ref("x"), Ref("x")), 1), {}),
        ("aten.index.Tensor", (Ref("x"), (None, Ref("x"))), {}),
        ("aten.gelu.default", (Ref("x"),), {"approximate": "tanh"}),
        ("aten.reshape.default", (Ref("x"), (Ref("n"), -1)), {}),
    ],
)
def test_values_of_every_kind_are_accepted(op, args, kwargs):
    size = Node("n", "aten.sym_size.int", (Ref("x"), 0), {}, TensorType("int"))
    shapes = {"aten.max_pool2d.default": ("N", 20, 3, 3), "aten.cat.default": ("N", 40, 6, 6)}
    kind = TensorType(F32, shapes.get(op, X.shape))
    assert program(size, Node("y", op, args, kwargs, kind))
