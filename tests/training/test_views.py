"""Looked up is what would be asked; every (view, image) is asked once; runs go on to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from irbin.errors import UsageError
from irbin.recipes.recipe import Recipe
from irbin.recipes.request import resolve_recipe
from irbin.records.options import DataOptions
from irbin.rewriting.network import Network
from irbin.runs.listener import Listener
from irbin.training.loop import finetune
from irbin.training.views import TaughtViews, taught_views
from tests.training.conftest import stop_after

MakeNetwork = Callable[..., Network]
CPU = torch.device("cpu")


class Teacher(nn.Module):
    """Wider than its pupil; counts the batches that it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv, self.fc = nn.Conv2d(3, 16, 3), nn.Linear(16, 3)
        self.n_asked = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.n_asked += 1
        return self.fc(self.conv(x).relu().mean((2, 3)))


@pytest.fixture
def repeating(recipe: Recipe) -> Recipe:
    """Two views in six epochs of three steps; each epoch leaves out 6 of 30 images."""
    knobs = {"crop_padding": 2, "vflip": 0.5, "color_jitter": 0.2, "recovery_interval": 1}
    return replace(recipe, epochs=6, distill=True, repeat_views=2, **knobs)


def left(out: Path) -> list[bytes]:
    files = [*sorted((out / "last").glob("*.safetensors")), *sorted((out / "views").iterdir())]
    return [file.read_bytes() for file in files]


class TestTable:
    def test_what_was_asked_is_looked_up_and_gaps_are_filled(self) -> None:
        views = TaughtViews(2, 5, 3, CPU)
        asked = []

        def ask(images: torch.Tensor) -> torch.Tensor:
            asked.append(images)
            return images

        images = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
        halves = images.half()
        views.enter(0, iter([np.array([4, 1])]))
        assert torch.equal(views.answers(images[[4, 1]], ask), halves[[4, 1]])
        views.enter(1, iter([np.array([4, 1])]))
        assert torch.equal(views.answers(-images[[4, 1]], ask), -halves[[4, 1]])
        views.enter(2, iter([np.array([1, 4]), np.array([0, 4])]))
        assert torch.equal(views.answers(images[[1, 4]], ask), halves[[1, 4]])
        assert len(asked) == 2
        # what was known stays, also where the batch is asked again
        again = views.answers(torch.zeros(2, 3), ask)
        assert torch.equal(again, torch.stack([torch.zeros(3).half(), halves[4]]))
        assert len(asked) == 3

    def test_logits_beyond_float16_stay_finite(self) -> None:
        views = TaughtViews(1, 1, 2, CPU)
        views.enter(0, iter([np.array([0])]))
        answers = views.answers(torch.tensor([[1e9, -1e9]]), lambda images: images)
        assert answers.tolist() == [[65504.0, -65504.0]]

    def test_saved_and_loaded_is_the_same(self, tmp_path: Path) -> None:
        views, order = TaughtViews(3, 4, 2, CPU), np.array([3, 0])
        images = torch.randn(2, 2)
        views.enter(7, iter([order]))
        given = views.answers(images, lambda x: x)
        views.save(tmp_path)
        assert [file.name for file in (tmp_path / "views").iterdir()] == ["1.safetensors"]
        other = TaughtViews(3, 4, 2, CPU)
        other.load(tmp_path)
        other.enter(1, iter([order]))
        assert torch.equal(other.answers(images, _never), given)

    def test_a_damaged_file_is_asked_anew(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "views").mkdir()
        (tmp_path / "views" / "0.safetensors").write_bytes(b"\x00" * 20)
        views = TaughtViews(1, 2, 2, CPU)
        views.load(tmp_path)
        assert "0.safetensors" in caplog.text
        views.enter(0, iter([np.array([0, 1])]))
        assert views.answers(torch.ones(2, 2), lambda x: x).sum() == 4

    def test_memory_that_is_not_there_is_told_before_the_first_step(self) -> None:
        expected = (
            r"^`repeat_views`: expected room for 2,000,000\.0 GB of the teacher's answers, got "
            r"[\d,.]+ [MG]B; take fewer views$"
        )
        with pytest.raises(UsageError, match=expected):
            TaughtViews(1000, 10**9, 1000, CPU)

    def test_several_processes_are_refused(self) -> None:
        with pytest.raises(UsageError, match=r"^`repeat_views`: expected one process, got 2: "):
            taught_views(2, None, 3, CPU, n_processes=2)  # type: ignore[arg-type]  # not looked at
        assert taught_views(0, None, 3, CPU, n_processes=2) is None  # type: ignore[arg-type]


def _never(images: torch.Tensor) -> torch.Tensor:
    raise AssertionError("it was asked")


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["ram", "off"])
def test_the_teacher_is_asked_about_every_view_of_an_image_once(
    cache: str, make_network: MakeNetwork, data: DataOptions, repeating: Recipe, tmp_path: Path
) -> None:
    teacher, said = Teacher(), []
    loading = replace(data, cache=cache)
    finetune(
        make_network(),
        loading,
        repeating,
        tmp_path / "run",
        teacher=teacher,
        listener=Listener(say=said.append),
    )
    assert said[2] == (
        "teacher: 2 views of 30 images, 0 MB of answers in memory; from epoch 3 on they are looked "
        "up"
    )
    # 3 batches an epoch; in 6 epochs few batches after the second have an image left out before
    assert 6 <= teacher.n_asked < 14


@pytest.mark.slow
def test_looked_up_trains_as_asked_does(
    make_network: MakeNetwork,
    data: DataOptions,
    repeating: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But for the rounding of logits to float16, which both have here."""
    finetune(make_network(), data, repeating, tmp_path / "table", teacher=Teacher())

    def answers(self: TaughtViews, images: torch.Tensor, ask: Callable) -> torch.Tensor:
        return ask(images).half()

    monkeypatch.setattr(TaughtViews, "answers", answers)
    finetune(make_network(), data, repeating, tmp_path / "asked", teacher=Teacher())
    table, asked = (
        load_file(tmp_path / run / "last" / "model.safetensors") for run in ("table", "asked")
    )
    torch.testing.assert_close(table, asked, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("n_steps", [1, 3, 5, 7, 11])
@pytest.mark.parametrize("cache", ["ram", "off"])
def test_interrupted_and_resumed_equals_uninterrupted(
    cache: str,
    n_steps: int,
    make_network: MakeNetwork,
    data: DataOptions,
    repeating: Recipe,
    tmp_path: Path,
) -> None:
    loading, out = replace(data, cache=cache), tmp_path / "cut"
    finetune(make_network(), loading, repeating, tmp_path / "whole", teacher=Teacher())
    cut = finetune(
        make_network(),
        loading,
        repeating,
        out,
        teacher=Teacher(),
        listener=Listener(report=stop_after(n_steps)),
    )
    assert cut.interrupted
    teacher = Teacher()
    finetune(make_network(seed=9), loading, repeating, out, teacher=teacher, resume=True)
    assert left(out) == left(tmp_path / "whole")
    if n_steps == 11:
        assert teacher.n_asked < 6, "what was asked before was read"


@pytest.mark.slow
@pytest.mark.parametrize("n_steps", [2, 8])
def test_a_table_that_is_ahead_of_the_weights_changes_nothing(
    n_steps: int, make_network: MakeNetwork, data: DataOptions, repeating: Recipe, tmp_path: Path
) -> None:
    """As a kill between the two saves leaves it."""
    whole, out = tmp_path / "whole", tmp_path / "cut"
    finetune(make_network(), data, repeating, whole, teacher=Teacher())
    finetune(
        make_network(),
        data,
        repeating,
        out,
        teacher=Teacher(),
        listener=Listener(report=stop_after(n_steps)),
    )
    shutil.rmtree(out / "views")
    shutil.copytree(whole / "views", out / "views")
    finetune(make_network(), data, repeating, out, teacher=Teacher(), resume=True)
    assert left(out) == left(whole)


def test_without_a_teacher_there_is_nothing_to_look_up(
    make_network: MakeNetwork, data: DataOptions, repeating: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"^`repeat_views`: expected a teacher, .*`teacher=`$"):
        finetune(make_network(), data, repeating, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"mixup": 0.2}, r"expected `mixup` 0 beside it, got 0\.2$"),
        ({"cutmix": 1.0}, r"expected `cutmix` 0 beside it, got 1\.0$"),
        ({"reprob": 0.1}, r"expected `reprob` 0 beside it, got 0\.1$"),
        ({"distill_blocks": 1.0}, r"expected `distill_blocks` 0 beside it, got 1\.0$"),
        ({"distill": False}, r"expected a run that distills, .*`distill=True`, or leave it out$"),
        ({"repeat_views": 3, "flip": "alternating"}, r"expected an even number .*, got 3$"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_does_not_go_with_it(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=f"^`repeat_views`: {message}"):
        resolve_recipe(None, {"repeat_views": 2, **knobs}, converted=True)
