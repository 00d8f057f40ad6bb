"""The recipe's knobs as flags of `irbin finetune`, under timm's names; None: "as the recipe says".

Every field of `training.recipe.Recipe` has its flag, and a test says so. What values a knob takes
is checked there, once, whether they come from a flag or from a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from irbin.cli.flags import given
from irbin.cli.options import ChannelsLast
from irbin.cli.record_flags import parse_pairs
from irbin.knob import RUN

SCHEDULE, OPTIMIZER, AUGMENTATION, METHOD = "Schedule", "Optimizer", "Augmentation", "Method"
CROPS = "Crops and flips"


def complete_recipe(incomplete: str) -> Iterator[str]:
    """Names of the recipes that come with irbin, for the shell's completion."""
    folder = Path(__file__).parents[1] / "training" / "recipes"
    yield from sorted(
        path.stem for path in folder.glob("*.yaml") if path.stem.startswith(incomplete)
    )


RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", "--config", "-c", metavar="NAME|FILE", autocompletion=complete_recipe,
                 show_default="default, or float for an unconverted network",
                 help="Recipe or YAML file that sets defaults; flags override it."),
]  # fmt: skip


def knob(panel: str, text: str, metavar: str | None = None, *names: str) -> Any:
    """A flag without a default of its own."""
    return typer.Option(
        *names, rich_help_panel=panel, help=text, metavar=metavar, show_default=False
    )


@dataclass(frozen=True)
class RecipeFlags:
    """Fields of `training.recipe.Recipe`, each under its own name."""

    epochs: Annotated[int | None, knob(SCHEDULE, "Passes over the training split.", "N")] = None
    sched: Annotated[
        str | None,
        knob(SCHEDULE, "Learning-rate schedule: cosine, step, multistep, poly, …", "NAME"),
    ] = None
    min_lr: Annotated[
        float | None, knob(SCHEDULE, "Learning rate at which the schedule ends.", "X")
    ] = None
    warmup_epochs: Annotated[float | None, knob(SCHEDULE, "Length of the warm-up.", "X")] = None
    warmup_lr: Annotated[
        float | None, knob(SCHEDULE, "Learning rate at which the warm-up begins.", "X")
    ] = None
    cooldown_epochs: Annotated[
        int | None, knob(SCHEDULE, "Epochs at --min-lr after the schedule.", "N")
    ] = None
    decay_epochs: Annotated[
        float | None, knob(SCHEDULE, "Epochs between two decays (step).", "X")
    ] = None
    decay_milestones: Annotated[
        list[float] | None,
        knob(SCHEDULE, "Epoch at which the rate decays (multistep); repeatable.", "X"),
    ] = None
    decay_rate: Annotated[
        float | None, knob(SCHEDULE, "Factor of a decay (step, multistep), power (poly).", "X")
    ] = None
    val_interval: Annotated[int | None, knob(SCHEDULE, "Epochs between evaluations.", "N")] = None

    opt: Annotated[
        str | None, knob(OPTIMIZER, "timm's optimizer: sgd, adam, adamw, lamb, …", "NAME")
    ] = None
    lr: Annotated[float | None, knob(OPTIMIZER, "Highest learning rate.", "X")] = None
    momentum: Annotated[float | None, knob(OPTIMIZER, "Where the optimizer has one.", "X")] = None
    weight_decay: Annotated[
        float | None, knob(OPTIMIZER, "Of weights; norms, biases and PReLU get none.", "X")
    ] = None
    opt_kwargs: Annotated[
        list[str] | None,
        knob(OPTIMIZER, "Further argument of the optimizer; repeatable.", "KEY=VALUE"),
    ] = None
    clip_grad: Annotated[float | None, knob(OPTIMIZER, "Gradient clipping threshold.", "X")] = None
    clip_mode: Annotated[
        Literal["norm", "value", "agc"] | None,
        knob(OPTIMIZER, "What the threshold is compared with."),
    ] = None
    smoothing: Annotated[float | None, knob(OPTIMIZER, "Label smoothing.", "X")] = None

    t_min: Annotated[
        float | None,
        knob(
            METHOD, "EDE's t at the first step (paper 0.1; the authors' ResNet-20 code 0.001).", "X"
        ),
    ] = None
    t_max: Annotated[float | None, knob(METHOD, "EDE's t at the last step.", "X")] = None
    ede_scale: Annotated[
        Literal["paper", "even"] | None,
        knob(METHOD, "EDE's k: paper, or even, which keeps gradients even in depth.", "HOW"),
    ] = None
    input_spread: Annotated[
        Literal["none", "image"] | None,
        knob(METHOD, "image: slope of the activations' sign at x/σ of each image.", "HOW"),
    ] = None
    recu: Annotated[
        bool | None,
        knob(METHOD, "Clamp weights to quantiles of their filter.", None, "--recu/--no-recu"),
    ] = None
    tau_min: Annotated[float | None, knob(METHOD, "ReCU's quantile at the first step.", "P")] = None
    tau_max: Annotated[float | None, knob(METHOD, "ReCU's quantile at the last step.", "P")] = None
    float_epochs: Annotated[
        int | None, knob(METHOD, "First epochs, in which nothing is binary yet.", "N")
    ] = None
    activation_epochs: Annotated[
        int | None, knob(METHOD, "Then epochs with binary activations and float weights.", "N")
    ] = None
    final_weight_decay: Annotated[
        float | None, knob(METHOD, "Weight decay once everything is binary.", "X")
    ] = None
    calibrate_images: Annotated[
        int | None,
        knob(METHOD, "Images to measure batch norm on before the last evaluation.", "N"),
    ] = None
    latent_lr_scale: Annotated[
        float | None, knob(METHOD, "Learning rate of latent weights, relative to --lr.", "X")
    ] = None
    norm_lr_scale: Annotated[
        float | None, knob(METHOD, "That of norms' biases and thresholds, relative to --lr.", "X")
    ] = None
    latent_weight_decay: Annotated[
        float | None, knob(METHOD, "Weight decay of latent weights.", "X")
    ] = None
    distill: Annotated[
        bool | None,
        knob(METHOD, "Learn from the float network's outputs too.", None, "--distill/--no-distill"),
    ] = None
    kd_temperature: Annotated[
        float | None, knob(METHOD, "Softens both networks' outputs.", "X")
    ] = None
    distill_loss_weight: Annotated[
        float | None, knob(METHOD, "Weight of the teacher's term.", "X")
    ] = None
    distill_blocks: Annotated[
        float | None, knob(METHOD, "Weight of the teacher's feature maps.", "X")
    ] = None
    task_loss_weight: Annotated[
        float | None, knob(METHOD, "Weight of the labels' term beside a teacher.", "X")
    ] = None

    crop_padding: Annotated[
        str | None,
        knob(
            CROPS,
            "Border before a random crop; auto is 4 on small images; 0 crops and resizes.",
            "PIXELS|auto",
        ),
    ] = None
    scale: Annotated[
        tuple[float, float] | None, knob(CROPS, "Area share of a random resized crop.", "LOW HIGH")
    ] = None
    ratio: Annotated[
        tuple[float, float] | None,
        knob(CROPS, "Aspect ratio of a random resized crop.", "LOW HIGH"),
    ] = None
    train_interpolation: Annotated[
        str | None, knob(CROPS, "Filter of the random resized crop.", "NAME")
    ] = None
    hflip: Annotated[float | None, knob(CROPS, "Probability of a horizontal flip.", "P")] = None
    flip: Annotated[
        Literal["random", "alternating"] | None,
        knob(CROPS, "A coin an epoch for each image, or each image every second epoch."),
    ] = None
    repeat_views: Annotated[
        int | None,
        knob(CROPS, "Epochs after which augmentation repeats; the teacher is looked up then.", "N"),
    ] = None
    vflip: Annotated[float | None, knob(CROPS, "Probability of a vertical flip.", "P")] = None

    aa: Annotated[
        str | None, knob(AUGMENTATION, "timm's augmentation policy: rand-m9-mstd0.5, …", "POLICY")
    ] = None
    color_jitter: Annotated[
        float | None,
        knob(AUGMENTATION, "Strength of brightness, contrast and saturation changes.", "X"),
    ] = None
    reprob: Annotated[float | None, knob(AUGMENTATION, "Probability of random erasing.", "P")] = (
        None
    )
    remode: Annotated[
        Literal["const", "rand", "pixel"] | None,
        knob(AUGMENTATION, "What an erased block is filled with."),
    ] = None
    recount: Annotated[int | None, knob(AUGMENTATION, "Most blocks erased in an image.", "N")] = (
        None
    )
    mixup: Annotated[float | None, knob(AUGMENTATION, "Mixup's alpha; 0 is off.", "X")] = None
    cutmix: Annotated[float | None, knob(AUGMENTATION, "CutMix's alpha; 0 is off.", "X")] = None
    mixup_prob: Annotated[
        float | None, knob(AUGMENTATION, "Probability that a batch is mixed.", "P")
    ] = None
    mixup_switch_prob: Annotated[
        float | None, knob(AUGMENTATION, "Probability of CutMix where both are on.", "P")
    ] = None
    mixup_off_epoch: Annotated[
        int | None, knob(AUGMENTATION, "Epoch from which nothing is mixed; 0 is never.", "N")
    ] = None

    model_ema: Annotated[
        bool | None,
        knob(
            METHOD,
            "Average the weights; best is then the average.",
            None,
            "--model-ema/--no-model-ema",
        ),
    ] = None
    model_ema_decay: Annotated[
        float | None, knob(METHOD, "Weight of the average so far at a step.", "X")
    ] = None
    model_ema_warmup: Annotated[
        bool | None,
        knob(METHOD, "Let that weight grow from 0.", None, "--model-ema-warmup/--no-ema-warmup"),
    ] = None

    seed: Annotated[int | None, knob(RUN, "Decides everything random.", "N")] = None
    amp: Annotated[
        Literal["auto", "bfloat16", "float16", "off"] | None,
        knob(
            RUN,
            "Mixed precision: bfloat16, float16, off, or auto: bfloat16 where it is fast.",
            "TYPE",
            "--amp",
            "--amp-dtype",
        ),
    ] = None
    channels_last: ChannelsLast = None
    compile: Annotated[
        bool | None,
        knob(
            RUN,
            "torch.compile; else where a run is long enough for it.",
            None,
            "--compile/--no-compile",
        ),
    ] = None
    grad_accum_steps: Annotated[
        int | None, knob(RUN, "Batches whose gradients make a step.", "N")
    ] = None
    log_interval: Annotated[int | None, knob(RUN, "Steps between two reports.", "N")] = None
    checkpoint_hist: Annotated[
        int | None, knob(RUN, "Recent epochs kept beside last and best.", "N")
    ] = None
    recovery_interval: Annotated[
        int | None, knob(RUN, "Steps between two saves; 0 is ten minutes.", "N")
    ] = None
    sync_bn: Annotated[
        bool | None,
        knob(RUN, "Batch norm over all processes' batches.", None, "--sync-bn/--no-sync-bn"),
    ] = None
    dist_bn: Annotated[
        Literal["reduce", "broadcast", "off"] | None,
        knob(RUN, "Running statistics of several processes: reduce, broadcast, off.", "HOW"),
    ] = None

    def overrides(self) -> dict[str, Any]:
        """The knobs that were turned, by field name."""
        knobs = given(self)
        if self.opt_kwargs is not None:
            knobs["opt_kwargs"] = parse_pairs(self.opt_kwargs, "--opt-kwargs")
        if self.crop_padding is not None and self.crop_padding.isdecimal():
            knobs["crop_padding"] = int(self.crop_padding)
        return knobs
