"""The file as a user meets it: what it holds, what it refuses, what it leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import irbin
from irbin.artifact.read import Artifact, read_artifact
from irbin.errors import LowerError, UsageError
from irbin.onnx import package as packages
from irbin.onnx.model import OPSET, write_onnx
from irbin.onnx.translate import RULES
from irbin.program.program import Program
from irbin.program.types import Node, Ref
from irbin.program.vocabulary import signatures
from irbin.records.json import to_json
from irbin.zoo.entries import located

onnx = pytest.importorskip("onnx")

ENTRY = "zoo:resnet20-cifar10-1w1a"


@pytest.fixture(scope="module")
def packed() -> Artifact:
    return read_artifact(located(ENTRY))


def test_what_is_written(packed, tmp_path) -> None:
    out = tmp_path / "r20.onnx"
    record = irbin.export_onnx(ENTRY, out)
    assert [path.name for path in tmp_path.iterdir()] == ["r20.onnx"]
    assert record.total_bytes == out.stat().st_size <= 100_000
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    (images,), (logits,) = model.graph.input, model.graph.output
    sizes = [one.dim_param or one.dim_value for one in images.type.tensor_type.shape.dim]
    assert sizes == ["N", 3, 32, 32]
    assert [one.dim_param or one.dim_value for one in logits.type.tensor_type.shape.dim] == [
        "N",
        10,
    ]


def test_weights_are_the_bits_of_the_packed_folder(packed, tmp_path) -> None:
    write_onnx(packed, tmp_path / "r20.onnx", spec=ENTRY)
    held = {one.name: one for one in onnx.load(tmp_path / "r20.onnx").graph.initializer}
    bits = {name for name in packed.tensors if name.endswith(".bits")}
    assert len(bits) == 18
    for name in bits:
        assert np.array_equal(onnx.numpy_helper.to_array(held[name]), packed.tensors[name])


def test_metadata_say_classes_and_how_images_are_fed(packed, tmp_path) -> None:
    write_onnx(packed, tmp_path / "r20.onnx", spec=ENTRY)
    told = {one.key: one.value for one in onnx.load(tmp_path / "r20.onnx").metadata_props}
    source = packed.manifest.source
    assert json.loads(told["class_names"]) == list(source.class_names)
    assert json.loads(told["preprocessing"]) == to_json(source.preprocessing)


def test_halves_stay_halves(packed, tmp_path) -> None:
    """A folder with a rest of 16 bits is no larger as ONNX, and gives the same."""
    ort = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    sizes, said = [], []
    for kind in ("float32", "float16", "bfloat16"):
        tensors = dict(packed.tensors)
        for name, array in tensors.items():
            if array.dtype == np.float32:
                words = array.astype(np.float16).astype(np.float32).view(np.uint32)
                tensors[name] = (words & 0xFFFF0000).view(np.float32)  # as far as both hold it
        manifest = replace(packed.manifest, float_dtype=kind)
        out = tmp_path / f"{kind}.onnx"
        write_onnx(replace(packed, manifest=manifest, tensors=tensors), out, spec=kind)
        sizes.append(out.stat().st_size)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        run = ort.InferenceSession(out, options, providers=["CPUExecutionProvider"]).run
        said.append(run(None, {"x": x})[0])
        assert np.array_equal(said[-1], said[0])
    assert max(sizes[1:]) < sizes[0]


def other(packed: Artifact, *ops: str) -> Artifact:
    """The network with nodes behind it."""
    program = packed.program
    (last,) = program.outputs
    kind = next(node.type for node in program.nodes if node.name == last)
    given = {"aten.zero.default": (), "aten.cumsum.default": (1,)}
    nodes = [
        Node(f"more_{i}", op, (Ref(last), *given.get(op, ())), {}, kind) for i, op in enumerate(ops)
    ]
    made = Program(program.inputs, program.constants, (*program.nodes, *nodes), (nodes[-1].name,))
    return replace(packed, program=made)


def test_what_cannot_be_written_is_named_before_anything_is(packed, tmp_path, monkeypatch) -> None:
    """All nodes and operators of it, in one line."""
    for op in ("aten.sin.default", "aten.cos.default"):
        monkeypatch.delitem(RULES, op)
    network = other(
        packed, "aten.sin.default", "aten.cos.default", "aten.sin.default", "aten.exp.default"
    )
    network = replace(
        network, program=replace(network.program, outputs=("more_0", "more_1", "more_2", "more_3"))
    )
    with pytest.raises(LowerError) as caught:
        write_onnx(network, tmp_path / "net.onnx", spec="net")
    assert str(caught.value) == (
        "expected operators that are written as ONNX, got `aten.sin.default` (2 nodes: `more_0`, "
        "`more_2`); `aten.cos.default` (1 node: `more_1`); a packed folder keeps all of them"
    )
    assert not any(tmp_path.iterdir())


def test_results_have_the_programs_names_each_once(packed, tmp_path) -> None:
    """The images, a constant and a result that stands there twice are results too."""
    ort = pytest.importorskip("onnxruntime")
    (images,), (last,) = packed.program.inputs, packed.program.outputs
    program = replace(packed.program, outputs=(last, images, "bn1.add", last))
    write_onnx(replace(packed, program=program), tmp_path / "net.onnx", spec="net")
    session = ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    assert len(set(names)) == 4
    assert names[0] == last
    x = np.zeros((1, 3, 32, 32), np.float32)
    first, same, constant, again = session.run(None, {images: x})
    assert np.array_equal(same, x)
    assert np.array_equal(constant, packed.tensors["bn1.add"])
    assert np.array_equal(first, again)


def test_every_operator_with_a_rule_is_of_the_vocabulary() -> None:
    assert set(RULES) <= set(signatures())


def test_a_file_in_the_way_stays(packed, tmp_path) -> None:
    out = tmp_path / "net.onnx"
    out.write_text("years")
    with pytest.raises(UsageError, match=r"exists; choose another file, or give `overwrite=True`"):
        write_onnx(packed, out, spec=ENTRY)
    assert out.read_text() == "years"
    write_onnx(packed, out, spec=ENTRY, overwrite=True)
    assert onnx.load(out).producer_name == "irbin"


def test_folders_above_it_are_made(packed, tmp_path) -> None:
    write_onnx(packed, tmp_path / "new" / "folder" / "m.onnx", spec="s")
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["m.onnx"]


def test_a_folder_and_another_ending_are_refused(packed, tmp_path) -> None:
    (tmp_path / "net.onnx").mkdir()
    with pytest.raises(UsageError, match="expected a file to write, found a folder"):
        write_onnx(packed, tmp_path / "net.onnx", spec=ENTRY, overwrite=True)
    with pytest.raises(UsageError, match=r"expected a file that ends in `\.onnx`"):
        write_onnx(packed, tmp_path / "net", spec=ENTRY)


def test_a_missing_package_is_one_line(packed, tmp_path, monkeypatch) -> None:
    def gone(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(packages.importlib, "import_module", gone)
    wanted = r"^`to='onnx'`: expected the package `onnx` .* run `pip install 'irbin\[onnx\]'`$"
    with pytest.raises(UsageError, match=wanted):
        write_onnx(packed, tmp_path / "net.onnx", spec=ENTRY)
    assert not any(tmp_path.iterdir())


def test_options_of_what_is_packed_already(tmp_path) -> None:
    with pytest.raises(UsageError, match="is packed already"):
        irbin.export_onnx(ENTRY, tmp_path / "net.onnx", float_dtype="float16")
    assert not any(tmp_path.iterdir())
