"""Views of our own nodes: named as the vocabulary names them."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from pathlib import Path

import pytest

from irbin.kernels import reference
from irbin.program.batch import RULES
from irbin.program.check import RESULTS
from irbin.program.freeze import SHAPES
from irbin.program.own import (
    OWN,
    BConv2d,
    BGemm,
    BitPack,
    BitUnpack,
    binary_weight,
    inner_product,
)
from irbin.program.translate import RENAMED
from irbin.program.types import Node, Ref, TensorType
from irbin.program.vocabulary import OWN_OPERATORS, signatures
from irbin.runtime.operators import OWN_OPERATIONS

FLOATS = TensorType("float32", ("N", 6, 4, 4))
BITS, WEIGHT, SCALE = Ref("bits"), Ref("weight_bits"), Ref("scale_log2")
CONV = Node(
    "y", "bconv2d", (BITS, WEIGHT, SCALE, None, 12, (2, 1), (1, 2, 3, 4), (1, 3), 3), {}, FLOATS
)
LINEAR = Node("y", "bgemm", (BITS, WEIGHT, None, Ref("bias"), 33), {}, FLOATS)
PACK = Node("b", "bitpack", (Ref("x"), 1, 3), {}, FLOATS)
UNPACK = Node("w", "bitunpack", (WEIGHT, SCALE, 65), {}, FLOATS)


def test_every_own_operator_has_a_view_of_its_own_arguments() -> None:
    assert tuple(OWN) == OWN_OPERATORS
    for operator, view in OWN.items():
        declared = [argument.name for argument in signatures()[operator]]
        assert [field.name for field in fields(view)] == declared, operator


PAGES = Path(__file__).parents[2] / "docs"
FORMAT, HOW = PAGES / "format.md", PAGES / "how-it-works.md"


@pytest.mark.parametrize(
    ("table", "has_more"),
    [(OWN, False), (SHAPES, False), (RESULTS, False), (OWN_OPERATIONS, True), (RULES, True)],
    ids=["view", "shape for torch", "type and bounds", "what runs it", "images apart"],
)
def test_every_own_operator_stands_in_every_table(table: dict[str, object], has_more: bool) -> None:
    assert set(OWN_OPERATORS) <= set(table)
    assert has_more or set(table) == set(OWN_OPERATORS)


@pytest.mark.parametrize("name", OWN_OPERATORS)
def test_every_own_operator_is_defined_in_numpy_and_in_words(name: str) -> None:
    arguments = [argument.name for argument in signatures()[name]]
    assert list(signature(getattr(reference, name)).parameters) == arguments
    assert f"**`{name}({', '.join(arguments)})`**" in FORMAT.read_text(encoding="utf-8")
    assert f"| `{name}` |" in HOW.read_text(encoding="utf-8")
    assert RENAMED[f"irbin.{name}.default"] == name


def test_arguments_have_names() -> None:
    conv = BConv2d.of(CONV)
    assert (conv.bits, conv.weight_bits, conv.scale_log2, conv.bias) == (BITS, WEIGHT, SCALE, None)
    assert (conv.stride, conv.border, conv.dilation) == ((2, 1), (1, 2, 3, 4), (1, 3))
    assert (conv.in_channels, conv.groups, conv.depth) == (12, 3, 4)
    assert (BGemm.of(LINEAR).bias, BGemm.of(LINEAR).depth) == (Ref("bias"), 33)
    assert (BitPack.of(PACK).channel_axis, BitPack.of(PACK).groups) == (1, 3)
    assert (BitUnpack.of(UNPACK).weight_bits, BitUnpack.of(UNPACK).depth) == (WEIGHT, 65)


def test_a_view_is_of_its_own_operator_only() -> None:
    with pytest.raises(AssertionError):
        BGemm.of(CONV)


@pytest.mark.parametrize(
    ("node", "product", "weight"),
    [
        (CONV, BConv2d, BConv2d),
        (LINEAR, BGemm, BGemm),
        (UNPACK, None, BitUnpack),
        (PACK, None, None),
        (Node("y", "aten.relu.default", (Ref("x"),), {}, FLOATS), None, None),
    ],
    ids=lambda value: getattr(value, "op", ""),
)
def test_who_multiplies_signs_and_who_reads_packed_weights(
    node: Node, product: type | None, weight: type | None
) -> None:
    for found, kind in ((inner_product(node), product), (binary_weight(node), weight)):
        assert found is None if kind is None else isinstance(found, kind)
