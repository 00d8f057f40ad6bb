from __future__ import annotations

from pathlib import Path

import pytest

from irbin.records import DataOptions, SourceOptions


def test_convert_hands_on_what_was_given(run, verbs) -> None:
    done = run("convert", "net", "-o", "out", "--bits", "1w32a", "--overwrite")
    assert done.code == 0
    assert verbs.calls == [
        ("convert", ("net", Path("out")), {
            "source_options": SourceOptions(), "data": None, "calibrate": 0, "overwrite": True,
            "bits": "1w32a",
        })
    ]  # fmt: skip
    assert done.out.endswith("wrote out\n")
    assert done.err == "next: irbin finetune out --data-dir DATA -o RUN\n"


def test_a_backbone_is_not_sent_to_finetune(run, verbs) -> None:
    verbs.num_classes = 0
    done = run("convert", "net", "-o", "out", "--num-classes", "0")
    assert done.err == (
        "next: train it with a head in a loop of your own, see docs/your-own-network.md\n"
    )


@pytest.mark.parametrize(
    ("words", "n_images"),
    [
        (["--data-dir", "d"], 1024),
        (["--dataset", "torch/cifar10"], 1024),
        (["--data-dir", "d", "--calibrate", "0"], 0),
        (["--data-dir", "d", "--calibrate", "5"], 5),
        ([], 0),
    ],
)
def test_data_means_calibration(run, verbs, words: list[str], n_images: int) -> None:
    assert run("convert", "net", "-o", "out", *words).code == 0
    assert verbs.keywords["calibrate"] == n_images
    assert isinstance(verbs.keywords["data"], DataOptions) == (n_images > 0)


def test_calibration_without_data_is_refused(run, verbs) -> None:
    done = run("convert", "net", "-o", "out", "--calibrate", "5")
    assert (done.code, verbs.calls) == (2, [])
    assert done.err == "irbin: `--calibrate` needs images: give `--data-dir` or `--dataset`\n"
