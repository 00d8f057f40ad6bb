"""The hinge: a trained network as a flat list of nodes in one closed vocabulary.

Everything after it (file, fusions, kernels) sees this one small language instead of thousands of
module classes, and running it needs neither timm nor the architecture's code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from irbin.bounds import MAX_ARGUMENT_NESTING, MAX_LIST, MAX_NODES, MAX_TEXT
from irbin.errors import ArtifactError
from irbin.program.check import node_problem
from irbin.program.claims import check_claims, folded_problem
from irbin.program.shapes import type_problem
from irbin.program.types import (
    BATCH,
    DTYPES,
    INT,
    Dtype,
    Node,
    Ref,
    TensorType,
    Value,
    ValueType,
    shortened,
)

__all__ = ["Dtype", "Node", "Program", "Ref", "TensorType", "Value", "format_program"]


@dataclass(frozen=True)
class Program:
    """A pure function from tensors to tensors. Made by `lower` and `from_json`, read by all after.

    Inputs, constants and nodes share one name space. Checked when made: names are unique, a node
    reads what stands before it, fits its operator and, where the operator is irbin's or may give
    more than it reads, its shapes; and everything is within `irbin.bounds`.

    Raises:
        ArtifactError: a check fails; the message names the node.
    """

    inputs: dict[str, TensorType]
    """One: a float32 batch of images, its first size N."""
    constants: dict[str, TensorType]
    """Tensors of the packed file; float32 here even if stored in half precision."""
    nodes: tuple[Node, ...]
    """In execution order."""
    outputs: tuple[str, ...]
    """Names of the results, one or several; a name may stand there twice."""

    def __post_init__(self) -> None:
        ((_, images),) = self.inputs.items() if len(self.inputs) == 1 else (("", TensorType(INT)),)
        if images.dtype != "float32" or images.shape[:1] != (BATCH,):
            raise ArtifactError("expected one input, float32[N,…]: a batch of images")
        if not self.outputs:
            raise ArtifactError("expected at least one output, got none")
        for what, count, most in (
            ("outputs", len(self.outputs), MAX_LIST),
            ("nodes", len(self.nodes), MAX_NODES),
            ("constants", len(self.constants), MAX_NODES),
        ):
            if count > most:
                raise ArtifactError(f"expected at most {most} {what}, got {count}")
        for name, kind in (*self.inputs.items(), *self.constants.items()):
            _check_type(f"`{_checked_name(name)}`", kind)
        shared = sorted(self.inputs.keys() & self.constants.keys())
        if shared:
            raise ArtifactError(f"`{shared[0]}` is both an input and a constant")
        known: dict[str, ValueType] = {**self.inputs, **self.constants}
        for node in self.nodes:
            where = f"node `{_checked_name(node.name)}`"
            if node.name in known:
                raise ArtifactError(f"{where}: its name is taken already")
            missing = [name for name in node.refs() if name not in known]
            if missing:
                raise ArtifactError(
                    f"{where}: it reads {shortened(missing[0])}, which nothing before it gives"
                )
            _check_type(where, node.type)
            problem = node_problem(node, known, self.constants)
            if problem is not None:
                raise ArtifactError(f"{where}: {problem}")
            known[node.name] = node.type
        for name in self.outputs:
            result = known.get(name)
            if not isinstance(result, TensorType) or result.dtype == INT:
                raise ArtifactError(
                    f"output {shortened(name)}: expected a tensor that the program computes"
                )
        problem = folded_problem(self.constants, self.nodes)
        if problem is not None:
            raise ArtifactError(problem)
        for n in (1, 3):
            self.check_batch(n)

    def check_batch(self, n: int) -> None:
        """Holds the declared types against what n images give, before anything runs.

        Raises:
            ArtifactError: a size is negative or beyond its bound, or a type cannot be; names the
                node.
        """
        check_claims({**self.inputs, **self.constants}, self.nodes, n)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the inverse."""
        return {
            "inputs": {name: str(kind) for name, kind in self.inputs.items()},
            "constants": {name: str(kind) for name, kind in self.constants.items()},
            "nodes": [_node_to_json(node) for node in self.nodes],
            "outputs": list(self.outputs),
        }

    @staticmethod
    def from_json(value: object) -> Program:
        """The program behind JSON values; anything that is not exactly one is refused.

        Raises:
            ArtifactError: a key is missing or unknown, a value has a wrong type, or a check fails.
        """
        fields = _fields(value, "the program", {"inputs", "constants", "nodes", "outputs"})
        nodes, outputs = fields["nodes"], fields["outputs"]
        if not isinstance(nodes, list) or not isinstance(outputs, list):
            raise ArtifactError("the program: expected lists of `nodes` and `outputs`")
        if not all(isinstance(name, str) for name in outputs):
            raise ArtifactError("the program: expected names in `outputs`")
        return Program(
            _types(fields["inputs"], "inputs"),
            _types(fields["constants"], "constants"),
            tuple(_node_from_json(node, index) for index, node in enumerate(nodes)),
            tuple(outputs),
        )


def format_program(program: Program) -> str:
    """A program as text, one line a node, results' types to the right; without a final newline."""
    rows = [(f"input {name}", str(kind)) for name, kind in program.inputs.items()]
    rows += [(f"constant {name}", str(kind)) for name, kind in program.constants.items()]
    for node in program.nodes:
        arguments = [_value_text(v) for v in node.args]
        arguments += [f"{name}={_value_text(v)}" for name, v in node.kwargs.items()]
        kinds = node.type if isinstance(node.type, tuple) else (node.type,)
        rows.append(
            (f"{node.name} = {node.op}({', '.join(arguments)})", ", ".join(map(str, kinds)))
        )
    rows += [(f"output {name}", "") for name in program.outputs]
    width = max(len(left) for left, _ in rows)
    # one long line must not push every type off the screen
    return "\n".join(f"{left:<{min(width, 76)}}  {right}".rstrip() for left, right in rows)


def _value_text(value: Value) -> str:
    if isinstance(value, Ref | Dtype):
        return value.name
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value_text, value))}]"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _node_to_json(node: Node) -> dict[str, Any]:
    kinds = [str(k) for k in node.type] if isinstance(node.type, tuple) else str(node.type)
    args = [_value_to_json(v) for v in node.args]
    fields: dict[str, Any] = {"name": node.name, "op": node.op, "args": args}
    if node.kwargs:
        fields["kwargs"] = {name: _value_to_json(v) for name, v in node.kwargs.items()}
    return {**fields, "type": kinds}


def _value_to_json(value: Value) -> Any:
    if isinstance(value, tuple):
        return [_value_to_json(item) for item in value]
    if isinstance(value, Ref):
        return {"ref": value.name}
    if isinstance(value, Dtype):
        return {"dtype": value.name}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}  # JSON has no word for it
    return value


def _node_from_json(value: object, index: int) -> Node:
    where = f"node {index}"
    required = {"name", "op", "args", "type"}
    fields = _fields(value, where, required, optional={"kwargs"})
    name, op, args = fields["name"], fields["op"], fields["args"]
    kwargs, kinds = fields.get("kwargs", {}), fields["type"]
    if not (isinstance(name, str) and isinstance(op, str)):
        raise ArtifactError(
            f"{where}: expected texts as `name` and `op`, got {shortened(name)} and {shortened(op)}"
        )
    if not (isinstance(args, list) and isinstance(kwargs, dict)):
        raise ArtifactError(
            f"node {shortened(name)}: expected a list of `args` and an object of `kwargs`"
        )
    try:
        several = isinstance(kinds, list)
        kind = tuple(map(TensorType.parse, kinds)) if several else TensorType.parse(kinds)
    except ArtifactError as error:
        raise ArtifactError(f"node {shortened(name)}: {error}") from error
    return Node(
        name,
        op,
        tuple(_value_from_json(v, name) for v in args),
        {key: _value_from_json(v, name) for key, v in kwargs.items()},
        kind,
    )


def _value_from_json(value: object, node: str, depth: int = 0) -> Value:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        if len(value) > MAX_LIST or depth >= MAX_ARGUMENT_NESTING:
            raise ArtifactError(
                f"node {shortened(node)}: expected at most {MAX_LIST} items in "
                f"{MAX_ARGUMENT_NESTING} levels of lists as an argument"
            )
        return tuple(_value_from_json(item, node, depth + 1) for item in value)
    if isinstance(value, dict) and len(value) == 1:
        ((kind, text),) = value.items()
        if kind == "ref" and isinstance(text, str):
            return Ref(text)
        if kind == "dtype" and text in DTYPES:
            return Dtype(text)
        if kind == "float" and text in ("inf", "-inf", "nan"):
            return float(text)
    raise ArtifactError(f"node {shortened(node)}: an argument cannot be {str(value)[:80]!r}")


def _fields(
    value: object,
    where: str,
    required: set[str],
    optional: set[str] = frozenset(),  # type: ignore[assignment]  # frozen so that it can be a default
) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ArtifactError(f"{where}: expected an object, got {type(value).__name__}")
    for name in sorted(required - value.keys()):
        raise ArtifactError(f"{where}: `{name}` is missing")
    for name in sorted(value.keys() - required - optional):
        raise ArtifactError(f"{where}: {shortened(name)} is not part of the format")
    return value


def _types(value: object, where: str) -> dict[str, TensorType]:
    if not isinstance(value, dict):
        raise ArtifactError(f"`{where}`: expected an object of types, got {type(value).__name__}")
    types = {}
    for name, kind in value.items():
        try:
            types[name] = TensorType.parse(kind)
        except ArtifactError as error:
            raise ArtifactError(f"`{where}`: {shortened(name)}: {error}") from error
    return types


def _checked_name(name: str) -> str:
    """A name as it is, if a message can show it."""
    if not name or len(name) > MAX_TEXT or not name.isprintable():
        raise ArtifactError(
            f"expected printable names of 1 to {MAX_TEXT} characters, got {shortened(name)}"
        )
    return name


def _check_type(where: str, kind: ValueType) -> None:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    problems = [problem for problem in map(type_problem, kinds) if problem is not None]
    if problems:
        raise ArtifactError(f"{where}: {problems[0]}")
