"""Single images of an evaluation that tell most: which, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from irbin.html.blocks import Block, Pictures, Words, table
from irbin.html.thumbnails import picture
from irbin.records.prediction import LabelledPrediction
from irbin.records.results import Evaluation

N_SHOWN = 24
"""Images of a kind; with 5 kB each two kinds fit well below a megabyte."""

Example = tuple[int, LabelledPrediction, Sequence[str]]
"""Place in the data set, the image, and lines to put below it."""


def surest_wrong(evaluation: Evaluation) -> list[tuple[int, LabelledPrediction]]:
    """(place, image) of wrong answers, those of highest probability first."""
    wrong = [
        (i, one)
        for i, one in enumerate(evaluation.answers or ())
        if one.told.best and not one.is_right
    ]
    wrong.sort(key=lambda item: -item[1].told.best[0].probability)
    return wrong[:N_SHOWN]


def lost(
    base: Evaluation, other: Evaluation
) -> list[tuple[int, LabelledPrediction, LabelledPrediction]]:
    """(place, of `base`, of `other`) of images that `base` alone has right, its surest first."""
    pairs = zip(base.answers or (), other.answers or (), strict=False)
    examples = [(i, a, b) for i, (a, b) in enumerate(pairs) if a.is_right and not b.is_right]
    examples.sort(key=lambda item: -item[1].told.best[0].probability)
    return examples[:N_SHOWN]


def example_blocks(
    examples: Sequence[Example],
    caption: str,
    none: str,
    shown: Mapping[int, NDArray[np.uint8]] | None,
) -> tuple[Block, ...]:
    """Images as pictures, or as a table where there are no pixels.

    Args:
        examples: what to show.
        caption: above them.
        none: what is said where there is nothing to show.
        shown: pixels by place; None leaves images out.
    """
    if not examples:
        return (Words(none),)
    if shown:
        items = [
            picture(shown.get(place), _name(one), (f"class {one.label_name}", *lines))
            for place, one, lines in examples
        ]
        return (Pictures(caption, tuple(items)),)
    rows = [(one.told.image, one.label_name, "; ".join(lines)) for _, one, lines in examples]
    return (table(caption, ("file", "class", "answers"), rows),)


def _name(one: LabelledPrediction) -> str:
    """A file without the folders that all share: its own and its name."""
    return "/".join(PurePath(one.told.image).parts[-2:])
