"""Which attentions are ours, and where their rows lie: as torch's own looks say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from irbin.program.attention import ATTENTION, attention_of, in_rows, look_at
from irbin.program.graph import Graph
from irbin.program.types import Node, Ref, TensorType

T, H, D = 6, 3, 4
N = 2


def node(name: str, op: str, source: str, *args, shape) -> Node:
    kind = TensorType("float32", ("N", *shape))
    return Node(name, f"aten.{op}", (Ref(source), *args), {}, kind)


def graph(*nodes: Node, base=(T, 3 * H * D), constants=(), outputs=(), **types) -> Graph:
    kinds = {"x": TensorType("float32", ("N", *base)), **types}
    kinds |= {one.name: one.type for one in nodes}
    return Graph(nodes, kinds, constants, outputs)


def qkv() -> list[Node]:
    """Queries, keys and values as timm's vision transformers take them from one linear layer."""
    parts = [
        Node("split", "aten.reshape.default", (Ref("x"), (-1, T, 3, H, D)), {}, None),
        Node("turned", "aten.permute.default", (Ref("split"), (2, 0, 3, 1, 4)), {}, None),
    ]
    parts[0] = replace(parts[0], type=TensorType("float32", ("N", T, 3, H, D)))
    parts[1] = replace(parts[1], type=TensorType("float32", (3, "N", H, T, D)))
    return parts + [
        node(n, "select.int", "turned", 0, i, shape=(H, T, D)) for i, n in enumerate("qkv")
    ]


def attend(*args, shape=(H, T, D), **kwargs) -> Node:
    refs = tuple(Ref(arg) if isinstance(arg, str) else arg for arg in ("q", "k", "v", *args))
    return Node("y", ATTENTION, refs, kwargs, TensorType("float32", ("N", *shape)))


def behind() -> list[Node]:
    return [
        node("swapped", "transpose.int", "y", 1, 2, shape=(T, H, D)),
        node("joined", "reshape.default", "swapped", (-1, T, H * D), shape=(T, H * D)),
    ]


def test_parts_of_one_layer_are_looked_at_where_they_lie():
    found = attention_of(graph(*qkv(), attend()), attend())
    assert (found.n_heads, found.n_queries, found.n_keys) == (H, T, T)
    assert (found.depth, found.width) == (D, D)
    assert found.scale == 0.5
    x = torch.randn(N, T, 3 * H * D)
    expected = x.reshape(N, T, 3, H, D).permute(2, 0, 3, 1, 4)
    for look, part in zip(found.looks, expected, strict=True):
        assert look.source == "x"
        strides = (look.size, look.head, look.row, 1)
        assert torch.equal(x.as_strided((N, H, T, D), strides, look.offset), part)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((None, 0.5), {}),
        ((None, 0.0, True), {}),
        ((), {"enable_gqa": True}),
        ((), {"scale": float("nan")}),
        (("mask",), {}),
        ((), {"attn_mask": Ref("flags")}),
        ((), {"attn_mask": Ref("long")}),
    ],
)
def test_other_attentions_are_torchs(args, kwargs):
    one = attend(*args, **kwargs)
    masks = {
        "mask": TensorType("float32", ("N", 1, T, T)),
        "flags": TensorType("bool", (T, T)),
        "long": TensorType("float32", (H + 1, T, T)),
    }
    assert attention_of(graph(*qkv(), one, constants=("flags", "long"), **masks), one) is None


@pytest.mark.parametrize("shape", [(T, T), (H, T, T), (1, 1, T, T), (1, H, 1, T)])
def test_a_constant_mask_is_added(shape):
    one = attend("bias", scale=2.0)
    bias = {"bias": TensorType("float32", shape)}
    found = attention_of(graph(*qkv(), one, constants=("bias",), **bias), one)
    assert (found.mask, found.scale) == ("bias", 2.0)


def test_rows_whose_numbers_lie_apart_are_brought_in_order_first():
    parts = [node(n, "transpose.int", "x", 2, 3, shape=(H, T, D)) for n in "qkv"]
    found = attention_of(graph(*parts, attend(), base=(H, D, T)), attend())
    assert [look[:1] + look[2:] for look in found.looks] == [
        (name, H * T * D, 0, T * D, D) for name in "qkv"
    ]


def test_what_would_be_copied_on_the_way_is_brought_in_order_before():
    turned = node("turned", "permute.default", "x", (0, 2, 1), shape=(3 * H * D, T))
    copied = node("copy", "reshape.default", "turned", (-1, 3 * T, H, D), shape=(3 * T, H, D))
    q = node("q", "transpose.int", "copy", 1, 2, shape=(H, 3 * T, D))
    look = look_at(graph(turned, copied, q), "q")
    assert (look.source, look.head, look.row, look.size) == ("turned", D, H * D, 3 * T * H * D)


def test_parts_of_an_image_lie_with_their_channels_innermost():
    image = (2 * 3 * D, 2, 3)
    conv = node("conv", "conv2d.default", "x", Ref("w"), shape=image)
    flat = node("flat", "reshape.default", "conv", (-1, 2, 3 * D, 6), shape=(2, 3 * D, 6))
    part = node("part", "slice.Tensor", "flat", 2, D, 2 * D, 1, shape=(2, D, 6))
    q = node("q", "transpose.int", "part", -1, -2, shape=(2, 6, D))
    whole = graph(conv, flat, part, q, base=(5, 2, 3), w=TensorType("float32", (6 * D, 5, 1, 1)))
    look = look_at(whole, "q")
    assert look == ("conv", 1, 6 * 6 * D, D, 3 * D, 6 * D)


def test_heads_are_put_side_by_side():
    turned, joined = behind()
    whole = graph(*qkv(), attend(), turned, joined)
    assert in_rows(whole, attend()) == (turned, joined, 2)
    spread = replace(joined, type=TensorType("float32", ("N", 2, 3, H * D)))
    assert in_rows(graph(*qkv(), attend(), turned, spread), attend()) == (turned, spread, 3)
    turned = node("swapped", "transpose.int", "y", -1, -2, shape=(H, D, T))
    image = node("joined", "reshape.default", "swapped", (-1, H * D, 2, 3), shape=(H * D, 2, 3))
    assert in_rows(graph(*qkv(), attend(), turned, image), attend()) == (turned, image, 1)


def test_other_ways_on_are_torchs():
    turned, joined = behind()
    for wrong in (
        [replace(turned, args=(Ref("y"), 2, 3)), joined],
        [turned, replace(joined, type=TensorType("float32", ("N", T * H, D)))],
        [turned, replace(joined, op="aten.relu.default")],
        [turned],
        [],
    ):
        assert in_rows(graph(*qkv(), attend(), *wrong), attend()) is None
    assert in_rows(graph(*qkv(), attend(), turned, joined, outputs=("y",)), attend()) is None
