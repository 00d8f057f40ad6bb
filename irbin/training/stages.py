"""The stages of a run: nothing binary, then activations, then everything; torch-free.

ReActNet (Liu et al., ECCV 2020) and Real-to-Binary (Martinez et al., ICLR 2020, §4.1) train one run
after the other, each from the weights of the one before. Here one run has them all: each stage is
a training of its own, with its schedule, warm-up, EDE and optimizer from their beginning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from irbin.recipes.recipe import Recipe


@dataclass(frozen=True)
class TrainingStage:
    """Some epochs of a run. Made by `stages_of`, read by `training.run`."""

    name: str
    """`float`, `activations` or `binary`; empty where the run has no stages."""
    begin: int
    """Its first epoch; counts from 0."""
    recipe: Recipe
    """What holds in it: `epochs` are its own."""

    @property
    def n_epochs(self) -> int:
        """Its length, cool-down included."""
        return self.recipe.epochs + self.recipe.cooldown_epochs

    @property
    def binary_weights(self) -> bool:
        """Whether weights are binary."""
        return self.name not in ("float", "activations")

    @property
    def binary_activations(self) -> bool:
        """Whether activations are binary, where they will be."""
        return self.name != "float"


def stages_of(recipe: Recipe) -> tuple[TrainingStage, ...]:
    """The stages of a run, in order; only the last one cools down, and only it counts."""
    lengths = {
        "float": recipe.float_epochs,
        "activations": recipe.activation_epochs,
        "binary": recipe.epochs - recipe.float_epochs - recipe.activation_epochs,
    }
    stages, begin = [], 0
    for name, length in lengths.items():
        if length == 0:
            continue
        own = replace(recipe, epochs=length, float_epochs=0, activation_epochs=0)
        if name != "binary":
            own = replace(own, cooldown_epochs=0)
        elif recipe.final_weight_decay is not None:
            own = replace(own, weight_decay=recipe.final_weight_decay)
        stages.append(TrainingStage(name, begin, own))
        begin += length
    if len(stages) == 1:
        stages = [replace(stages[0], name="")]
    return tuple(stages)
