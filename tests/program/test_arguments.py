"""Programs from strangers: beyond a bound, or with arguments that an operator is not right for."""

from __future__ import annotations

import re

import pytest

from irbin.errors import ArtifactError
from irbin.program.program import Program

X = "float32[N,1,4,4]"
BIG = 2**62


def ref(name):
    return {"ref": name}


def node(name, op, args, kind, **kwargs):
    return {"name": name, "op": op, "args": args, "kwargs": kwargs, "type": kind}


def read(*nodes, constants=None):
    known = {"w": "uint8[1,2,1,1]", "k": "float32[3]", "f": "float32[1,1,1,1]", **(constants or {})}
    program = {"inputs": {"x": X}, "constants": known, "nodes": list(nodes)}
    return Program.from_json({**program, "outputs": [nodes[-1]["name"]]})


PACK = node("p", "bitpack", [ref("x"), 1, 1], "uint8[N,4,4,1]")
RELU = node("y", "aten.relu.default", [ref("x")], X)


def conv(stride=(1, 1), border=(0, 0, 0, 0), dilation=(1, 1), kind="float32[N,1,3,4]"):
    args = [ref("p"), ref("w"), None, None, 1, list(stride), list(border), list(dilation), 1]
    return PACK, node("y", "bconv2d", args, kind)


def size(name, op, a, b):
    return node(name, op, [a, b], "int")


def pool(kernel, padding, kind="float32[N,1,2,2]", op="max_pool2d"):
    return (node("y", f"aten.{op}.default", [ref("x"), kernel, kernel, padding], kind),)


TOWER = "(" * 12 + "9" + "**8)" * 12
REFUSED = {
    "dilation that overflows": (conv(dilation=(BIG, 1), border=(0, 0, BIG, 0)), "`bconv2d`"),
    "border of 2^63 - 1": (conv(border=(2**63 - 1, 0, 0, 0)), "`border` of `bconv2d`"),
    "border beyond the reach": (conv(border=(0, 0, 2**16 + 1, 0)), "≤ 65536"),
    "stride beyond the reach": (conv(stride=(2**17, 1)), "`stride` of `bconv2d`"),
    "dilation beyond the reach": (conv(dilation=(2**16, 1), border=(0, 0, 65533, 0)), "65537 pixels"),
    "image with its border": (
        conv(border=(2**16, 2**16, 2**16, 2**16), kind="float32[N,1,131075,131076]"), "elements"),
    "window of 2^20": (pool([2**20] * 2, [2**20 - 1] * 2), "`kernel_size`"),
    "padding beyond half of the window": (pool([4, 4], [3, 3]), "at most half of the window"),
    "the same of averages": (pool([4, 4], [3, 3], op="avg_pool2d"), "at most half of the window"),
    "no window": (pool([0, 1], [0, 0]), "`kernel_size`"),
    "numbers that double": (
        (size("a", "int_mul", 2**30, 2**10), size("b", "int_mul", ref("a"), ref("a")), RELU),
        "node `b` (int_mul): expected a size within"),
    "division by zero": ((size("a", "int_floordiv", 1, 0), RELU), "a division by zero"),
    "remainder of zero": ((size("a", "int_mod", 1, 0), RELU), "a division by zero"),
    "tower of powers": ((node("y", "aten.relu.default", [ref("x")], f"float32[{TOWER},1]"),), "on the way"),
    "five thousand digits": ((node("y", "aten.relu.default", [ref("x")], f"float32[{'1' * 5000}]"),), "200"),
    "ten digits": ((node("y", "aten.relu.default", [ref("x")], "float32[N,2147483648]"),), "up to 2147483647"),
    "2^29 elements": ((node("y", "aten.relu.default", [ref("x")], "float32[N,536870912]"),), "elements"),
    "17 axes": ((node("y", "aten.relu.default", [ref("x")], f"float32[{','.join('1' * 17)}]"),), "16 axes"),
    "negative batch": ((node("y", "aten.slice.Tensor", [ref("x"), 0, 5, 9], "float32[N-5,1,4,4]"),), "at least 0"),
    "an int for a tensor": (
        (node("s", "aten.sym_size.int", [ref("k"), 0], "float32[1]"), RELU), "gives a size (`int`)"),
    "a tensor for an int": ((node("y", "aten.relu.default", [ref("x")], "int"), RELU), "gives a tensor"),
    "batch norm of nothing": (
        (node("y", "aten._native_batch_norm_legit.no_stats", [ref("x"), None, None, False, 0.1, 1e-5],
              [X, "float32[0]", "float32[0]"]),), "expected True"),
    "results that are not there": (
        (node("a", "aten.max.dim", [ref("x"), 1], [X]), RELU), "gives 2 tensors"),
    "an index beyond": (
        (node("a", "aten.max.dim", [ref("x"), 1], [X, X]), node("y", "getitem", [ref("a"), 2], X)), "index below 2"),
    "dropout": (
        (node("y", "aten.scaled_dot_product_attention.default", [ref("x")] * 3, X, dropout_p=0.5),), "`dropout_p`"),
    "promised size": (
        (node("y", "aten.repeat_interleave.self_int", [ref("x"), 2, 1], "float32[N,2,4,4]", output_size=9),),
        "`output_size`"),
    "groups of nothing": ((node("y", "aten.group_norm.default", [ref("x"), 0], X),), "`num_groups`"),
    "computed groups of nothing": (
        (size("g", "int_sub", 1, 1), node("y", "aten.conv2d.default", [ref("x"), ref("f")], X, groups=ref("g"))),
        "0 groups"),
    "an equation of two lines": (
        (node("y", "aten.einsum.default", ["\n", [ref("x")]], X),), "got `\\n`"),
    "endless factor": (
        (node("y", "aten.upsample_nearest2d.vec", [ref("x"), None, [{"float": "inf"}, 1.0]], X),), "`scale_factors`"),
    "neither size nor factor": ((node("y", "aten.upsample_nearest2d.vec", [ref("x"), None, None], X),), "one of"),
    "a memory of ones": (
        (node("a", "aten.full.default", [[2**14, 2**14, 2], 1.0], "float32[16384,16384,2]"), RELU), "elements"),
    "a lie about ones": ((node("a", "aten.full.default", [[2**14, 2**14], 1.0], "float32[4]"), RELU), "declared"),
    "constants that fold to much": (
        (node("a", "aten.full.default", [[2**13, 2**13], 1.0], "float32[8192,8192]"), RELU), "constants alone"),
    "an outer product": (
        (node("a", "aten.reshape.default", [ref("x"), [16, 1]], "float32[16,1]"),
         node("y", "aten.expand.default", [ref("a"), [16, 2**30]], "float32[16,4]")), "an image"),
    "lists in lists": ((node("y", "aten.relu.default", [[[[[1]]]]], X),), "levels of lists"),
    "a long list": ((node("y", "aten.reshape.default", [ref("x"), [1] * 5000], X),), "at most 4096"),
    "a long text": ((node("y", "aten.gelu.default", [ref("x")], X, approximate="x" * 600),), "512 characters"),
    "an unprintable name": ((node("y\n", "aten.relu.default", [ref("x")], X),), "printable names"),
}  # fmt: skip  # a program a line


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_beyond_its_bound_is_refused_in_a_line(name):
    nodes, words = REFUSED[name]
    with pytest.raises(ArtifactError, match=re.escape(words)) as caught:
        read(*nodes)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    if name != "an unprintable name":
        assert "node `" in message


BORDERS = {
    "the largest border": conv(border=(0, 0, 2**16, 0), kind="float32[N,1,65539,4]"),
    "the largest dilation": conv(
        border=(0, 0, 2**16 - 4, 0), dilation=(2**16 - 1, 1), kind="float32[N,1,1,4]"
    ),
    "half of the window": pool([2, 2], [1, 1], kind="float32[N,1,3,3]"),
    "to the end": (node("y", "aten.slice.Tensor", [ref("x"), 2, 0, 2**63 - 1], X),),
    "sixteen axes": (
        node(
            "y",
            "aten.reshape.default",
            [ref("x"), [-1, *[1] * 13, 4, 4]],
            f"float32[N,{'1,' * 13}4,4]",
        ),
    ),
    "a size within": (size("a", "int_mul", 2**20, 2**20), RELU),
}


@pytest.mark.parametrize("name", BORDERS)
def test_what_stands_at_its_bound_is_read(name):
    assert read(*BORDERS[name]).outputs == ("y",)
