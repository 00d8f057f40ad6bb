"""The demo: every stage in order, on embedded data, with the functions a user's script calls.

The float checkpoint was trained with this tool (`docs/demo.md` has the commands).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from irbin import verbs
from irbin.demo.dataset import write_image_folder
from irbin.errors import UsageError
from irbin.files import remove, traces, whole_folder
from irbin.recipes.file import read_recipe
from irbin.recipes.request import resolve_recipe
from irbin.records.options import DataOptions
from irbin.records.plan import Plan
from irbin.records.results import DemoRecord
from irbin.records.training import EpochRecord, StepRecord
from irbin.writers import sole_writer

PLAN_OPTIONS: dict[str, Any] = {"bits": "1w1a", "activation": "hardtanh", "shortcut": "bireal"}
RECIPE = "demo"
PARTS = ("data", "float", "converted", "run", "packed")
"""All that stands in a demo's folder."""


def _nothing(*_: object) -> None:
    """The hook of a caller who does not watch."""


def run_demo(
    out: Path,
    *,
    epochs: int | None = None,
    overwrite: bool = False,
    on_stage: Callable[[str], None] = _nothing,
    on_plan: Callable[[Plan], None] = _nothing,
    report: Callable[[StepRecord], None] = _nothing,
    on_epoch: Callable[[EpochRecord], None] = _nothing,
) -> DemoRecord:
    """Plans, converts, fine-tunes, evaluates, exports and evaluates again from the packed file.

    Args:
        out: folder for everything it writes: `data`, `float`, `converted`, `run`, `packed`.
        epochs: of fine-tuning; None as the recipe says.
        overwrite: replace `out` if it exists.
        on_stage: told, in a line, what begins.
        on_plan: given the plan before it is carried out.
        report: told of every training step.
        on_epoch: told of every epoch.

    Raises:
        UsageError: `out` exists, or another process is writing it.
    """
    started = time.monotonic()
    overrides = {} if epochs is None else {"epochs": epochs}
    recipe = read_recipe(RECIPE)
    resolve_recipe(recipe, overrides, converted=True)  # before anything is unpacked
    with sole_writer(out) as is_new:
        _prepare(out, overwrite or is_new)
        on_stage("unpacking 7,000 images of Fashion-MNIST and a float network trained on them")
        write_image_folder(out / "data")
        _copy_float(out / "float")
        data = DataOptions(data_dir=str(out / "data"), workers=0)

        on_stage("planning: which layers become binary, and why")
        on_plan(verbs.plan(out / "float", **PLAN_OPTIONS))
        verbs.convert(out / "float", out / "converted", **PLAN_OPTIONS)

        on_stage("fine-tuning with EDE, the float network as teacher")
        verbs.finetune(
            out / "converted",
            out / "run",
            data=data,
            recipe=recipe,
            overrides=overrides,
            report=report,
            on_epoch=on_epoch,
        )

        on_stage("exporting to packed bits, and evaluating float, binary and packed")
        exported = verbs.export(out / "run", out / "packed")
        evaluations = tuple(
            verbs.evaluate(out / name, data=data, input_type="float32")  # as they are compared
            for name in ("float", "run", "packed")
        )
        return DemoRecord(
            path=str(out),
            evaluations=evaluations,
            agreement=verbs.compare(out / "run", out / "packed", data=data),
            export=exported,
            seconds=time.monotonic() - started,
        )


def _copy_float(out: Path) -> None:
    """The float checkpoint in a folder of the user's own, also from a read-only installation."""
    with whole_folder(out) as partial:
        for file in (files("irbin.demo") / "data" / "float").iterdir():
            (partial / file.name).write_bytes(file.read_bytes())


def _prepare(out: Path, overwrite: bool) -> None:
    if out.exists():
        if not overwrite:
            raise UsageError(f"output folder {out} exists; give another one, or `overwrite=True`")
        own = {name for part in PARTS for name in traces(out / part)}
        foreign = sorted({p.name for p in out.iterdir()} - own) if out.is_dir() else [out]
        if foreign:
            raise UsageError(
                f"{out} is not a demo's folder (it has `{foreign[0]}`), so it is not replaced; "
                "give another"
            )
        for path in out.iterdir():
            remove(path)
    out.mkdir(parents=True, exist_ok=True)
