from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from irbin.errors import SourceError
from irbin.records.training import EpochRecord, LayerDiagnostics
from irbin.runs.tables import read_diagnostics, read_summary, run_names

EPOCH = EpochRecord(
    0, 1.5, 50.0, math.inf, 60.0, 90.0, 1e-05, 0.316, 3.16, 1000.0, 12.0, 0.25, 0.0312
)
LAYER = LayerDiagnostics(3, "layer1.0.conv1", *([0.5] * 8))


def table(file: Path, *rows: EpochRecord | LayerDiagnostics) -> None:
    """As `training` writes it."""
    lines = [",".join(field.name for field in fields(rows[0]))]
    lines += [",".join(str(value) for value in asdict(row).values()) for row in rows]
    file.write_text("\n".join(lines) + "\n")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    table(tmp_path / "summary.csv", EPOCH, replace(EPOCH, epoch=1))
    first, second = read_summary(tmp_path)
    assert repr([first, second]) == repr([EPOCH, replace(EPOCH, epoch=1)])  # nan is not nan
    table(tmp_path / "diagnostics.csv", LAYER)
    assert read_diagnostics(str(tmp_path)) == [LAYER]


def test_an_older_run_has_no_diagnostics_and_a_newer_one_more_columns(tmp_path: Path) -> None:
    old = [field.name for field in fields(EpochRecord)][:11]
    values = [str(getattr(EPOCH, name)) for name in old]
    text = f"{','.join(old)},novelty\n{','.join(values)},7\n"
    (tmp_path / "summary.csv").write_text(text)
    (epoch,) = read_summary(tmp_path)
    assert (epoch.seconds, epoch.eval_loss) == (12.0, math.inf)
    assert math.isnan(epoch.flip_ratio)


HEAD = ",".join(field.name for field in fields(EpochRecord)[:11])
ROW = "0,1.5,50,1.25,60,90,0.1,1,1,1000,12"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{HEAD}\n{ROW}\n{ROW[:-3]}\n",
            "{file}, line 3: expected a number under `seconds`, got nothing",
        ),
        (
            f"{HEAD}\n{ROW.replace('1.25', 'x')}\n",
            "{file}, line 2: expected a number under `eval_loss`, got `x`",
        ),
        (f"{HEAD}\n{ROW}{ROW}\n", "{file}, line 2: expected 11 cells, got more"),
        ("a,b\n1,2\n", "{file}, line 2: expected a number under `epoch`, got nothing"),
        (f"{HEAD}\n", "{file} has no epoch yet; wait until the run's first one is done"),
        ("", "{file} has no epoch yet; wait until the run's first one is done"),
    ],
    ids=["a short row", "no number", "two rows in one", "another table", "no row", "empty"],
)
def test_a_damaged_table_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "summary.csv"
    file.write_text(text)
    with pytest.raises(SourceError) as error:
        read_summary(tmp_path)
    assert str(error.value) == message.format(file=file)


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "summary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match=r"^expected a table of epochs in .*summary\.csv, got: "):
        read_summary(tmp_path)


def test_what_is_no_run_folder_is_told(tmp_path: Path) -> None:
    def message(read: object, run: Path) -> str:
        with pytest.raises(SourceError) as error:
            read(run)  # type: ignore[operator]
        return str(error.value)

    missing = tmp_path / "no"
    assert message(read_summary, missing) == (
        f"expected a run folder, got {missing}, which is no folder"
    )
    assert message(read_summary, tmp_path) == (
        f"expected a run folder of `irbin finetune`, got {tmp_path}, which has no summary.csv"
    )
    (tmp_path / "args.yaml").touch()
    assert message(read_summary, tmp_path) == (
        f"{tmp_path} has no summary.csv yet; wait until its first epoch is done"
    )
    table(tmp_path / "summary.csv", EPOCH)
    assert message(read_diagnostics, tmp_path) == (
        f"{tmp_path} has no diagnostics.csv: it trained a float network, or an older irbin "
        "trained it"
    )
    (tmp_path / "diagnostics.csv").mkdir()
    assert message(read_diagnostics, tmp_path) == (
        f"cannot read {tmp_path / 'diagnostics.csv'}: Is a directory"
    )


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (["runs/a"], ["a"]),
        (["runs/a", "runs/b/"], ["a", "b"]),
        (["x/run", "y/run", "z"], ["x/run", "y/run", "z"]),
        (["/a", "/b/a"], ["/a", "b/a"]),
        (["/"], ["/"]),
        ([], []),
    ],
)
def test_names_are_as_long_as_telling_apart_takes(runs: list[str], names: list[str]) -> None:
    assert run_names(runs) == names


def test_the_folder_one_stands_in_has_a_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_names([Path()]) == [tmp_path.name]


def test_reading_a_run_loads_no_torch() -> None:
    code = "import irbin.runs.tables, irbin.cli.plot, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
