"""What the file of experiments says, and how far a run is by what it saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from irbin.recipes.file import plan_options
from irbin.recipes.request import resolve_recipe
from irbin.sources.paper import build_paper
from irbin.zoo.entries import entry_names
from tests.accuracy.conftest import program, saved


@pytest.mark.slow
def test_every_line_names_knobs_that_exist() -> None:
    known = program("experiments").experiments()
    for e in known.values():
        assert e.seeds, e.name
        resolve_recipe(e.recipe, {**e.set, "seed": e.seeds[0]}, e.convert is not None)
        plan_options(e.convert or {})


@pytest.mark.slow
def test_every_line_starts_from_a_network_that_exists() -> None:
    known = program("experiments").experiments()
    for e in known.values():
        for source in (*e.sources, *([e.teacher] if e.teacher else [])):
            kind, _, name = source.rpartition(":")
            match kind:
                case "paper":
                    build_paper(name)
                case "zoo":
                    assert name in entry_names()
                case _:  # another one, or a folder that somebody puts there
                    assert source in known or source == "float60", (e.name, source)


@pytest.mark.slow
def test_nothing_in_the_queue_comes_before_what_it_starts_from() -> None:
    module = program("experiments")
    order = [task.experiment.name for task in module.tasks(["queue"])]
    assert len(order) >= 10
    for task in module.tasks(["queue"]):
        first = order.index(task.experiment.name)
        assert all(order.index(name) < first for name in module.waits_for(task)), task.name


def test_every_run_in_the_queue_says_how_long_it_is_expected_to_take() -> None:
    assert all(task.experiment.hours for task in program("experiments").tasks(["queue"]))


def test_tasks_are_in_order_and_each_once(tiny: object) -> None:
    names = [task.name for task in program("experiments").tasks(["bits", "queue"])]
    assert names == ["bits-7", "float-1", "other-1", "other-2"]


def test_a_name_that_is_nothing_is_refused(tiny: object) -> None:
    expected = "expected an experiment, a group or `queue`, got `floot`; `--list` has them"
    with pytest.raises(ValueError, match=f"^{expected}$"):
        program("experiments").tasks(["floot"])


class TestStanding:
    def of(self, runs: Path, name: str = "float") -> object:
        module = program("experiments")
        (task,) = module.tasks([name])
        return module.standing(task, runs)

    def test_no_folder_is_new_and_takes_as_long_as_expected(self, tiny: object, runs: Path) -> None:
        found = self.of(runs)
        assert (found.state, found.n_done, found.n_epochs) == ("new", 0, 2)
        assert (found.hours_left, found.is_measured, found.top1) == (3, False, None)

    def test_killed_before_the_first_save_is_new(self, tiny: object, runs: Path) -> None:
        (runs / "float-1").mkdir()
        (runs / "float-1" / "args.yaml").write_text("recipe: {epochs: 9, cooldown_epochs: 1}")
        found = self.of(runs)
        assert (found.state, found.n_epochs) == ("new", 10)

    def test_saved_before_the_first_epoch_is_begun(self, tiny: object, runs: Path) -> None:
        saved(runs, "float-1", 0)
        assert self.of(runs).state == "begun"

    def test_some_epochs_tell_how_long_the_others_take(self, tiny: object, runs: Path) -> None:
        saved(runs, "float-1", 3, 10, seconds=1800.0)
        found = self.of(runs)
        assert (found.state, found.n_done, found.n_epochs) == ("begun", 3, 10)
        assert (found.hours, found.hours_left, found.is_measured) == (1.5, 3.5, True)
        assert found.top1 == 50.0

    def test_all_epochs_saved_is_finished(self, tiny: object, runs: Path) -> None:
        saved(runs, "float-1", 2)
        found = self.of(runs)
        assert (found.state, found.hours_left) == ("finished", 0.0)

    def test_tables_of_an_epoch_whose_weights_are_not_saved_do_not_finish_a_run(
        self, tiny: object, runs: Path
    ) -> None:
        out = saved(runs, "float-1", 1)
        (out / "run.json").write_text(json.dumps({"epochs": 2, "last_top1": 60.0}))
        assert self.of(runs).state == "begun"

    def test_killed_while_last_was_replaced_is_found(self, tiny: object, runs: Path) -> None:
        out = saved(runs, "float-1", 2)
        (out / "last").rename(out / "last.previous")
        assert self.of(runs).state == "finished"

    @pytest.mark.parametrize("text", ["", "{}", '{"progress": 3}', "\x00"])
    def test_a_damaged_state_is_begun(self, tiny: object, runs: Path, text: str) -> None:
        out = saved(runs, "float-1", 2)
        (out / "last" / "training.json").write_text(text)
        assert self.of(runs).state == "begun"


class TestStart:
    def of(self, runs: Path) -> str | None:
        module = program("experiments")
        (task,) = module.tasks(["bits"])
        return module.start(task, runs)

    def test_nothing_finished_is_nothing(self, tiny: object, runs: Path) -> None:
        saved(runs, "float-1", 1)
        assert self.of(runs) is None

    def test_the_first_that_is_finished_with_its_last_epoch(self, tiny: object, runs: Path) -> None:
        saved(runs, "elsewhere", 1)
        assert self.of(runs) is None, "it has an epoch to go"
        (runs / "elsewhere").rename(runs / "unfinished")
        saved(runs, "elsewhere", 2)
        assert self.of(runs) == str(runs / "elsewhere" / "last")
        (saved(runs, "float-1", 2) / "best").mkdir()
        assert self.of(runs) == str(runs / "float-1" / "last")

    def test_a_converted_run_keeps_what_it_began_with(self, tiny: object, runs: Path) -> None:
        saved(runs, "float-1", 2)
        elsewhere = saved(runs, "elsewhere", 2)
        converted = runs / "converted" / "bits-7"
        converted.mkdir(parents=True)
        config = {"irbin": {"source": {"spec": str(elsewhere / "last")}}}
        (converted / "config.json").write_text(json.dumps(config))
        assert self.of(runs) == str(elsewhere / "last")
        config["irbin"]["source"]["spec"] = "/once/upon/a/time/elsewhere/last"
        (converted / "config.json").write_text(json.dumps(config))
        assert self.of(runs) == str(elsewhere / "last"), "RUNS was moved"
