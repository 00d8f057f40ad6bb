"""Every knob of a fine-tune as one frozen record, its defaults in `recipes/*.yaml`; torch-free.

A recipe is made in three layers: `recipes/default.yaml` names every knob, a named recipe or a file
of the user's sets some of them, flags override. Names and meanings are timm's wherever timm has the
knob.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from irbin.errors import UsageError
from irbin.network.nearest import nearest
from irbin.records import JsonValue
from irbin.training.knobs import Amount, Count, Positive, Whole
from irbin.training.recipe_file import HEAD, read_recipe

_log = logging.getLogger("irbin")

Share = Annotated[float, Field(ge=0, le=1)]
Quantile = Annotated[float, Field(gt=0.5, lt=1)]
Amp = Annotated[
    Literal["auto", "bfloat16", "float16", "off"],
    BeforeValidator(lambda value: "off" if value is None or value is False else value),
]
"""YAML reads a bare `off` as false; null is how runs before 0.2 wrote it."""
Schedule = Literal["cosine", "tanh", "step", "multistep", "poly", "wsd", "rsqrt", "constant"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Recipe:
    """How a network is trained. Made by `resolve_recipe`, read by `training.loop`."""

    epochs: Count
    """Passes over the training split, warm-up included, cool-down not."""
    seed: Whole
    """Decides everything random: order, augmentation, mixing, dropout."""
    val_interval: Count
    """Epochs between two evaluations; the last epoch is always evaluated."""
    log_interval: Whole
    """Steps between two reports, each of which waits for the device; 0 means every step on the CPU
    and every 20th elsewhere."""

    opt: str
    """timm's name of the optimizer."""
    lr: Positive
    """Highest learning rate, reached after warm-up."""
    momentum: Share
    """For the optimizers that have one."""
    weight_decay: Amount
    """Of weights with two or more axes; batch norm, biases and PReLU get none."""
    latent_weight_decay: Amount | None
    """Of the binary layers' latent weights; null takes `weight_decay`."""
    latent_lr_scale: Positive
    """Learning rate of the latent weights, relative to `lr`."""
    norm_lr_scale: Positive
    """Learning rate of the norms' biases and of learned thresholds, relative to `lr`."""
    opt_kwargs: dict[str, JsonValue]
    """Further arguments of the optimizer (`betas`, `fused` …)."""
    clip_grad: Positive | None
    """Gradient clipping threshold, null for none."""
    clip_mode: Literal["norm", "value", "agc"]
    """What the threshold is compared with."""

    sched: Schedule
    """timm's name of the learning-rate schedule; it moves every step."""
    min_lr: Amount
    """Where the schedule ends."""
    warmup_epochs: Amount
    """Length of the linear warm-up; fractions are fine."""
    warmup_lr: Amount
    """Where the warm-up begins."""
    cooldown_epochs: Whole
    """Epochs at `min_lr` after the schedule."""
    decay_epochs: Positive
    """Epochs between two decays (`step`), or length of the decay (`wsd`, `rsqrt`)."""
    decay_milestones: tuple[Amount, ...]
    """Epochs at which the rate decays (`multistep`)."""
    decay_rate: Positive
    """Factor of a decay (`step`, `multistep`), power (`poly`)."""

    t_min: Positive
    """EDE sharpness at the first step."""
    t_max: Positive
    """EDE sharpness at the last step."""
    ede_scale: Literal["paper", "even"]
    """How EDE's k follows t: max(1/t, 1), or, so that gradients stay even through the layers, 1/t
    for t < 1 and t^(−1/2) from there."""
    input_spread: Literal["none", "image"]
    """What the slope of the activations' sign is measured in: x itself, or x/σ of each image."""
    recu: bool
    """Clamp weights to quantiles of their filter before the sign, so that the tails are let go."""
    tau_min: Quantile
    """ReCU's quantile at the first step; the other one is 1 minus it."""
    tau_max: Quantile
    """ReCU's quantile at the last step."""
    float_epochs: Whole
    """Of `epochs`, the first ones, in which nothing is binary yet."""
    activation_epochs: Whole
    """The epochs after these, in which activations are binary and weights are not. Schedule,
    warm-up, EDE and optimizer begin anew in each stage."""
    final_weight_decay: Amount | None
    """`weight_decay` of the last stage, in which everything is binary; null keeps it."""

    smoothing: Annotated[float, Field(ge=0, lt=1)]
    """Label smoothing."""
    distill: bool
    """Learn from the float network's outputs too."""
    kd_temperature: Positive
    """Softens both networks' outputs before they are compared."""
    distill_loss_weight: Amount
    """Weight of the teacher's term where there is a teacher."""
    task_loss_weight: Amount
    """Weight of the labels' term where there is a teacher."""
    distill_blocks: Amount
    """Weight of the distance between feature maps of network and teacher, at the end of each
    resolution; 0 compares none."""

    crop_padding: Whole | Literal["auto"]
    """Pixels of border before a random crop; `auto` is 4 for small images, 0 for others; 0 crops
    and resizes at random instead."""
    scale: tuple[Share, Share]
    """Range of the area share of a random resized crop."""
    ratio: tuple[Positive, Positive]
    """Range of the aspect ratio of a random resized crop."""
    hflip: Share
    """Probability of a horizontal flip."""
    flip: Literal["random", "alternating"]
    """`random` tosses a coin an epoch for each image; `alternating` one a run, and then flips every
    second epoch."""
    repeat_views: Whole
    """Epochs after which each image's augmentation begins again, so that from then on the teacher's
    answers are looked up; 0 never repeats it. The order is another in every epoch."""
    vflip: Share
    """Probability of a vertical flip."""
    color_jitter: Amount | None
    """Strength of random brightness, contrast and saturation; null for none."""
    aa: str | None
    """timm's augmentation policy (`rand-m9-mstd0.5`), null for none."""
    train_interpolation: str
    """Filter of the random resized crop; `random` draws one an image."""
    reprob: Share
    """Probability of random erasing."""
    remode: Literal["const", "rand", "pixel"]
    """What an erased block is filled with."""
    recount: Count
    """Most blocks erased in an image."""
    mixup: Amount
    """Mixup's alpha, 0 for none."""
    cutmix: Amount
    """CutMix's alpha, 0 for none."""
    mixup_prob: Share
    """Probability that a batch is mixed."""
    mixup_switch_prob: Share
    """Probability of CutMix where both are on."""
    mixup_off_epoch: Whole
    """Epoch from which nothing is mixed, 0 for never."""

    amp: Amp
    """Autocast to this type, `off` for float32; `auto` takes bfloat16 where the processor computes
    in it. Latent weights, batch-norm statistics and loss stay float32."""
    channels_last: bool | Literal["auto"]
    """Keep images and weights channels-last; `auto` does where there are convolutions."""
    compile: bool | Literal["auto"]
    """Run the network through torch.compile: a minute at the start, a faster step after. `auto`
    does where there is a compiler and the run is long enough."""
    grad_accum_steps: Count
    """Batches whose gradients are added up to a step."""
    sync_bn: bool
    """Batch-norm statistics of all processes' batches together, where there are several."""
    dist_bn: Literal["reduce", "broadcast", "off"]
    """Running statistics at an epoch's end: averaged over the processes, the first one's, or
    each its own (then the first one's are saved)."""
    model_ema: bool
    """Average the weights over the steps, evaluate the average, and keep it in `best`."""
    model_ema_decay: Share
    """Weight of the average so far at every step."""
    model_ema_warmup: bool
    """Let the decay grow to its value, so that a short run's average is not its first weights."""
    calibrate_images: Whole
    """Training images on which batch-norm statistics are measured anew before the last evaluation,
    rounded up to whole batches; 0 keeps the running ones."""
    checkpoint_hist: Whole
    """How many recent epochs are kept beside `last` and `best`."""
    recovery_interval: Whole
    """Steps between two saves within an epoch; 0 saves every ten minutes."""

    def __post_init__(self) -> None:
        """Checks what one field alone cannot show."""
        for low, high in (("t_min", "t_max"), ("tau_min", "tau_max")):
            if getattr(self, low) > getattr(self, high):
                raise UsageError(
                    f"`{low}`: expected at most `{high}` = {getattr(self, high)}, "
                    f"got {getattr(self, low)}"
                )
        self._check_epochs()
        if self.repeat_views:
            self._check_views()
        if self.flip == "alternating" and self.hflip != 0.5:
            raise UsageError(
                "`flip`: `alternating` flips every image every second epoch, so expected `hflip` "
                f"0.5, got {self.hflip}"
            )
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise UsageError(f"`{name}`: expected (lowest, highest), got ({low}, {high})")

    def _check_views(self) -> None:
        """What a batch changes, or answers hold, beside one image's own changes and logits."""
        for name in ("mixup", "cutmix", "reprob", "distill_blocks"):
            if getattr(self, name):
                raise UsageError(
                    f"`repeat_views`: expected `{name}` 0 beside it, got {getattr(self, name)}"
                )
        if not self.distill:
            raise UsageError(
                "`repeat_views`: expected a run that distills, whose teacher is then looked up; "
                "add `--distill`, or leave it out"
            )
        if self.flip == "alternating" and self.repeat_views % 2:
            raise UsageError(
                "`repeat_views`: expected an even number beside `flip` alternating, got "
                f"{self.repeat_views}"
            )

    def _check_epochs(self) -> None:
        n_before = self.float_epochs + self.activation_epochs
        if n_before >= self.epochs:
            raise UsageError(
                "`float_epochs` and `activation_epochs`: expected less than `epochs` = "
                f"{self.epochs} together, got {n_before}"
            )
        stages = (self.float_epochs, self.activation_epochs, self.epochs - n_before)
        shortest = min(n for n in stages if n)
        if self.warmup_epochs >= shortest:
            what = f"the {shortest} of the shortest stage" if n_before else f"`epochs` = {shortest}"
            raise UsageError(
                f"`warmup_epochs`: expected less than {what}, got {self.warmup_epochs}"
            )


FIELD_NAMES = tuple(field.name for field in fields(Recipe))
"""Every knob, in the order of the record."""

_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Recipe)


def load_recipe(name_or_file: str) -> dict[str, JsonValue]:
    """The knobs that a named recipe, a YAML file, or the `args.yaml` of an earlier run sets.

    Raises:
        UsageError: see `read_recipe`; or a knob that does not exist.
    """
    knobs = read_recipe(name_or_file).knobs
    _check_names(knobs, name_or_file)
    return knobs


def resolve_recipe(
    recipe: str | None, overrides: Mapping[str, JsonValue], converted: bool
) -> Recipe:
    """The recipe of a run: defaults, then a named recipe or file, then overrides.

    Args:
        recipe: name or file; None is `default` for a converted network and `float` for a float one.
        overrides: knobs by name; wins.
        converted: whether the network is binary. A float one is its own teacher's equal, so it does
            not distill unless an override says so.

    Raises:
        UsageError: an unknown name, or a value that cannot be meant.
    """
    _check_names(overrides, "overrides")
    knobs = load_recipe("default") | load_recipe(recipe or ("default" if converted else "float"))
    if not converted:
        knobs["distill"] = False
    return recipe_of(_warmed_up(knobs | dict(overrides), overrides))


def _warmed_up(
    knobs: dict[str, JsonValue], overrides: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    """Half the epochs for a warm-up that nobody asked for, where they are too few for the whole."""
    if "warmup_epochs" in overrides or "epochs" not in overrides:
        return knobs
    epochs, before = knobs["epochs"], (knobs["float_epochs"], knobs["activation_epochs"])
    numbers = (epochs, *before, knobs["warmup_epochs"])
    if not all(isinstance(n, int | float) for n in numbers):
        return knobs  # told below
    shortest = min((n for n in (*before, epochs - sum(before)) if n), default=0)
    if shortest <= 0 or knobs["warmup_epochs"] < shortest:
        return knobs
    _log.warning(
        "%g epochs are too few for the recipe's warm-up of %g; it takes %g instead",
        shortest, knobs["warmup_epochs"], shortest / 2,
    )  # fmt: skip
    return knobs | {"warmup_epochs": shortest / 2}


def recipe_of(knobs: Mapping[str, JsonValue]) -> Recipe:
    """The record of a value for every knob.

    Raises:
        UsageError: a value that cannot be meant.
    """
    try:
        return _ADAPTER.validate_python(dict(knobs))
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":  # from __post_init__, which names the knob itself
            raise UsageError(str(first["ctx"]["error"])) from error
        name = str(first["loc"][0]) if first["loc"] else "recipe"
        raise UsageError(f"`{name}`: {first['msg']}, got {knobs.get(name)!r}") from error


def _check_names(knobs: Mapping[str, JsonValue], where: str) -> None:
    for name in knobs:
        if name not in FIELD_NAMES:
            raise UsageError(
                f"`recipe`: {where} sets `{name}`, which is no knob"
                f"{nearest(str(name), (*FIELD_NAMES, *HEAD))}"
            )
