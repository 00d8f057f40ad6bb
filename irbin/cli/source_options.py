"""How to read what was named as a network: options that every command with a SOURCE has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from irbin.cli.options import IMAGES, NETWORK
from irbin.cli.record_flags import parse_numbers, parse_pairs
from irbin.errors import UsageError
from irbin.records import SourceOptions


@dataclass(frozen=True)
class SourceFlags:
    """How to read what was named as a network."""

    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=NETWORK,
                     help="Architecture of a checkpoint file that does not name its own."),
    ] = None  # fmt: skip
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="FILE", rich_help_panel=NETWORK,
                     help="Weights to load; SOURCE or --model is then their architecture."),
    ] = None  # fmt: skip
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained/--no-pretrained", rich_help_panel=NETWORK,
                     help="Load the weights that a timm or torchvision name comes with."),
    ] = True  # fmt: skip
    num_classes: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", rich_help_panel=NETWORK, show_default="the source's",
                     help="Outputs of the classifier; 0 takes a timm network without its head."),
    ] = None  # fmt: skip
    in_chans: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", rich_help_panel=NETWORK, show_default="the source's",
                     help="Image channels."),
    ] = None  # fmt: skip
    img_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", rich_help_panel=IMAGES, show_default="the source's",
                     help="Height and width of an image."),
    ] = None  # fmt: skip
    mean: Annotated[
        str | None,
        typer.Option(metavar="M...", rich_help_panel=IMAGES, show_default="the source's",
                     help="Subtracted from pixels of 0 to 1: one number, or one a channel."),
    ] = None  # fmt: skip
    std: Annotated[
        str | None,
        typer.Option(metavar="S...", rich_help_panel=IMAGES, show_default="the source's",
                     help="Divides them then; 1/255 with mean 0 gives pixels of 0 to 255."),
    ] = None  # fmt: skip
    interpolation: Annotated[
        Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] | None,
        typer.Option(rich_help_panel=IMAGES, show_default="the source's",
                     help="Filter of resizing."),
    ] = None  # fmt: skip
    crop_pct: Annotated[
        float | None,
        typer.Option(metavar="SHARE", rich_help_panel=IMAGES, show_default="the source's",
                     help="Share that evaluation's crop keeps; given, of small images too."),
    ] = None  # fmt: skip
    crop_mode: Annotated[
        Literal["center", "squash", "border"] | None,
        typer.Option(rich_help_panel=IMAGES, show_default="the source's",
                     help="timm's crop of evaluation."),
    ] = None  # fmt: skip
    input_size: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="C H W", rich_help_panel=IMAGES, show_default="the source's",
                     help="Channels, height and width of an image."),
    ] = None  # fmt: skip
    model_kwargs: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", rich_help_panel=NETWORK,
                     help="Further argument of the model's factory; repeatable."),
    ] = None  # fmt: skip
    reparameterize: Annotated[
        bool,
        typer.Option("--reparameterize", rich_help_panel=NETWORK,
                     help="Fuse multi-branch blocks first (RepVGG, MobileOne, …)."),
    ] = False  # fmt: skip
    use_ema: Annotated[
        bool,
        typer.Option("--use-ema", rich_help_panel=NETWORK,
                     help="Take the averaged weights of a training checkpoint."),
    ] = False  # fmt: skip
    state_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", rich_help_panel=NETWORK,
                     help="Where in a checkpoint file the weights lie, if it holds several: its "
                          "keys joined by dots, or a prefix of names."),
    ] = None  # fmt: skip
    remap: Annotated[
        bool,
        typer.Option("--remap", rich_help_panel=NETWORK,
                     help="Match a checkpoint's tensors by order where their names do not fit."),
    ] = False  # fmt: skip

    ignore_extra: Annotated[
        bool,
        typer.Option("--ignore-extra", rich_help_panel=NETWORK,
                     help="Leave a checkpoint's tensors that the network lacks, and list them."),
    ] = False  # fmt: skip

    def named(self, source: str | None) -> str:
        """The spec to open: the checkpoint if one is given, else SOURCE, else the model's name.

        Raises:
            UsageError: nothing was named, or SOURCE and `--model` name two architectures.
        """
        if self.checkpoint is not None:
            if source is not None and self.model is not None and source != self.model:
                raise UsageError(
                    "with `--checkpoint`, SOURCE and `--model` both name its architecture: got "
                    f"`{source}` and `{self.model}`; give one of them"
                )
            return self.checkpoint
        spec = source if source is not None else self.model
        if spec is None:
            raise UsageError(
                "expected a SOURCE, got none; give a model's name, a checkpoint file or a folder"
            )
        return spec

    def named_beside(self, source: str | None, recipe: str | None) -> str | None:
        """As `named`; None where nothing was named but a recipe, which may name a network."""
        nothing = source is None and self.model is None and self.checkpoint is None
        return None if nothing and recipe is not None else self.named(source)

    def options(self, source: str | None) -> SourceOptions:
        """How to open what `named` gave."""
        model = self.model
        if self.checkpoint is not None and model is None:
            model = source
        if self.input_size is not None and min(self.input_size) < 1:
            raise UsageError(f"`--input-size`: expected three sizes ≥ 1, got {self.input_size}")
        if self.input_size is not None and self.img_size is not None:
            raise UsageError("`--img-size` and `--input-size` both say how large; give one")
        return SourceOptions(
            model=model,
            pretrained=self.pretrained,
            num_classes=self.num_classes,
            in_chans=self.in_chans,
            input_size=self.input_size,
            img_size=self.img_size,
            mean=None if self.mean is None else parse_numbers(self.mean, "--mean"),
            std=None if self.std is None else parse_numbers(self.std, "--std"),
            interpolation=self.interpolation,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            model_kwargs=parse_pairs(self.model_kwargs or [], "--model-kwargs"),
            use_ema=self.use_ema,
            reparameterize=self.reparameterize,
            state_key=self.state_key,
            remap=self.remap,
            ignore_extra=self.ignore_extra,
        )
