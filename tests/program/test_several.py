"""Which joins and which products of two tensors are ours."""

from __future__ import annotations

import pytest

from irbin.program.several import alike, joined, met
from irbin.program.types import Node, Ref, TensorType

TYPES = {
    "a": TensorType("float32", ("N", 3, 4, 5)),
    "e": TensorType("float32", ("N", 3, 4, 5)),
    "b": TensorType("float32", ("N", 2, 4, 5)),
    "c": TensorType("float32", ("N", 3, 1, 1)),
    "d": TensorType("float64", ("N", 2, 4, 5)),
    "one": TensorType("float32", ("N", 1, 1, 1)),
}


def join(names, *axis, kind=(5, 4, 5), constants=()):
    node = Node(
        "y",
        "aten.cat.default",
        (tuple(map(Ref, names)), *axis),
        {},
        TensorType("float32", ("N", *kind)),
    )
    return joined(node, TYPES, constants)


def meet(op, *names, kind=(3, 4, 5), constants=(), **kwargs):
    node = Node(
        "y",
        f"aten.{op}.Tensor",
        tuple(map(Ref, names)),
        kwargs,
        TensorType("float32", ("N", *kind)),
    )
    return met(node, TYPES, constants)


def test_channels_are_joined_along_their_axis():
    assert join("ab", 1) == join("ab", -3) == (("a", "b"), 1)
    assert join("aa", 1, kind=(6, 4, 5)) == (("a", "a"), 1)
    assert join("aa", 3, kind=(3, 4, 10)) == join("aa", -1, kind=(3, 4, 10)) == (("a", "a"), 3)


@pytest.mark.parametrize(
    ("names", "axis", "settings"),
    [
        ("ab", (), {}),
        ("ab", (2,), {}),
        ("ab", (1,), {"kind": (6, 4, 5)}),
        ("ab", (1,), {"constants": ("b",)}),
        ("ab", (3,), {"kind": (3, 4, 10)}),
        ("ac", (1,), {"kind": (6, 4, 5)}),
        ("ad", (1,), {}),
        ("", (1,), {"kind": (0, 4, 5)}),
    ],
)
def test_other_joins_are_torchs(names, axis, settings):
    assert join(names, *axis, **settings) is None


def test_a_pixel_meets_an_image_from_either_side_but_for_differences():
    assert meet("mul", "a", "c") == meet("mul", "c", "a") == ("a", "c", "multiply")
    assert meet("add", "c", "a") == ("a", "c", "add")
    assert meet("sub", "a", "c") == ("a", "c", "subtract")
    assert meet("sub", "c", "a") is None


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        ("ab", {}),
        ("aa", {}),
        (("a", "one"), {}),
        ("cc", {"kind": (3, 1, 1)}),
        ("ac", {"constants": ("c",)}),
        ("ac", {"alpha": 2}),
    ],
)
def test_other_meetings_are_torchs(names, settings):
    assert meet("add", *names, **settings) is None


def pairs(op, *names, kind="a", constants=(), **kwargs):
    node = Node("y", f"aten.{op}.Tensor", tuple(map(Ref, names)), kwargs, TYPES[kind])
    return alike(node, TYPES, constants)


def test_products_and_differences_of_tensors_of_one_shape_are_ours():
    assert pairs("mul", "a", "e") == ("a", "e", "multiply")
    assert pairs("sub", "e", "a") == ("e", "a", "subtract")
    assert pairs("mul", "a", "a") == ("a", "a", "multiply")


@pytest.mark.parametrize(
    ("op", "names", "settings"),
    [
        ("add", "ae", {}),
        ("div", "ae", {}),
        ("sub", "ae", {"alpha": 2}),
        ("mul", "ac", {}),
        ("mul", "ae", {"constants": ("e",)}),
        ("mul", "dd", {"kind": "d"}),
    ],
)
def test_other_pairs_are_steps_or_torchs(op, names, settings):
    assert pairs(op, *names, **settings) is None
