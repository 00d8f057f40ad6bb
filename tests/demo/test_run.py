"""The demo's journey on a sliver of its data: everything written, everything measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from irbin.demo import dataset
from irbin.demo.run import run_demo
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


@pytest.mark.usefixtures("sliver")
def test_the_packed_row_comes_from_the_packed_file(tmp_path: Path) -> None:
    stages: list[str] = []
    plans, steps, epochs = [], [], []
    record = run_demo(
        tmp_path / "demo", epochs=2, on_stage=stages.append, on_plan=plans.append,
        report=steps.append, on_epoch=epochs.append,
    )  # fmt: skip
    assert [e.kind for e in record.evaluations] == ["float", "binary", "packed"]
    assert [e.n_images for e in record.evaluations] == [80, 80, 80]
    float_row, binary, packed = record.evaluations
    assert float_row.top1 > 80
    assert packed.top1 == binary.top1
    assert record.agreement.equal_top1 == 100
    assert float_row.size_bytes > 10 * packed.size_bytes
    files = list((tmp_path / "demo" / "packed").iterdir())
    assert packed.size_bytes == sum(f.stat().st_size for f in files) == record.export.total_bytes
    assert len(plans) == 1
    assert len(epochs) == 2
    assert len(stages) == 4
    manifest = json.loads((tmp_path / "demo" / "packed" / "config.json").read_text())
    assert "t-shirt" in manifest["source"]["class_names"]


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="exists; give another one, or `--overwrite`"):
        run_demo(tmp_path)
    with pytest.raises(UsageError, match="is not a demo's folder, so it is not replaced"):
        run_demo(tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "precious"
