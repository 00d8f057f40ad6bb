"""What may read images as bytes."""

import pytest

from irbin.program.fuse import fuse
from irbin.program.pixels import other_reader
from irbin.program.program import Program
from irbin.program.types import Node, Ref, TensorType

IMAGES = TensorType("float32", ("N", 3, 6, 5))
CONSTANTS = {
    "w": TensorType("float32", (4, 3, 3, 3)),
    "grouped": TensorType("float32", (24, 1, 3, 3)),
    "norm": TensorType("float32", (3, 1, 1)),
}
MADE = TensorType("float32", ("N", 4, 4, 3))


def conv(name, source="x", weight="w", groups=1, kind=MADE):
    args = (Ref(source), Ref(weight), None, (1, 1), (0, 0), (1, 1), groups)
    return Node(name, "aten.conv2d.default", args, {}, kind)


def items_of(nodes, outputs=("y",), **settings):
    program = Program({"x": IMAGES}, CONSTANTS, tuple(nodes), outputs)
    return program, fuse(program, nodes, from_bytes=True, **settings)


@pytest.mark.parametrize("float_convs", [True, False])
def test_a_convolution_reads_bytes_whoever_computes_other_floats(float_convs):
    second = conv("y", "z", "w2", kind=TensorType("float32", ("N", 4, 4, 3)))
    program = Program(
        {"x": IMAGES},
        {**CONSTANTS, "w2": TensorType("float32", (4, 4, 1, 1))},
        (conv("z"), second),
        ("y",),
    )
    items = fuse(program, program.nodes, from_bytes=True, float_convs=float_convs)
    assert other_reader(program, items) == ""
    first, then = items
    assert first.from_bytes
    assert isinstance(then, Node) is not float_convs
    assert float_convs is False or not then.from_bytes


def test_only_the_images_are_bytes():
    program, items = items_of([conv("y")])
    assert [item.from_bytes for item in items] == [True]
    assert not any(item.from_bytes for item in fuse(program, program.nodes))


def test_a_size_that_is_asked_of_them_is_none_of_their_pixels():
    size = Node("n", "aten.sym_size.int", (Ref("x"), 0), {})
    assert other_reader(*items_of([size, conv("y")])) == ""


OTHERS = {
    "a product": (
        [
            Node("z", "aten.mul.Tensor", (Ref("x"), Ref("norm")), {}, IMAGES),
            conv("y", "z"),
        ],
        "`z` (aten.mul.Tensor) reads them",
    ),
    "one beside a convolution": (
        [conv("z"), Node("y", "aten.relu.default", (Ref("x"),), {}, IMAGES)],
        "`y` (aten.relu.default) reads them",
    ),
    "groups": (
        [conv("y", "x", "grouped", 3, TensorType("float32", ("N", 24, 4, 3)))],
        "`y` (aten.conv2d.default) reads them",
    ),
}


@pytest.mark.parametrize(("nodes", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_others_that_read_them_are_named(nodes, words):
    assert other_reader(*items_of(nodes, tuple(n.name for n in nodes))) == words


def test_images_that_are_a_result_stay_floats():
    program, items = items_of([conv("y")], ("y", "x"))
    assert other_reader(program, items) == "the network gives them back"
