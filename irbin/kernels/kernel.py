"""What all kernels share: a layer made ready once, then called with arrays or with addresses.

Calls with arrays are checked, every one; `run` takes bare addresses, for a caller that planned its
buffers. Activations are channels-last: (batch, height, width, channels), bits innermost in bytes.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.bits import packed_bytes
from irbin.bounds import MAX_INTEGER, MAX_RESIDUALS, MAX_THREADS
from irbin.errors import UsageError
from irbin.kernels import native, reference
from irbin.kernels.reference import Bits
from irbin.kernels.steps import KINDS, WITH_VALUES, Floats, Step, split


class Kernel(ABC):
    """A layer made ready; immutable, callable from any number of threads."""

    n_residuals: int
    can_give_y: bool = True
    """Whether `y` may be asked for: thresholds know signs alone."""
    can_pack: bool = True
    """Whether `y_bits` may be asked for: a group of outputs must end with its byte."""
    _native: Any = None

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        self._value_steps, self._sign_steps = split(steps)
        self.n_residuals = 1 + max((s.residual for s in steps if s.kind == "residual"), default=-1)

    def __call__(
        self,
        x: NDArray[Any],
        residuals: Sequence[Floats] = (),
        y: Floats | None = None,
        y_bits: Bits | None = None,
        n_threads: int = 1,
    ) -> None:
        """Computes into `y`, `y_bits` or both.

        Args:
            x: bits or floats, see the class.
            residuals: what residual steps add, of y's shape, or with fewer channels where a step
                says so; behind them what else the kernel reads, see the class.
            y: float32 (…, channels), written.
            y_bits: uint8 (…, ⌈channels / 8⌉), signs of y, or of what the steps behind a `write`
                make of it; written.
            n_threads: at most so many.

        Raises:
            UsageError: an array has another type or shape, or is not contiguous or aligned.
        """
        n_threads = check_integer("n_threads", n_threads, -MAX_THREADS, MAX_THREADS)
        n = self._check_input(x)
        shape = self._out_shape(n)
        bits_shape = (*shape[:-1], packed_bytes(shape[-1]))
        if y is None and y_bits is None:
            raise UsageError("expected `y`, `y_bits` or both, got neither")
        if y is not None and not self.can_give_y:
            raise UsageError("expected `y_bits` alone from a kernel with thresholds, got `y`")
        if y_bits is not None and not self.can_pack:
            raise UsageError("expected groups of whole bytes to give `y_bits`, got others")
        shapes = (*self._residual_shapes(shape), *self._further_shapes(n))
        if len(residuals) != len(shapes):
            raise UsageError(f"expected {len(shapes)} residuals, got {len(residuals)}")
        for i, (residual, wanted) in enumerate(zip(residuals, shapes, strict=True)):
            check_array(f"residuals[{i}]", residual, np.float32, wanted)
        if y is not None:
            check_array("y", y, np.float32, shape, written=True)
        if y_bits is not None:
            check_array("y_bits", y_bits, np.uint8, bits_shape, written=True)
        if native.is_native():
            self.run(
                address(x),
                n,
                [address(r) for r in residuals],
                0 if y is None else address(y),
                0 if y_bits is None else address(y_bits),
                n_threads,
            )
        else:
            self.define(x, residuals, y, y_bits)

    def run(
        self,
        x: int,
        n: int,
        residuals: Sequence[int],
        y: int,
        y_bits: int,
        n_threads: int,
        planes: bool = False,
    ) -> None:
        """As a call, on addresses that nobody checks; 0 where there is no `y` or `y_bits`.

        With `planes`, a float convolution's input is (batch, channels, height, width).
        """
        self._ready().run(x, n, residuals, y, y_bits, n_threads, planes)

    def define(
        self,
        x: NDArray[Any],
        residuals: Sequence[Floats],
        y: Floats | None,
        y_bits: Bits | None,
    ) -> None:
        """As a call, by the reference."""
        value = self._value(x, residuals)
        if y is not None:
            y[...] = value
        if y_bits is not None:
            value = reference.apply_steps(value, self._sign_steps, ())
            y_bits[...] = reference.bitpack(value, value.ndim - 1)

    def _ready(self) -> Any:
        if self._native is None:  # two threads may both make one: the same
            native.active()
            self._native = self._make()
        return self._native

    @abstractmethod
    def _make(self) -> Any: ...

    @abstractmethod
    def _check_input(self, x: NDArray[Any]) -> int: ...

    @abstractmethod
    def _out_shape(self, n: int) -> tuple[int, ...]: ...

    def _residual_shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Of the tensors that residual steps add to a result of that shape."""
        shapes = [shape] * self.n_residuals
        for step in self.steps:
            if step.kind == "residual" and step.channels:
                shapes[step.residual] = (*shape[:-1], step.channels)
        return shapes

    def _further_shapes(self, n: int) -> tuple[tuple[int, ...], ...]:  # noqa: ARG002 - most read none
        """Of the tensors behind the residuals, for n images."""
        return ()

    @abstractmethod
    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats: ...


def step_tuples(steps: Sequence[Step]) -> list[tuple[Any, ...]]:
    """Steps as the extension module takes them."""
    return [
        (KINDS.index(s.kind), s.residual, s.low, s.high, s.values, s.before, s.channels)
        for s in steps
    ]


def check_steps(steps: Sequence[Step], n_channels: int) -> None:
    """Raises UsageError for steps with another number of channels, or what they do not take."""
    if any(step.kind in ("residual", "write") for step in split(steps)[1]):
        raise UsageError("expected steps on channels alone behind a `write`, got others")
    if not all(_holds_before_keeping(part) for part in split(steps)):
        raise UsageError("expected a `hold` before a `keep`, on the same side of a `write`")
    widths: dict[int, int] = {}
    for step in steps:
        if step.kind not in KINDS:
            raise UsageError(f"expected a step of {', '.join(KINDS)}, got {step.kind!r}")
        check_integer("residual", step.residual, -MAX_INTEGER, MAX_INTEGER)
        if not 0 <= step.residual < MAX_RESIDUALS:
            raise UsageError(
                f"`residual`: expected a number below {MAX_RESIDUALS}, got {step.residual}"
            )
        if step.kind == "residual":
            width = widths.setdefault(step.residual, step.channels)
            if width != step.channels:
                raise UsageError(
                    f"`residuals[{step.residual}]`: expected one number of channels, got "
                    f"{width or n_channels} and {step.channels or n_channels}"
                )
        before = check_integer("before", step.before, 0, n_channels)
        check_integer("channels", step.channels, 0, n_channels - before)
        if step.kind in WITH_VALUES:
            if step.values is None:
                raise UsageError(f"`{step.kind}`: expected values, got None")
            check_array(step.kind, step.values, np.float32, (n_channels,))


def _holds_before_keeping(steps: Sequence[Step]) -> bool:
    """Whether every `keep` has something that was held."""
    kinds = [step.kind for step in steps if step.kind in ("hold", "keep")]
    return not kinds or kinds[0] == "hold"


def check_array(
    name: str,
    array: NDArray[Any],
    dtype: type[np.generic],
    shape: Sequence[int | None],
    *,
    written: bool = False,
) -> None:
    """Raises UsageError for what kernels cannot read; None in `shape` stands for any size."""
    check_is_array(name, array)
    fits = array.ndim == len(shape) and all(
        wanted in (None, actual) for wanted, actual in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise UsageError(
            f"`{name}`: expected {dtype.__name__} ({sizes}), got {array.dtype} {array.shape}"
        )
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise UsageError(f"`{name}`: expected a contiguous, aligned array; copy it first")
    if written and not array.flags.writeable:
        raise UsageError(f"`{name}`: expected an array that may be written")


def check_is_array(name: str, array: object) -> None:
    """Raises UsageError for what is no NumPy array."""
    if not isinstance(array, np.ndarray):
        raise UsageError(f"`{name}`: expected a NumPy array, got {type(array).__name__}")


def check_integer(name: str, value: object, least: int, most: int) -> int:
    """A size as a Python integer.

    Raises:
        UsageError: it is no integer (a boolean is none), or out of bounds.
    """
    try:
        integer = None if isinstance(value, bool | np.bool_) else operator.index(value)  # type: ignore[arg-type]  # that is asked here
    except TypeError:
        integer = None
    if integer is None or not least <= integer <= most:
        raise UsageError(
            f"`{name}`: expected an integer from {least} to {most}, got {str(value)[:40]} "
            f"({type(value).__name__})"
        )
    return integer


def check_integers(name: str, values: object, count: int, least: int, most: int) -> tuple[int, ...]:
    """`count` sizes as Python integers.

    Raises:
        UsageError: it is no tuple or list of so many, or see `check_integer`.
    """
    if not isinstance(values, tuple | list) or len(values) != count:
        raise UsageError(f"`{name}`: expected {count} integers, got {str(values)[:40]}")
    return tuple(check_integer(name, value, least, most) for value in values)


def address(array: NDArray[Any]) -> int:
    """Where an array's numbers begin."""
    address: int = array.__array_interface__["data"][0]
    return address
