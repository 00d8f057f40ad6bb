"""What the loop works with, made ready once: `Run`, and a step of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from timm.utils import ModelEmaV3
from timm.utils.clip_grad import dispatch_clip_grad
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from irbin.binary.anneal import EdePhase
from irbin.binary.held import held_weights
from irbin.binary.layers import binary_layers, phase_of
from irbin.data import Loader
from irbin.data.seeding import seed_all
from irbin.errors import UsageError
from irbin.evaluation.modes import autocast
from irbin.processes import Group
from irbin.recipes.recipe import Recipe
from irbin.records.training import LayerDiagnostics
from irbin.rewriting.network import Network
from irbin.runs.listener import Listener, ignore
from irbin.training.blocks import Watched
from irbin.training.distill import block_loss, distillation_loss
from irbin.training.heads import heads, labels_loss
from irbin.training.mixing import Mix
from irbin.training.optimize import learning_rate, make_optimizer
from irbin.training.parallel import average
from irbin.training.stages import TrainingStage
from irbin.training.views import TaughtViews
from irbin.training.waits import Waits
from irbin.watching.diagnostics import Diagnostics

DATA, FORWARD, BACKWARD, OPTIMIZER = "data", "forward", "backward", "optimizer"
PARTS = (DATA, FORWARD, BACKWARD, OPTIMIZER)
"""Of a step."""


class Computed(NamedTuple):
    """What a batch came to, before its gradients."""

    images: Tensor
    """As trained on, (batch, channels, height, width)."""
    targets: Tensor
    """Labels (batch,), or mixed ones (batch, num_classes)."""
    logits: Tensor
    """(batch, num_classes)."""
    loss: Tensor
    """Scalar."""


@dataclass(frozen=True, eq=False)
class Run:
    """Everything the loop works with; made by `training.loop`."""

    network: Network
    recipe: Recipe
    """Without `auto`."""
    out: Path
    group: Group
    train: Loader
    val: Loader
    phase: EdePhase | None
    """EDE's; None for a float network."""
    forward: Callable[[Tensor], Any]
    """The module, perhaps compiled, perhaps parallel; see `_outputs`."""
    teacher: Callable[[Tensor], Any] | None
    """See `_taught`."""
    views: TaughtViews | None
    """The teacher's answers where they are looked up."""
    watched: tuple[Watched, ...]
    """The network and its teacher where blocks are compared, behind the two above; else empty."""
    mix: Mix
    optimizer: torch.optim.Optimizer
    stages: tuple[TrainingStage, ...]
    schedulers: dict[str, Any]
    """timm's, by the stage's name; each counts the steps of its stage."""
    scaler: torch.amp.GradScaler
    ema: ModelEmaV3 | None
    diagnostics: Diagnostics
    n_steps: int
    """In an epoch; each of `grad_accum_steps` batches."""
    listener: Listener

    @property
    def module(self) -> nn.Module:
        """The network itself, neither compiled nor parallel."""
        return self.network.module

    @property
    def averaged(self) -> Network:
        """The network that is evaluated and kept as the best: the average if there is one."""
        if self.ema is None:
            return self.network
        return Network(self.ema.module, self.network.source, self.network.plan, self.network.notes)

    @property
    def log_interval(self) -> int:
        """Steps between two reports, each of which waits for the device."""
        return self.recipe.log_interval or (1 if self.group.device.type == "cpu" else 20)

    @property
    def look_interval(self) -> int:
        """Steps between two looks at the signs."""
        return max(1, self.n_steps // 4)

    @property
    def n_epochs(self) -> int:
        """Of all stages."""
        return self.stages[-1].begin + self.stages[-1].n_epochs

    def stage(self, epoch: int) -> TrainingStage:
        """The stage that an epoch belongs to."""
        return [stage for stage in self.stages if stage.begin <= epoch][-1]

    def knobs(self, epoch: int) -> tuple[float, float, float, str]:
        """Learning rate, t, k and stage as they stand; t and k are NaN while nothing is binary."""
        lr, stage = learning_rate(self.optimizer), self.stage(epoch).name
        if self.phase is None or not self.phase.binary_activations:
            return lr, math.nan, math.nan, stage
        return lr, float(self.phase.t), float(self.phase.k), stage

    def _outputs(self, images: Tensor) -> tuple[Any, ...]:
        """The network's answer (see `heads`), then what it computes where blocks are compared."""
        outputs = self.forward(images)
        return outputs if self.watched else (outputs,)

    def _taught(self, images: Tensor) -> tuple[Tensor, ...]:
        """The same of the teacher, which must be there."""
        if self.views is not None:
            return (self.views.answers(images, self._asked),)
        outputs = self._asked(images)
        return outputs if self.watched else (outputs,)

    def _asked(self, images: Tensor) -> Any:
        assert self.teacher is not None
        with torch.no_grad(), autocast(self.group.device, self.recipe.amp):
            return self.teacher(images)

    def enter(self, epoch: int, step: int) -> None:
        """Before the steps of an epoch: makes binary what its stage says, and a stage begin anew.

        Args:
            epoch: counts from 0.
            step: how many of its steps are done.
        """
        stage = self.stage(epoch)
        if self.views is not None:
            n_done = step * self.recipe.grad_accum_steps
            self.views.enter(epoch, self.train.order(epoch, n_done))
        if self.phase is not None:
            for module in (self.module, self.averaged.module):
                phase_of(module).set_stage(stage.binary_weights, stage.binary_activations)
            self.phase.set_progress(self._share(stage, epoch * self.n_steps + step))
        if epoch == stage.begin > 0 and step == 0:
            fresh = make_optimizer(self.module, stage.recipe)
            self.optimizer.load_state_dict(fresh.state_dict())
            self.schedulers[stage.name].step_update(0)

    def leave(self) -> None:
        """When the run is over, or stops: the network is binary whatever the stage was."""
        if self.phase is not None:
            self.phase.set_stage(True, True)
            self.phase.clamps = self.phase.spreads_inputs = False
        for watched in self.watched:
            watched.close()

    def _share(self, stage: TrainingStage, n_done: int) -> float:
        """How much of a stage is over after `n_done` steps of the run."""
        return (n_done - stage.begin * self.n_steps) / (stage.n_epochs * self.n_steps)

    def step(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        number: int,
        *,
        computed: Callable[[Computed], None] = ignore,
        lap: Callable[[str], None] = ignore,
    ) -> Computed:
        """One step: the gradients of its batches, and what the optimizer makes of them.

        A step that an image, or a worker, ends between its batches leaves no trace.

        Args:
            batches: the step's `grad_accum_steps` pairs of images and labels; images may be changed
                in place.
            number: of the step, counted from the run's first.
            computed: given every batch before its gradients are taken; may refuse it by raising.
            lap: told at the end of every part of the step.

        Returns:
            The last batch.

        Raises:
            UsageError: the teacher's answers are of another shape than the network's.
        """
        n_batches, epoch = self.recipe.grad_accum_steps, number // self.n_steps
        with self._held():
            for batch, (images, labels) in enumerate(batches, number * n_batches):
                lap(FORWARD)  # binary weights that are held for the step
                self.seed(batch)
                images, targets = self.mix(images, labels, epoch)
                lap(DATA)
                with self._summing(is_last=batch + 1 == (number + 1) * n_batches):
                    done = self._computed(images, targets)
                    computed(done)
                    lap(FORWARD)
                    self.scaler.scale(done.loss / n_batches).backward()  # type: ignore[no-untyped-call]  # torch's gap
                lap(BACKWARD)
        lap(BACKWARD)
        self._update(number)
        lap(OPTIMIZER)
        return done

    def _computed(self, images: Tensor, targets: Tensor) -> Computed:
        """The forward pass of a batch, and what the step descends."""
        with autocast(self.group.device, self.recipe.amp):
            answer, *blocks = self._outputs(images)
        answers = heads(answer)
        return Computed(images, targets, answers[0], self._loss(images, answers, blocks, targets))

    def _loss(
        self,
        images: Tensor,
        answers: Sequence[Tensor],
        blocks: Sequence[Tensor],
        targets: Tensor,
    ) -> Tensor:
        """The labels' loss, and the teacher's where there is one; float32."""
        recipe = self.recipe
        task, logits = labels_loss(answers, targets, recipe.smoothing), answers[0]
        if self.teacher is None:
            return task
        wanted, *wanted_blocks = self._taught(images)
        if wanted.shape != logits.shape:
            raise UsageError(
                f"`teacher`: expected outputs of shape {tuple(logits.shape)} as the network's, "
                f"got {tuple(wanted.shape)}"
            )
        distilled = distillation_loss(logits, wanted, recipe.kd_temperature)
        loss = recipe.task_loss_weight * task + recipe.distill_loss_weight * distilled
        if self.watched:
            loss = loss + recipe.distill_blocks * block_loss(blocks, wanted_blocks)
        return loss

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Round the batches of one step: binary weights are computed once where there are several.

        What `parallel` left out is summed over the processes on the way out. Where the batches end
        too early, batch norm's statistics are put back.
        """
        if self.recipe.grad_accum_steps == 1:
            yield
            return
        before = [(buffer, buffer.clone()) for buffer in self.module.buffers()]
        try:
            with held_weights(self.module):
                yield
        except BaseException:
            for buffer, value in before:
                buffer.copy_(value)
            raise
        latent = {layer.weight: None for layer in binary_layers(self.module).values()}
        average([w.grad for w in latent if w.grad is not None], self.group)

    def _summing(self, is_last: bool) -> AbstractContextManager[None]:
        """Round a batch: only the last one of a step sums gradients over the processes."""
        if is_last or not isinstance(self.forward, DistributedDataParallel):
            return nullcontext()
        return cast("AbstractContextManager[None]", self.forward.no_sync())

    def _update(self, step: int) -> None:
        """The optimizer's part of a step, counted from the run's first, and what moves with it."""
        stage = self.stage(step // self.n_steps)
        n_done = step + 1 - stage.begin * self.n_steps
        if self.recipe.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            dispatch_clip_grad(
                self.module.parameters(), self.recipe.clip_grad, self.recipe.clip_mode
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.schedulers[stage.name].step_update(n_done)
        if self.ema is not None:
            self.ema.update(self.module, step=n_done)  # the first one forgets what was before
        if self.phase is not None:
            self.phase.set_progress(self._share(stage, step + 1))

    def diagnose(self, images: Tensor | None, epoch: int) -> Sequence[LayerDiagnostics]:
        """What the diagnostics say at an epoch's end.

        Args:
            images: the last training batch; None where the epoch had no step left to do.
            epoch: counts from 0.
        """
        if images is None:  # only its evaluation was missing
            images = self._last_batch(epoch)
        return self.diagnostics.measure(images, epoch, self.recipe.amp)

    def _last_batch(self, epoch: int) -> Tensor:
        """The images of an epoch's last batch, as they were trained on."""
        n_batches = self.n_steps * self.recipe.grad_accum_steps
        self.train.set_epoch(epoch, start=n_batches - 1)
        batches = Waits(self.train)
        images, labels = next(batches)
        batches.close()
        self.seed((epoch + 1) * n_batches - 1)
        return self.mix(images, labels, epoch)[0]

    def seed(self, batch: int) -> None:
        """Seeds everything random for a batch, counted from the run's first."""
        seed_all(self.recipe.seed, batch, self.group.rank, device=self.group.device)
