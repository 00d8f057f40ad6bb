"""How to read what was named as a network: options that every command with a SOURCE has."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from irbin.cli.record_flags import FROM_RECORD, Flags
from irbin.errors import UsageError
from irbin.records.knob import NETWORK
from irbin.records.options import SourceOptions


class SourceFlags(Flags, record=SourceOptions):
    """How to read what was named as a network."""

    model: FROM_RECORD
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=NETWORK,
            help="Weights to load; SOURCE or --model is then their architecture.",
        ),
    ] = None

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
        return replace(SourceOptions(**self.values()), model=model)
