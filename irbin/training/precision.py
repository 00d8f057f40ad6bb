"""How a step is computed: which type, which memory format, compiled or not, and why, in words.

The recipe's `auto` becomes a decision once, before the first step, and is kept in args.yaml, so a
run goes on as it began. Latent weights, batch-norm statistics and the loss stay float32 whatever is
chosen; the estimator computes in the type of what it is given, by a form that cancels nowhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from irbin.binary.held import held_weights
from irbin.errors import TrainingError
from irbin.evaluation.modes import autocast, evaluating, settable_flags
from irbin.messages import first_line
from irbin.processes import ALONE, Group
from irbin.recipes.recipe import Recipe
from irbin.records.options import SMALL_SIDE
from irbin.training.cut_off import made_anew
from irbin.training.sync_norm import unsynchronized

_log = logging.getLogger("irbin")
_Amp = Literal["bfloat16", "float16", "off"]

WORTH_COMPILING = 1000
"""Steps of a run from which compiling, about a minute, is sure to be won back on a CPU."""


def decide(
    recipe: Recipe,
    module: nn.Module,
    image_shape: tuple[int, ...],
    n_steps: int,
    device: torch.device,
    asked: Recipe | None = None,
    group: Group = ALONE,
) -> tuple[Recipe, str]:
    """The recipe without `auto`, and the sentence that says which path runs and why.

    The same in all processes: what one of them cannot do none does.

    Args:
        recipe: as resolved from files and flags.
        module: the network, on the device.
        image_shape: (channels, height, width) of an image.
        n_steps: steps of the whole run.
        device: where it trains.
        asked: the recipe before a run that goes on filled it in; None where it is the same.
        group: the processes that train together.
    """
    asked = recipe if asked is None else asked
    amp, why_amp = _amp(recipe, module, image_shape, device, _by_whom(asked.amp))
    last, why_last = _channels_last(recipe, module, device, _by_whom(asked.channels_last))
    compiled, why_compile = _compile(recipe, n_steps, device, _by_whom(asked.compile))
    if group.any(amp == "off") and amp != "off":
        amp, why_amp = "off", f"float32 ({_ELSEWHERE})"
    if group.any(not compiled) and compiled:
        compiled, why_compile = False, f"not compiled ({_ELSEWHERE})"
    chosen = replace(recipe, amp=amp, channels_last=last, compile=compiled)
    return chosen, f"training in {why_amp}, {why_last}, {why_compile}"


def uses_channels_last(recipe: Recipe, module: nn.Module, device: torch.device) -> bool:
    """The memory format that `decide` will choose; it depends on nothing else."""
    return _channels_last(recipe, module, device)[0]


def _by_whom(asked: bool | str) -> str:
    """Who decided a knob that is no longer `auto`."""
    return "as the run began" if asked == "auto" else _ASKED


_ASKED = "asked for"
_ELSEWHERE = "another process cannot do otherwise"


def keep_gradients_channels_last(module: nn.Module) -> None:
    """Makes the gradients of channels-last activations channels-last too, in place.

    A pooled head hands back channels-first gradients, and eager kernels pass the format on: batch
    norm and Hardtanh then take eight times as long. torch.compile sees to it itself.
    """

    def watch(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.requires_grad:
            output.register_hook(_channels_last_copy)  # type: ignore[no-untyped-call]  # torch's gap

    for part in module.modules():
        if not any(True for _ in part.children()):
            part.register_forward_hook(watch)


def _channels_last_copy(grad: Tensor) -> Tensor:
    return grad.contiguous(memory_format=torch.channels_last)


@contextmanager
def tried_convolutions(device: torch.device) -> Iterator[None]:
    """Within, cuDNN takes the fastest algorithm of each shape, found by trying once.

    Shapes do not change in training. Where somebody wants determinism nothing is tried, and what
    was set comes back afterwards.
    """
    cudnn: Any = torch.backends.cudnn  # torch gives its parts no types
    wants_same = cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
    if device.type != "cuda" or wants_same:
        yield
        return
    before = cudnn.benchmark
    try:
        with settable_flags():
            cudnn.benchmark = True
        yield
    finally:
        with settable_flags():
            cudnn.benchmark = before


def compiled(
    module: nn.Module,
    recipe: Recipe,
    batch_shape: tuple[int, ...],
    device: torch.device,
    required: bool,
) -> Callable[..., Any]:
    """`torch.compile` of the network, made to compile now, forward and backward.

    Parameters and buffers are left as they are.

    Args:
        module: in the memory format of the run.
        recipe: without `auto`.
        batch_shape: (batch, channels, height, width) of every training batch.
        device: where it trains.
        required: raise where it fails; else the module itself is handed back, and a note says so.

    Raises:
        TrainingError: torch.compile fails and was asked for.
    """
    # small networks wait for kernels to be launched, and CUDA graphs launch a whole step at once
    graphs = device.type == "cuda" and max(batch_shape[2:]) <= SMALL_SIDE
    use_graphs = graphs and recipe.grad_accum_steps == 1 and not recipe.sync_bn
    # a warning on machines without a GPU that nobody can act on
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    fast = torch.compile(module, mode="reduce-overhead" if use_graphs else None)
    images = torch.zeros(batch_shape, device=device)
    if recipe.channels_last:
        images = images.to(memory_format=torch.channels_last)
    before = [buffer.clone() for buffer in module.buffers()]
    module.train()

    def passes() -> None:
        for _ in range(3 if use_graphs else 1):  # a graph is recorded in the second pass
            with held_weights(module) if recipe.grad_accum_steps > 1 else nullcontext():
                with autocast(device, recipe.amp):
                    outputs = fast(images)
                _sum(outputs).backward()  # type: ignore[no-untyped-call]  # torch's gap
            module.zero_grad()  # a gradient in a graph's memory bars the next pass (torch 169545)

    try:
        with unsynchronized():  # may fail, or be done again, in this process alone
            made_anew(passes)
    except Exception as error:  # dynamo, inductor, a compiler: each raises its own
        _refuse_or_tell(error, required, "the network is trained")
        return module
    finally:
        module.zero_grad()
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
    return fast


def compiled_teacher(
    teacher: nn.Module,
    recipe: Recipe,
    batch_shape: tuple[int, ...],
    device: torch.device,
    required: bool,
) -> Callable[..., Any]:
    """`torch.compile` of the teacher, made to compile now; arguments and errors as `compiled`."""
    fast = torch.compile(teacher)
    images = torch.zeros(batch_shape, device=device)
    if recipe.channels_last:
        images = images.to(memory_format=torch.channels_last)

    def answer() -> None:
        with torch.no_grad(), autocast(device, recipe.amp):
            fast(images)

    try:
        made_anew(answer)
    except Exception as error:
        _refuse_or_tell(error, required, "the teacher answers")
        return teacher
    return fast


def _refuse_or_tell(error: Exception, required: bool, what: str) -> None:
    """Says that torch.compile failed: as an error where it was asked for, else in a note."""
    first = first_line(error)
    if required:
        raise TrainingError(
            f"`compile=True`: torch.compile failed: {first}; `compile=False` trains without it"
        ) from error
    _log.warning("torch.compile failed (%s), so %s without it", first, what)


def _sum(outputs: object) -> Tensor:
    """Of everything that a network puts out: a scalar that depends on all of it."""
    parts = [part for part in tree_leaves(outputs) if isinstance(part, Tensor)]
    return torch.stack([part.float().sum() for part in parts]).sum()


def _amp(
    recipe: Recipe,
    module: nn.Module,
    shape: tuple[int, ...],
    device: torch.device,
    by: str = _ASKED,
) -> tuple[_Amp, str]:
    if recipe.amp != "auto":
        name = "float32" if recipe.amp == "off" else recipe.amp
        return recipe.amp, f"{name} ({by})"
    if not _has_bfloat16(device):
        narrow = "; float16, whose range is narrow, by `amp='float16'` only"
        where = narrow if device.type == "cuda" else ""
        return "off", f"float32 (no bfloat16 arithmetic here{where})"
    try:
        images = torch.zeros(2, *shape, device=device)
        with evaluating(module), torch.no_grad(), autocast(device, "bfloat16"):
            module(images)
    except (RuntimeError, NotImplementedError) as error:
        why = first_line(error)
        return "off", f"float32 (the network does not run in bfloat16: {why})"
    return "bfloat16", "bfloat16 (the processor has it)"


def _has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 faster than in float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # it asks of the present one
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":  # torch has no public way to ask
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def _channels_last(
    recipe: Recipe, module: nn.Module, device: torch.device, by: str = _ASKED
) -> tuple[bool, str]:
    on_mps = device.type == "mps"
    if recipe.channels_last != "auto":
        word = "channels-last" if recipe.channels_last else "channels-first"
        errs = f"; {_MPS_ERRS}" if on_mps and recipe.channels_last else ""
        return recipe.channels_last, f"{word} ({by}{errs})"
    if on_mps:
        return False, f"channels-first ({_MPS_ERRS})"
    if any(isinstance(part, nn.Conv2d) for part in module.modules()):
        return True, "channels-last"
    return False, "channels-first (no convolutions)"


_MPS_ERRS = "on mps gradients may be wrong in channels-last: pytorch#175189"
"""Batch norm's, silently or with a crash, up to about torch 2.13; pooling crashes (175190)."""


def _compile(
    recipe: Recipe, n_steps: int, device: torch.device, by: str = _ASKED
) -> tuple[bool, str]:
    if recipe.compile != "auto":
        word = "compiled" if recipe.compile else "not compiled"
        return recipe.compile, f"{word} ({by})"
    if n_steps < WORTH_COMPILING:
        return False, f"not compiled ({n_steps:,} steps are too few to win the time back)"
    missing = _missing_compiler(device)
    if missing:
        return False, f"not compiled ({missing})"
    return True, "compiled"


def _missing_compiler(device: torch.device) -> str:
    """What torch.compile lacks here; empty where it lacks nothing."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return "" if has_triton() else "no Triton here"
    if device.type != "cpu":
        return f"torch.compile is not tried on {device.type}"
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception:  # torch's own InvalidCxxCompiler, whose home moves
        return "no C++ compiler here"
    return ""
