"""The table of operators against torch's own schemas."""

import pytest
import torch

from irbin.program.arguments import N_RESULTS
from irbin.program.vocabulary import OWN_OPERATORS, signatures

ATEN = sorted(name for name in signatures() if name.startswith("aten."))
KINDS = {
    "Tensor": "Tensor",
    "Optional[Tensor]": "Tensor?",
    "List[Tensor]": "Tensor[]",
    "List[Optional[Tensor]]": "Tensor?[]",
    "int": "int",
    "Optional[int]": "int?",
    "float": "float",
    "Optional[float]": "float?",
    "bool": "bool",
    "str": "str",
    "Optional[str]": "str?",
    "number": "number",
    "Optional[number]": "number?",
    "List[int]": "int[]",
    "Optional[List[int]]": "int[]?",
    "Optional[List[float]]": "float[]?",
}
NOT_HELD = {"device", "layout", "pin_memory", "memory_format", "non_blocking", "generator"}


def schema(name: str):
    _, base, overload = name.split(".")
    return getattr(getattr(torch.ops.aten, base), overload)._schema


@pytest.mark.parametrize("name", ATEN)
def test_arguments_are_those_of_torch(name):
    expected = []
    for argument in schema(name).arguments:
        if argument.name not in NOT_HELD:
            text = str(argument.type)
            kind = KINDS[text]
            if argument.name == "dtype":
                kind = "dtype?"
            expected.append((kind, argument.name, argument.has_default_value()))
    found = [(a.kind.replace("operand", "Tensor"), a.name, a.optional) for a in signatures()[name]]
    assert found == expected


@pytest.mark.parametrize("name", ATEN)
def test_results_are_as_many_as_torchs(name):
    kinds = [str(result.type) for result in schema(name).returns]
    assert (name in N_RESULTS) == (kinds != ["Tensor"] and name != "aten.sym_size.int")
    assert N_RESULTS.get(name) == (len(kinds) if len(kinds) > 1 else None)


@pytest.mark.parametrize("name", ATEN)
def test_operators_are_pure(name):
    assert not schema(name).is_mutable


def test_nothing_random_or_unknown_is_in_the_list():
    assert not [n for n in signatures() if "rand" in n or "bernoulli" in n or "dropout" in n]
    others = {n for n in signatures() if not n.startswith("aten.")}
    arithmetic = {f"int_{name}" for name in ("add", "sub", "mul", "floordiv", "mod")}
    assert others == {*OWN_OPERATORS, "getitem", *arithmetic}


def test_arguments_of_one_operator_in_full():
    scale = signatures()["bitunpack"][1]
    assert (scale.kind, scale.name, scale.optional) == ("Tensor?", "scale_log2", False)
    assert signatures()["aten.linear.default"][2].optional
