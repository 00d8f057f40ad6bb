from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from irbin import interrupt
from irbin.errors import TrainingError
from irbin.processes import ALONE, Group
from irbin.recipes.recipe import Recipe
from irbin.records.options import DataOptions
from irbin.records.training import StepRecord
from irbin.rewriting.calibrate import reestimate_batch_norm
from irbin.rewriting.network import Network
from irbin.runs.listener import Listener
from irbin.training import norms
from irbin.training.loop import finetune
from irbin.training.resume import (
    check_together,
    decode,
    encode,
    lay_out_as_parameters,
)
from tests.training.conftest import stop_after, weights

MakeNetwork = Callable[..., Network]

HARD = {"mixup": 0.3, "reprob": 0.5, "aa": "rand-m5-mstd0.5", "color_jitter": 0.2}
"""Everything that draws random numbers: the network has dropout besides."""


def state(out: Path) -> tuple[bytes, object]:
    """Training tensors, and the JSON without what a clock measured."""
    value = json.loads((out / "last" / "training.json").read_text())
    for timed in (value["progress"], *value["progress"]["records"]):
        for name in ("seconds", "eval_seconds", "images_per_second", "waiting"):
            timed.pop(name, None)
    return (out / "last" / "training.safetensors").read_bytes(), json.dumps(value)


NEWER_KNOBS = ("ede_scale", "flip", "input_spread", "norm_lr_scale", "repeat_views")
"""What `args.yaml` of runs before 0.2 lacks, at its default."""


@pytest.mark.slow
def test_a_rate_of_its_own_goes_on_as_it_began(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    staged = {"activation_epochs": 1, "warmup_epochs": 0.1}
    knobs = replace(recipe, norm_lr_scale=0.3, input_spread="image", ede_scale="even", **staged)
    finetune(make_network(), data, knobs, tmp_path / "whole")
    for n_steps in (2, 5):  # in either stage
        out = tmp_path / f"cut-{n_steps}"
        finetune(make_network(), data, knobs, out, listener=Listener(report=stop_after(n_steps)))
        finetune(make_network(seed=99), data, knobs, out, resume=True)
        assert weights(out) == weights(tmp_path / "whole")
        assert state(out) == state(tmp_path / "whole")
    with pytest.raises(TrainingError, match=r"`norm_lr_scale` 0\.3, now 1\.0"):
        finetune(make_network(), data, replace(knobs, norm_lr_scale=1.0), out, resume=True)


@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on_as_it_began(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    finetune(make_network(), data, recipe, tmp_path / "whole")
    out = tmp_path / "cut"
    finetune(make_network(), data, recipe, out, listener=Listener(report=stop_after(5)))
    args = yaml.safe_load((out / "args.yaml").read_text())
    for name in NEWER_KNOBS:
        del args["recipe"][name]
    (out / "args.yaml").write_text(yaml.safe_dump(args))
    finetune(make_network(seed=99), data, recipe, out, resume=True)
    assert weights(out) == weights(tmp_path / "whole")
    assert state(out) == state(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("n_steps", [1, 5], ids=["first_step", "second_epoch"])
def test_interrupted_and_resumed_equals_uninterrupted(
    workers: int,
    n_steps: int,
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
) -> None:
    hard, loading = replace(recipe, **HARD), replace(data, workers=workers)
    whole = finetune(make_network(), loading, hard, tmp_path / "whole")
    out = tmp_path / "cut"
    cut = finetune(
        make_network(), loading, hard, out, listener=Listener(report=stop_after(n_steps))
    )
    assert cut.interrupted
    assert weights(out) != weights(tmp_path / "whole")
    resumed = finetune(make_network(seed=99), loading, hard, out, resume=True)
    assert not resumed.interrupted
    assert weights(out) == weights(tmp_path / "whole")
    assert state(out) == state(tmp_path / "whole")
    names = ("epoch", "train_loss", "eval_loss", "eval_top1", "lr", "t", "k")
    for left, right in zip(whole.epochs, resumed.epochs, strict=True):
        assert [getattr(left, n) for n in names] == [getattr(right, n) for n in names]
    best = [
        (tmp_path / run / "best" / "model.safetensors").read_bytes() for run in ("whole", "cut")
    ]
    assert best[0] == best[1]
    classes = [(tmp_path / run / "classes.csv").read_bytes() for run in ("whole", "cut")]
    assert classes[0] == classes[1]


@pytest.mark.slow
def test_every_number_of_workers_trains_the_same(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    for workers in (0, 1, 2):
        finetune(
            make_network(),
            replace(data, workers=workers),
            replace(recipe, epochs=1, **HARD),
            tmp_path / str(workers),
        )
    assert weights(tmp_path / "0") == weights(tmp_path / "1") == weights(tmp_path / "2")


@pytest.mark.slow
@pytest.mark.parametrize("opt", ["sgd", "adamw", "lion", "nadamw", "lookahead_adamw", "rmsproptf"])
def test_every_optimizer_resumes_exactly(
    opt: str, make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    short = replace(recipe, epochs=2, opt=opt, channels_last=opt == "adamw")
    finetune(make_network(), data, short, tmp_path / "whole")
    finetune(make_network(), data, short, tmp_path / "cut", listener=Listener(report=stop_after(2)))
    finetune(make_network(), data, short, tmp_path / "cut", resume=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


@pytest.mark.slow
def test_interruption_while_evaluating_evaluates_again(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    finetune(make_network(), data, recipe, tmp_path / "whole")
    out = tmp_path / "cut"
    # the last step of the first epoch: its evaluation does not happen any more
    cut = finetune(make_network(), data, recipe, out, listener=Listener(report=stop_after(3)))
    assert cut.interrupted
    assert cut.epochs == ()
    resumed = finetune(make_network(), data, recipe, out, resume=True)
    assert len(resumed.epochs) == 3
    assert weights(out) == weights(tmp_path / "whole")


@pytest.mark.slow
def test_ctrl_c_in_the_last_epoch_saves_before_anything_is_calibrated(
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = replace(recipe, epochs=1, calibrate_images=10, **HARD)
    finetune(make_network(), data, short, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(norms, "reestimate_batch_norm", lambda *_: pytest.fail("it calibrates"))
        out = tmp_path / "cut"
        cut = finetune(make_network(), data, short, out, listener=Listener(report=stop_after(2)))
    assert cut.interrupted
    finetune(make_network(), data, short, tmp_path / "cut", resume=True)
    assert state(tmp_path / "cut") == state(tmp_path / "whole")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("n_pressed", [1, 2])
def test_ctrl_c_while_calibrating_loses_nothing_and_keeps_the_statistics(
    n_pressed: int,
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interrupt, "SAME_REQUEST", -1.0)
    short = replace(recipe, epochs=1, calibrate_images=10, model_ema=True)
    finetune(make_network(), data, short, tmp_path / "whole")
    saved: list[bytes] = []

    def press(module: nn.Module, batches: Iterable[torch.Tensor]) -> int:
        saved.append(weights(tmp_path / "cut"))

        def pressed() -> Iterator[torch.Tensor]:
            for images in batches:
                yield images
                for _ in range(n_pressed):
                    os.kill(os.getpid(), signal.SIGINT)

        return reestimate_batch_norm(module, pressed())

    with monkeypatch.context() as patched:
        patched.setattr(norms, "reestimate_batch_norm", press)
        cut = finetune(make_network(), data, short, tmp_path / "cut")
    assert cut.interrupted
    assert cut.epochs == ()
    assert saved == [weights(tmp_path / "cut")]  # whole before it began, and as it was after it
    finetune(make_network(), data, short, tmp_path / "cut", resume=True)
    assert state(tmp_path / "cut") == state(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_from_the_last_epoch(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    finetune(make_network(), data, recipe, tmp_path / "whole")
    out = tmp_path / "cut"

    class Killed(BaseException):
        pass

    def die(step: StepRecord) -> None:
        if (step.epoch, step.step) == (1, 2):
            raise Killed

    with pytest.raises(Killed):
        finetune(make_network(), data, recipe, out, listener=Listener(report=die))
    finetune(make_network(seed=5), data, recipe, out, resume=True)
    assert weights(out) == weights(tmp_path / "whole")
    (out / "last").rename(out / "last.previous")  # ended between the two renames of a save
    finetune(make_network(), data, recipe, out, resume=True)


@pytest.mark.slow
def test_resuming_a_finished_run_changes_nothing(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    first = finetune(make_network(), data, recipe, tmp_path / "run")
    bytes_before = weights(tmp_path / "run")
    steps: list[StepRecord] = []
    again = make_network(seed=3)
    said: list[str] = []
    second = finetune(
        again,
        data,
        recipe,
        tmp_path / "run",
        resume=True,
        listener=Listener(report=steps.append, say=said.append),
    )
    n = len(second.epochs)
    assert said == [
        f"the run in {tmp_path / 'run'} is finished: {n} epochs of {n}; nothing is left to train"
    ]
    assert second == first
    assert steps == []
    assert weights(tmp_path / "run") == bytes_before
    assert float(again.module.ede.t) == pytest.approx(10)


@pytest.mark.slow
def test_another_run_is_not_resumed(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"expected a run folder to go on with.*no args\.yaml"):
        finetune(make_network(), data, recipe, out, resume=True)
    assert not out.exists()
    finetune(make_network(), data, recipe, out, listener=Listener(report=stop_after(1)))
    with pytest.raises(TrainingError, match=r"differ: was `lr` 0\.01, now 0\.5$"):
        finetune(make_network(), data, replace(recipe, lr=0.5), out, resume=True)
    with pytest.raises(TrainingError, match=r"was 8 images a step, now 4 \(`batch_size` × "):
        finetune(make_network(), replace(data, batch_size=4), recipe, out, resume=True)
    (out / "last" / "training.json").write_text('{"version": 1')
    with pytest.raises(TrainingError, match=r"^cannot go on from .*last: "):
        finetune(make_network(), data, recipe, out, resume=True)
    shutil.rmtree(out / "last")
    with pytest.raises(TrainingError, match=r"found nothing: remove .* and begin again"):
        finetune(make_network(), data, recipe, out, resume=True)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.slow
@given(values)
def test_decode_is_the_inverse_of_encode(value: object) -> None:
    tensors: dict[str, torch.Tensor] = {}
    back = decode(json.loads(json.dumps(encode(value, "x", tensors))), tensors)
    assert back == value
    assert type(back) is type(value)
    assert tensors == {}


def test_tensors_are_filed_by_path_and_nan_survives() -> None:
    tensors: dict[str, torch.Tensor] = {}
    value = {0: {"step": torch.tensor(3.0), "pair": (torch.ones(2, 2).t(), math.nan)}}
    text = json.dumps(encode(value, "optimizer", tensors))
    assert set(tensors) == {"optimizer.0.step", "optimizer.0.pair.0"}
    back = decode(json.loads(text), tensors)
    assert torch.equal(back[0]["step"], torch.tensor(3.0))
    assert math.isnan(back[0]["pair"][1])
    with pytest.raises(TrainingError, match=r"cannot save `optimizer\.f` of type builtin_function"):
        encode({"f": len}, "optimizer", {})


@pytest.mark.slow
@pytest.mark.parametrize("opt", ["adamw", "lookahead_adamw"])
def test_a_fused_optimizer_of_channels_last_weights_resumes_exactly(
    opt: str, make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    """It reads its averages as rows of numbers, whatever their strides are."""
    short = replace(
        recipe, epochs=2, opt=opt, opt_kwargs={"fused": True}, channels_last=True, lr=0.05
    )
    finetune(make_network(), data, short, tmp_path / "whole")
    finetune(make_network(), data, short, tmp_path / "cut", listener=Listener(report=stop_after(2)))
    finetune(make_network(), data, short, tmp_path / "cut", resume=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_every_tensor_of_an_optimizer_lies_as_its_parameter() -> None:
    parameter = torch.nn.Parameter(torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last))
    other = torch.nn.Parameter(torch.rand(5))
    optimizer = torch.optim.AdamW([parameter, other])
    state = {
        parameter: {
            "step": torch.tensor(3.0),
            "average": torch.rand(4, 3, 2, 2),
            "rows": torch.rand(4),
        },
        other: {"average": torch.rand(5, dtype=torch.float64)},
    }
    before = {p: dict(values) for p, values in state.items()}
    optimizer.state.update(state)
    lay_out_as_parameters(optimizer)
    for parameter_, values in before.items():
        for name, value in values.items():
            found = optimizer.state[parameter_][name]
            assert torch.equal(found, value)
            assert found.dtype == value.dtype
    assert optimizer.state[parameter]["average"].stride() == parameter.stride()


@pytest.mark.parametrize("other", [0, 1_034, 1_035, 1_036])
def test_processes_go_on_from_one_step(other: int) -> None:
    """A machine that sees older files would exchange what belongs to another step."""

    class Two(Group):
        def least(self, numbers: list[int]) -> list[int]:
            return [min(pair) for pair in zip(numbers, (other, -other), strict=True)]

    check_together(1_035, ALONE)
    if other == 1_035:
        check_together(1_035, Two(size=2))
        return
    told = f"after {min(other, 1_035):,} steps and some after {max(other, 1_035):,}: "
    with pytest.raises(TrainingError, match=told):
        check_together(1_035, Two(size=2))


def test_a_run_asks_before_it_goes_on(
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finetune(
        make_network(), data, recipe, tmp_path / "run", listener=Listener(report=stop_after(1))
    )
    before = (tmp_path / "run/last/training.json").read_bytes()
    monkeypatch.setattr(Group, "least", lambda _group, numbers: [n - 1 for n in numbers])
    with pytest.raises(TrainingError, match="to go on from the same state"):
        finetune(make_network(), data, recipe, tmp_path / "run", resume=True)
    assert (tmp_path / "run/last/training.json").read_bytes() == before
