"""Draws the pictures of `docs/accuracy.md` from `curves.csv`, into `docs/images`.

    python docs/accuracy/pictures.py

A picture has one group of `experiments.yaml`: validation accuracy over the epochs, a color an
experiment, a line a seed.
"""

from __future__ import annotations

from typing import Any

from irbin.report.curves import line_colors
from irbin.report.picture import INK, drawn, plain_axes

from experiments import HERE, Experiment, experiments  # isort: skip
from tables import CURVES, Row, read  # isort: skip

IMAGES = HERE.parent / "images"
GROUPS = ("start", "ablation")


def draw(axes: Any, chosen: list[Experiment], points: list[Row]) -> None:
    """Epochs to the right, top-1 upwards; labels are those of `experiments.yaml`."""
    plain_axes(axes)
    for experiment, color in zip(chosen, line_colors(len(chosen)), strict=True):
        for seed in experiment.seeds:
            mine = [
                point
                for point in points
                if (point["experiment"], point["seed"]) == (experiment.name, str(seed))
            ]
            label = experiment.label if seed == experiment.seeds[0] else None
            epochs = [int(point["epoch"]) + 1 for point in mine]
            axes.plot(epochs, [float(point["top1"]) for point in mine], color=color, label=label)
    axes.set_xlabel("epoch", color=INK)
    axes.set_ylabel("top-1 on the test images, %", color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="best")


def main() -> None:
    """See the module."""
    points = read(CURVES)
    for group in GROUPS:
        chosen = [e for e in experiments().values() if e.group == group]
        content = drawn(lambda f, c=chosen: draw(f.add_subplot(), c, points), (7.2, 4.0), ".png")
        (IMAGES / f"accuracy-{group}.png").write_bytes(content)


if __name__ == "__main__":
    main()
