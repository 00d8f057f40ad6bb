"""timm's optimizer and schedule; latent weights of binary layers form a group of their own."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from torch import nn

from irbin.binary.layers import binary_layers
from irbin.errors import TrainingError, UsageError
from irbin.messages import N_NAMED, names_of, nearest_names
from irbin.recipes.recipe import Recipe
from irbin.tracing.tracer import is_norm


def param_groups(module: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Trainable parameters: latent weights, other weights, and all that never decays.

    As in timm, vectors (batch norm, biases, PReLU) and what the network's `no_weight_decay()` names
    do not decay; a latent weight among these does where `latent_weight_decay` is given. Biases of
    norms and thresholds are a group where they have a learning rate of their own. Empty groups are
    left out.

    Raises:
        TrainingError: the network has nothing to train.
    """
    latent_ids = {id(layer.weight) for layer in binary_layers(module).values()}
    exempt = _no_weight_decay(module)
    # one group with the others where nothing sets them apart: as runs of earlier versions began
    shift_ids = _shift_ids(module) if recipe.norm_lr_scale != 1 else frozenset[int]()
    latent: list[nn.Parameter] = []
    still: list[nn.Parameter] = []
    decaying: list[nn.Parameter] = []
    shifts: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in latent_ids:
            is_still = name in exempt and recipe.latent_weight_decay is None
            (still if is_still else latent).append(parameter)
        elif id(parameter) in shift_ids:
            shifts.append(parameter)
        elif parameter.ndim <= 1 or name.endswith(".bias") or name in exempt:
            others.append(parameter)
        else:
            decaying.append(parameter)
    decay = recipe.latent_weight_decay
    decay = recipe.weight_decay if decay is None else decay
    groups: list[dict[str, Any]] = [
        {"params": latent, "weight_decay": decay, "lr_scale": recipe.latent_lr_scale},
        {"params": still, "weight_decay": 0.0, "lr_scale": recipe.latent_lr_scale},
        {"params": decaying, "weight_decay": recipe.weight_decay, "lr_scale": 1.0},
        {"params": shifts, "weight_decay": 0.0, "lr_scale": recipe.norm_lr_scale},
        {"params": others, "weight_decay": 0.0, "lr_scale": 1.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise TrainingError("expected a network with trainable parameters, got one without")
    return groups


def _shift_ids(module: nn.Module) -> frozenset[int]:
    """Of what moves the inputs of signs: the norms' biases, and learned thresholds."""
    parameters = [m._parameters.get("bias") for m in module.modules() if is_norm(m)]
    parameters += [layer.threshold for layer in binary_layers(module).values()]
    return frozenset(id(parameter) for parameter in parameters if parameter is not None)


def _no_weight_decay(module: nn.Module) -> frozenset[str]:
    """Parameters that the network exempts; it lists names or, as XCiT's `pos_embed.*`, patterns."""
    listed = getattr(module, "no_weight_decay", None)
    patterns = listed() if callable(listed) else ()
    names = (name for name, _ in module.named_parameters())
    return frozenset(n for n in names if any(fnmatch(n, pattern) for pattern in patterns))


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """timm's optimizer `recipe.opt` on the groups of `param_groups`.

    Raises:
        UsageError: timm knows no such optimizer, or it does not take `opt_kwargs`.
        TrainingError: nothing to train.
    """
    groups = param_groups(module, recipe)
    known = list_optimizers()
    if recipe.opt.lower().removeprefix("lookahead_") not in known:
        near = nearest_names(recipe.opt.lower(), known) or known[:N_NAMED]
        raise UsageError(
            f"`opt`: expected one of timm's optimizers, got `{recipe.opt}`; "
            f"nearest: {names_of(near)}"
        )
    try:
        optimizer = create_optimizer_v2(
            groups,
            opt=recipe.opt,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            **recipe.opt_kwargs,
        )
    except (TypeError, ValueError, ImportError) as error:
        raise UsageError(f"`opt=`: `{recipe.opt}` cannot be made: {error}") from error
    made: torch.optim.Optimizer = optimizer
    return made


def make_scheduler(optimizer: torch.optim.Optimizer, recipe: Recipe, n_steps: int) -> Any:
    """timm's schedule, moved by `step_update(steps_done)`; it keeps no state of its own.

    Args:
        optimizer: whose groups' learning rates it sets, at once to those of the first step.
        recipe: schedule, warm-up, epochs; after these it stays where it ends.
        n_steps: steps in an epoch.
    """
    try:
        scheduler, _ = create_scheduler_v2(
            optimizer,
            sched=recipe.sched,
            num_epochs=recipe.epochs,
            warmup_epochs=recipe.warmup_epochs,
            warmup_lr=recipe.warmup_lr,
            min_lr=recipe.min_lr,
            decay_epochs=recipe.decay_epochs,
            decay_milestones=list(recipe.decay_milestones),
            decay_rate=recipe.decay_rate,
            step_on_epochs=False,
            updates_per_epoch=n_steps,
        )
    except ValueError as error:
        raise UsageError(f"`sched=`: {error}") from error
    return scheduler


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """The rate that `recipe.lr` stands for, before a group's own factor."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) / float(group["lr_scale"])
