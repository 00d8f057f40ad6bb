"""The demo's journey on a sliver of its data: everything written, everything measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from irbin.artifact.schema import FILES
from irbin.demo import dataset, run
from irbin.demo.run import _copy_float, run_demo
from irbin.errors import UsageError


@pytest.fixture
def sliver(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dataset.load_subset()
    few = {}
    for split, n in (("train", 16), ("val", 8)):
        images, labels = whole[split]
        chosen = np.concatenate([np.flatnonzero(labels == c)[:n] for c in range(10)])
        few[split] = images[chosen], labels[chosen]
    monkeypatch.setattr(dataset, "load_subset", lambda: few)


@pytest.mark.slow
@pytest.mark.usefixtures("sliver")
def test_the_packed_row_comes_from_the_packed_file(tmp_path: Path) -> None:
    stages: list[str] = []
    plans, steps, epochs = [], [], []
    record = run_demo(
        tmp_path / "demo",
        epochs=2,
        on_stage=stages.append,
        on_plan=plans.append,
        report=steps.append,
        on_epoch=epochs.append,
    )
    assert [e.kind for e in record.evaluations] == ["float", "binary", "packed"]
    assert [e.n_images for e in record.evaluations] == [80, 80, 80]
    float_row, binary, packed = record.evaluations
    assert float_row.top1 > 80
    assert packed.top1 == binary.top1
    assert record.agreement.equal_top1 == 100
    assert float_row.size_bytes > 10 * packed.size_bytes
    files = [tmp_path / "demo" / "packed" / name for name in FILES]
    assert packed.size_bytes == sum(f.stat().st_size for f in files) == record.export.total_bytes
    assert len(plans) == 1
    assert len(epochs) == 2
    assert len(stages) == 4
    manifest = json.loads((tmp_path / "demo" / "packed" / "config.json").read_text())
    assert "t-shirt" in manifest["source"]["class_names"]


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="exists; give another one, or `overwrite=True`"):
        run_demo(tmp_path)
    with pytest.raises(UsageError, match=r"is not a demo's folder \(it has `mine\.txt`\), so"):
        run_demo(tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("name", ["data.partial", "float.partial", "packed.previous", "run"])
def test_what_a_demo_that_was_killed_left_is_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    run._prepare(tmp_path, overwrite=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("sliver")
def test_one_epoch_is_enough_for_a_warm_up_that_nobody_asked_for(tmp_path: Path) -> None:
    record = run_demo(tmp_path / "demo", epochs=1)
    assert len(record.evaluations) == 3


def test_what_cannot_be_meant_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`epochs`"):
        run_demo(tmp_path / "demo", epochs=0)
    assert not (tmp_path / "demo").exists()


def test_a_folder_of_the_users_own_with_data_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match=r"is not a demo's folder \(it has `thesis\.tex`\)"):
        run_demo(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_the_float_network_is_the_users_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied from an installation that nobody may write to."""
    shipped = tmp_path / "demo" / "data" / "float"
    shipped.mkdir(parents=True)
    (shipped / "config.json").write_text("{}")
    (shipped / "config.json").chmod(0o444)
    shipped.chmod(0o555)
    monkeypatch.setattr("irbin.demo.run.files", lambda _: tmp_path / "demo")
    _copy_float(tmp_path / "mine")
    for place in (tmp_path / "mine", tmp_path / "mine" / "config.json"):
        assert place.stat().st_mode & 0o200
    shipped.chmod(0o755)
