"""A kernel that a compile left half written is made anew, and nothing else is touched."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from irbin.training.cut_off import made_anew


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache" / "pn").mkdir(parents=True)
    return tmp_path / "cache" / "pn"


class Compiling:
    """Fails like torch's loader while one of its kernels is there and empty."""

    def __init__(self, *files: Path) -> None:
        self.files = files
        self.n_tries = 0

    def __call__(self) -> None:
        self.n_tries += 1
        for file in self.files:
            if file.exists():
                raise RuntimeError(f"InductorError: ImportError: {file}: file too short\n\nmore")


@pytest.mark.parametrize("n_files", [0, 1, 3])
def test_each_kernel_that_cannot_be_loaded_is_removed(
    cache: Path, caplog: pytest.LogCaptureFixture, n_files: int
) -> None:
    files = [cache / f"{n}.main.so" for n in range(n_files)]
    for file in files:
        file.touch()
    whole = cache / "whole.main.so"
    whole.touch()
    work = Compiling(*files)
    with caplog.at_level(logging.WARNING):
        made_anew(work)
    assert work.n_tries == n_files + 1
    assert list(cache.iterdir()) == [whole]
    assert caplog.messages == [
        f"{file}, left by a torch.compile that was cut off, is made anew" for file in files
    ]


def test_a_kernel_that_fails_again_is_an_error(cache: Path) -> None:
    n_tries = 0

    def fails() -> None:
        nonlocal n_tries
        n_tries += 1
        raise ImportError(f"{cache / 'a.so'}: invalid ELF header")

    with pytest.raises(ImportError, match="invalid ELF header"):
        made_anew(fails)
    assert n_tries == 2  # the second time it was a new file


@pytest.mark.parametrize("message", ["no compiler", "{other}: file too short"])
def test_files_outside_the_cache_are_let_be(cache: Path, tmp_path: Path, message: str) -> None:
    other = tmp_path / "cached" / "other.so"
    other.parent.mkdir()
    other.touch()

    def fails() -> None:
        raise OSError(message.format(other=other))

    with pytest.raises(OSError, match=re.escape(message.format(other=other))):
        made_anew(fails)
    assert other.exists()
