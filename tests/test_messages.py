from __future__ import annotations

import ast
import errno
import os
from pathlib import Path

import pytest

import irbin
from irbin.messages import (
    LONGEST,
    counted,
    first_line,
    in_a_row,
    lacks_memory,
    lacks_room,
    names_of,
    nearest,
    nearest_names,
    one_line,
    system_says,
    with_class,
    without_folders,
)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("resnet19", ["resnet18", "vit"], "; nearest: `resnet18`"),
        ("resnet19", ["vit"], ""),
        ("resnet19", [], ""),
        ("ab", ["abc", "abc"], "; nearest: `abc`"),
    ],
)
def test_nearest_names(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected


@pytest.mark.parametrize(
    ("n", "noun", "expected"),
    [
        (0, "image", "0 images"),
        (1, "image", "1 image"),
        (1_000, "image", "1,000 images"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (2, "process", "2 processes"),
        (2, "epoch", "2 epochs"),
        (2, "batch", "2 batches"),
        (3, "binary layer", "3 binary layers"),
    ],
)
def test_one_thing_is_no_plural(n: int, noun: str, expected: str) -> None:
    assert counted(n, noun) == expected


def test_at_most_three_are_named() -> None:
    assert nearest("layer", [f"layer{i}" for i in range(9)]).count("`") == 6


def test_names_are_counted_past_three() -> None:
    assert names_of([]) == "nothing"
    assert names_of("abc") == "`a`, `b`, `c`"
    assert names_of("abcde") == "`a`, `b`, `c` and 2 more"


def test_names_of_several_words_stay_apart_in_a_row() -> None:
    assert in_a_row(["house cat", "dog"]) == "house cat, dog"
    assert in_a_row([0.9, 0.999]) == "0.9, 0.999"
    assert in_a_row(["a, b", 'say "c"', "d"]) == '"a, b", "say ""c""", d'
    assert in_a_row([]) == ""


def test_the_nearest_name_comes_first() -> None:
    assert nearest_names("adamw", ["sgd", "adam", "adamw_"]) == ["adamw_", "adam"]


@pytest.mark.parametrize(
    ("message", "first", "whole", "with_its_class"),
    [
        ("one", "one", "one", "ValueError: one"),
        ("\n one\n  two \n", "one", "one two", "ValueError: one"),
        ("", "ValueError", "ValueError", "ValueError"),
        (" \n", "ValueError", "ValueError", "ValueError"),
        ("cannot identify <_io.BytesIO object at 0x7f>", "cannot identify", None, None),
        ("x" * LONGEST, "x" * LONGEST, "x" * LONGEST, None),
        ("x" * (LONGEST + 1), "x" * (LONGEST - 1) + "…", "x" * (LONGEST - 1) + "…", None),
    ],
)
def test_what_an_error_was(
    message: str, first: str, whole: str | None, with_its_class: str | None
) -> None:
    error = ValueError(message)
    assert first_line(error) == first
    assert one_line(error) == (whole or first)
    assert with_class(error) == (with_its_class or f"ValueError: {first}")


def test_what_the_system_says_names_no_file_and_is_never_none() -> None:
    assert system_says(OSError(2, "No such file", "x")) == "No such file"
    assert system_says(OSError("device is gone")) == "device is gone"


@pytest.mark.slow
def test_what_the_system_says_is_taken_out_of_a_librarys_words() -> None:
    words = "Error writing bytes to file. Detail: [errno 28] No space left on device"
    assert system_says(OSError(errno.ENOSPC, words, "f.parquet")) == os.strerror(errno.ENOSPC)


def test_a_lack_of_memory_is_known_whoever_tells_of_it() -> None:
    short = (
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"),
    )
    assert all(map(lacks_memory, short))
    assert not any(
        map(lacks_memory, (RuntimeError("memory format"), ValueError(), OSError(28, "")))
    )


def test_a_full_disk_is_known_whoever_tells_of_it() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    told = ValueError("cannot be written")
    told.__cause__ = full
    assert all(map(lacks_room, (full, OSError(errno.EDQUOT, "Quota"), told)))
    assert lacks_room(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not any(map(lacks_room, (None, OSError(errno.EACCES, "Permission"), ValueError("28"))))


def test_nobody_takes_an_error_apart_himself() -> None:
    root = Path(irbin.__file__).parent
    own = {
        f"{path.relative_to(root)}:{node.lineno}"
        for path in root.rglob("*.py")
        if path.name != "messages.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.Call) and _takes_apart(node)) or _is_named_likewise(node)
    }
    assert own == set()


def _takes_apart(call: ast.Call) -> bool:
    """`str(error).strip().splitlines()`, `" ".join(str(error).split())` and the like."""
    method = call.func
    if not (isinstance(method, ast.Attribute) and method.attr in {"split", "splitlines"}):
        return False
    inner = [n for n in ast.walk(method.value) if isinstance(n, ast.Call)]
    return any(ast.unparse(n).startswith("str(err") for n in inner)


def _is_named_likewise(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in {"difflib", "get_close_matches"}


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("zoo:resnet20-cifar10-float", "zoo:resnet20-cifar10-float"),
        ("hf-hub:me/net", "hf-hub:me/net"),
        ("module:nets:make", "module:nets:make"),
        ("local-dir:/home/me/net", "local-dir:net"),
        ("./nets/a.pth", "a.pth"),
        ("/home/me/net/", "net"),
        ("C:\\me\\net.pth", "net.pth"),
        (".hidden", ".hidden"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_of_a_path_the_last_part_is_told(text: str, sent: str) -> None:
    assert without_folders(text) == sent


def test_hints_of_torchs_are_left_out() -> None:
    text = (
        "a tensor was modified; expected version 0 instead. Hint: enable anomaly detection, with X."
    )
    for line in (first_line, one_line):
        assert line(RuntimeError(text)) == "a tensor was modified; expected version 0 instead."
        assert line(RuntimeError("a hint: this one is nobody's")) == "a hint: this one is nobody's"
