"""Options that several commands share, with timm's names wherever timm has one.

None always means "not given": what happens then is said in the help and decided further in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from irbin.errors import UsageError
from irbin.records import DEFAULT_BATCH_SIZE, CacheKind, DataOptions, FloatDtype

NETWORK, IMAGES, DATA, RUN = "Network", "Images", "Data", "Run"

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
