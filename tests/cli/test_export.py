from __future__ import annotations

import json
from pathlib import Path

import pytest

import irbin
from irbin.records.in_c import COptions
from irbin.records.options import SourceOptions
from irbin.runtime.model import PackedModel

FACTORY = """
from torch import nn

def network(flat=False):
    end = nn.Flatten() if flat else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)
    return nn.Sequential(*parts, end, nn.Linear(8 * 64 if flat else 8, 3))
"""


def test_export_prints_predicted_and_actual_bytes(run, verbs) -> None:
    done = run("export", "run", "-o", "packed", "--float-dtype", "float16")
    assert verbs.calls == [
        (
            "export",
            ("run", Path("packed")),
            {
                "source_options": SourceOptions(),
                "float_dtype": "float16",
                "overwrite": False,
            },
        )
    ]
    assert done.out.count("4,672 bytes") == 2
    assert "5,000 bytes" in done.out
    assert done.err == "next: irbin eval run packed --data-dir DATA\n"


def test_export_json(run, verbs) -> None:
    value = json.loads(run("export", "run", "-o", "packed", "--json", "-").out)
    assert value["predicted_bytes"] == value["tensor_bytes"] == 4672
    assert value["ratio"] == 147456 / 5000


def test_to_c_calls_the_other_verb(run, verbs) -> None:
    done = run("export", "zoo:net", "--to", "c", "-o", "c d", "--name", "r20", "--overwrite")
    ((verb, places, given),) = verbs.calls
    assert (verb, places) == ("export_c", ("zoo:net", Path("c d")))
    assert given == {
        "c_options": COptions("r20"),
        "source_options": SourceOptions(),
        "float_dtype": "float32",
        "overwrite": True,
    }
    assert "83,968 bytes" in done.out
    assert "50,512 bytes" in done.out
    assert "c d: 26 calls for an image, r20_run in r20.h" in done.out
    assert done.err == "next: cmake -S 'c d' -B 'c d/build' && cmake --build 'c d/build'\n"


def test_to_onnx_calls_its_verb(run, verbs) -> None:
    done = run("export", "zoo:net", "--to", "onnx", "-o", "a b.onnx", "--overwrite")
    ((verb, places, given),) = verbs.calls
    assert (verb, places) == ("export_onnx", ("zoo:net", Path("a b.onnx")))
    assert given == {
        "source_options": SourceOptions(),
        "float_dtype": "float32",
        "overwrite": True,
    }
    assert done.out == (
        "a b.onnx: 71.7 kB (71,714 bytes), 18 weights at one bit, 339 nodes of ONNX's standard "
        "operators, opset 17\n"
    )
    assert done.err == "next: irbin eval zoo:net 'a b.onnx' --data-dir DATA\n"


def test_to_onnx_as_json(run, verbs) -> None:
    value = json.loads(run("export", "run", "--to", "onnx", "-o", "n.onnx", "--json", "-").out)
    assert value == {
        "path": "n.onnx",
        "total_bytes": 71714,
        "opset": 17,
        "n_nodes": 339,
        "n_binary": 18,
    }


def test_to_c_as_json(run, verbs) -> None:
    value = json.loads(run("export", "run", "--to", "c", "-o", "c", "--json", "-").out)
    assert value == {
        "path": "c",
        "name": "net",
        "function": "net_run",
        "arena_bytes": 83968,
        "constant_bytes": 50512,
        "n_calls": 26,
        "by_definition": [],
    }


@pytest.mark.parametrize("to", ["packed", "onnx"])
@pytest.mark.parametrize("words", [("--name", "r20"), ("--input", "uint8")])
def test_what_is_for_c_alone_is_refused_without_it(run, verbs, words, to) -> None:
    done = run("export", "run", "--to", to, "-o", "packed", *words)
    assert done.code == 2
    assert ": for C alone; give" in done.err
    assert verbs.calls == []


@pytest.fixture
def converted(tmp_path, monkeypatch, run):
    """A folder, by whether its classifier reads every pixel; converted at 32 × 32."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("sized_for_export.py").write_text(FACTORY)

    def convert(flat: bool) -> str:
        words = "convert", "module:sized_for_export:network", "--input-size", "3", "32", "32"
        assert run(*words, "--model-kwargs", f"flat={flat}", "-o", "converted").code == 0
        return "converted"

    return convert


OTHER_SIZES = pytest.mark.parametrize(
    "words", [("--input-size", "3", "48", "48"), ("--img-size", "48")], ids=["input", "img"]
)


@pytest.mark.slow
@OTHER_SIZES
def test_another_size_than_the_folders_is_packed(run, converted, words) -> None:
    done = run("export", converted(flat=False), "-o", "packed", *words)
    assert done.code == 0, done.err
    packed = irbin.load("packed")
    assert isinstance(packed, PackedModel)
    assert packed.manifest.source.preprocessing.input_size == (3, 48, 48)
    (images,) = packed.program.inputs.values()
    assert images.shape[1:] == (3, 48, 48)


@OTHER_SIZES
def test_a_size_that_the_network_does_not_take_is_one_line(run, converted, words) -> None:
    done = run("export", converted(flat=True), "-o", "packed", *words)
    assert done.code != 0
    assert done.err.count("\n") == 1
    assert "converted for (3, 32, 32) and does not run at (3, 48, 48)" in done.err
    assert not Path("packed").exists()
