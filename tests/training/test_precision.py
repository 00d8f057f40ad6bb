from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import nn

import irbin.training.precision as precision
from irbin.errors import TrainingError
from irbin.processes import ALONE, Group
from irbin.recipes.recipe import Recipe
from irbin.records.options import DataOptions
from irbin.records.training import EpochRecord
from irbin.rewriting.network import Network
from irbin.runs.listener import Listener
from irbin.training import loop
from irbin.training.loop import finetune
from irbin.training.precision import (
    compiled,
    compiled_teacher,
    decide,
    keep_gradients_channels_last,
    uses_channels_last,
)
from irbin.training.prepare import make_run, open_loaders

MakeNetwork = Callable[..., Network]
CPU, SHAPE = torch.device("cpu"), (3, 8, 8)


@pytest.fixture
def auto(recipe: Recipe) -> Recipe:
    return replace(recipe, amp="auto", channels_last="auto", compile="auto")


def set_machine(monkeypatch: pytest.MonkeyPatch, bfloat16: bool, compiler: str) -> None:
    monkeypatch.setattr(precision, "_has_bfloat16", lambda device: bfloat16)
    monkeypatch.setattr(precision, "_missing_compiler", lambda device: compiler)


def stop(_record: EpochRecord) -> None:
    raise KeyboardInterrupt


def test_the_fast_path_is_taken_where_the_machine_has_it(
    auto: Recipe, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_machine(monkeypatch, bfloat16=True, compiler="")
    chosen, why = decide(auto, make_network().module, SHAPE, 5000, CPU)
    assert (chosen.amp, chosen.channels_last, chosen.compile) == ("bfloat16", True, True)
    assert why == "training in bfloat16 (the processor has it), channels-last, compiled"


def test_what_is_missing_is_told(
    auto: Recipe, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_machine(monkeypatch, bfloat16=False, compiler="no C++ compiler here")
    chosen, why = decide(auto, make_network().module, SHAPE, 5000, CPU)
    assert (chosen.amp, chosen.channels_last, chosen.compile) == ("off", True, False)
    assert why == (
        "training in float32 (no bfloat16 arithmetic here), channels-last, "
        "not compiled (no C++ compiler here)"
    )


def test_a_gpu_without_bfloat16_is_told_of_float16(
    auto: Recipe, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T4 and V100."""
    set_machine(monkeypatch, bfloat16=False, compiler="")
    _, why = decide(auto, make_network().module, SHAPE, 10, torch.device("cuda"))
    assert (
        "float32 (no bfloat16 arithmetic here; float16, whose range is narrow, by `amp='float16'`"
        in why
    )


def test_apples_gpus_get_no_channels_last_by_themselves(
    auto: Recipe, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's batch norm gave wrong gradients there; who asks for it is told."""
    set_machine(monkeypatch, bfloat16=False, compiler="not tried")
    mps, network = torch.device("mps"), make_network().module
    chosen, why = decide(auto, network, SHAPE, 10, mps)
    assert chosen.channels_last is False
    assert not uses_channels_last(auto, network, mps)
    assert "channels-first (on mps gradients may be wrong in channels-last: pytorch#175189)" in why
    asked = replace(auto, channels_last=True)
    chosen, why = decide(asked, network, SHAPE, 10, mps)
    assert chosen.channels_last is True
    assert "channels-last (asked for; on mps gradients may be wrong" in why
    _, why = decide(replace(auto, channels_last=False), network, SHAPE, 10, mps)
    assert "channels-first (asked for)," in why


@pytest.mark.parametrize(
    ("device", "same", "tried"),
    [("cuda", False, True), ("cuda", True, False), ("cpu", False, False)],
)
def test_cudnn_tries_where_shapes_stay(
    device: str, same: bool, tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudnn = SimpleNamespace(benchmark=False, deterministic=same)
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    with precision.tried_convolutions(torch.device(device)):
        assert cudnn.benchmark is tried
    assert not cudnn.benchmark


def test_a_short_run_is_not_compiled(
    auto: Recipe, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_machine(monkeypatch, bfloat16=True, compiler="")
    for n_steps, expected in ((0, False), (999, False), (1000, True)):
        assert decide(auto, make_network().module, SHAPE, n_steps, CPU)[0].compile is expected


def test_what_was_asked_for_is_done(auto: Recipe, make_network: MakeNetwork) -> None:
    asked = replace(auto, amp="float16", channels_last=False, compile=True)
    chosen, why = decide(asked, make_network().module, SHAPE, 1, CPU)
    assert chosen == asked
    assert why.count("(asked for)") == 3


@pytest.mark.parametrize(
    ("said", "told"),
    [("not implemented for 'BFloat16'", "not implemented for"), ("", "NotImplementedError")],
)
def test_a_network_that_does_not_run_in_bfloat16_trains_in_float32(
    auto: Recipe, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    class Stubborn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.is_autocast_enabled("cpu"):
                raise NotImplementedError(said)
            return x.mean((2, 3))

    set_machine(monkeypatch, bfloat16=True, compiler="")
    chosen, why = decide(auto, Stubborn(), SHAPE, 10, CPU)
    assert (chosen.amp, chosen.channels_last) == ("off", False)
    assert f"float32 (the network does not run in bfloat16: {told}" in why


def test_gradients_stay_channels_last() -> None:
    """A pooled head hands back channels-first ones."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardtanh(), nn.Conv2d(4, 4, 1), nn.Hardtanh()
    ).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 6, 6).to(memory_format=torch.channels_last)
    network(x).mean((2, 3)).sum().backward()
    expected = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    keep_gradients_channels_last(network)
    seen = []
    y = network[2](network[1](network[0](x)))
    y.register_hook(lambda g: seen.append(g.is_contiguous(memory_format=torch.channels_last)))
    network[4](network[3](y)).mean((2, 3)).sum().backward()
    assert seen == [True]
    for grad, parameter in zip(expected, network.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, grad)


def broken(*_: object, **__: object) -> Callable[..., object]:
    def fail(*_: object) -> object:
        raise RuntimeError("no backend\nlong story")

    return fail


def test_a_compiler_that_fails_is_told_or_an_error(
    auto: Recipe,
    make_network: MakeNetwork,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    module = make_network().module
    settled = replace(auto, amp="off", channels_last=False, compile=True)
    with caplog.at_level(logging.WARNING, "irbin"):
        assert compiled(module, settled, (4, *SHAPE), CPU, required=False) is module
    assert caplog.messages == [
        "torch.compile failed (no backend), so the network is trained without it"
    ]
    with pytest.raises(
        TrainingError, match=r"^`compile=True`: torch.compile failed: no backend; `compile=False"
    ):
        compiled(module, settled, (4, *SHAPE), CPU, required=True)


class GraphTree:
    """What torch's CUDA graphs ask of a program that repeats: no gradient when a pass begins."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.n_passes = module, 0

    def __call__(self, images: torch.Tensor) -> object:
        if any(p.grad is not None for p in self.module.parameters()):
            raise RuntimeError("accessing tensor output of CUDAGraphs that has been overwritten")
        self.n_passes += 1
        return self.module(images)


def test_cuda_graphs_are_recorded_without_gradients(
    auto: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch issue 169545. The device is a name here: there is no backward pass on fake tensors."""
    made: list[tuple[GraphTree, str | None]] = []

    def compile_(module: nn.Module, mode: str | None = None) -> GraphTree:
        made.append((GraphTree(module), mode))
        return made[-1][0]

    monkeypatch.setattr(torch, "compile", compile_)
    settled = replace(auto, amp="off", channels_last=True, compile=True)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda shape, device: zeros(shape))
    fast = compiled(module, settled, (4, *SHAPE), torch.device("cuda"), required=True)
    ((tree, mode),) = made
    assert fast is tree
    assert (mode, tree.n_passes) == ("reduce-overhead", 3)
    assert all(p.grad is None for p in module.parameters())


def test_a_teacher_that_cannot_be_compiled_answers_without(
    auto: Recipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    teacher = nn.Conv2d(3, 4, 3)
    settled = replace(auto, amp="off", channels_last=True, compile=True)
    with caplog.at_level(logging.WARNING, "irbin"):
        found = compiled_teacher(teacher, settled, (4, *SHAPE), CPU, required=False)
    assert found is teacher
    assert caplog.messages == [
        "torch.compile failed (no backend), so the teacher answers without it"
    ]
    with pytest.raises(TrainingError, match=r"^`compile=True`: torch.compile failed: no backend"):
        compiled_teacher(teacher, settled, (4, *SHAPE), CPU, required=True)


@pytest.mark.slow
def test_a_run_goes_on_with_a_teacher_that_cannot_be_compiled(
    auto: Recipe,
    make_network: MakeNetwork,
    data: DataOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made: list[nn.Module] = []

    def compile_(module: nn.Module, mode: str | None = None) -> Callable[..., object]:
        made.append(module)
        return module.forward if len(made) == 1 else broken()

    monkeypatch.setattr(torch, "compile", compile_)
    set_machine(monkeypatch, bfloat16=False, compiler="")
    monkeypatch.setattr(precision, "WORTH_COMPILING", 1)
    teacher = make_network(binary=False).module
    with caplog.at_level(logging.WARNING, "irbin"):
        run = replace(auto, distill=True, epochs=1)
        finetune(make_network(), data, run, tmp_path / "run", teacher=teacher)
    assert made[1] is teacher
    assert [m for m in caplog.messages if "torch.compile" in m] == [
        "torch.compile failed (no backend), so the teacher answers without it"
    ]


class OtherFellBack(Group):
    """One process of several, another of which could not compile."""

    def any(self, flag: bool) -> bool:
        return True


def test_what_one_process_cannot_do_none_does(
    auto: Recipe, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that computes in another type, or waits for others that do not compile, never ends."""
    set_machine(monkeypatch, bfloat16=True, compiler="")
    module = make_network().module
    chosen, why = decide(auto, module, SHAPE, 5000, CPU, group=OtherFellBack())
    assert (chosen.amp, chosen.compile) == ("off", False)
    assert why.count("(another process cannot do otherwise)") == 2
    chosen, why = decide(auto, module, SHAPE, 5000, CPU, group=ALONE)
    assert (chosen.amp, chosen.compile) == ("bfloat16", True)


def test_where_one_process_cannot_compile_none_does(
    auto: Recipe,
    make_network: MakeNetwork,
    data: DataOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would sum gradients in another order, and write down another path."""
    monkeypatch.setattr(torch, "compile", lambda module, mode=None: lambda x: module(x))
    settled = replace(auto, amp="off", channels_last=False, compile=True)
    network = make_network()
    loaders = open_loaders(network, data, settled, ALONE)
    run = make_run(
        network, settled, tmp_path, OtherFellBack(), loaders, n_steps=3, must_compile=False
    )
    assert run.recipe.compile is False
    assert run.forward is network.module


@pytest.mark.slow
def test_a_run_trains_while_cudnn_tries_and_evaluates_as_well(
    recipe: Recipe,
    make_network: MakeNetwork,
    data: DataOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices: list[torch.device] = []

    @contextmanager
    def tried(device: torch.device) -> Iterator[None]:
        devices.append(device)
        yield
        devices.pop()

    monkeypatch.setattr(loop, "tried_convolutions", tried)
    seen: list[list[torch.device]] = []
    network = make_network()
    network.module.register_forward_hook(lambda *_: seen.append([*devices]))
    finetune(network, data, replace(recipe, epochs=1), tmp_path / "run")
    assert len(seen) > 3
    assert all(within == [CPU] for within in seen)
    assert devices == []


@pytest.mark.slow
def test_a_run_whose_compiling_failed_says_so_and_goes_on(
    auto: Recipe,
    make_network: MakeNetwork,
    data: DataOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_machine(monkeypatch, bfloat16=False, compiler="")
    monkeypatch.setattr(precision, "WORTH_COMPILING", 1)
    monkeypatch.setattr(torch, "compile", broken)
    lines: list[str] = []
    finetune(make_network(), data, auto, tmp_path / "run", listener=Listener(say=lines.append))
    assert lines[0].endswith("channels-last, not compiled (torch.compile failed)")
    args = yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())
    assert args["asked"] == {"amp": "auto", "channels_last": "auto", "compile": "auto"}
    assert args["recipe"]["compile"] is False
    finetune(make_network(), data, auto, tmp_path / "run", resume=True)


@pytest.mark.slow
@pytest.mark.parametrize(("knob", "why"), [("auto", "torch.compile failed"), (False, "asked for")])
def test_a_compiled_run_goes_on_where_there_is_no_compiler(
    knob: str | bool,
    why: str,
    auto: Recipe,
    make_network: MakeNetwork,
    data: DataOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_machine(monkeypatch, bfloat16=False, compiler="")
    monkeypatch.setattr(precision, "WORTH_COMPILING", 1)
    monkeypatch.setattr(torch, "compile", lambda module, mode=None: module.forward)
    finetune(make_network(), data, auto, tmp_path / "run", listener=Listener(on_epoch=stop))
    args = yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())
    assert args["recipe"]["compile"] is True
    monkeypatch.setattr(torch, "compile", broken)  # another machine
    now = replace(auto, compile=knob)
    lines: list[str] = []
    told = Listener(say=lines.append)
    finetune(make_network(), data, now, tmp_path / "run", resume=True, listener=told)
    assert lines[0].endswith(f"channels-last (as the run began), not compiled ({why})")
    now = replace(auto, compile=True)
    with pytest.raises(TrainingError, match=r"`compile=False` trains without it"):
        finetune(make_network(), data, now, tmp_path / "run", resume=True)


def test_compiling_leaves_the_network_as_it_was(
    auto: Recipe, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, mode=None: module)
    module = make_network().module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for n_batches in (1, 2):
        settled = replace(
            auto, amp="off", channels_last=True, compile=True, grad_accum_steps=n_batches
        )
        assert compiled(module, settled, (4, *SHAPE), CPU, required=True) is module
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.slow
def test_what_was_decided_is_kept_and_resumed(
    auto: Recipe,
    make_network: MakeNetwork,
    data: DataOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    set_machine(monkeypatch, bfloat16=True, compiler="")
    told = Listener(say=lines.append, on_epoch=stop)
    finetune(make_network(), data, auto, tmp_path / "run", listener=told)
    assert lines[0].startswith("training in bfloat16 (the processor has it), channels-last, not")
    assert lines[1].startswith("images: 30 + 15 decoded once")
    args = yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())
    assert (args["recipe"]["amp"], args["recipe"]["compile"]) == ("bfloat16", False)
    assert args["data"]["cache"] == "ram"
    set_machine(monkeypatch, bfloat16=False, compiler="")  # another machine
    finetune(make_network(), data, auto, tmp_path / "run", resume=True, listener=told)
    assert lines[2] == (
        "training in bfloat16 (as the run began), channels-last (as the run began), "
        "not compiled (as the run began)"
    )


@pytest.mark.slow
def test_every_path_ends_near_the_same_loss(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    """bfloat16 and memory format change rounding, not what is learned."""
    paths = {"plain": {}, "last": {"channels_last": True}, "bf16": {"amp": "bfloat16"}}
    losses = {}
    for name, knobs in paths.items():
        run = replace(recipe, epochs=8, hflip=0.0, **knobs)
        record = finetune(make_network(), data, run, tmp_path / name)
        losses[name] = record.epochs[-1].train_loss
    assert losses["last"] == pytest.approx(losses["plain"], rel=0.02)
    assert losses["bf16"] == pytest.approx(losses["plain"], rel=0.1)


def test_the_device_itself_is_asked_for_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    present: list[torch.device] = []

    @contextmanager
    def device(of: torch.device) -> Iterator[None]:
        present.append(of)
        yield
        present.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: present[-1].index == 1)
    assert precision._has_bfloat16(torch.device("cuda:1"))
    assert not precision._has_bfloat16(torch.device("cuda:0"))
