"""Every knob of a fine-tune as one frozen record with its defaults; free of torch and pydantic.

Adding a knob is adding a field: its flag, its line in `irbin recipes show`, its rows in the pages
come from the declaration. Names and meanings are timm's wherever timm has the knob.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from irbin.recipes.knobs import (
    Amount,
    Amp,
    BelowOne,
    Count,
    Positive,
    Quantile,
    Schedule,
    Share,
    Together,
    Whole,
)
from irbin.records.json import JsonValue
from irbin.records.knob import AUGMENTATION, CROPS, METHOD, OPTIMIZER, RUN, SCHEDULE, Knob, knobs_of
from irbin.records.options import DEFAULT_SEED


@dataclass(frozen=True)
class Recipe(Together):
    """How a network is trained. Made by `request.resolve_recipe`, read by `training.loop`.

    `request.recipe_of` checks each value; what fields say together is always checked.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: Annotated[Count, Knob(SCHEDULE, "Passes over the training split.", "N")] = 10
    """Warm-up included, cool-down not."""
    sched: Annotated[
        Schedule,
        Knob(
            SCHEDULE, "Learning-rate schedule: cosine, step, multistep, poly, …", "NAME", typed=str
        ),
    ] = "cosine"
    """It moves every step."""
    min_lr: Annotated[Amount, Knob(SCHEDULE, "Learning rate at which the schedule ends.", "X")] = (
        0.0
    )
    warmup_epochs: Annotated[Amount, Knob(SCHEDULE, "Length of the warm-up.", "X")] = 0.5
    """It is linear; fractions are fine."""
    warmup_lr: Annotated[
        Amount, Knob(SCHEDULE, "Learning rate at which the warm-up begins.", "X")
    ] = 1e-05
    cooldown_epochs: Annotated[
        Whole, Knob(SCHEDULE, "Epochs at `min_lr` after the schedule.", "N")
    ] = 0
    decay_epochs: Annotated[Positive, Knob(SCHEDULE, "Epochs between two decays (step).", "X")] = (
        30.0
    )
    """Of `wsd` and `rsqrt` the length of the decay."""
    decay_milestones: Annotated[
        tuple[Amount, ...], Knob(SCHEDULE, "Epoch at which the rate decays (multistep).", "X")
    ] = (30.0, 60.0)
    decay_rate: Annotated[
        Positive, Knob(SCHEDULE, "Factor of a decay (step, multistep), power (poly).", "X")
    ] = 0.1
    val_interval: Annotated[Count, Knob(SCHEDULE, "Epochs between evaluations.", "N")] = 1
    """The last epoch is always evaluated."""
    opt: Annotated[
        str,
        Knob(
            OPTIMIZER,
            "timm's optimizer: sgd, adam, adamw, lamb, …",
            "NAME",
            why="Adam's step does not depend on a gradient's size, which EDE changes by 10 to 100 "
            "while t grows; it is the least sensitive choice for binary networks (Alizadeh et al., "
            "ICLR 2019; Liu et al., ICML 2021).",
        ),
    ] = "adamw"
    lr: Annotated[
        Positive,
        Knob(
            OPTIMIZER,
            "Highest learning rate.",
            "X",
            why="Between ReActNet's 5e-4 and QuickNet's 1e-2; larq-zoo's ResNets: 4e-3 to 5e-3.",
        ),
    ] = 0.003
    """Reached after warm-up."""
    momentum: Annotated[Share, Knob(OPTIMIZER, "Where the optimizer has one.", "X")] = 0.9
    weight_decay: Annotated[
        Amount,
        Knob(
            OPTIMIZER,
            "Of weights; norms, biases and PReLU get none.",
            "X",
            why="Decay shrinks latent weights until noise flips them (Liu et al., ICML 2021).",
        ),
    ] = 0.0
    """Weights are what has two or more axes."""
    opt_kwargs: Annotated[
        dict[str, JsonValue], Knob(OPTIMIZER, "Further argument of the optimizer.", "KEY=VALUE")
    ] = field(default_factory=dict)
    """`betas`, `fused` …"""
    clip_grad: Annotated[Positive | None, Knob(OPTIMIZER, "Gradient clipping threshold.", "X")] = (
        None
    )
    """Null for none."""
    clip_mode: Annotated[
        Literal["norm", "value", "agc"], Knob(OPTIMIZER, "What the threshold is compared with.")
    ] = "norm"
    smoothing: Annotated[
        BelowOne,
        Knob(
            OPTIMIZER,
            "Label smoothing.",
            "X",
            why="The float network teaches (Hinton et al., 2015); the usual advice is then none.",
        ),
    ] = 0.0
    t_min: Annotated[
        Positive,
        Knob(
            METHOD,
            "EDE's t at the first step (paper 0.1; the authors' ResNet-20 code 0.001).",
            "X",
            why="IR-Net §3.3. A smaller one leaves less of a short run to the sharp half.",
        ),
    ] = 0.1
    t_max: Annotated[Positive, Knob(METHOD, "EDE's t at the last step.", "X")] = 10.0
    ede_scale: Annotated[
        Literal["paper", "even"],
        Knob(METHOD, "EDE's k: paper, or even, which keeps gradients even in depth.", "HOW"),
    ] = "paper"
    """How EDE's k follows t: max(1/t, 1), or, so that gradients stay even through the layers, 1/t
    for t < 1 and t^(−1/2) from there."""
    input_spread: Annotated[
        Literal["none", "image"],
        Knob(METHOD, "image: slope of the activations' sign at x/σ of each image.", "HOW"),
    ] = "none"
    recu: Annotated[bool, Knob(METHOD, "Clamp weights to quantiles of their filter.")] = False
    """Before the sign, so that the tails are let go."""
    tau_min: Annotated[
        Quantile,
        Knob(
            METHOD,
            "ReCU's quantile at the first step.",
            "P",
            why="ReCU's quantiles are those of its authors' code (Xu et al., ICCV 2021).",
        ),
    ] = 0.85
    """The other one is 1 minus it."""
    tau_max: Annotated[Quantile, Knob(METHOD, "ReCU's quantile at the last step.", "P")] = 0.99
    float_epochs: Annotated[
        Whole,
        Knob(
            METHOD,
            "First epochs, in which nothing is binary yet.",
            "N",
            why="Stages are as ReActNet and Real-to-Binary train.",
        ),
    ] = 0
    activation_epochs: Annotated[
        Whole, Knob(METHOD, "Then epochs with binary activations and float weights.", "N")
    ] = 0
    """The epochs after these, in which activations are binary and weights are not. Schedule,
    warm-up, EDE and optimizer begin anew in each stage."""
    final_weight_decay: Annotated[
        Amount | None, Knob(METHOD, "Weight decay once everything is binary.", "X")
    ] = None
    """Null keeps `weight_decay`."""
    calibrate_images: Annotated[
        Whole, Knob(METHOD, "Images to measure batch norm on before the last evaluation.", "N")
    ] = 0
    """Training images on which batch-norm statistics are measured anew before the last evaluation,
    rounded up to whole batches; 0 keeps the running ones."""
    latent_lr_scale: Annotated[
        Positive, Knob(METHOD, "Learning rate of latent weights, relative to `lr`.", "X")
    ] = 1.0
    norm_lr_scale: Annotated[
        Positive, Knob(METHOD, "That of norms' biases and thresholds, relative to `lr`.", "X")
    ] = 1.0
    latent_weight_decay: Annotated[
        Amount | None, Knob(METHOD, "Weight decay of latent weights.", "X")
    ] = None
    """Null takes `weight_decay`."""
    distill: Annotated[bool, Knob(METHOD, "Learn from the float network's outputs too.")] = True
    kd_temperature: Annotated[Positive, Knob(METHOD, "Softens both networks' outputs.", "X")] = 4.0
    distill_loss_weight: Annotated[Amount, Knob(METHOD, "Weight of the teacher's term.", "X")] = 0.9
    distill_blocks: Annotated[
        Amount, Knob(METHOD, "Weight of the teacher's feature maps.", "X")
    ] = 0.0
    """Weight of the distance between feature maps of network and teacher, at the end of each
    resolution; 0 compares none."""
    task_loss_weight: Annotated[
        Amount, Knob(METHOD, "Weight of the labels' term beside a teacher.", "X")
    ] = 0.1
    model_ema: Annotated[
        bool,
        Knob(
            METHOD,
            "Average the weights; best is then the average.",
            why="No evidence that averaging latent weights helps; it does for float networks.",
        ),
    ] = False
    """Over the steps; the average is what is evaluated."""
    model_ema_decay: Annotated[
        Share, Knob(METHOD, "Weight of the average so far at a step.", "X")
    ] = 0.9998
    model_ema_warmup: Annotated[
        bool, Knob(METHOD, "Let that weight grow from 0.", off="no-ema-warmup")
    ] = True
    """So that a short run's average is not its first weights."""
    crop_padding: Annotated[
        Whole | Literal["auto"],
        Knob(
            CROPS,
            "Border before a random crop; auto is 4 on small images; 0 crops and resizes.",
            "PIXELS|auto",
            typed=str,
            why="A binary network underfits long before it overfits: gentle augmentation.",
        ),
    ] = "auto"
    """Pixels of border before a random crop; `auto` is 4 for small images, 0 for others; 0 crops
    and resizes at random instead."""
    scale: Annotated[
        tuple[Share, Share], Knob(CROPS, "Area share of a random resized crop.", "LOW HIGH")
    ] = (0.25, 1.0)
    ratio: Annotated[
        tuple[Positive, Positive], Knob(CROPS, "Aspect ratio of a random resized crop.", "LOW HIGH")
    ] = (0.75, 1.3333333333333333)
    train_interpolation: Annotated[
        Literal["random", "bilinear", "bicubic", "nearest", "box", "hamming", "lanczos"],
        Knob(CROPS, "Filter of the random resized crop."),
    ] = "random"
    """`random` draws one an image."""
    hflip: Annotated[Share, Knob(CROPS, "Probability of a horizontal flip.", "P")] = 0.5
    flip: Annotated[
        Literal["random", "alternating"],
        Knob(CROPS, "A coin an epoch for each image, or each image every second epoch."),
    ] = "random"
    """`random` tosses a coin an epoch for each image; `alternating` one a run, and then flips every
    second epoch."""
    repeat_views: Annotated[
        Whole,
        Knob(CROPS, "Epochs after which augmentation repeats; the teacher is looked up then.", "N"),
    ] = 0
    """Epochs after which each image's augmentation begins again, so that from then on the teacher's
    answers are looked up; 0 never repeats it. The order is another in every epoch."""
    vflip: Annotated[Share, Knob(CROPS, "Probability of a vertical flip.", "P")] = 0.0
    aa: Annotated[
        str | None, Knob(AUGMENTATION, "timm's augmentation policy: rand-m9-mstd0.5, …", "POLICY")
    ] = None
    """Null for none."""
    color_jitter: Annotated[
        Amount | None,
        Knob(AUGMENTATION, "Strength of brightness, contrast and saturation changes.", "X"),
    ] = None
    """Null for none."""
    reprob: Annotated[Share, Knob(AUGMENTATION, "Probability of random erasing.", "P")] = 0.0
    remode: Annotated[
        Literal["const", "rand", "pixel"],
        Knob(AUGMENTATION, "What an erased block is filled with."),
    ] = "pixel"
    recount: Annotated[Count, Knob(AUGMENTATION, "Most blocks erased in an image.", "N")] = 1
    mixup: Annotated[Amount, Knob(AUGMENTATION, "Mixup's alpha; 0 is off.", "X")] = 0.0
    cutmix: Annotated[Amount, Knob(AUGMENTATION, "CutMix's alpha; 0 is off.", "X")] = 0.0
    mixup_prob: Annotated[Share, Knob(AUGMENTATION, "Probability that a batch is mixed.", "P")] = (
        1.0
    )
    mixup_switch_prob: Annotated[
        Share, Knob(AUGMENTATION, "Probability of CutMix where both are on.", "P")
    ] = 0.5
    mixup_off_epoch: Annotated[
        Whole, Knob(AUGMENTATION, "Epoch from which nothing is mixed; 0 is never.", "N")
    ] = 0
    seed: Annotated[Whole, Knob(RUN, "Decides everything random.", "N")] = DEFAULT_SEED
    """Order, augmentation, mixing, dropout."""
    amp: Annotated[
        Amp,
        Knob(
            RUN,
            "Mixed precision: bfloat16, float16, off, or auto: bfloat16 where it is fast.",
            "TYPE",
            also=("amp-dtype",),
            why="The fastest way that the machine has; what it is and why is kept in args.yaml.",
        ),
    ] = "auto"
    """Autocast to this type, `off` for float32; `auto` takes bfloat16 where the processor computes
    in it. Latent weights, batch-norm statistics and loss stay float32."""
    channels_last: Annotated[bool | Literal["auto"], Knob(RUN, "Feed channels-last tensors.")] = (
        "auto"
    )
    """Keep images and weights channels-last; `auto` does where there are convolutions."""
    compile: Annotated[
        bool | Literal["auto"], Knob(RUN, "torch.compile; else where a run is long enough for it.")
    ] = "auto"
    """Run the network through torch.compile: a minute at the start, a faster step after. `auto`
    does where there is a compiler and the run is long enough."""
    grad_accum_steps: Annotated[Count, Knob(RUN, "Batches whose gradients make a step.", "N")] = 1
    log_interval: Annotated[Whole, Knob(RUN, "Steps between two reports.", "N")] = 0
    """Steps between two reports, each of which waits for the device; 0 means every step on the CPU
    and every 20th elsewhere."""
    checkpoint_hist: Annotated[
        Whole, Knob(RUN, "Recent epochs kept beside last and best.", "N")
    ] = 3
    recovery_interval: Annotated[
        Whole, Knob(RUN, "Steps between two saves; 0 is ten minutes.", "N")
    ] = 0
    sync_bn: Annotated[bool, Knob(RUN, "Batch norm over all processes' batches.")] = False
    dist_bn: Annotated[
        Literal["reduce", "broadcast", "off"],
        Knob(RUN, "Running statistics of several processes: reduce, broadcast, off.", "HOW"),
    ] = "reduce"
    """Running statistics at an epoch's end: averaged over the processes, the first one's, or
    each its own (then the first one's are saved)."""


DEFAULTS: dict[str, JsonValue] = {knob.name: knob.default for knob in knobs_of(Recipe)}
"""Every knob, in the order of the record, with its default."""
FIELD_NAMES = tuple(DEFAULTS)
"""Every knob, in the order of the record."""
