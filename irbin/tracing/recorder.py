"""Runs a network once and notes what really happened.

Which layers ran, how much work they did, which weights were read behind their owner's back:
tracing sees the data flow, only running sees this. It runs on torch's meta device (shapes without
numbers) where the network allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from irbin.copies import copied
from irbin.errors import TraceError
from irbin.messages import lacks_memory
from irbin.tracing.calling import why_it_fails
from irbin.tracing.products import product_macs

BATCH = 2

_READING_PROPERTIES = {"T", "mT", "H", "mH", "data", "real", "imag"}
_LOOKING_METHODS = {
    "size",
    "dim",
    "numel",
    "stride",
    "is_floating_point",
    "is_contiguous",
    "data_ptr",
}
_LOOKING_METHODS |= {
    "__len__",
    "__hash__",
    "__repr__",
    "requires_grad_",
    "element_size",
    "is_complex",
}
_CHANNELS_SECOND = {"conv1d", "conv2d", "conv3d", "_conv_forward"}
_CHANNELS_LAST = {"linear", "multi_head_attention_forward", "_native_multi_head_attention"}


@dataclass
class Calls:
    """What one layer did in one forward pass."""

    order: int
    """Position among the layers, by first call."""
    n_calls: int = 0
    """Calls of its own forward."""
    n_macs: int = 0
    """Multiply-adds of one image, all calls together (while it is recorded, of the batch)."""
    input_shape: tuple[int, ...] = ()
    """Of the first call, for one image."""
    output_shape: tuple[int, ...] = ()
    """Of the first call, for one image."""
    read_by: str = ""
    """Function that read its weight outside its own forward; '' if none did."""


@dataclass
class Recording:
    """One forward pass."""

    calls: dict[str, Calls] = field(default_factory=dict)
    """By layer name; a layer that neither ran nor was read is missing."""
    used: list[Tensor] = field(default_factory=list)
    """Parameters and buffers that took part, each once, batch norms' left out."""
    norm_features: int = 0
    """Channels of all batch norms that ran on running statistics."""
    other_macs: int = 0
    """Multiply-adds of one image in products between activations (as `Calls.n_macs`)."""


class Recorder(TorchFunctionMode):
    """Watches a network's functions and the forwards of its layers.

    Args:
        network: the network that will run, with `layers` in it.
        layers: dotted name → layer to watch.
    """

    def __init__(self, network: nn.Module, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.recording = Recording()
        self._state = {id(t): t for t in (*network.parameters(), *network.buffers())}
        self._owners: dict[int, list[tuple[str, nn.Module]]] = {}
        for name, layer in layers.items():  # a weight may be that of several
            for weight in _weights(layer):
                self._owners.setdefault(id(weight), []).append((name, layer))
        self._seen: set[int] = set()
        self._running: list[nn.Module] = []
        self._hooks = [
            hook
            for name, layer in layers.items()
            for hook in (
                layer.register_forward_pre_hook(self._enter),
                layer.register_forward_hook(self._leave(name)),
            )
        ]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs `func` and notes which parameters and buffers it reads."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = _reader_name(func)
        if name is None:
            return out
        operands = list(_tensors((args, kwargs)))
        equation = args[0] if args else None
        self.recording.other_macs += product_macs(name, operands, out, equation)
        tensors = [t for t in operands if id(t) in self._state]
        if name == "batch_norm" and tensors and not _argument(args, kwargs, 5, "training"):
            self._note_norm(args, kwargs, tensors)
        else:
            for tensor in tensors:
                self._note_read(tensor, name, out)
        return out

    def __exit__(self, *error: object) -> None:
        """Stops watching: the hooks are taken off again."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def _note_norm(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
        mean = _argument(args, kwargs, 1, "running_mean")
        if id(mean) not in self._seen and isinstance(mean, Tensor):
            self.recording.norm_features += mean.numel()
        self._seen.update(id(t) for t in tensors)

    def _note_read(self, tensor: Tensor, function: str, out: Any) -> None:
        if id(tensor) not in self._seen:
            self._seen.add(id(tensor))
            self.recording.used.append(tensor)
        owners = self._owners.get(id(tensor), [])
        if not owners or any(m is owner for m in self._running for _, owner in owners):
            return
        for name, _ in owners:
            calls = self._calls(name)
            calls.read_by = calls.read_by or function
        if isinstance(out, tuple):
            out = out[0]
        if isinstance(out, Tensor) and function in _CHANNELS_SECOND | _CHANNELS_LAST:
            axis = 1 if function in _CHANNELS_SECOND else -1
            calls.n_macs += positions(out, axis) * tensor.numel()

    def _calls(self, name: str) -> Calls:
        return self.recording.calls.setdefault(name, Calls(len(self.recording.calls)))

    def _enter(self, layer: nn.Module, args: Any) -> None:  # noqa: ARG002 - a hook's signature
        self._running.append(layer)

    def _leave(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def leave(layer: nn.Module, args: Any, out: Any) -> None:
            self._running.pop()
            calls = self._calls(name)
            first = next(iter(_tensors(args)), None)
            result = next(iter(_tensors(out)), None)
            if calls.n_calls == 0 and first is not None and result is not None:
                calls.input_shape, calls.output_shape = one_image(first), one_image(result)
            calls.n_calls += 1
            if first is not None and result is not None:
                calls.n_macs += _macs(layer, first, result)

        return leave


def positions(x: Tensor, channel_axis: int) -> int:
    """How many vectors of channels `x` holds."""
    return x.numel() // max(x.shape[channel_axis], 1)


def one_image(x: Tensor) -> tuple[int, ...]:
    """The shape that one image of a batch of `BATCH` takes; windows of one image stay together."""
    shape = tuple(x.shape)
    if not shape or shape[0] % BATCH:
        return shape
    return shape[1:] if shape[0] == BATCH else (shape[0] // BATCH, *shape[1:])


def record(
    module: nn.Module, layer_names: list[str], input_size: tuple[int, int, int]
) -> tuple[Recording, nn.Module]:
    """Runs a copy of `module` in evaluation mode on a batch of two.

    Args:
        module: any network; left alone.
        layer_names: the layers to watch.
        input_size: (channels, height, width).

    Returns:
        The recording and the copy that ran (its tensors are the ones in `used`).

    Raises:
        TraceError: the network does not run on that input.
    """

    def run(network: nn.Module, device: str) -> Recording:
        layers = {n: network.get_submodule(n) for n in layer_names}
        x = torch.zeros(BATCH, *input_size, device=device)
        with torch.no_grad(), (recorder := Recorder(network, layers)):
            network(x)
        trained = None
        if device == "meta":  # where a second run costs next to nothing
            trained = _recorded_in_training(network, layers, x.new_zeros(BATCH + 1, *input_size))
        return _of_one_image(recorder.recording, trained)

    return run_copy(module, run, input_size)


def _recorded_in_training(
    network: nn.Module, layers: dict[str, nn.Module], x: Tensor
) -> Recording | None:
    """A run in training mode on `x`; None where training needs more than images."""
    recorder = Recorder(network.train(), layers)
    try:
        with torch.enable_grad(), recorder:
            network(x)
    except Exception as error:  # raises whatever the network's own code does
        if lacks_memory(error):
            raise
        return None
    finally:
        network.eval()
    return recorder.recording


def _of_one_image(recording: Recording, trained: Recording | None) -> Recording:
    """`recording`, of `BATCH` images, with work counted for one, in place.

    Work is a·images + b, where b is what runs once a batch (a table of positions, say). Two batches
    of different sizes give both, and a + b is the work of an image that comes alone. The second one
    was run in training: who reads a weight only there is noted too.
    """
    for name, calls in recording.calls.items():
        other = trained.calls.get(name) if trained else None
        compares = other is not None and other.n_calls == calls.n_calls
        calls.n_macs = _of_one(calls.n_macs, other.n_macs if other and compares else 0)
        calls.read_by = calls.read_by or (other.read_by if other else "")
    more = trained.other_macs if trained else 0
    recording.other_macs = _of_one(recording.other_macs, more)
    return recording


def _of_one(n_macs: int, n_macs_of_one_more: int) -> int:
    alone = BATCH * n_macs - (BATCH - 1) * n_macs_of_one_more
    # between half and all of it: where training does other work, the two do not compare
    return alone if n_macs <= BATCH * alone <= BATCH * n_macs else n_macs // BATCH


def run_copy(
    module: nn.Module,
    run: Callable[[nn.Module, str], Recording],
    input_size: tuple[int, int, int],
) -> tuple[Recording, nn.Module]:
    """Calls `run` with an evaluation-mode copy on the meta device or, where that fails, the CPU.

    Args:
        module: any network; left alone.
        run: runs it on zeros.
        input_size: (channels, height, width) of these, for the message.

    Raises:
        TraceError: it fails on both.
    """
    is_recurrent = any(isinstance(m, nn.RNNBase) for m in module.modules())
    if not is_recurrent:  # which torch unrolls on the meta device, a hundred times slower
        try:
            network = meta_copy(module).eval()
            return run(network, "meta"), network
        except Exception:  # some need numbers (`.item()`), or hold tensors torch cannot see
            pass
    try:
        network = copied(module).cpu().eval()
        return run(network, "cpu"), network
    except Exception as error:
        why = why_it_fails(copied(module).cpu().eval(), input_size, error)
        raise TraceError(f"`{type(module).__name__}`{why}") from error


def meta_copy(module: nn.Module) -> nn.Module:
    """A deep copy without numbers: parameters and buffers live on the meta device."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copied(module, memo)


def _macs(layer: nn.Module, first: Tensor, result: Tensor) -> int:
    """Multiply-adds of one call: every weight is used once at each position."""
    single = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear)  # a gain multiplies no activation
    weights = [layer.weight] if isinstance(layer, single) else _weights(layer)
    n_weights = sum(w.numel() for w in weights if isinstance(w, Tensor))
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return positions(first, 1) * n_weights
    if isinstance(layer, nn.modules.conv._ConvNd):
        return positions(result, 1) * n_weights
    return positions(result if isinstance(layer, nn.Linear) else first, -1) * n_weights


def _weights(layer: nn.Module) -> list[Tensor]:
    return [w for w in layer.parameters(recurse=False) if w.dim() > 1]


def _reader_name(func: Callable[..., Any]) -> str | None:
    """Name of a function that reads its tensors' numbers; None if it only looks at shapes."""
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", "")
        return name if name in _READING_PROPERTIES else None
    return None if name in _LOOKING_METHODS or name == "__set__" else name


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs.get(name)
