import json

import pytest

from irbin.errors import ArtifactError
from irbin.program.program import Program, format_program
from irbin.program.types import Dtype, Node, Ref, TensorType

X = TensorType("float32", ("N", 4))
NODES = (
    Node(
        "s",
        "aten.split.Tensor",
        (Ref("x"), 2, 1),
        {},
        (TensorType("float32", ("N", 2)), TensorType("float32", ("N", 2))),
    ),
    Node("a", "getitem", (Ref("s"), 0), {}, TensorType("float32", ("N", 2))),
    Node(
        "m",
        "aten.clamp.default",
        (Ref("a"), float("-inf")),
        {"max": None},
        TensorType("float32", ("N", 2)),
    ),
    Node(
        "y",
        "aten.sum.dim_IntList",
        (Ref("m"), (1,), True),
        {"dtype": Dtype("float32")},
        TensorType("float32", ("N", 1)),
    ),
)
PROGRAM = Program({"x": X}, {"c": TensorType("int8", (3,))}, NODES, ("y",))


def changed(**fields):
    return {**PROGRAM.to_json(), **fields}


def test_json_and_back_is_the_same_program():
    text = json.dumps(PROGRAM.to_json(), allow_nan=False)
    assert Program.from_json(json.loads(text)) == PROGRAM


def test_json_in_full():
    assert PROGRAM.to_json()["nodes"][2] == {
        "name": "m",
        "op": "aten.clamp.default",
        "args": [{"ref": "a"}, {"float": "-inf"}],
        "kwargs": {"max": None},
        "type": "float32[N,2]",
    }


NODES_JSON = PROGRAM.to_json()["nodes"]
SIZE = {"name": "n", "op": "aten.sym_size.int", "args": [{"ref": "x"}, 0], "type": "int"}


@pytest.mark.parametrize("outputs", [("y",), ("m", "y", "a"), ("x", "c", "y", "y")], ids=str)
def test_outputs_are_one_or_several_of_whatever_there_is(outputs):
    program = Program(PROGRAM.inputs, PROGRAM.constants, NODES, outputs)
    assert program.to_json()["outputs"] == list(outputs)
    assert Program.from_json(json.loads(json.dumps(program.to_json()))) == program
    wanted = [["output", name] for name in outputs]
    assert [line.split() for line in format_program(program).splitlines()][
        -len(outputs) :
    ] == wanted


def node_with(**fields):
    return {**PROGRAM.to_json()["nodes"][0], **fields}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the program: expected an object, got NoneType"),
        ([], "expected an object, got list"),
        ({}, "the program: `constants` is missing"),
        (changed(extra=1), "`extra` is not part of the format"),
        (changed(nodes={}), "expected lists"),
        (changed(outputs=[1]), "expected names in `outputs`"),
        (changed(outputs=["s"]), "output `s`: expected a tensor"),
        (changed(outputs=[]), "expected at least one output, got none"),
        (changed(outputs=["y", "n"], nodes=[*NODES_JSON, SIZE]), "output `n`: expected a tensor"),
        (changed(outputs=["z"]), "output `z`"),
        (changed(inputs={}), "expected one input"),
        (changed(inputs={"x": "int8[N,4]"}), "expected one input"),
        (changed(inputs={"x": "float32[2,4]"}), "expected one input"),
        (changed(inputs=[]), "`inputs`: expected an object of types"),
        (changed(constants={"x": "int8[3]"}), "`x` is both an input and a constant"),
        (changed(constants={"c": "int9[3]"}), "expected a type"),
        (changed(nodes=[3]), "node 0: expected an object"),
        (changed(nodes=[node_with(op=1)]), "node 0: expected texts"),
        (changed(nodes=[node_with(args={})]), "node `s`: expected a list of `args`"),
        (changed(nodes=[node_with(args=[{"ref": 1}])]), "node `s`: an argument cannot be"),
        (changed(nodes=[node_with(args=[{"code": "x"}])]), "an argument cannot be"),
        (changed(nodes=[node_with(args=[{"float": "1"}])]), "an argument cannot be"),
        (changed(nodes=[node_with(args=[{"dtype": "complex64"}])]), "an argument cannot be"),
        (changed(nodes=[node_with(hook="x")]), "`hook` is not part of the format"),
        (changed(nodes=[node_with(op="aten.relu_.default")]), "`aten.relu_.default` is not one"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_anything_else_is_refused(value, message):
    with pytest.raises(ArtifactError, match=message):
        Program.from_json(value)


def test_text_has_one_line_a_node_with_types():
    lines = format_program(PROGRAM).splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["input", "x", "float32[N,4]"],
        ["constant", "c", "int8[3]"],
    ]
    assert lines[4].startswith("m = aten.clamp.default(a, -inf, max=None)")
    assert lines[4].endswith("float32[N,2]")
    assert lines[-1] == "output y"
    assert len(lines) == 2 + len(NODES) + 1
