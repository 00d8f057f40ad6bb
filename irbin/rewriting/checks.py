"""Whether a converted network really runs as its plan says, found by running a copy of it once.

A tree of swapped modules proves nothing: networks read weights directly, keep modules in plain
lists, or reparameterize themselves afterwards, and then go on in float without any error.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from irbin.binary.layers import BinaryLayer
from irbin.copies import copied
from irbin.errors import ConvertError, IrbinError, TraceError, UsageError
from irbin.messages import SET_FORWARD, first_line, lacks_memory
from irbin.records.options import SourceOptions
from irbin.records.plan import Plan
from irbin.rewriting.network import Network
from irbin.rewriting.overwritten import overwritten
from irbin.rewriting.private import check_latent_weights_are_private
from irbin.tracing.calling import cause
from irbin.tracing.observe import SignCount
from irbin.tracing.probing import FAR, measure_norms, moved, randomize_zeros
from irbin.tracing.recorder import Recorder
from irbin.tracing.tracer import untouched

_log = logging.getLogger("irbin")

_BATCH, _NORM_BATCH = 2, 4
"""Images; more before batch norm, which over two values gives ±1 and hence no gradient."""


def check_runs(module: nn.Module, plan: Plan) -> None:
    """Runs a copy of a converted network forward and backward on random numbers.

    Args:
        module: the converted network; left alone.
        plan: what it should be.

    Raises:
        ConvertError: a planned layer is not binary or never ran, a float layer still works with its
            weight, something reads it past the layer in one of a network's modes, its input has
            one sign whatever the norms in front learn, the output is not finite, or its latent
            weight gets no gradient, one that is not finite, or nothing but zeros.
    """
    probe = _probe(module)
    layers = _binary_layers(probe, plan)
    recorder, watch = Recorder(probe, layers), _SignWatch(layers)
    x = _random_input(probe, plan)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        try:
            with recorder:
                returned = probe(x)
            outputs = _floating_tensors(returned)
            answers = [t.detach() for t in tree_leaves(returned) if isinstance(t, Tensor)]
            loss = torch.stack([(out * torch.randn_like(out)).sum() for out in outputs]).sum()
            _check_calls(recorder, layers)
            if plan.options.bits == "1w1a":
                _check_signs(module, plan, watch, x)
            if not all(bool(torch.isfinite(out).all()) for out in outputs):
                raise ConvertError("the converted network gives an output that is not finite")
            loss.backward()  # type: ignore[no-untyped-call]
        except IrbinError:
            raise
        except Exception as error:  # the network's own code may raise anything
            if lacks_memory(error):
                raise
            why = f"the converted network does not train: {first_line(error)}"
            known = _bound_to_batch(probe, x, error) or overwritten(probe, x, error)
            raise ConvertError(known or why) from error
    for name, layer in layers.items():
        _check_gradient(name, layer)
    check_latent_weights_are_private(probe, layers, x, answers)


def _probe(module: nn.Module) -> nn.Module:
    """A copy in which every latent weight should get a gradient.

    Its batch norms use batch statistics, since the running ones are the float network's; scales
    that start at zero (last norm of a residual branch, layer scale) are random.
    """
    probe = copied(module).eval().requires_grad_(True)
    measure_norms(probe)
    randomize_zeros(probe, offsets=False)  # of an offset, zero is as good a value as any
    return probe


def _binary_layers(probe: nn.Module, plan: Plan) -> dict[str, nn.Module]:
    layers = {name: probe.get_submodule(name) for name in plan.binary_names}
    for name, layer in layers.items():
        if not isinstance(layer, BinaryLayer):
            raise ConvertError(
                f"`{name}`: planned binary, but the network has a `{type(layer).__name__}` there"
            )
    return layers


def _random_input(module: nn.Module, plan: Plan) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    first = next(module.parameters())
    has_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    batch = _NORM_BATCH if has_norm else _BATCH
    return torch.randn(batch, *plan.input_size, generator=generator).to(first.device, first.dtype)


class _SignWatch:
    """Counts for every layer the signs of its input."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        self._counts = {name: SignCount() for name in layers}
        for name, layer in layers.items():
            layer.register_forward_pre_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def note(layer: nn.Module, args: tuple[Tensor, ...]) -> None:  # noqa: ARG001 - a hook's
            self._counts[name].add(args[0].detach())

        return note

    def always(self) -> dict[str, str]:
        """Layers whose input had one sign, and which."""
        return {name: count.always for name, count in self._counts.items() if count.always}


def _check_signs(module: nn.Module, plan: Plan, watch: _SignWatch, x: Tensor) -> None:
    """Refuses layers whose input has one sign whatever the norms in front add to it.

    A maximum of many values (poolings behind each other) is hardly ever negative by chance alone,
    and an offset, which training learns, makes it so; behind a hidden ReLU none does.
    """
    signs = watch.always()
    if not signs:
        return
    either = [_signs_moved_by(offset, module, plan, x) for offset in (-FAR, FAR)]
    dead = [name for name in signs if all(name in one for one in either)]
    if dead:
        raise ConvertError(
            f"`{dead[0]}`: its input was {signs[dead[0]]} in a run on random images, as behind an "
            "activation that tracing did not see, so its output does not depend on it "
            f"({len(dead)} such layers); keep it float with `keep={dead[:1]}`"
        )
    for name, always in signs.items():
        _log.warning(
            "`%s`: its input was %s in a run on random images, as behind poolings of poolings; it "
            "learns little until training moves that; consider `keep=['%s']`",
            name,
            always,
            name,
        )


def _signs_moved_by(offset: float, module: nn.Module, plan: Plan, x: Tensor) -> dict[str, str]:
    """Layers whose input has one sign where everything that learns an offset adds this one."""
    probe = _probe(module)
    watch = _SignWatch(_binary_layers(probe, plan))
    with torch.no_grad(), moved(probe, offset):
        probe(x)
    return watch.always()


def _check_calls(recorder: Recorder, layers: dict[str, nn.Module]) -> None:
    for name in layers:
        calls = recorder.recording.calls.get(name)
        if calls is not None and calls.read_by:
            raise ConvertError(
                f"`{name}`: its weight is still used in float, by `{calls.read_by}` outside the "
                f"binary layer; keep it float with `keep={[name]}`"
            )
        if calls is None or calls.n_calls == 0:
            raise ConvertError(f"`{name}`: the binary layer never ran; `keep={[name]}`")


def _check_gradient(name: str, layer: nn.Module) -> None:
    gradient = layer.get_parameter("weight").grad
    if gradient is None:
        raise ConvertError(f"`{name}`: its latent weight gets no gradient; `keep={[name]}`")
    if not bool(torch.isfinite(gradient).all()):
        raise ConvertError(f"`{name}`: the gradient of its latent weight is not finite")
    if not bool(gradient.any()):
        raise ConvertError(
            f"`{name}`: the gradient of its latent weight is zero everywhere on random images: "
            "none is sent there (one expert of several), or what follows passes none back, so it "
            f"cannot learn; `keep={[name]}`, or put a norm behind it"
        )


def _floating_tensors(value: Any) -> list[Tensor]:
    """Those in whatever a network returned."""
    tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return [tensor for tensor in tensors if tensor.is_floating_point()]


def check_same_answers(module: nn.Module, traced: fx.GraphModule, plan: Plan) -> None:
    """Compares a float network with its traced graph in evaluation mode; both are left as is.

    Raises:
        TraceError: they differ, or the graph writes to a buffer that the network leaves alone, so
            the graph must not take the network's place.
        ConvertError: the network does not run on as many images, or is never the same twice.
    """
    x = _random_input(module, plan)
    graph = traced.meta.get("evaluation", traced)
    written: list[set[str]] = []
    with untouched(module), untouched(graph), torch.no_grad():
        try:
            with _buffers_kept(module, written):
                expected = _seeded(module.eval(), x)
        except Exception as error:  # the network's own code may raise anything
            if lacks_memory(error):
                raise
            why = _bound_to_batch(module, x, error) or f"the network does not run: {cause(error)}"
            raise ConvertError(why) from error
        with _buffers_kept(module, written):
            got = _seeded(graph.eval(), x)
        with _buffers_kept(module, written):
            again = module(x.clone())
    only_in_graph = sorted(written[1] - written[0])
    if only_in_graph:
        raise TraceError(
            f"the traced graph of `{type(module).__name__}` writes to `{only_in_graph[0]}` in "
            "evaluation mode too, which the network does in training alone (`if self.training`), "
            "so functional activations cannot be replaced and shortcuts cannot be added; make "
            "them modules (`nn.ReLU()`)"
        )
    # an autocast of the network's own is not in the graph: bfloat16 has 8 bits
    apart = 0.05 if traced.meta["autocast"] else 1e-3
    if not _are_close(_floating_tensors(expected), _floating_tensors(got), apart):
        if not _are_close(_floating_tensors(expected), _floating_tensors(again), apart):
            raise ConvertError(
                f"`{type(module).__name__}` never gives the same answer twice in evaluation mode: "
                "it draws random numbers there too, or changes its own state; write "
                "`F.dropout(x, p, self.training)`"
            )
        raise TraceError(
            f"the traced graph of `{type(module).__name__}` gives other answers than the network "
            f"in evaluation mode ({_not_in_a_graph(module)}), so functional activations cannot be "
            "replaced and shortcuts cannot be added"
        )


@contextmanager
def _buffers_kept(module: nn.Module, written: list[set[str]]) -> Iterator[None]:
    """Puts numbers of buffers back at the end; appends the names of those that had changed."""
    before = {name: (buffer, buffer.clone()) for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        changed = {n for n, (b, was) in before.items() if not torch.equal(b, was)}
        written.append({n for n in changed if not bool(before[n][1].isnan().any())})
        for name in changed:
            before[name][0].copy_(before[name][1])


def _not_in_a_graph(module: nn.Module) -> str:
    if module._forward_hooks or module._forward_pre_hooks:
        return "hooks on the network itself, `register_forward_hook`, are in no graph of it"
    if type(module).__call__ is not nn.Module.__call__:
        return "what its class's own `__call__` does is in no graph of it"
    if "forward" in vars(module):
        return SET_FORWARD
    return (
        "its forward depends on `self.training`, on `torch.is_grad_enabled()`, or on what it "
        "changes itself, in a way tracing cannot keep"
    )


def _seeded(module: nn.Module, x: Tensor) -> Any:
    """What a network answers; what is random in it is the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return module(x.clone())  # it may write into its images


def _bound_to_batch(module: nn.Module, x: Tensor, error: Exception) -> str:
    """What to say of a network that runs on two images, as it was opened, and not on `x`; or ''."""
    if len(x) == _BATCH or _runs(module, x) or not _runs(module, x[:_BATCH]):
        return ""
    return (
        f"expected a network for any number of images, got one that runs on {_BATCH} and not on "
        f"{len(x)}: {cause(error)}"
    )


def _runs(module: nn.Module, x: Tensor) -> bool:
    try:
        with torch.no_grad():
            module(x)
    except Exception as error:  # the network's own code may raise anything
        if lacks_memory(error):
            raise
        return False
    return True


def _are_close(expected: Sequence[Tensor], got: Sequence[Tensor], error: float) -> bool:
    """Whether there are tensors, as many in both, of the same shapes and nearly the same values."""
    if not expected or [t.shape for t in expected] != [t.shape for t in got]:
        return False
    pairs = zip(expected, got, strict=True)
    return all(
        torch.allclose(a.float(), b.float(), rtol=error, atol=error / 10, equal_nan=True)
        for a, b in pairs
    )


def at_size(network: Network, options: SourceOptions) -> Network:
    """A converted network for images of the size that is asked for, if any is.

    Raises:
        UsageError: the size has other channels, or the network does not run at it.
    """
    made_for = network.source.preprocessing.input_size
    asked = options.input_size or made_for
    if len(asked) != 3 or asked[0] != made_for[0]:
        raise UsageError(f"`input_size`: expected ({made_for[0]}, height, width), got {asked}")
    size = options.size_of(made_for)
    if size == made_for:
        return network
    first = next(network.module.parameters())
    with torch.no_grad(), untouched(network.module):
        try:
            network.module.eval()(torch.zeros(1, *size, device=first.device, dtype=first.dtype))
        except Exception as error:  # the network's own code may raise anything
            if lacks_memory(error):
                raise
            raise UsageError(
                f"`input_size=`: the network was converted for {made_for} and does not run at "
                f"{size}: {first_line(error)}"
            ) from error
    seen = dataclasses.replace(network.source.preprocessing, input_size=size)
    source = dataclasses.replace(network.source, preprocessing=seen)
    return dataclasses.replace(network, source=source)
