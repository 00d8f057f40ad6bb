"""Options that several commands share, with timm's names wherever timm has one.

None always means "not given": what happens then is said in the help and decided further in.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from irbin.errors import UsageError
from irbin.records import DEFAULT_BATCH_SIZE, CacheKind, DataOptions, FloatDtype, SourceOptions

NETWORK, DATA, RUN = "Network", "Data", "Run"

SOURCE_HELP = (
    "A timm name (resnet18, resnet18.a1_in1k, hf-hub:…, local-dir:…), torchvision:NAME, "
    "paper:NAME, zoo:NAME, module:package.mod:factory, a checkpoint file, or a folder that irbin "
    "wrote."
)
Source = Annotated[str | None, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)]
Sources = Annotated[list[str] | None, typer.Argument(metavar="SOURCE...", help=SOURCE_HELP)]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="PATH", help="Write the result as JSON; - is standard output."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output folder if it exists.")
]
Device = Annotated[
    str,
    typer.Option(metavar="NAME", rich_help_panel=RUN,
                 help="Where to compute: auto (cuda if there is one), cpu, cuda, cuda:1 …"),
]  # fmt: skip
Amp = Annotated[
    Literal["bfloat16", "float16"] | None,
    typer.Option("--amp", "--amp-dtype", show_default="float32", rich_help_panel=RUN,
                 help="Compute in mixed precision of this type."),
]  # fmt: skip
ChannelsLast = Annotated[
    bool | None,
    typer.Option("--channels-last/--no-channels-last", rich_help_panel=RUN, show_default=False,
                 help="Feed channels-last tensors."),
]  # fmt: skip
FloatDtypeFlag = Annotated[
    FloatDtype, typer.Option("--float-dtype", help="Storage of everything that is not bits.")
]


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
    input_size: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="C H W", rich_help_panel=NETWORK, show_default="the source's",
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
        return SourceOptions(
            model=model,
            pretrained=self.pretrained,
            num_classes=self.num_classes,
            in_chans=self.in_chans,
            input_size=self.input_size,
            model_kwargs=parse_pairs(self.model_kwargs or [], "--model-kwargs"),
            use_ema=self.use_ema,
            reparameterize=self.reparameterize,
            state_key=self.state_key,
            remap=self.remap,
        )


@dataclass(frozen=True)
class DataFlags:
    """Which images, and how they are read; defaults are those of `DataOptions`."""

    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=DATA, help="Folder of the data set."),
    ] = None
    dataset: Annotated[
        str,
        typer.Option(metavar="TYPE/NAME", rich_help_panel=DATA, show_default="image folder or tar",
                     help="timm's data set string: torch/cifar10, hfds/…, …"),
    ] = DataOptions.dataset  # fmt: skip
    train_split: Annotated[
        str, typer.Option(metavar="NAME", rich_help_panel=DATA, help="Split to train on.")
    ] = DataOptions.train_split
    val_split: Annotated[
        str,
        typer.Option("--val-split", "--split", metavar="NAME", rich_help_panel=DATA,
                     help="Split to evaluate on."),
    ] = DataOptions.val_split  # fmt: skip
    class_map: Annotated[
        str,
        typer.Option(metavar="FILE", rich_help_panel=DATA,
                     help="File that maps class names to indices."),
    ] = DataOptions.class_map  # fmt: skip
    dataset_download: Annotated[
        bool,
        typer.Option("--dataset-download", rich_help_panel=DATA,
                     help="Let torchvision or the hub fetch the data set."),
    ] = DataOptions.dataset_download  # fmt: skip
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            "-b",
            min=1,
            metavar="N",
            rich_help_panel=DATA,
            help="Images per step.",
            show_default=f"the recipe's, else {DEFAULT_BATCH_SIZE}",
        ),
    ] = DataOptions.batch_size
    workers: Annotated[
        int,
        typer.Option(
            "--workers", "-j", min=0, metavar="N", rich_help_panel=DATA, help="Loader processes."
        ),
    ] = DataOptions.workers
    cache: Annotated[
        CacheKind,
        typer.Option(rich_help_panel=DATA,
                     help="Training: keep decoded images in memory; auto: where they fit."),
    ] = DataOptions.cache  # fmt: skip
    train_num_samples: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", rich_help_panel=DATA,
                     help="Images in the training split of a stream that does not say it."),
    ] = DataOptions.train_num_samples  # fmt: skip
    val_num_samples: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", rich_help_panel=DATA,
                     help="Images in the validation split of a stream that does not say it."),
    ] = DataOptions.val_num_samples  # fmt: skip

    @property
    def is_given(self) -> bool:
        """Whether a data set was named."""
        return self.data_dir is not None or bool(self.dataset)

    def options(self) -> DataOptions:
        """The record.

        Raises:
            UsageError: no data set was named.
        """
        if not self.is_given:
            raise UsageError("expected a data set, got none; give `--data-dir` or `--dataset`")
        return DataOptions(
            data_dir=None if self.data_dir is None else str(self.data_dir),
            dataset=self.dataset,
            train_split=self.train_split,
            val_split=self.val_split,
            class_map=self.class_map,
            dataset_download=self.dataset_download,
            batch_size=self.batch_size,
            workers=self.workers,
            cache=self.cache,
            train_num_samples=self.train_num_samples,
            val_num_samples=self.val_num_samples,
        )


def parse_pairs(pairs: list[str], flag: str) -> dict[str, Any]:
    """`KEY=VALUE` strings as a dictionary; a value that is a Python literal is taken as one.

    Raises:
        UsageError: a pair has no `=` or no key.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"`{flag}`: expected KEY=VALUE, got `{pair}`")
        try:
            values[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[key] = text
    return values
