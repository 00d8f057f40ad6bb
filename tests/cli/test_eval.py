from __future__ import annotations

import json

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
