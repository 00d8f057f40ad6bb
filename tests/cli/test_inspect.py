from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from irbin.kernels import native
from irbin.planning.estimate import estimate
from irbin.records.json import from_json
from irbin.records.options import SourceOptions
from irbin.records.plan import Plan, PlanOptions


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    (tmp_path / "program.json").write_text('{"nodes": []}')
    (tmp_path / "config.json").write_text('{"format_version": 1}')
    (tmp_path / "packed.safetensors").write_bytes(b"x" * 1000)
    return tmp_path


def test_only_given_plan_options_are_handed_on(run, verbs) -> None:
    done = run("inspect", "net")
    assert done.code == 0
    assert verbs.calls == [("inspect", ("net",), {"source_options": SourceOptions()})]
    assert "layer1.0.conv1" in done.out
    assert "64×64×3×3" in done.out
    assert done.out.startswith("images 3×224×224: mean 0.485 0.456 0.406 (a flag); std 0.229 ")
    assert done.err == ""


@pytest.mark.parametrize("name", ["avx512_vpopcntdq", "avx2", "portable"])
def test_a_processor_that_gains_less_than_estimated_is_told_so(run, verbs, monkeypatch, name):
    monkeypatch.setattr(native, "active", lambda: name)
    done = run("inspect", "net")
    assert verbs.calls
    is_told = f"a processor that runs `avx512_vpopcntdq`; this one runs `{name}`" in done.out
    assert is_told == (name != "avx512_vpopcntdq")


def test_plan_and_source_options_arrive(run, verbs) -> None:
    run(
        "inspect", "w.pth", "--model", "net", "--no-pretrained", "--num-classes", "7", "--use-ema",
        "--remap", "--state-key", "a.b",
        "--input-size", "1", "28", "28", "--mean", "0.25", "-1/2", ".5", "--std", "0.5,0.5",
        "--interpolation", "bilinear", "--crop-pct", "0.9", "--crop-mode", "squash",
        "--model-kwargs", "depth=2", "--bits", "1w32a",
        "--keep", "a*", "--keep", "re:b", "--binarize", "c", "--shortcut", "bireal",
        "--activation", "prelu", "--binarizer", "plain", "--estimator", "ste",
    )  # fmt: skip  # fields in their order
    assert verbs.keywords == {
        "source_options": SourceOptions(
            model="net",
            pretrained=False,
            num_classes=7,
            input_size=(1, 28, 28),
            mean=(0.25, -0.5, 0.5),
            std=(0.5, 0.5),
            interpolation="bilinear",
            crop_pct=0.9,
            crop_mode="squash",
            model_kwargs={"depth": 2},
            use_ema=True,
            remap=True,
            state_key="a.b",
        ),
        "bits": "1w32a",
        "keep": ("a*", "re:b"),
        "binarize": ("c",),
        "shortcut": "bireal",
        "activation": "prelu",
        "binarizer": "plain",
        "estimator": "ste",
    }


def test_json_alone_is_on_standard_output(run, verbs) -> None:
    done = run("inspect", "net", "--json", "-")
    value = json.loads(done.out)
    assert value["images"]["stated_by"] == {"mean": "a flag"}
    assert from_json(Plan, value["plan"], "test").binary_names == ("layer1.0.conv1",)
    assert value["source"] == "net"
    assert "layer1.0.conv1" in done.err


def test_json_into_a_file_leaves_the_screen(run, verbs, tmp_path: Path) -> None:
    done = run("inspect", "net", "--json", str(tmp_path / "plan.json"))
    assert "layer1.0.conv1" in done.out
    assert json.loads((tmp_path / "plan.json").read_text())["totals"]["n_binary"] == 1


def test_a_json_target_without_folder_stops_before_the_work(run, verbs, tmp_path: Path) -> None:
    done = run("inspect", "net", "--json", str(tmp_path / "no" / "plan.json"))
    assert done.code == 2
    assert verbs.calls == []


def test_a_packed_folder_shows_its_program(run, verbs, packed: Path) -> None:
    done = run("inspect", str(packed))
    assert verbs.calls == [("inspect_packed", (str(packed),), {})]
    first = done.out.splitlines()[0]
    assert first == verbs.inspect_packed("packed").text  # neither wrapped nor read as markup
    assert done.out.rstrip().endswith("3 files, 1.03 kB")


def test_a_packed_folder_has_json_too(run, verbs, packed: Path) -> None:
    value = json.loads(run("inspect", str(packed), "--json", "-").out)
    assert value["config"] == {"format_version": 1}
    assert value["program"] == {"nodes": []}


def test_a_packed_folder_says_whether_it_reads_bytes(run, verbs, packed: Path) -> None:
    assert "its first layers read them as they are" in run("inspect", str(packed)).out
    verbs.why_floats = "`pad` (aten.pad.default) reads them"
    line = "images as bytes (`model.bytes`): normalized to floats first: `pad` (aten.pad.default) "
    assert line in run("inspect", str(packed)).out
    value = json.loads(run("inspect", str(packed), "--json", "-").out)
    assert value["why_floats"] == verbs.why_floats


def test_a_packed_folder_says_what_torch_computes(run, verbs, packed: Path) -> None:
    assert "torch computes" not in run("inspect", str(packed)).out
    assert json.loads(run("inspect", str(packed), "--json", "-").out)["torch_work"] == {
        "operators": {},
        "n_calls": 9,
    }
    verbs.torch_operators = {"gelu": 2, "softmax": 1}
    line = "torch computes 3 of 9 calls: 2 `gelu`, 1 `softmax`; with avx2 kernels"
    assert line in run("inspect", str(packed)).out
    value = json.loads(run("inspect", str(packed), "--json", "-").out)
    assert value["torch_work"]["operators"] == verbs.torch_operators
    assert value["kernels"] == "avx2"


def test_plan_options_on_a_packed_folder_are_refused(run, verbs, packed: Path) -> None:
    done = run("inspect", str(packed), "--keep", "x")
    assert done.code == 2
    assert "is packed already" in done.err


def test_what_it_gains_is_told_last(run, verbs, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, source = verbs.inspect("net")
    plan = replace(plan, options=PlanOptions(bits="1w32a"))
    monkeypatch.setattr(verbs, "inspect", lambda *_, **__: (plan, source))
    found = estimate(plan)
    assert len(found.advice) == 1
    lines = run("inspect", "net").out.splitlines()
    assert lines[-2:] == [found.verdict, *found.advice]
    value = json.loads(run("inspect", "net", "--json", "-").out)["estimate"]
    assert (value["verdict"], value["advice"]) == (found.verdict, list(found.advice))


@pytest.mark.slow
def test_what_opening_took_for_granted_is_said_once(run, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    torch.save({f"net.{name}": tensor for name, tensor in state.items()}, path)
    done = run("inspect", str(path), "--model", "test_resnet", "--num-classes", "3", "--json", "-")
    json.loads(done.out)
    n = len(state)
    note = f"note: `{path}`: {n} of {n} tensors matched after removing the prefix `net.`\n"
    assert done.err.startswith(note)
    assert done.err.count("tensors matched") == 1
    assert done.err.count("note: ") == 2  # and that nobody said how images are fed


def test_a_report_has_the_command_that_carries_the_plan_out(run, verbs, tmp_path) -> None:
    path = tmp_path / "r.html"
    done = run("inspect", "net", "--keep", "layer4.*", "--report", str(path))
    assert (done.code, done.err.splitlines()[-1]) == (0, f"wrote {path}")
    text = path.read_text("utf-8")
    assert "irbin convert net --keep &#39;layer4.*&#39; -o CONVERTED" in text
    assert "layer1.0.conv1" in text


def test_a_report_that_cannot_be_written_stops_before_the_work(run, verbs, tmp_path) -> None:
    done = run("inspect", "net", "--report", str(tmp_path / "r.txt"))
    assert (done.code, verbs.calls) == (2, [])
    assert "expected a file ending in .html" in done.err
