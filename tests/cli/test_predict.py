from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

PACKED = "zoo:resnet20-cifar10-1w1a"


@pytest.fixture(scope="module")
def photos(pictures28: Path) -> Path:
    return pictures28 / "val" / "dots"


def test_a_line_an_image(run, photos: Path) -> None:
    done = run("predict", PACKED, str(photos), "--topk", "2")
    lines = done.out.splitlines()
    assert done.code == 0
    assert [line.split(": ")[0] for line in lines] == [str(photos / f"{i}.png") for i in range(6)]
    assert all(line.count("%") == 2 for line in lines)
    assert "6 images" in done.err
    assert "the network alone" in done.err


def test_one_image_says_nothing_of_speed(run, photos: Path) -> None:
    done = run("predict", PACKED, str(photos / "0.png"))
    assert done.err == ""
    assert done.out.count("\n") == 1


@pytest.mark.parametrize("to_file", [False, True])
def test_csv_and_json_say_the_same(run, photos: Path, tmp_path: Path, to_file: bool) -> None:
    texts = []
    for kind in ("csv", "json"):
        words = ("-o", str(tmp_path / f"a.{kind}")) if to_file else ("--format", kind)
        done = run("predict", PACKED, str(photos), "--topk", "3", *words)
        assert done.code == 0
        texts.append((tmp_path / f"a.{kind}").read_text() if to_file else done.out)
    rows, told = list(csv.DictReader(texts[0].splitlines())), json.loads(texts[1])
    assert [row["class_3"] for row in rows] == [one["best"][2]["class"] for one in told]
    assert [float(row["probability_1"]) for row in rows] == [
        one["best"][0]["probability"] for one in told
    ]
    assert [row["error"] for row in rows] == [""] * 6


@pytest.mark.parametrize("to_file", [False, True])
def test_json_is_the_format_and_its_file(run, photos: Path, tmp_path: Path, to_file: bool) -> None:
    file = tmp_path / "answers"
    plain = run("predict", PACKED, str(photos), "--format", "json")
    done = run("predict", PACKED, str(photos), "--json", str(file) if to_file else "-")
    assert done.code == 0
    assert (file.read_text() if to_file else done.out) == plain.out


def test_a_damaged_picture_is_told_at_the_end(run, photos: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    done = run("predict", PACKED, str(bad), str(photos / "0.png"), "--format", "csv")
    assert done.code == 1
    rows = list(csv.DictReader(done.out.splitlines()))
    assert [bool(row["error"]) for row in rows] == [True, False]
    assert done.err.splitlines()[-1].startswith(f"irbin: no answer for 1 of 2 images ({bad}: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{photos}", "--json", "-", "--format", "csv"), "leave `--format` and `-o` out"),
        (("{photos}", "--json", "-", "-o", "a.csv"), "leave `--format` and `-o` out"),
        (("nope.png",), "`nope.png`, which is not there"),
        (("{photos}", "-o", "{photos}"), "`-o`: expected a file or `-`, got the folder"),
        (("{photos}", "-o", "a.txt"), "expected a file that ends in .csv, .json or .parquet"),
        (("{photos}", "-o", "a.csv", "--format", "table"), "is for the screen"),
        (
            ("{photos}/0.png", "-o", "{photos}/0.png", "--format", "csv"),
            "read by this command",
        ),
        (("{photos}", "--format", "parquet"), "name a file with `-o`"),
        (("{photos}", "-o", "nodir/a.csv"), "the folder of nodir/a.csv does not exist"),
    ],
)
def test_what_cannot_be_is_refused(run, photos: Path, words: tuple[str, ...], message: str) -> None:
    before = (photos / "0.png").read_bytes()
    done = run("predict", PACKED, *(word.format(photos=photos) for word in words))
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert (photos / "0.png").read_bytes() == before


def test_columns_are_no_more_than_classes(run, photos: Path) -> None:
    done = run("predict", PACKED, str(photos / "0.png"), "--topk", "50", "--format", "csv")
    assert done.out.splitlines()[0].count("class_") == 10
