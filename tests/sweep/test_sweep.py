"""Every family through the whole journey; the rows lie in `docs/coverage.csv`."""

import csv
import multiprocessing
import os
import warnings
from pathlib import Path

import pytest
import timm
import torch
import torchvision

from docs.maintain.coverage import Row, append_row, journey, read_rows

HERE = Path(__file__).parent
ROWS = Path(os.environ.get("IRBIN_SWEEP_CSV", HERE.parents[1] / "docs" / "coverage.csv"))
LIMIT_S = 900

with (HERE / "models.csv").open(newline="") as file:
    MODELS = [(r["family"], r["source"], int(r["input_size"])) for r in csv.DictReader(file)]

REFUSED = {"csatv2": "MixedImagesError: `aten.matmul.default`"}
"""Networks that are rightly not exported: its attention multiplies images with one another."""

PART, N_PARTS = map(int, os.environ.get("IRBIN_SWEEP_PART", "1/1").split("/"))


def test_list_names_every_timm_module_and_every_torchvision_classifier():
    modules = {family for family, _, _ in MODELS if family != "torchvision"}
    assert modules == set(timm.list_modules())
    classifiers = {
        source.removeprefix("torchvision:") for f, source, _ in MODELS if f == "torchvision"
    }
    assert classifiers == set(torchvision.models.list_models(module=torchvision.models))


def _put(queue, *model):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # those of other people's networks
    queue.put(journey(*model))


def _in_own_process(model):
    """A row made in a forked process: what a network leaves behind goes with it."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_put, args=(queue, *model))
    process.start()
    try:
        return queue.get(timeout=LIMIT_S)
    except Exception as error:  # a crash or the time limit
        return Row(*model, agreement_1w1a=f"no answer: {type(error).__name__}")
    finally:
        process.kill()
        process.join()


@pytest.mark.sweep
@pytest.mark.parametrize("model", MODELS[PART - 1 :: N_PARTS], ids=lambda m: m[1])
def test_model_goes_all_the_way(model):
    row = next((r for r in read_rows(ROWS) if r.source == model[1]), None)
    if row is None:
        row = _in_own_process(model)
        append_row(row, ROWS)
    if model[1] in REFUSED:
        assert row.train_steps == 1
        assert row.agreement_1w1a.startswith(REFUSED[model[1]])
        assert row.agreement_1w32a == row.agreement_1w1a
        return
    assert row.is_green, f"{row.agreement_1w1a}; 1w32a: {row.agreement_1w32a}"
