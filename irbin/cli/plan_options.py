"""Which layers become binary, and how, as flags; `records.PlanOptions` says what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from irbin.records import (
    Activation,
    Balance,
    Bits,
    Downsample,
    Estimator,
    Shortcut,
    SignThreshold,
    WeightEstimator,
)

PLAN = "Plan"


@dataclass(frozen=True)
class PlanFlags:
    """Which layers become binary, and how; the names are those of `PlanOptions`."""

    bits: Annotated[
        Bits | None,
        typer.Option(show_default="1w1a", rich_help_panel=PLAN,
                     help="Weights and activations binary, or weights only."),
    ] = None  # fmt: skip
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", rich_help_panel=PLAN,
                     help="Leave these layers float: a glob, or re: and a regex; repeatable."),
    ] = None  # fmt: skip
    binarize: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", rich_help_panel=PLAN,
                     help="Binarize these although the default keeps them; repeatable."),
    ] = None  # fmt: skip
    activation: Annotated[
        Activation | None,
        typer.Option(show_default="hardtanh", rich_help_panel=PLAN,
                     help="What replaces a ReLU that feeds a sign."),
    ] = None  # fmt: skip
    sign_threshold: Annotated[
        SignThreshold | None,
        typer.Option(show_default="zero", rich_help_panel=PLAN,
                     help="Where an activation's sign changes; learned: per channel."),
    ] = None  # fmt: skip
    shortcut: Annotated[
        Shortcut | None,
        typer.Option(show_default="none", rich_help_panel=PLAN,
                     help="bireal: a shortcut round every binary convolution."),
    ] = None  # fmt: skip
    downsample: Annotated[
        Downsample | None,
        typer.Option(show_default="keep", rich_help_panel=PLAN,
                     help="avgpool: shortcuts average pixels instead of dropping them."),
    ] = None  # fmt: skip
    binarizer: Annotated[
        Literal["libra", "plain"] | None,
        typer.Option(show_default="libra", rich_help_panel=PLAN,
                     help="Weights, forward: Libra-PB, or sign with the mean |w|."),
    ] = None  # fmt: skip
    balance: Annotated[
        Balance | None,
        typer.Option(show_default="mean", rich_help_panel=PLAN,
                     help="What Libra-PB subtracts from a filter; median: half the signs are +1."),
    ] = None  # fmt: skip
    estimator: Annotated[
        Estimator | None,
        typer.Option(show_default="ede", rich_help_panel=PLAN,
                     help="Sign, backward: EDE, clipped straight-through, or a triangle."),
    ] = None  # fmt: skip
    weight_estimator: Annotated[
        WeightEstimator | None,
        typer.Option(show_default="same", rich_help_panel=PLAN,
                     help="The weights' sign, backward, where it is not the activations'."),
    ] = None  # fmt: skip
