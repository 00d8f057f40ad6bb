"""Nodes in plain words give torch's numbers."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F

from irbin.kernels import reference
from irbin.program.plainer import in_plain_words
from irbin.program.types import Node, Ref, TensorType

X = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(0))


def kind(x: torch.Tensor) -> TensorType:
    return TensorType("float32", ("N", *x.shape[1:]))


def split(op: str, *args, outputs=()):
    """The parts that torch makes, and the nodes that stand for them."""
    parts = getattr(getattr(torch.ops.aten, op.split(".")[1]), op.split(".")[2])(X, *args)
    types = tuple(TensorType("float32", part.shape) for part in parts)
    whole = Node("whole", op, (Ref("x"), *args), {}, types)
    taken = [Node(f"part{i}", "getitem", (Ref("whole"), i), {}, one) for i, one in enumerate(types)]
    return parts, in_plain_words([whole, *taken], {"x": kind(X), "whole": types}, outputs)


def run(node: Node) -> torch.Tensor:
    _, name, overload = node.op.split(".")
    return getattr(getattr(torch.ops.aten, name), overload)(X, *node.args[1:])


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("aten.split.Tensor", (2, 1)),
        ("aten.split.Tensor", (4, 1)),
        ("aten.split.Tensor", (3, -1)),
        ("aten.split_with_sizes.default", ((1, 2, 3), 1)),
        ("aten.split_with_sizes.default", ((3, 0, 1), -1)),
        ("aten.unbind.int", (1,)),
        ("aten.unbind.int", (-1,)),
    ],
)
def test_parts_are_slices_or_indices_of_an_axis(op, args):
    parts, nodes = split(op, *args)
    assert [node.name for node in nodes] == [f"part{i}" for i in range(len(parts))]
    for part, node in zip(parts, nodes, strict=True):
        assert node.op in ("aten.slice.Tensor", "aten.select.int")
        assert node.refs() == ("x",)
        assert torch.equal(run(node), part)


def test_a_split_whose_parts_the_program_returns_stays():
    _, nodes = split("aten.split.Tensor", 2, 1, outputs=("whole",))
    assert nodes[0].op == "aten.split.Tensor"


@pytest.mark.parametrize("index", [-1, 3])
def test_a_part_that_is_not_there_is_left_to_who_runs_it(index):
    types = (TensorType("float32", ("N", 2, 5, 4)),) * 3
    whole = Node("whole", "aten.split.Tensor", (Ref("x"), 2, 1), {}, types)
    part = Node("part", "getitem", (Ref("whole"), index), {}, types[0])
    assert in_plain_words([whole, part], {"x": kind(X), "whole": types}, ()) == (whole, part)


def test_parts_of_another_size_than_declared_are_left_to_who_runs_it():
    types = (TensorType("float32", ("N", 2, 5, 4)),) * 2
    whole = Node("whole", "aten.split.Tensor", (Ref("x"), 2, 1), {}, types)
    part = Node("part", "getitem", (Ref("whole"), 0), {}, types[0])
    assert in_plain_words([whole, part], {"x": kind(X), "whole": types}, ()) == (whole, part)


def named(padding: str, size=(3, 5), stride=1, dilation=1, **kwargs):
    weight = torch.randn(4, 6, *size, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a copy for kernels of even sizes
        made = F.conv2d(X, weight, None, stride, padding, dilation)
    args = (Ref("x"), Ref("w"), None, (stride, stride), padding, (dilation, dilation), 1)
    node = Node("y", "aten.conv2d.padding", args, kwargs, kind(made))
    types = {"x": kind(X), "w": TensorType("float32", tuple(weight.shape))}
    (plain,) = in_plain_words([node], types, ("y",))
    return node, plain, made, weight


@pytest.mark.parametrize(
    ("padding", "settings"),
    [
        ("same", {}),
        ("same", {"dilation": 2}),
        ("same", {"size": (1, 1)}),
        ("same", {"size": (2, 3), "dilation": 2}),
        ("valid", {"stride": 2, "size": (3, 2)}),
    ],
)
def test_padding_by_name_is_padding_in_numbers(padding, settings):
    _, plain, made, weight = named(padding, **settings)
    assert plain.op == "aten.conv2d.default"
    again = torch.ops.aten.conv2d.default(X, weight, *plain.args[2:])
    assert torch.allclose(again, made, atol=1e-6)
    assert again.shape == made.shape


def test_padding_that_is_wider_on_one_side_is_torchs():
    node, plain, *_ = named("same", size=(2, 3))
    assert plain == node


PACK = "bitpack"


def packed(*turns: tuple[str, tuple[object, ...]], axis: int, outputs=()) -> list[Node]:
    """A `bitpack` behind permutations of X, in plain words."""
    x, nodes, types = X, [], {"x": kind(X)}
    for i, (op, args) in enumerate(turns):
        x = getattr(x, op)(*args)
        full = {"permute": "aten.permute.default", "transpose": "aten.transpose.int"}[op]
        nodes.append(
            Node(f"turn{i}", full, (Ref("x" if not i else f"turn{i - 1}"), *args), {}, kind(x))
        )
        types[f"turn{i}"] = kind(x)
    last = f"turn{len(turns) - 1}"
    bits = Node("bits", PACK, (Ref(last), axis, 1), {}, TensorType("uint8", ("N", 5, 4, 1)))
    return list(in_plain_words([*nodes, bits], types, ("bits", *outputs)))


def test_signs_are_packed_in_front_of_what_moves_channels_alone():
    (bits,) = packed(("permute", ((0, 2, 3, 1),)), axis=3)
    assert bits.args == (Ref("x"), 1, 1)
    (bits,) = packed(("permute", ((0, 3, 1, 2),)), axis=1)
    assert bits.args == (Ref("x"), 3, 1)
    (bits,) = packed(("transpose", (1, 2)), ("transpose", (2, -1)), axis=3)
    assert bits.args == (Ref("x"), 1, 1)
    before, after = (
        reference.bitpack(X.permute(0, 2, 3, 1).numpy(), 3),
        reference.bitpack(X.numpy(), 1),
    )
    assert (before == after).all()


def test_signs_of_what_moves_otherwise_are_packed_behind_it():
    for turn, axis in ((("permute", ((0, 3, 2, 1),)), 3), (("transpose", (2, 3)), 1)):
        assert [node.name for node in packed(turn, axis=axis)] == ["turn0", "bits"]
    nodes = packed(("transpose", (1, 2)), ("transpose", (2, 3)), axis=2)
    assert [node.name for node in nodes] == ["turn0", "bits"]
    assert nodes[-1].args == (Ref("turn0"), 3, 1)


def test_a_permutation_that_others_read_stays():
    nodes = packed(("permute", ((0, 2, 3, 1),)), axis=3, outputs=("turn0",))
    assert [node.name for node in nodes] == ["turn0", "bits"]
    assert nodes[-1].args == (Ref("x"), 1, 1)


def test_equal_signs_are_packed_once():
    x, bits = kind(X), TensorType("uint8", ("N", 5, 4, 1))
    nodes = [
        Node("one", PACK, (Ref("x"), 1, 1), {}, bits),
        Node("other", PACK, (Ref("x"), 1, 1), {}, bits),
        Node("grouped", PACK, (Ref("x"), 1, 2), {}, bits),
        Node("returned", PACK, (Ref("x"), 1, 1), {}, bits),
        Node("joined", "aten.cat.default", ((Ref("other"), Ref("grouped")), 3), {}, bits),
        Node("last", "aten.neg.default", (Ref("other"),), {}, bits),
    ]
    plain = in_plain_words(nodes, {"x": x}, ("joined", "last", "returned"))
    assert [node.name for node in plain] == ["one", "grouped", "returned", "joined", "last"]
    assert plain[3].args == ((Ref("one"), Ref("grouped")), 3)
    assert plain[4].args == (Ref("one"),)
