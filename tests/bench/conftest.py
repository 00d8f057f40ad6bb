"""A packed network that several files measure."""

from pathlib import Path

import pytest

import irbin


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `converted` and `packed`; not to be changed."""
    path = tmp_path_factory.mktemp("bench")
    irbin.convert("paper:resnet20", path / "converted", shortcut="bireal")
    irbin.export(path / "converted", path / "packed")
    return path
