"""Which where(x < 0, min(y, −LEAST), max(y, 0)) becomes one node, and which stays as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from irbin.bits import LEAST
from irbin.program.kept import KEPT, with_kept_signs, without_keeping
from irbin.program.types import Node, Ref, TensorType
from irbin.program.vocabulary import signatures

X, MASK = TensorType("float32", ("N", 5, 3, 3)), TensorType("bool", ("N", 5, 3, 3))
NODES = {
    node.name: node
    for node in (
        Node("below", "aten.lt.Scalar", (Ref("x"), 0), {}, MASK),
        Node("y", "aten.gelu.default", (Ref("x"),), {"approximate": "tanh"}, X),
        Node("least", "aten.clamp.default", (Ref("y"), None, -LEAST), {}, X),
        Node("most", "aten.clamp.default", (Ref("y"), 0), {}, X),
        Node("kept", "aten.where.self", (Ref("below"), Ref("least"), Ref("most")), {}, X),
        Node("z", "aten.neg.default", (Ref("kept"),), {}, X),
    )
}
ACTIVATIONS = ("aten.gelu.default",)


def made(*others: Node, outputs=("z",), x=X, **changed: Node) -> tuple[Node, ...]:
    nodes = [*(NODES | changed).values(), *others]
    types = {"x": x, **{node.name: node.type for node in nodes}}
    return with_kept_signs(nodes, types, ACTIVATIONS, outputs)


def test_five_nodes_are_one_under_the_last_name():
    one, last = made()
    assert one == Node("kept", KEPT, (Ref("x"), *ACTIVATIONS), {"approximate": "tanh"}, X)
    assert last == NODES["z"]
    assert without_keeping(one) == replace(NODES["y"], name="kept")


def test_others_may_read_the_input():
    other = Node("signs", "bitpack", (Ref("x"), 1, 1), {}, X)
    assert [node.name for node in made(other)] == ["kept", "z", "signs"]


def test_bounds_may_be_given_by_name():
    least = Node("least", "aten.clamp.default", (Ref("y"),), {"max": -LEAST}, X)
    most = Node("most", "aten.clamp.default", (Ref("y"),), {"min": 0.0}, X)
    assert len(made(least=least, most=most)) == 2


def test_no_program_may_name_it():
    assert KEPT not in signatures()


@pytest.mark.parametrize(
    "changed",
    [
        {"below": Node("below", "aten.gt.Scalar", (Ref("x"), 0), {}, MASK)},
        {"below": Node("below", "aten.lt.Scalar", (Ref("x"), 1), {}, MASK)},
        {"below": Node("below", "aten.lt.Scalar", (Ref("y"), 0), {}, MASK)},
        {"least": Node("least", "aten.clamp.default", (Ref("y"), None, -2 * LEAST), {}, X)},
        {"least": Node("least", "aten.clamp.default", (Ref("x"), None, -LEAST), {}, X)},
        {"least": Node("least", "aten.clamp.default", (Ref("y"), -1, -LEAST), {}, X)},
        {"most": Node("most", "aten.clamp.default", (Ref("y"), 0, 6), {}, X)},
        {"most": Node("most", "aten.clamp.default", (Ref("x"), 0), {}, X)},
        {"most": Node("most", "aten.relu.default", (Ref("y"),), {}, X)},
        {"y": Node("y", "aten.tanh.default", (Ref("x"),), {}, X)},
        {"kept": Node("kept", "aten.where.self", tuple(map(Ref, ("x", "least", "most"))), {}, X)},
        {"kept": Node("kept", "aten.where.self", (Ref("below"), Ref("least"), 0), {}, X)},
        {"z": Node("z", "aten.mul.Tensor", (Ref("kept"), Ref("y")), {}, X)},
        {"z": Node("z", "aten.mul.Tensor", (Ref("kept"), Ref("most")), {}, X)},
    ],
    ids=lambda changed: f"{next(iter(changed))}: {next(iter(changed.values())).op.split('.')[1]}",
)
def test_all_else_stays(changed):
    assert [node.name for node in made(**changed)] == list(NODES)


@pytest.mark.parametrize("name", ["below", "y", "least", "most"])
def test_what_the_program_returns_stays(name):
    assert len(made(outputs=("z", name))) == len(NODES)


@pytest.mark.parametrize("shape", [("N",), (5, "N"), (1, 5, 3, 3)], ids=str)
def test_so_does_what_no_kernel_takes_or_broadcasts(shape):
    kind = X if shape[0] == 1 else TensorType("float32", shape)
    changed = {name: replace(NODES[name], type=kind) for name in ("y", "least", "most", "kept")}
    assert len(made(x=TensorType("float32", shape), **changed)) == len(NODES)
