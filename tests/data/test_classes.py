from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from irbin.data import check_classes, check_splits, open_dataset
from irbin.errors import DataError
from irbin.messages import counted
from irbin.records.options import SourceRecord

from .conftest import CLASSES, RGB, make_split, options


@pytest.mark.parametrize("n_outputs", [1, 2, 4, 1000])
def test_another_number_of_classes_than_the_network_has(n_outputs: int, root: Path) -> None:
    dataset = open_dataset(options(root), "validation", RGB)
    check_classes(SourceRecord("x", "x", 3, RGB), dataset)
    message = rf"expected {counted(n_outputs, 'class')}, .*got 3 in .*, `ant`, `bee`, `cat`: .*=3`$"
    with pytest.raises(DataError, match=message):
        check_classes(SourceRecord("x", "x", n_outputs, RGB), dataset)


def test_splits_with_different_classes_are_refused(root: Path) -> None:
    train, val = (open_dataset(options(root), split, RGB) for split in ("train", "val"))
    network = SourceRecord("x", "x", 3, RGB)
    check_splits(network, train, val, by_map=False)
    make_split(root / "short", ("ant", "cat", "dog"))
    other = open_dataset(options(root), "short", RGB)
    with pytest.raises(DataError, match=r"`bee`, `dog` are not in both; `class_map=`"):
        check_splits(network, train, other, by_map=False)


def test_a_class_that_one_split_lacks_is_told_before_its_number(root: Path) -> None:
    """The number alone would say that the network is another one."""
    make_split(root / "fewer", ("ant", "cat"))
    train, fewer = (open_dataset(options(root), split, RGB) for split in ("train", "fewer"))
    with pytest.raises(DataError, match=r"`bee` is not in both; `class_map=`"):
        check_splits(SourceRecord("x", "x", 3, RGB), train, fewer, by_map=False)
    with pytest.raises(DataError, match=r"expected 2 classes, .* got 3 in .*train"):
        check_splits(SourceRecord("x", "x", 2, RGB), train, fewer, by_map=False)


def trained_on(names: tuple[str, ...], published: bool = False) -> SourceRecord:
    return SourceRecord("net", "x", len(names), RGB, class_names=names, published_names=published)


@pytest.mark.parametrize("names", [CLASSES, ("Ant", "BEE", "cat")])
def test_classes_that_the_network_learned(names: tuple[str, ...], root: Path) -> None:
    check_classes(trained_on(names), open_dataset(options(root), "validation", RGB))


@pytest.mark.parametrize("published", [False, True])
def test_other_classes_than_the_network_learned(published: bool, root: Path) -> None:
    dataset = open_dataset(options(root), "validation", RGB)
    with pytest.raises(DataError, match=r"in the order that the network learned, got `ant` as "):
        check_classes(trained_on(("bee", "ant", "cat"), published), dataset)
    with pytest.raises(DataError, match=r"`net` was trained on \(`ant`, `bee`, `dog`\), got `cat`"):
        check_classes(trained_on(("ant", "bee", "dog"), published), dataset)


@pytest.mark.parametrize("published", [False, True])
def test_classes_without_a_folder_are_named(published: bool, root: Path) -> None:
    dataset = open_dataset(options(root), "validation", RGB)
    wanted = "expected images of the 5 classes that the network knows, got none of `dog`, `elk` in "
    with pytest.raises(DataError, match=f"^{wanted}.*; `class_map=` with a file that has all"):
        check_classes(trained_on(("ant", "bee", "cat", "dog", "elk"), published), dataset)
    with pytest.raises(DataError, match="expected 5 classes, one an output of the network, got 3"):
        check_classes(trained_on(("ant", "bee", "cow", "dog", "elk"), published), dataset)


def test_names_for_people_and_names_of_folders_may_have_nothing_in_common(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = open_dataset(options(root), "validation", RGB)
    with pytest.raises(DataError, match=r"trained on \(`x`, `y`, `z`\), got `ant`, `bee`, `cat` i"):
        check_classes(trained_on(("x", "y", "z")), dataset)
    assert not caplog.messages
    check_classes(trained_on(("tench", "shark", "hen"), published=True), dataset)
    check_classes(trained_on(("x", "y", "z")), dataset, by_map=True)
    assert (
        len([m for m in caplog.messages if "equal numbers are taken for equal classes" in m]) == 2
    )


def test_folders_that_torchvision_would_number_otherwise_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A network of its ImageFolder was measured on classes in another order, without a word."""
    make_split(tmp_path / "validation", ("1", "2", "10"))
    dataset = open_dataset(options(tmp_path), "validation", RGB)
    known = SourceRecord("net", "x", 3, RGB, trained=True)
    check_classes(known, dataset, by_map=True)
    check_classes(SourceRecord("net", "x", 3, RGB), dataset)
    check_classes(replace(known, class_names=("1", "2", "10")), dataset)
    assert not caplog.messages
    check_classes(known, dataset)
    (message,) = caplog.messages
    assert "class 1 is `2`, as timm counts folders; torchvision's ImageFolder has `10`" in message
