"""How near the kernels come to what registers alone could do, on ResNet-18's binary convolutions.

The limit is a loop of the same instructions without a load or a store (`register_loop`), measured
between the runs, since the clock of a busy processor moves. Inputs are random bits, never zeros.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from irbin.bits import pack
from irbin.kernels import native
from irbin.kernels.convolution import ConvKernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.kernel import address
from irbin.kernels.steps import Step
from irbin.records.bench import KernelRate

SHAPES = ((64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7))
"""(channels, height, width) in and out."""

Output = Literal["floats", "bits", "block"]
OUTPUTS: tuple[Output, ...] = ("floats", "bits", "block")

LOOP_ROUNDS = 100_000


def register_rate(implementation: str, *, floats: bool = False) -> float:
    """Multiply-adds a second of the register-only loop, 10⁹; 1-bit ones, or float32.

    Raises:
        UsageError: there are no native kernels.
    """
    start = time.perf_counter()
    n_macs = native.module().register_loop(implementation, LOOP_ROUNDS, floats)
    return float(n_macs / (time.perf_counter() - start) / 1e9)


def median_register_rate(implementation: str, *, floats: bool = False, n_runs: int = 9) -> float:
    """The median of some `register_rate`s.

    Raises:
        UsageError: there are no native kernels.
    """
    rates = [register_rate(implementation, floats=floats) for _ in range(n_runs)]
    return statistics.median(rates)


def measure(
    implementation: str, shape: tuple[int, int, int], output: Output, n_runs: int = 60
) -> KernelRate:
    """A 3×3 convolution of `shape`, on one thread.

    Args:
        implementation: a supported one; it is active meanwhile.
        shape: one of `SHAPES`.
        output: `floats` with scale and bias, `bits` by thresholds, or a whole residual `block`:
            scale, bias, residual, clamp, floats and bits.
        n_runs: timed runs.

    Raises:
        UsageError: the implementation cannot run here.
    """
    with native.using(implementation):
        call, n_macs = _call(shape, output)
        seconds, limits = [], []
        call()
        for i in range(n_runs):
            if i % 6 == 0:
                limits.append(register_rate(implementation))
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    rate = n_macs / statistics.median(seconds) / 1e9
    return KernelRate(implementation, shape, output, rate, statistics.median(limits))


def _call(shape: tuple[int, int, int], output: Output) -> tuple[Callable[[], None], int]:
    n, height, width = shape
    random = np.random.default_rng(0)
    bits = pack(random.standard_normal((1, height, width, n)))
    weight = pack(random.standard_normal((n, 3, 3, n)))
    vector = random.standard_normal((2, n)).astype(np.float32)
    residual = random.standard_normal((1, height, width, n)).astype(np.float32)
    steps: list[Step] = [Step("multiply", vector[0]), Step("add", vector[1])]
    thresholds = None
    if output == "bits":
        lower = random.integers(-50, 50, n).astype(np.int32)
        thresholds = (lower, np.zeros(n // 8, np.uint8))
    if output == "block":
        steps += [Step("residual"), Step("clamp", low=-1.0, high=1.0)]
    geometry = Geometry((height, width), (3, 3), border=(1, 1, 1, 1))
    kernel = ConvKernel(weight, geometry, n, steps=steps, thresholds=thresholds)
    y = np.empty_like(residual)
    y_bits = np.empty_like(bits)
    residuals = [residual] if output == "block" else []
    made, packed = (None if output == "bits" else y), (None if output == "floats" else y_bits)
    kernel(bits, residuals, made, packed)  # checked once; then as the runtime calls it

    def call() -> None:
        y_at, bits_at = (0 if a is None else address(a) for a in (made, packed))
        kernel.run(address(bits), 1, [address(r) for r in residuals], y_at, bits_at, 1)

    return call, kernel.n_macs
