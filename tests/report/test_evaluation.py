from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from irbin.records.counts import Bin, Counts
from irbin.records.options import Preprocessing
from irbin.records.results import Agreement, Evaluation
from irbin.report.evaluation import (
    MAX_CLASSES,
    MAX_DISAGREEMENTS,
    accuracy_table,
    agreement_lines,
    calibration_line,
    class_table,
    confusion_lines,
    disagreement_table,
    feeding_lines,
    figures_table,
    flips_table,
    input_lines,
    kernel_lines,
    margin_line,
    speed_line,
    unseen_line,
)
from irbin.report.images import feeding_line


@pytest.mark.parametrize("width", [80, 120])
def test_networks_stand_side_by_side_uncut(evaluation, render, width: int) -> None:
    rows = [
        evaluation(name="resnet18.a1_in1k"),
        evaluation(name="runs/cifar10/resnet18-1w1a", kind="binary", top1=91.0),
        evaluation(name="packed", kind="packed", top1=91.0, size_bytes=4_190_000),
    ]
    text = render(accuracy_table(rows, width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for part in ("on 1,000 images", "93.46", "91.00", "46.8 MB", "4.19 MB", "11.2×", "0.3456"):
        assert part in text


def test_ratio_is_to_the_float_network_or_to_the_own_parameters(evaluation, render) -> None:
    packed = evaluation(kind="packed", size_bytes=4_675_804, param_count=11_689_510)
    assert "10.0×" in render(accuracy_table([packed], 80), 80)
    twice = evaluation(size_bytes=2 * 46_758_040)
    assert "20.0×" in render(accuracy_table([twice, packed], 80), 80)


def test_images_a_second_are_the_networks_and_the_line_has_the_whole(evaluation, render) -> None:
    rows = [evaluation(), evaluation(images_per_second_decoded=34.0)]
    assert "1.23 k" in render(accuracy_table(rows, 100), 100)
    assert speed_line(rows).endswith("with decoding and waiting for images 38, 34")


def test_differing_image_counts_get_a_column(evaluation, render) -> None:
    text = render(accuracy_table([evaluation(), evaluation(n_images=77)], 120), 120)
    assert "images/s  images" in text
    assert "77" in text


def test_every_class_has_its_row(evaluation, render) -> None:
    table = class_table([evaluation(), evaluation(kind="binary", per_class={"cat": 80.0})], 80)
    assert table is not None
    lines = render(table, 80).splitlines()
    assert [line.split() for line in lines[-2:]] == [
        ["cat", "90.00", "80.00"],
        ["dog", "95.50", "–"],
    ]
    assert lines[1].split() == ["class", "float", "binary"]


def test_no_classes_no_table(evaluation) -> None:
    assert class_table([evaluation(per_class={})], 80) is None


@pytest.mark.parametrize(
    ("n_classes", "n_rows"), [(MAX_CLASSES, MAX_CLASSES), (MAX_CLASSES + 1, 11)]
)
def test_many_classes_show_both_ends(evaluation, render, n_classes: int, n_rows: int) -> None:
    scores = {f"c{i:02d}": float(n_classes - i) for i in range(n_classes)}
    table = class_table([evaluation(per_class=scores)], 80)
    assert table is not None
    assert table.row_count == n_rows
    text = render(table, 80)
    assert "c00" in text
    assert f"c{n_classes - 1:02d}" in text
    assert ("… 11 more" in text) == (n_rows == 11)


def test_networks_of_one_form_are_told_apart_by_name(evaluation, render) -> None:
    table = class_table([evaluation(name="a/x"), evaluation(name="b/y/")], 80)
    assert table is not None
    assert render(table, 80).splitlines()[1].split() == ["class", "x", "(float)", "y", "(float)"]


def test_agreement_counts_all_signs(agreement: Agreement) -> None:
    lines = agreement_lines("run", "packed", agreement)
    assert lines[0] == "packed against run:"
    assert "99.90 % of 1,000 images" in lines[1]
    assert lines[3].strip() == "3 of 3,000 signs flipped"


def test_a_backbone_has_no_top_1(agreement: Agreement) -> None:
    lines = agreement_lines("a", "b", replace(agreement, equal_top1=None))
    assert lines[1].endswith(" images, no top-1 without a classifier")
    assert lines[2].startswith("  largest difference of an output ")


def test_only_layers_with_flips_are_listed(agreement: Agreement, render) -> None:
    table = flips_table(agreement, 80)
    assert table is not None
    text = render(table, 80)
    assert "a.conv" in text
    assert "b.conv" not in text
    assert flips_table(replace(agreement, layers=agreement.layers[1:]), 80) is None


@pytest.mark.parametrize("n", [0, 1, MAX_DISAGREEMENTS, MAX_DISAGREEMENTS + 3])
def test_disagreements_are_explained_up_to_a_page(agreement: Agreement, render, n: int) -> None:
    table = disagreement_table(replace(agreement, disagreements=agreement.disagreements * n), 120)
    if n == 0:
        assert table is None
        return
    assert table is not None
    text = render(table, 120)
    assert text.count("a.conv flipped") == min(n, MAX_DISAGREEMENTS)
    assert ("3 more; all are in the JSON" in text) == (n > MAX_DISAGREEMENTS)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_five_networks_are_not_cut(width: int) -> None:
    names = [f"runs/quick-resnet20-cifar10-seed-{i}" for i in range(5)]
    networks = [
        Evaluation(
            name,
            "binary",
            10_000,
            86.12,
            99.2,
            0.41,
            {"airplane": 80.0 + i},
            3360.0,
            10,
            10,
            Preprocessing(),
        )
        for i, name in enumerate(names)
    ]
    screen = Console(width=width, file=io.StringIO())
    screen.print(class_table(networks, width))
    screen.print(accuracy_table(networks, width))
    shown = screen.file.getvalue()
    assert all(f"{80 + i}.00" in shown for i in range(5))
    assert "numbered as in" in shown
    assert "…" not in shown
    assert all(
        any(line.startswith(f"{name}  binary") for line in shown.splitlines()) for name in names
    )
    assert shown.count("86.12") == 5
    assert shown.count("0.4100") == (5 if width >= 80 else 0)
    assert shown.count("3.36 k") == (5 if width >= 100 else 0)


def test_how_images_were_fed_and_which_kernels_ran() -> None:
    one = Evaluation(
        "a",
        "packed",
        1,
        1.0,
        1.0,
        1.0,
        {},
        1.0,
        1,
        1,
        Preprocessing(),
        {"mean": "x"},
        "avx2 kernels",
    )
    other = replace(one, name="b", stated_by={"std": "y"})
    assert feeding_lines([one, one]) == [feeding_line(one.preprocessing, one.stated_by)]
    assert [line[:3] for line in feeding_lines([one, other])] == ["a: ", "b: "]
    assert kernel_lines([one, other]) == ["packed networks ran on avx2 kernels"]
    assert kernel_lines([replace(one, kernels=None)]) == []


def test_bytes_are_told_where_a_network_was_given_them(evaluation) -> None:
    one = evaluation(kind="packed")
    assert input_lines([one]) == []
    (line,) = input_lines([one, replace(one, input_type="bytes")], compared=True)
    assert line.startswith("packed networks read images as bytes, by weights of 16 bits")
    assert "`--input-type float32` gives them normalized floats (comparisons with" in line


LONG = "stages.0.blocks.1.token_mixer.reparam_conv"


@pytest.mark.parametrize("width", [60, 80, 100])
def test_names_of_layers_and_classes_stay_whole(agreement, evaluation, render, width: int) -> None:
    flipped = replace(agreement.layers[0], name=LONG)
    told = replace(agreement.disagreements[0], explanation=f"`{LONG}` flipped 3 signs")
    found = replace(agreement, layers=(flipped,), disagreements=(told,))
    scores = {"Chesapeake_Bay_retriever": 90.0, "a": 80.0}
    networks = [
        evaluation(name=f"runs/seed-{i}", kind="binary", per_class=scores) for i in range(4)
    ]
    flips, images, classes = (
        flips_table(found, width),
        disagreement_table(found, width),
        class_table(networks, width),
    )
    for table, name in (
        (flips, LONG),
        (images, f"`{LONG}`" if width > 60 else "flipped"),
        (classes, "Chesapeake_Bay_retriever"),
    ):
        assert table is not None
        text = render(table, width)
        assert any(name in line for line in text.splitlines())
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text


def test_networks_of_one_name_and_form_are_told_apart(evaluation, render) -> None:
    table = class_table([evaluation(name="a/run"), evaluation(name="b/run")], 80)
    assert table is not None
    assert "1 run (float)  2 run (float)" in render(table, 80)


PETS = Counts(("cat", "dog"), ((0, 0, 8), (0, 1, 2), (1, 0, 1)), (Bin(11, 0.9, 0.8),))


def test_chance_stands_beside_accuracy(evaluation, render) -> None:
    assert "93.46±1.54" in render(accuracy_table([evaluation()], 80), 80)
    assert margin_line([evaluation(), evaluation(n_images=4000)]).endswith("±0.61, ±0.30")


def test_one_network_has_its_figures_by_class(evaluation, render) -> None:
    text = render(figures_table(evaluation(counts=PETS), 80), 80)
    assert [line.split() for line in text.splitlines() if line.startswith(("cat", "dog"))] == [
        ["cat", "10", "88.89", "80.00", "84.21"],
        ["dog", "1", "0.00", "0.00", "0.00"],
    ]
    assert figures_table(evaluation(), 80) is None


def test_of_many_classes_the_worst_and_the_best_are_shown(evaluation, render) -> None:
    n = MAX_CLASSES + 1
    pairs = tuple(pair for i in range(n) for pair in ((i, i, i + 1), (i, (i + 1) % n, 1)))
    counts = Counts(tuple(f"class{i}" for i in range(n)), pairs, ())
    text = render(figures_table(evaluation(counts=counts), 80), 80)
    assert "… 11 more" in text
    assert sum(line.startswith("class") for line in text.splitlines()) == 1 + 10


def test_classes_without_an_image_are_named(evaluation) -> None:
    names = tuple("abcdef")
    assert unseen_line([evaluation(), evaluation(counts=Counts(names, ((0, 1, 2),), ()))]) == (
        "5 of 6 classes have no image: `b`, `c`, `d` and 2 more"
    )
    one = Counts(("a", "b"), ((1, 0, 2),), ())
    assert unseen_line([evaluation(counts=one)]) == "1 of 2 classes has no image: `a`"
    assert unseen_line([evaluation(counts=PETS)]) == unseen_line([evaluation()]) == ""


def test_what_is_taken_for_what_is_said_of_each_network(evaluation) -> None:
    networks = [evaluation(counts=PETS), evaluation(kind="packed", counts=PETS)]
    lines = confusion_lines(networks)
    assert lines[0] == "float most often answers dog for cat 2×, cat for dog 1×"
    assert lines[1].startswith("packed most often answers")
    assert calibration_line(networks) == "expected calibration error 10.00, 10.00 %"
    assert confusion_lines([evaluation()]) == []
    assert calibration_line([evaluation()]) == ""
