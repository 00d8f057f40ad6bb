"""What goes wrong in a run, read from its records, in one sentence that says what to try.

The thresholds were put between what healthy runs show (ResNet-20 and the recipes that come with
irbin) and runs made sick on purpose; docs/diagnostics.md has the figures. Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from irbin.messages import counted
from irbin.records.kinds import ACTIVATIONS
from irbin.records.plan import PlanOptions
from irbin.records.training import EpochRecord, LayerDiagnostics
from irbin.watching.seen import Seen

N_RISES = 3
"""Epochs in a row with a higher loss; EDE's sharpening makes it rise in one or two."""

RISE = 1.1
"""And this many times the lowest, or the first: less is noise."""

FAR_LOSS = 1.3
"""Times the loss of guessing, ln(classes), and grown since the first epoch: healthy runs come down,
from up to 1.4 with a random head and more with a teacher's loss."""

ABSURD_LOSS = 20.0
"""Times the same, in the first epoch."""

GUESSING = 2.0
"""Times the accuracy of guessing, at or below which nothing was learned."""

N_GUESSES = 3
"""Epochs in a row without a better training accuracy than guessing's."""

LEARNED = 1.3
"""Times the accuracy of guessing; a healthy run of 23 steps an epoch has 1.6 after one or two."""

LITTLE_GRADIENT = 0.05
"""Share of usable gradients; healthy runs end (t = 10) with 0.15 of the activations, 0.23 of the
weights."""

FEW_FLIPS = 1e-4
"""Share of the signs that flip in an epoch; healthy runs of `USUAL_STEPS` stay above 1e-3."""

USUAL_STEPS = 23
"""Steps of the shortest epochs that the bounds were put against; in fewer, fewer signs flip."""

MANY_FLIPS = 0.3
"""In two epochs in a row after the first, where 0.5 is drawing all signs anew; healthy runs stay
below 0.05."""

REDRAWN = 0.45
"""In one epoch: next to nothing is left of the signs it began with; a healthy first epoch from
random weights has up to 0.33."""

WORTH_SAVING = 1.0
"""Seconds of waiting an epoch, below which nobody minds."""

LONG_WAIT = 0.1
"""Share of the steps' time; with images at hand it is below 0.01."""

MANY_DEAD = 0.25
"""Share of a layer's input channels, after the first epoch; healthy runs have next to none."""

LARGE_GAP = 0.5
"""Running standard deviations; healthy runs stay below 0.25."""

FAR_BELOW = 0.5
"""Validation accuracy as a share of the training accuracy, or of its own best."""

STILL_FINE = 0.9
"""Training accuracy as a share of its own best."""


@dataclass(frozen=True)
class Symptom:
    """Something wrong with a run. Made by `symptoms`, told by `training.loop`."""

    name: str
    """One word: a key of `CAUSES`, `EFFECTS` or `OTHERS`."""
    sentence: str
    """What is seen, where, and what to try."""


_Judge = Callable[[Seen], str | None]


def symptoms(
    epochs: Sequence[EpochRecord],
    layers: Sequence[LayerDiagnostics],
    n_classes: int,
    n_epochs: int,
    options: PlanOptions | None = None,
) -> tuple[Symptom, ...]:
    """What is wrong after the last of `epochs`; nothing where figures are nan or missing.

    Args:
        epochs: all finished ones.
        layers: of the last one; empty for a float network.
        n_classes: outputs of the classifier.
        n_epochs: epochs of the whole run.
        options: how the network was converted, so that nothing is suggested that it has already;
            None of a float network.
    """
    if not epochs:
        return ()
    seen = Seen(epochs, layers, n_classes, n_epochs, options or PlanOptions())
    cause = tuple(_found(CAUSES, seen))[:1]
    effects = () if cause else _found(EFFECTS, seen)
    return (*cause, *effects, *_found(OTHERS, seen))


class News:
    """Lets each symptom through once, when it begins; and no effect once a cause was told."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def fresh(self, present: Sequence[Symptom]) -> tuple[Symptom, ...]:
        """Those to tell now."""
        past = self._told | EFFECTS.keys() if self._told & CAUSES.keys() else self._told
        fresh = tuple(symptom for symptom in present if symptom.name not in past)
        self._told |= {symptom.name for symptom in fresh}
        return fresh


def _found(judges: dict[str, _Judge], seen: Seen) -> Iterator[Symptom]:
    for name, judge in judges.items():
        sentence = judge(seen)
        if sentence is not None:
            yield Symptom(name, sentence)


def _diverges(seen: Seen) -> str | None:
    losses = [epoch.train_loss for epoch in seen.epochs]
    last = losses[-N_RISES - 1 :]
    rises = all(after > before for before, after in pairwise(last))
    if len(last) > N_RISES and rises and last[-1] > RISE * min(losses):
        what = f"rose {N_RISES} epochs in a row, to {last[-1]:.3g} from {min(losses):.3g}"
    elif _is_far_off(seen):
        what = f"is {last[-1]:.3g}, where guessing among {counted(seen.n_classes, 'class')} has "
        what += f"{math.log(seen.n_classes):.3g}"
    else:
        return None
    return f"the run diverges: the training loss {what}; try a tenth of `lr=`, or `clip_grad=1`"


def _is_far_off(seen: Seen) -> bool:
    """Whether the loss is far above that of guessing, and answers are no better than guesses."""
    if seen.n_classes < 2:
        return False
    now, guessing = seen.now.train_loss, math.log(seen.n_classes)
    far = now > FAR_LOSS * guessing and now > RISE * seen.epochs[0].train_loss
    blind = seen.now.train_top1 <= GUESSING * 100 / seen.n_classes
    return (far or now > ABSURD_LOSS * guessing) and blind


def _saturates(seen: Seen) -> str | None:
    shares = {"activations": seen.now.activation_gradient, "weights": seen.now.weight_gradient}
    few = {name: x for name, x in shares.items() if x < LITTLE_GRADIENT}
    if not few or seen.is_settling:
        return None
    words = " and ".join(f"{_percent(x)} of the {name}" for name, x in few.items())
    left = _count(seen.n_epochs - len(seen.epochs), "epoch")
    at = ""
    if any(seen.is_by_ede(name) for name in few):
        at = f" at t = {seen.now.t:.4g}"
        advice = "a lower `t_max=` (10 is usual) and `t_min=` (0.1)"
    elif "activations" in few:
        advice = "`input_spread='image'`: the signs' inputs lie far from zero"
    else:
        advice = "`irbin.convert()` with `weight_estimator='identity'`"
    return (
        f"the run saturates: {words} still have a usable gradient{at}, with {left} left; "
        f"try {advice}"
    )


def _freezes(seen: Seen) -> str | None:
    recent = seen.epochs[-2:]
    still = len(recent) == 2 and all(
        epoch.flip_ratio < FEW_FLIPS * min(epoch.steps or USUAL_STEPS, USUAL_STEPS) / USUAL_STEPS
        for epoch in recent
    )
    if not still or seen.is_settling or not seen.lr_is_high:
        return None
    return (
        f"the signs freeze: {_percent(seen.now.flip_ratio)} of the weights flipped in the last "
        f"epoch, at a learning rate of {seen.now.lr:.3g}; try ten times `lr=` or "
        "`latent_lr_scale=10`"
    )


def _churns(seen: Seen) -> str | None:
    recent = seen.epochs[1:][-2:]
    wild = len(recent) == 2 and all(epoch.flip_ratio > MANY_FLIPS for epoch in recent)
    if not wild and not seen.now.flip_ratio > REDRAWN:
        return None
    return (
        f"the signs do not settle: {_percent(seen.now.flip_ratio)} of the weights flipped in the "
        "last epoch, where drawing them anew flips 50 %; try a tenth of `lr=`, "
        "`latent_lr_scale=0.1`, or less `weight_decay=`"
    )


def _guesses(seen: Seen) -> str | None:
    recent = [epoch.train_top1 for epoch in seen.epochs[-N_GUESSES:]]
    chance = 100 / max(seen.n_classes, 1)
    blind = len(recent) == N_GUESSES and all(top1 <= LEARNED * chance for top1 in recent)
    if not blind or seen.n_classes < 2 or seen.is_too_early:
        return None
    advice = "try a tenth of `lr=`, or look whether labels and images belong together"
    return (
        f"nothing is learned: after {counted(len(seen.epochs), 'epoch')} the training accuracy is "
        f"{seen.now.train_top1:.3g} %, and guessing among {counted(seen.n_classes, 'class')} has "
        f"{chance:.3g} %; {_more_steps(seen) if seen.is_short else advice}"
    )


def _more_steps(seen: Seen) -> str:
    """What helps where too few steps were taken, whatever the learning rate."""
    return (
        f"{counted(seen.n_steps, 'step')} are too few to learn much: try more `epochs=`, or a "
        "smaller `batch_size=`"
    )


def _calmer(seen: Seen) -> str:
    """What helps where validation falls behind training."""
    return _more_steps(seen) if seen.is_short else "try a lower `lr=` or a larger `batch_size=`"


def _starves(seen: Seen) -> str | None:
    if not seen.now.waiting > LONG_WAIT or seen.now.waiting * seen.now.seconds < WORTH_SAVING:
        return None
    return (
        f"the run starves: steps waited for images for {_percent(seen.now.waiting)} of their time; "
        "try `cache='ram'`, or more `workers=`"
    )


def _dies(seen: Seen) -> str | None:
    dead = [row for row in seen.layers if row.dead_channels > MANY_DEAD]
    if not dead or len(seen.epochs) == 1:
        return None
    worst = max(row.dead_channels for row in dead)
    return (
        f"inputs die: up to {_percent(worst)} of the input channels of {_names(dead)} have one "
        f"sign everywhere, and tell nothing; try `irbin.convert()` with {_revived(seen.options)}"
        "`keep=` and the layer's name"
    )


def _revived(options: PlanOptions) -> str:
    """What may give dead inputs both signs, of what the network does not have."""
    if not ACTIVATIONS[options.activation].n_learned:
        learning = next(name for name, kind in ACTIVATIONS.items() if kind.n_learned)
        return f"`activation={learning!r}`, or with "
    if options.sign_threshold == "zero":
        return "`sign_threshold='learned'`, or with "
    return ""


def _drifts(seen: Seen) -> str | None:
    wide = [row for row in seen.layers if row.statistics_gap > LARGE_GAP]
    behind = seen.now.eval_top1 < FAR_BELOW * seen.now.train_top1
    if not wide or not behind or seen.is_too_early:
        return None
    worst = max(wide, key=lambda row: row.statistics_gap)
    return (
        f"batch norm lags behind: validation reached {seen.now.eval_top1:.1f} %, training "
        f"{seen.now.train_top1:.1f} %, and the mean of a batch behind `{worst.layer}` is "
        f"{worst.statistics_gap:.1f} standard deviations from the running one; {_calmer(seen)}"
    )


def _collapses(seen: Seen) -> str | None:
    best = max((e.eval_top1 for e in seen.epochs if not math.isnan(e.eval_top1)), default=math.nan)
    best_train = max(
        (e.train_top1 for e in seen.epochs if not math.isnan(e.train_top1)), default=math.nan
    )
    fell = seen.now.eval_top1 < FAR_BELOW * best
    learns = seen.now.train_top1 >= STILL_FINE * best_train
    if not fell or not learns or seen.is_too_early or _drifts(seen) is not None:
        return None
    return (
        f"validation collapsed: {seen.now.eval_top1:.1f} %, after {best:.1f} % before, while "
        f"training is at {seen.now.train_top1:.1f} %; `best` is kept; {_calmer(seen)}"
    )


CAUSES: dict[str, _Judge] = {
    "diverges": _diverges,
    "saturates": _saturates,
    "churns": _churns,
    "freezes": _freezes,
}
"""What gives the sentence, or None, by name; only the first one found is told: it explains the
others, and the effects."""

EFFECTS: dict[str, _Judge] = {"guesses": _guesses, "dies": _dies}

OTHERS: dict[str, _Judge] = {"starves": _starves, "drifts": _drifts, "collapses": _collapses}


def _percent(share: float) -> str:
    """`0.4 %`, `12 %`: two digits."""
    return f"{float(f'{100 * share:.2g}'):g} %"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _names(rows: Sequence[LayerDiagnostics]) -> str:
    """The first three in backticks, and how many more."""
    names = ", ".join(f"`{row.layer}`" for row in rows[:3])
    return names if len(rows) <= 3 else f"{names} and {len(rows) - 3} more"
