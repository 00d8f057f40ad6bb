from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path

import pytest

from irbin.records.options import DataOptions, SourceOptions

LINE = ("--data-dir", "d", "--device", "cpu")


def test_one_network(run, verbs) -> None:
    done = run("eval", "float", *LINE, "--split", "test")
    assert verbs.calls == [
        (
            "evaluate",
            ("float",),
            {
                "data": DataOptions(data_dir="d", val_split="test"),
                "source_options": SourceOptions(),
                "device": "cpu",
                "channels_last": False,
                "amp": None,
                "input_type": None,
                "predictions": 0,
            },
        )
    ]
    assert "60.00" in done.out
    assert "cat" in done.out


def test_json_of_one_network_has_timms_keys(run, verbs) -> None:
    value = json.loads(run("eval", "float", *LINE, "--json", "-").out)
    keys = ["model", "top1", "top1_err", "top5", "top5_err", "param_count", "img_size"]
    assert list(value)[:7] == keys
    assert value["per_class"] == {"cat": 50.0}


def test_packed_beside_binary_is_compared(run, verbs) -> None:
    done = run("eval", "float", "run", "packed", *LINE)
    assert [call[0] for call in verbs.calls] == ["evaluate"] * 3 + ["compare"]
    assert verbs.calls[-1][1] == ("run", "packed")
    assert "packed against run:" in done.out
    assert "0 of 100 signs flipped" in done.out


def test_json_of_several_networks_is_a_list(run, verbs) -> None:
    values = json.loads(run("eval", "run", "packed", *LINE, "--json", "-").out)
    assert [value["model"] for value in values] == ["run", "packed"]
    assert "agreement" not in values[0]
    assert values[1]["agreement"]["with"] == "run"
    assert values[1]["agreement"]["equal_top1"] == 100.0


@pytest.mark.parametrize(
    ("sources", "partner"),
    [
        (["packed", "run"], "run"),
        (["run", "packed", "run2"], "run"),
        (["run", "run2", "packed"], "run2"),
    ],
)
def test_the_partner_is_the_binary_named_last_before(run, verbs, sources, partner: str) -> None:
    run("eval", *sources, *LINE)
    assert verbs.calls[-1][:2] == ("compare", (partner, "packed"))


@pytest.mark.parametrize("sources", [["float", "packed"], ["float", "run"], ["packed"]])
def test_nothing_is_compared_without_both(run, verbs, sources: list[str]) -> None:
    assert run("eval", *sources, *LINE).code == 0
    assert all(call[0] == "evaluate" for call in verbs.calls)


def test_a_checkpoint_goes_with_one_source(run, verbs) -> None:
    assert run("eval", "net", "--checkpoint", "w.pth", *LINE).code == 0
    assert verbs.calls[-1][1] == ("w.pth",)
    assert verbs.keywords["source_options"].model == "net"
    done = run("eval", "a", "b", "--checkpoint", "w.pth", *LINE)
    assert done.code == 2
    assert "`--checkpoint` goes with one SOURCE, got 2" in done.err


def test_no_network_is_an_error(run, verbs) -> None:
    done = run("eval", *LINE)
    assert (done.code, verbs.calls) == (2, [])
    assert "expected a SOURCE" in done.err


def test_an_unknown_device_stops_before_the_work(run, verbs) -> None:
    done = run("eval", "float", "--data-dir", "d", "--device", "tpu9")
    assert (done.code, verbs.calls) == (2, [])
    assert done.err == (
        "irbin: `--device`: expected one that this machine has, got `tpu9`; try `cpu` or `auto`\n"
    )


def test_a_checkpoints_architecture_is_not_said_of_folders(run, verbs, tmp_path) -> None:
    """`irbin eval CHECKPOINT run packed --model NAME`, as the demo ends."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text('{"irbin": {}}')
    run("eval", "w.pth", str(folder), "--model", "net", "--mean", "0", *LINE)
    first, second = (call[2]["source_options"] for call in verbs.calls)
    assert (first.model, first.mean) == ("net", (0.0,))
    assert (second.model, second.mean) == (None, (0.0,))


@pytest.mark.slow
def test_every_image_is_written_with_what_each_network_says(run, pictures28, tmp_path) -> None:
    out, value = tmp_path / "all.csv", tmp_path / "all.json"
    words = ("eval", "paper:resnet20", "--num-classes", "3", "--no-pretrained", "-b", "4")
    done = run(*words, "--data-dir", str(pictures28), "-j", "0", "--predictions", str(out))
    assert done.code == 0, done.err
    rows = list(csv.DictReader(out.read_text().splitlines()))
    files = sorted(str(file) for file in (pictures28 / "val").rglob("*.png"))
    assert [row["file"] for row in rows] == files
    assert [row["class"] for row in rows] == [Path(file).parent.name for file in files]
    done = run(*words, "--data-dir", str(pictures28), "-j", "0", "--json", str(value))
    shown = json.loads(value.read_text())
    right = [row["float_right"] == "True" for row in rows]
    assert 100 * sum(right) / len(right) == pytest.approx(shown["top1"], abs=1e-3)
    assert sum(pair["images"] for pair in shown["confusion"]) == shown["n_images"] == 18
    assert {"class", "answer", "images"} == set(shown["confusion"][0])
    assert shown["top1_margin"] > 0
    assert "recall %" in done.out


@pytest.mark.parametrize(("target", "message"), [("a.txt", "ends in .csv"), ("x/a.csv", "folder")])
def test_predictions_that_cannot_be_written_are_refused_at_once(
    run, verbs, target: str, message: str
) -> None:
    done = run("eval", "float", *LINE, "--predictions", target)
    assert (done.code, verbs.calls) == (2, [])
    assert message in done.err


@pytest.mark.slow
def test_a_report_shows_what_each_network_says_with_a_file_beside(
    run, pictures28, tmp_path
) -> None:
    words = ("eval", "paper:resnet20", "--num-classes", "3", "--no-pretrained", "-b", "4")
    words += ("--data-dir", str(pictures28), "-j", "0", "--report", str(tmp_path / "r.html"))
    done = run(*words)
    assert done.code == 0, done.err
    assert f"wrote {tmp_path}/r.html and {tmp_path}/r-images.csv" in done.err
    assert len((tmp_path / "r-images.csv").read_text().splitlines()) == 19
    assert "<img" in (tmp_path / "r.html").read_text()
    assert run(*words, "--no-images").code == 0
    assert "<img" not in (tmp_path / "r.html").read_text()


def test_a_report_that_cannot_be_written_stops_before_the_work(run, verbs, tmp_path) -> None:
    for name in ("r.pdf", "no/r.html", "."):
        done = run("eval", "float", *LINE, "--report", str(tmp_path / name))
        assert (done.code, verbs.calls) == (2, [])
        assert done.err.startswith("irbin: `--report`: expected a file") or "no/r.html" in done.err


def test_a_report_takes_one_process(run, verbs, tmp_path, monkeypatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    done = run("eval", "float", *LINE, "--report", str(tmp_path / "r.html"))
    assert (done.code, verbs.calls) == (2, [])
    assert "`--report` is written by one process; run it without torchrun" in done.err


def test_a_report_keeps_the_answers_to_every_image(run, verbs, monkeypatch, tmp_path) -> None:
    written = []
    real = importlib.import_module("irbin.reporting")
    monkeypatch.setattr(real, "write_evaluation_report", lambda *args, **kw: written.append(kw))
    run("eval", "float", *LINE, "--report", str(tmp_path / "r.html"))
    assert verbs.calls[0][2]["predictions"] == 5
    assert written == [{"with_images": True}]
