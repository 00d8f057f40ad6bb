from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.maintain.zookeeper.portable import is_absolute, portable, portable_folder

NAMES = st.text("abc-_. 0", min_size=1, max_size=6).filter(lambda s: s.strip(". "))


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("/home/me/nets/a.pth", "a.pth"),
        ("/home/me/nets/a.pth (averaged)", "a.pth (averaged)"),
        ("/home/me/runs/float/best", "float/best"),
        ("/home/me/runs/float/last", "float/last"),
        ("/home/me/runs/float", "float"),
        ("~/float", "float"),
        (r"C:\Users\me\float\best", "float/best"),
        ("local-dir:/home/me/net", "local-dir:net"),
        ("file:///home/me/net", "file:net"),
        ("https://example.org/a.pth", "https://example.org/a.pth"),
        ("runs/float", "runs/float"),
        ("zoo:resnet20-cifar10-float", "zoo:resnet20-cifar10-float"),
        ("paper:resnet20", "paper:resnet20"),
        ("", ""),
        (1.5, 1.5),
        (True, True),
        (None, None),
        ({"a": ["/x/y", {"b": ("/x/best",)}]}, {"a": ["y", {"b": ["x/best"]}]}),
    ],
    ids=str,
)
def test_of_a_path_the_end_is_left(value: Any, left: Any) -> None:
    assert portable(value) == left


@given(st.lists(NAMES, min_size=1, max_size=6), st.sampled_from(["/{}", "~/{}", "D:\\{}"]))
def test_no_path_from_the_root_is_left_and_twice_is_once(parts: list[str], form: str) -> None:
    path = form.format(("\\" if "\\" in form else "/").join(parts))
    left = portable(path)
    assert not is_absolute(left)
    assert len(left.split("/")) <= 2
    assert portable(left) == left


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        (None, None),
        ("", ""),
        ("data/cifar10", "data/cifar10"),
        ("/home/me/data/cifar10", "data/cifar10"),
        ("/data/cifar10", "data/cifar10"),
        ("/home/me/cifar10/", "cifar10"),
        ("/home/me/best", "best"),
    ],
)
def test_a_folder_of_images_keeps_data(typed: str | None, left: str | None) -> None:
    assert portable_folder(typed) == left
