"""The folder as a user meets it: what it is called, what it refuses, what it leaves alone."""

from __future__ import annotations

import json
import re

import pytest

from irbin.artifact.read import Artifact, read_artifact
from irbin.emit.folder import c_name, write_c
from irbin.errors import LowerError, UsageError
from irbin.program.program import Program
from irbin.program.types import Node, Ref
from irbin.records.in_c import COptions
from irbin.zoo.entries import located

ENTRY = "zoo:resnet20-cifar10-1w1a"


@pytest.fixture(scope="module")
def packed() -> Artifact:
    return read_artifact(located(ENTRY))


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (ENTRY, "resnet20_cifar10_1w1a"),
        ("runs/My Net-3", "my_net_3"),
        ("packed/", "packed"),
        ("/", "network"),
        ("…", "network"),
        ("3d", "net_3d"),
        ("int", "net_int"),
        ("runs/math", "net_math"),
        ("install", "net_install"),
    ],
)
def test_a_name_is_made_of_the_networks(spec: str, name: str) -> None:
    assert c_name(spec) == name


@pytest.mark.parametrize(
    "name", ["", "9x", "a-b", "int", "x" * 64, "a b", "a;", "irbin_nn", "time", "all"]
)
def test_a_name_that_c_does_not_take(packed, tmp_path, name: str) -> None:
    with pytest.raises(UsageError, match=r"^`name`: expected small letters"):
        write_c(packed, tmp_path / "out", spec=ENTRY, options=COptions(name))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("n", [-1, 0, 1001])
def test_a_number_of_images_that_is_none(packed, tmp_path, n: int) -> None:
    wanted = f"`test_images`: expected a number from 1 to 1000, got {n}"
    with pytest.raises(UsageError, match=re.escape(wanted)):
        write_c(packed, tmp_path / "out", spec=ENTRY, options=COptions(test_images=n))
    assert not any(tmp_path.iterdir())


def test_what_is_written(packed, tmp_path) -> None:
    out = tmp_path / "r20"
    record = write_c(packed, out, spec=ENTRY, options=COptions("r20", test_images=1))
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {
        "r20.h",
        "r20.c",
        "r20.json",
        "r20_weights.h",
        "r20_weights.c",
        "irbin_nn.h",
        "irbin_nn.c",
        "CMakeLists.txt",
        "README.md",
        "LICENSE",
        "test/main.c",
        "test/time.c",
        "test/classify.c",
        "test/vectors.bin",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["r20"]
    for path in out.rglob("*"):
        if path.is_file() and path.suffix != ".bin":
            assert not re.search(r"@[A-Z_]+@", path.read_text(encoding="utf-8")), path
    header = (out / "r20.h").read_text()
    assert "#define R20_INPUT_FLOATS 3072\n" in header
    assert "#define R20_OUTPUT_FLOATS 10\n" in header
    assert f"#define R20_ARENA_BYTES {record.arena_bytes}\n" in header
    told = json.loads((out / "r20.json").read_text())
    assert told["arena_bytes"] == record.arena_bytes
    assert told["operators"] == sorted(set(told["operators"]))
    assert "bconv2d" in told["operators"]


@pytest.mark.parametrize(
    ("entry", "most"), [("resnet20-cifar10-1w1a", 84_000), ("vgg-small-cifar10-1w1a", 100_000)]
)
def test_the_arena_is_what_a_microcontroller_has(entry: str, most: int) -> None:
    from irbin.emit.placed import placed

    assert placed(read_artifact(located(f"zoo:{entry}"))).arena_bytes <= most


def test_a_folder_in_the_way_stays(packed, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    for overwrite, words in ((False, "of C from irbin; choose"), (True, "of C from irbin, so")):
        with pytest.raises(UsageError, match=words):
            write_c(packed, tmp_path / "mine", spec=ENTRY, overwrite=overwrite)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_a_folder_of_c_is_replaced_when_asked(packed, tmp_path) -> None:
    out = tmp_path / "r20"
    write_c(packed, out, spec=ENTRY, options=COptions("old", test_images=1))
    with pytest.raises(UsageError, match="exists; choose another folder"):
        write_c(packed, out, spec=ENTRY, options=COptions("late", test_images=1))
    write_c(packed, out, spec=ENTRY, options=COptions("late", test_images=1), overwrite=True)
    assert (out / "late.c").is_file()
    assert not (out / "old.c").exists()


def test_an_operator_without_c_is_named_before_anything_is_written(packed, tmp_path) -> None:
    program = packed.program
    (last,) = program.outputs
    kind = next(node.type for node in program.nodes if node.name == last)
    waves = tuple(
        Node(name, f"aten.{op}.default", (Ref(last),), {}, kind)
        for name, op in (("a", "sin"), ("b", "cos"), ("c", "sin"), ("d", "sin"))
    )
    names = tuple(wave.name for wave in waves)
    longer = Program(program.inputs, program.constants, (*program.nodes, *waves), names)
    other = Artifact(packed.path, packed.manifest, longer, packed.tensors)
    told = r"got `a`, `c`, `d` \(aten\.sin\.default\), `b` \(aten\.cos\.default\); run the packed"
    with pytest.raises(LowerError, match=told):
        write_c(other, tmp_path / "out", spec="waves")
    assert not any(tmp_path.iterdir())
