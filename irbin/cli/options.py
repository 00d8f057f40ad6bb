"""Options that several commands share, with timm's names wherever timm has one.

None always means "not given": what happens then is said in the help and decided further in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from irbin.cli.record_flags import Flags, elsewhere, flag_of
from irbin.errors import UsageError
from irbin.recipes.recipe import Recipe
from irbin.records.knob import RUN
from irbin.records.options import DataOptions, FloatDtype
from irbin.records.results import InputType

SOURCE_HELP = (
    "A timm name (resnet18, resnet18.a1_in1k, hf-hub:…, local-dir:…), torchvision:NAME, "
    "paper:NAME, zoo:NAME, module:package.mod:factory, a checkpoint file, or a folder that irbin "
    "wrote."
)
Source = Annotated[str | None, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)]
ANSWERING_HELP = SOURCE_HELP.replace("or a folder", "an ONNX file or a folder")
"""Where ONNX files are taken too."""
Sources = Annotated[list[str] | None, typer.Argument(metavar="SOURCE...", help=ANSWERING_HELP)]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="PATH", help="Write the result as JSON; - is standard output."),
]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.html", help="Write the result as a page to look at."),
]

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output folder if it exists.")
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=RUN,
        help="Where to compute: auto (cuda if there is one), cpu, cuda, cuda:1 …",
    ),
]
Amp = Annotated[
    Literal["bfloat16", "float16"] | None,
    typer.Option(
        "--amp",
        "--amp-dtype",
        show_default="float32",
        rich_help_panel=RUN,
        metavar="TYPE",
        help="Compute in mixed precision: bfloat16 or float16.",
    ),
]
ChannelsLast = Annotated[bool | None, elsewhere(flag_of(Recipe, "channels_last"), RUN, False)]
Input = Annotated[
    InputType | None,
    typer.Option(
        "--input-type",
        show_default="bytes where its first layers read them",
        help="Give a packed network, and what bench times beside it, images as bytes or as "
        "normalized floats.",
    ),
]
FloatDtypeFlag = Annotated[
    FloatDtype, typer.Option("--float-dtype", help="Storage of everything that is not bits.")
]


@dataclass(frozen=True)
class ReportFlags:
    """A page that may show images."""

    report: Report = None
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Name images in the report, and show none.")
    ] = False


class DataFlags(Flags, record=DataOptions):
    """Which images, and how they are read; the names are those of `DataOptions`."""

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
        return DataOptions(**self.values())


def check_page(report: Path | None) -> None:
    """Refuses a page that could not be written, before any long work.

    Raises:
        UsageError: see `html.page.check_report`.
    """
    if report is not None:
        from irbin.html.page import check_report

        check_report(report, "--report")
