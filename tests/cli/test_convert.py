from __future__ import annotations

import json
from pathlib import Path

import pytest

from irbin.records.options import DataOptions, SourceOptions


def test_convert_hands_on_what_was_given(run, verbs) -> None:
    done = run("convert", "net", "-o", "out", "--bits", "1w32a", "--overwrite")
    assert done.code == 0
    assert verbs.calls == [
        (
            "convert",
            ("net", Path("out")),
            {
                "source_options": SourceOptions(),
                "data": None,
                "calibrate": 0,
                "overwrite": True,
                "recipe": None,
                "bits": "1w32a",
            },
        )
    ]
    assert done.out.endswith("wrote out\n")
    assert done.err == "next: irbin finetune out --data-dir DATA -o RUN\n"


def test_a_recipe_may_name_the_network_and_the_seed(run, verbs, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("source: paper:resnet20\nseed: 7\n")
    done = run("convert", "--recipe", str(recipe), "-o", "out")
    assert verbs.calls[-1][1] == (None, Path("out"))
    assert verbs.keywords["recipe"] == str(recipe)
    assert verbs.keywords["source_options"].seed is None  # so the recipe's is taken
    assert done.err == f"next: irbin finetune out --data-dir DATA -o RUN --recipe {recipe}\n"
    run("convert", "net", "--recipe", str(recipe), "-o", "out", "--seed", "9")
    assert verbs.calls[-1][1] == ("net", Path("out"))
    assert verbs.keywords["source_options"].seed == 9


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


def test_json_says_where_and_what(run, verbs) -> None:
    done = run("convert", "net", "-o", "out", "--json", "-")
    value = json.loads(done.out)
    assert (value["path"], value["source"]["spec"]) == ("out", "net")
    assert value["totals"]["n_binary"] == 1
    assert value["plan"]["decisions"][0]["binary"] is True
    assert "wrote out" in done.err
