"""A packed network as an ONNX file: standard operators, weights at one bit, what it is beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irbin.artifact.read import Artifact
from irbin.errors import LowerError, UsageError
from irbin.files import check_place, write_file
from irbin.messages import first_line
from irbin.onnx.graph import Graph, OnnxNode, Stored
from irbin.onnx.metadata import metadata_of
from irbin.onnx.package import package
from irbin.onnx.translate import Translated, translated
from irbin.program.types import TensorType, one_tensor
from irbin.records.results import OnnxRecord
from irbin.version import __version__

OPSET = 17
"""The first with a layer norm; runtimes of 2022 read it."""
IR_VERSION = 8
"""That of the first `onnx` with this opset."""
SUFFIX = ".onnx"
MAX_FILE_BYTES = 2**31 - 1
"""Of a protobuf message."""
TASK = "`to='onnx'`"


def refuse_existing_onnx(out: Path, overwrite: bool) -> None:
    """Checks that a file may be written.

    Args:
        out: the file, by whose ending it is known again.
        overwrite: an existing one may go.

    Raises:
        UsageError: it ends otherwise, exists and must not go, or is a folder.
    """
    if out.suffix != SUFFIX:
        raise UsageError(f"`{out}`: expected a file that ends in `{SUFFIX}`; call it so")
    if out.is_dir():
        raise UsageError(f"`{out}`: expected a file to write, found a folder; name a file in it")
    if (out.exists() or out.is_symlink()) and not overwrite:
        raise UsageError(f"`{out}` exists; choose another file, or give `overwrite=True`")


def write_onnx(artifact: Artifact, out: Path, *, spec: str, overwrite: bool = False) -> OnnxRecord:
    """Writes a packed network as an ONNX file, whole or not at all.

    Args:
        artifact: a packed folder.
        out: file to write.
        spec: what the network is called in it.
        overwrite: replace `out` if it is a file.

    Raises:
        UsageError: `out` stands in the way, or the package `onnx` is missing.
        LowerError: ONNX is not written for something in it; nodes and operators are named.
    """
    refuse_existing_onnx(out, overwrite)
    check_place(out)
    checker = package("onnx.checker", TASK)
    made = translated(artifact)
    model = _model(artifact, made, spec)
    content: bytes = model.SerializeToString()
    if len(content) > MAX_FILE_BYTES:
        raise LowerError(
            f"expected at most {MAX_FILE_BYTES:,} bytes in an ONNX file, got {len(content):,}"
        )
    try:
        checker.check_model(model, full_check=True)
    except Exception as error:  # the checker's classes are the extension's own
        raise LowerError(
            f"expected a model that ONNX's checker takes, got {first_line(error)}"
        ) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, content)
    n_bits = sum(node.op == "BitShift" for node in made.graph.nodes)
    return OnnxRecord(str(out), len(content), OPSET, len(made.graph.nodes), n_bits)


def _model(artifact: Artifact, made: Translated, spec: str) -> Any:
    helper = package("onnx.helper", TASK)
    program = artifact.program
    types = {**program.inputs, **program.constants}
    types |= {
        node.name: one_tensor(node.type) for node in program.nodes if node.name in program.outputs
    }
    (images,) = program.inputs
    kinds = [types[name] for name in program.outputs]
    graph = helper.make_graph(
        [_node(node) for node in made.graph.nodes],
        spec,
        [_value(images, program.inputs[images])],
        [_value(name, kind) for name, kind in zip(made.outputs, kinds, strict=True)],
        _constants(made.graph),
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="irbin",
        producer_version=__version__,
    )
    helper.set_model_props(model, metadata_of(artifact))
    return model


def _dtype(name: str) -> int:
    """ONNX's number of an element type."""
    kinds = package("onnx", TASK).TensorProto
    known = {"float32": "FLOAT", "float64": "DOUBLE"}
    number: int = getattr(kinds, known.get(name, name.upper()))
    return number


def _node(node: OnnxNode) -> Any:
    attributes = {
        name: _dtype(value) if (node.op, name) == ("Cast", "to") else value
        for name, value in node.attributes.items()
    }
    helper = package("onnx.helper", TASK)
    return helper.make_node(node.op, node.inputs, node.outputs, **attributes)


def _value(name: str, kind: TensorType) -> Any:
    """An input or result; sizes that depend on the batch are named by their expression."""
    helper = package("onnx.helper", TASK)
    return helper.make_tensor_value_info(name, _dtype(kind.dtype), list(kind.shape))


def _constants(graph: Graph) -> list[Any]:
    return [_tensor(name, stored) for name, stored in graph.constants.items()]


def _tensor(name: str, stored: Stored) -> Any:
    array = stored.array
    tensor = package("onnx", TASK).TensorProto(name=name, data_type=_dtype(stored.dtype))
    tensor.dims.extend(array.shape)
    tensor.raw_data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return tensor
