from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbin.cli.reference import reference
from irbin.records.plan import PlanOptions
from irbin.records.training import EpochRecord, LayerDiagnostics
from irbin.watching import symptoms as module
from irbin.watching.symptoms import CAUSES, EFFECTS, OTHERS, News, Symptom, symptoms

N_EPOCHS = 8
NOTHING = math.nan

HEALTHY = (
    # train loss, train top-1, eval top-1, lr, t, flip ratio, weight and activation gradient, gap
    (2.5156, 16.1, 16.8, 0.0962, 0.0032, 0.2211, 1.0, 1.0, 0.2252),
    (2.2619, 19.1, 15.6, 0.0854, 0.0100, 0.0214, 1.0, 1.0, 0.1219),
    (2.1849, 20.6, 18.6, 0.0691, 0.0316, 0.0074, 1.0, 1.0, 0.0451),
    (2.1059, 20.9, 24.4, 0.0500, 0.1000, 0.0049, 1.0, 1.0, 0.0860),
    (2.0376, 22.7, 21.6, 0.0309, 0.3162, 0.0036, 1.0, 1.0, 0.0709),
    (2.0131, 24.2, 25.0, 0.0146, 1.0000, 0.0018, 0.9319, 1.0, 0.0226),
    (1.9844, 23.2, 23.0, 0.0038, 3.1623, 0.0013, 0.5544, 0.3675, 0.0663),
    (1.9881, 24.4, 23.0, 0.0000, 10.000, 0.0057, 0.2358, 0.1517, 0.1343),
)
"""ResNet-20 by `paper-resnet20-cifar10` in 8 epochs of 23 steps on CIFAR-10, as measured."""


FIGURES = [field.name for field in fields(EpochRecord) if field.name != "epoch"]
ROW_FIGURES = [field.name for field in fields(LayerDiagnostics)][2:]


def epoch(number: int, **changes: float) -> EpochRecord:
    """An epoch of the healthy run."""
    loss, top1, eval_top1, lr, t, flips, weights, activations, gap = HEALTHY[number]
    record = EpochRecord(
        number,
        loss,
        top1,
        2.0,
        eval_top1,
        90.0,
        lr,
        t,
        1.0,
        300.0,
        10.0,
        waiting=0.01,
        flip_ratio=flips,
        never_flipped=0.75,
        weight_entropy=0.99,
        weight_gradient=weights,
        activation_entropy=0.97,
        dead_channels=0.0,
        activation_gradient=activations,
        statistics_gap=gap,
    )
    return replace(record, **changes)


def run(n: int, **changes: float) -> list[EpochRecord]:
    """The healthy run's first `n` epochs, all changed alike."""
    return [epoch(number, **changes) for number in range(n)]


def layer(name: str = "layer1.0.conv1", **changes: float) -> LayerDiagnostics:
    row = LayerDiagnostics(0, name, 0.01, 0.7, 0.99, 0.9, 0.97, 0.0, 0.9, 0.1)
    return replace(row, **changes)


def told(
    epochs: list[EpochRecord], *layers: LayerDiagnostics, n_epochs: int = N_EPOCHS, n_classes=10
) -> list[str]:
    return [s.name for s in symptoms(epochs, layers, n_classes, n_epochs)]


def sentence(epochs: list[EpochRecord], *layers: LayerDiagnostics) -> str:
    """Of the only symptom."""
    (symptom,) = symptoms(epochs, layers, 10, N_EPOCHS)
    return symptom.sentence


@pytest.mark.parametrize("n", range(len(HEALTHY) + 1))
def test_a_healthy_run_is_told_nothing(n: int) -> None:
    assert told(run(n), layer(), layer("layer2.0.conv1")) == []


def test_a_float_run_is_told_nothing() -> None:
    unknown = ["t", "k", *FIGURES[FIGURES.index("flip_ratio") :]]
    assert told(run(8, **dict.fromkeys(unknown, NOTHING))) == []


def test_the_losses_of_a_teacher_are_no_divergence() -> None:
    epochs = [epoch(0, train_loss=3.34, train_top1=64.8), epoch(1, train_loss=3.2, train_top1=79.9)]
    assert told(epochs[:1]) == told(epochs) == []


def test_a_loss_that_rises_is_told() -> None:
    losses = [1.5, 1.0, 1.05, 1.08, 1.11]
    epochs = [epoch(i, train_loss=loss) for i, loss in enumerate(losses)]
    assert told(epochs[:4]) == []
    assert sentence(epochs) == (
        "the run diverges: the training loss rose 3 epochs in a row, to 1.11 from 1; try a tenth "
        "of `lr=`, or `clip_grad=1`"
    )
    assert told([*epochs, epoch(5, train_loss=1.1)]) == []


def test_a_loss_that_rises_a_little_while_signs_sharpen_is_not() -> None:
    losses = [1.5, 1.0, 1.01, 1.02, 1.03, 1.04]
    assert told([epoch(i, train_loss=loss) for i, loss in enumerate(losses)]) == []


def test_a_loss_far_above_guessing_is_told() -> None:
    first = epoch(0, train_loss=3.1, train_top1=10.0)
    assert told([first]) == []
    assert (
        told([first, epoch(1, train_loss=3.05, train_top1=10.0)]) == []
    )  # a bad head, coming down
    assert told([first, epoch(1, train_loss=3.3, train_top1=10.0)]) == []  # or standing still
    assert told([first, epoch(1, train_loss=9.0, train_top1=20.1)]) == []
    assert sentence([first, epoch(1, train_loss=9.0, train_top1=20.0)]) == (
        "the run diverges: the training loss is 9, where guessing among 10 classes has 2.3; try a "
        "tenth of `lr=`, or `clip_grad=1`"
    )
    assert told([epoch(0, train_loss=7e30, train_top1=9.1)]) == ["diverges"]


def test_gradients_that_vanish_early_are_told() -> None:
    epochs = run(5, t=1000.0, activation_gradient=0.0035, weight_gradient=0.00014)
    assert sentence(epochs) == (
        "the run saturates: 0.35 % of the activations and 0.014 % of the weights still have a "
        "usable gradient at t = 1000, with 3 epochs left; try a lower `t_max=` (10 is usual) and "
        "`t_min=` (0.1)"
    )
    activations = sentence(run(7, activation_gradient=0.049))
    assert "4.9 % of the activations still have" in activations
    assert "with 1 epoch left;" in activations


@pytest.mark.parametrize(
    ("options", "figure", "wanted"),
    [
        (PlanOptions(estimator="ste"), "activation_gradient", "try `input_spread='image'`: the "),
        (
            PlanOptions(weight_estimator="triangle"),
            "weight_gradient",
            "try `irbin.convert()` with `weight_estimator='identity'`",
        ),
        (PlanOptions(weight_estimator="triangle"), "activation_gradient", "at t = 1, with "),
        (PlanOptions(estimator="ste", weight_estimator="ede"), "weight_gradient", "at t = 1, with"),
    ],
    ids=["ste activations", "triangle weights", "ede activations", "ede weights"],
)
def test_t_is_blamed_only_where_it_counts(options: PlanOptions, figure: str, wanted: str) -> None:
    epochs = run(5, t=1.0, **{figure: 0.01})
    (symptom,) = symptoms(epochs, (), 10, N_EPOCHS, options)
    assert symptom.name == "saturates"
    assert wanted in symptom.sentence
    assert ("t_max=" in symptom.sentence) == ("at t" in wanted)


def test_gradients_may_vanish_at_the_end() -> None:
    little = {"activation_gradient": 0.01, "weight_gradient": 0.01}
    assert told(run(8, **little)) == []
    assert told(run(7, **little), n_epochs=7) == []
    assert told(run(8, **little), n_epochs=9) == ["saturates"]
    epochs = [epoch(7, **little)] * 181
    assert told(epochs, n_epochs=200) == []
    assert told(epochs[1:], n_epochs=200) == ["saturates"]


def test_signs_that_freeze_are_told() -> None:
    assert told(run(1, flip_ratio=0.0)) == []
    assert sentence(run(3, flip_ratio=0.00004)) == (
        "the signs freeze: 0.004 % of the weights flipped in the last epoch, at a learning rate of "
        "0.0691; try ten times `lr=` or `latent_lr_scale=10`"
    )
    assert told([epoch(0), epoch(1), epoch(2, flip_ratio=0.0)]) == []


def test_signs_may_rest_when_the_learning_rate_is_low_or_the_run_ends() -> None:
    assert told([*run(6), epoch(6, flip_ratio=0.0), epoch(6, flip_ratio=0.0)], n_epochs=99) == []
    assert told(run(3, flip_ratio=0.0), n_epochs=3) == []


def test_signs_that_are_drawn_anew_are_told() -> None:
    assert sentence(run(1, flip_ratio=0.49)) == (
        "the signs do not settle: 49 % of the weights flipped in the last epoch, where drawing "
        "them anew flips 50 %; try a tenth of `lr=`, `latent_lr_scale=0.1`, or less "
        "`weight_decay=`"
    )
    assert told(run(1, flip_ratio=0.42)) == []  # a first epoch from random weights
    assert told(run(2, flip_ratio=0.42)) == []
    assert told(run(3, flip_ratio=0.42)) == ["churns"]


def test_learning_nothing_is_told_after_three_epochs() -> None:
    assert told(run(2, train_top1=10.0)) == []
    assert sentence(run(3, train_top1=11.6)) == (
        "nothing is learned: after 3 epochs the training accuracy is 11.6 %, and guessing among "
        "10 classes has 10 %; try a tenth of `lr=`, or look whether labels and images belong "
        "together"
    )
    assert told(run(3, train_top1=13.1)) == []
    assert told(run(3, train_top1=NOTHING)) == []  # mixed labels have none
    assert told(run(3, train_top1=100.0), n_classes=1) == []


def test_a_run_of_few_steps_is_told_to_take_more_not_smaller_ones() -> None:
    few = {"steps": 4, "train_top1": 10.0}
    assert sentence(run(3, **few)) == (
        "nothing is learned: after 3 epochs the training accuracy is 10 %, and guessing among 10 "
        "classes has 10 %; 12 steps are too few to learn much: try more `epochs=`, or a smaller "
        "`batch_size=`"
    )
    more = "16 steps are too few to learn much: try more `epochs=`, or a smaller `batch_size=`"
    far = layer(statistics_gap=1.25)
    lags = [*run(3, steps=4), epoch(3, train_top1=60.0, eval_top1=12.0, steps=4)]
    assert sentence(lags, far).endswith(f"deviations from the running one; {more}")
    fallen = [*run(3, steps=4), epoch(3, eval_top1=5.0, steps=4)]
    assert sentence(fallen, layer()).endswith(f"`best` is kept; {more}")


def test_what_is_learned_is_judged_once_there_were_steps_enough() -> None:
    epochs = [epoch(1, train_top1=10.0, steps=10) for _ in range(10)]
    assert told(epochs[:9], n_epochs=99) == []
    assert told(epochs, n_epochs=99) == ["guesses"]
    assert "try a tenth of `lr=`" in symptoms(epochs, [], 10, 99)[0].sentence
    lags = [epoch(1, steps=10), epoch(1, train_top1=60.0, eval_top1=5.0, steps=10)]
    assert told(lags, layer(statistics_gap=1.25), n_epochs=99) == []
    assert told(lags, layer(), n_epochs=99) == []


def test_fewer_steps_flip_fewer_signs() -> None:
    assert told(run(3, steps=23, flip_ratio=0.00004)) == ["freezes"]
    assert told(run(3, steps=5, flip_ratio=0.00004)) == []
    assert told(run(3, steps=5, flip_ratio=0.00001)) == ["freezes"]


def test_waiting_for_images_is_told() -> None:
    assert told(run(1, waiting=0.1)) == []
    assert sentence(run(1, waiting=0.456)) == (
        "the run starves: steps waited for images for 46 % of their time; try `cache='ram'`, or "
        "more `workers=`"
    )


def test_dead_inputs_are_told_with_their_layers() -> None:
    assert told(run(2), layer(dead_channels=0.25)) == told(run(1), layer(dead_channels=1.0)) == []
    dead = [layer(f"layer{i}.conv", dead_channels=0.3 + i / 100) for i in range(5)]
    assert sentence(run(2), layer(), *dead) == (
        "inputs die: up to 34 % of the input channels of `layer0.conv`, `layer1.conv`, "
        "`layer2.conv` and 2 more have one sign everywhere, and tell nothing; try "
        "`irbin.convert()` with `activation='prelu'`, or with `keep=` and the layer's name"
    )
    assert "of `layer0.conv` have" in sentence(run(2), *dead[:1])


@pytest.mark.parametrize(
    ("activation", "sign_threshold", "advice"),
    [
        ("hardtanh", "zero", "`activation='prelu'`, or with `keep=`"),
        ("hardtanh", "learned", "`activation='prelu'`, or with `keep=`"),
        ("keep", "zero", "`activation='prelu'`, or with `keep=`"),
        ("prelu", "zero", "`sign_threshold='learned'`, or with `keep=`"),
        ("rprelu", "zero", "`sign_threshold='learned'`, or with `keep=`"),
        ("prelu", "learned", "`keep=`"),
        ("rprelu", "learned", "`keep=`"),
    ],
)
def test_dead_inputs_are_not_told_to_try_what_they_have(
    activation: str, sign_threshold: str, advice: str
) -> None:
    options = PlanOptions(activation=activation, sign_threshold=sign_threshold)
    (dies,) = symptoms(run(2), [layer(dead_channels=1.0)], 10, N_EPOCHS, options)
    assert dies.sentence.endswith(f"try `irbin.convert()` with {advice} and the layer's name")


def test_batch_norm_that_lags_behind_is_told() -> None:
    far = layer("layer3.1.conv2", statistics_gap=1.25)
    assert told(run(2), layer(), far) == []  # validation is fine
    assert told(run(2, eval_top1=5.0)[-1:], layer()) == []  # the gap is small
    assert sentence([epoch(0), epoch(1, train_top1=60.0, eval_top1=12.0)], layer(), far) == (
        "batch norm lags behind: validation reached 12.0 %, training 60.0 %, and the mean of a "
        "batch behind `layer3.1.conv2` is 1.2 standard deviations from the running one; try a "
        "lower `lr=` or a larger `batch_size=`"
    )


def test_a_validation_that_collapses_is_told() -> None:
    fallen = epoch(6, eval_top1=11.0)
    assert sentence([*run(6), fallen], layer()) == (
        "validation collapsed: 11.0 %, after 25.0 % before, while training is at 23.2 %; `best` is "
        "kept; try a lower `lr=` or a larger `batch_size=`"
    )
    assert told([*run(6), replace(fallen, train_top1=12.0)], layer()) == []  # so did training
    assert told([*run(6), replace(fallen, eval_top1=NOTHING)], layer()) == []
    assert told([*run(6, eval_top1=NOTHING), fallen], layer()) == []
    assert told([*run(6), fallen], layer(statistics_gap=2.0)) == ["drifts"]


def test_a_cause_hides_other_causes_and_effects() -> None:
    sick = run(3, flip_ratio=0.0, activation_gradient=0.0, train_top1=10.0, waiting=0.5)
    assert told(sick, layer(dead_channels=1.0)) == ["saturates", "starves"]
    well = [replace(record, flip_ratio=0.1, activation_gradient=1.0) for record in sick]
    assert told(well, layer(dead_channels=1.0)) == ["guesses", "dies", "starves"]


def test_news_are_told_once() -> None:
    news = News()
    starves, dies, churns = (Symptom(name, name) for name in ("starves", "dies", "churns"))
    assert news.fresh([starves]) == (starves,)
    assert news.fresh([starves, dies]) == (dies,)
    assert news.fresh([]) == ()
    assert news.fresh([churns, starves]) == (churns,)


def test_news_of_a_cause_make_effects_old() -> None:
    news = News()
    news.fresh([Symptom("churns", "")])
    assert news.fresh([Symptom("dies", ""), Symptom("guesses", ""), Symptom("drifts", "")]) == (
        Symptom("drifts", ""),
    )


def test_every_flag_that_is_named_exists() -> None:
    known = set(re.findall(r"`(--[a-z-]+)`", reference()))
    options = re.findall(r"`([a-z_]+)=", Path(module.__file__).read_text())
    named = {"--" + name.replace("_", "-") for name in options}
    assert len(named) >= 10
    assert named <= known


numbers = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.slow
@given(
    st.lists(st.dictionaries(st.sampled_from(FIGURES), numbers), max_size=5),
    st.lists(st.dictionaries(st.sampled_from(ROW_FIGURES), numbers), max_size=3),
    st.integers(0, 1000),
    st.integers(1, 10),
)
def test_any_figures_make_one_line_each(
    epochs: list[dict[str, float]], layers: list[dict[str, float]], n_classes: int, n_epochs: int
) -> None:
    records = [epoch(i, **changes) for i, changes in enumerate(epochs)]
    rows = [layer(**changes) for changes in layers]
    found = symptoms(records, rows, n_classes, n_epochs)
    names = [symptom.name for symptom in found]
    assert len(names) == len(set(names))
    assert set(names) <= CAUSES.keys() | EFFECTS.keys() | OTHERS.keys()
    assert all("\n" not in s.sentence and not s.sentence.endswith(".") for s in found)


@given(st.sets(st.sampled_from(FIGURES)), st.sets(st.sampled_from(ROW_FIGURES)))
def test_what_is_not_known_is_not_told(unknown: set[str], unknown_row: set[str]) -> None:
    epochs = [epoch(i, **dict.fromkeys(unknown, NOTHING)) for i in range(len(HEALTHY))]
    assert told(epochs, layer(**dict.fromkeys(unknown_row, NOTHING))) == []
