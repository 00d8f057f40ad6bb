"""Activations with an exponential or an error function: their definition, in plain NumPy.

Every operation is one of float32 and rounded by itself, in the order written here, none is fused;
so each implementation gives these bits. The coefficients are minimax fits of irbin's own. Bounds
are against the exact function, in units in the last place (ulp) of a normal result:

    exp                1.2 ulp     overflows to inf above 88.72, denormals are rounded once
    expm1              2.2 ulp
    tanh               3 ulp
    erf                7 ulp
    sigmoid            2.5 ulp     below −88 at most 1.2e-38 beside it
    silu               3 ulp       below −88 at most 2.7e-37 beside it
    gelu, gelu_tanh    absolute: 3e-7 · max(1, |x|)
    elu                3 ulp
    mish               5 ulp       below −88 at most 2.7e-37 beside it

NaN gives NaN. −inf gives what the formulas give, as in torch: NaN for silu, hardswish, gelu and
mish, where it is multiplied by 0. A zero keeps its sign through what is 0 there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from irbin import bits
from irbin.kernels.steps import Floats

F = np.float32

LOG2_E = F(1.4426950408889634)
ROUND = F(1.5 * 2**23)
"""Added and taken away, it leaves an integer: the nearest, ties to even."""
LN2_HIGH, LN2_LOW = F(0.693115234375), F(3.194618329871446e-05)
"""Their sum is ln 2; the first has 12 bits, so that a product with an exponent is exact."""
EXP = tuple(
    map(
        F,
        (
            0.4999999701976776,
            0.16666536033153534,
            0.04166722297668457,
            0.008366581052541733,
            0.001388250500895083,
        ),
    )
)
"""(eʳ − 1 − r) / r² for |r| ≤ ln 2 / 2, from the constant on."""
ERF_MOST = F(3.9192061)
"""From here on erf rounds to 1."""
ERF_ABOVE = tuple(
    map(
        F,
        (
            1.1283791065216064,
            0.19976265728473663,
            0.050551362335681915,
            0.0036945692263543606,
            0.00014167343033477664,
            -1.957062067958759e-06,
            1.9926684302618014e-08,
        ),
    )
)
ERF_BELOW = tuple(
    map(
        F,
        (
            1.0,
            0.5103667378425598,
            0.11493100970983505,
            0.01433904841542244,
            0.0009543046471662819,
        ),
    )
)
"""erf(x) / x is the quotient of these two polynomials of x²."""
LEAST = F(bits.LEAST)
SQRT_HALF = F(0.7071067811865476)
GELU_FIRST, GELU_THIRD = F(-1.5957691216057308), F(-0.07135481282052268)
"""−2·√(2/π), and that times 0.044715."""


def polynomial(coefficients: Sequence[np.float32], x: Floats) -> Floats:
    """Horner's rule, from the last coefficient; a product and a sum a step."""
    y = np.full_like(x, coefficients[-1])
    for one in coefficients[-2::-1]:
        y = y * x + one
    return y


def scaled(x: Floats, exponent: Floats) -> Floats:
    """x·2ⁿ, rounded once; for n from −150 to 130 and x between 0.7 and 1.5."""
    n = np.where(np.isnan(exponent), F(0), exponent).astype(np.int32)
    half = n >> 1
    with np.errstate(over="ignore", under="ignore"):
        made: Floats = (x * np.ldexp(F(1), half)) * np.ldexp(F(1), n - half)
    return made


def _exponent_and_rest(x: Floats) -> tuple[Floats, Floats]:
    """n, and eʳ − 1 of x = n·ln 2 + r."""
    n = (x * LOG2_E + ROUND) - ROUND
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    return n, r * (r * polynomial(EXP, r) + F(1))


def exp(x: Floats) -> Floats:
    """eˣ."""
    n, rest = _exponent_and_rest(_within(x, F(-104), F(89)))
    return scaled(rest + F(1), n)


def expm1(x: Floats) -> Floats:
    """eˣ − 1, for x ≤ 30; above, e³⁰ − 1."""
    n, rest = _exponent_and_rest(_within(x, F(-30), F(30)))
    power = scaled(np.ones_like(x), n)
    return with_sign(power * rest + (power - F(1)), x)


def erf(x: Floats) -> Floats:
    """The error function."""
    x = _within(x, -ERF_MOST, ERF_MOST)
    square = x * x
    y = (x * polynomial(ERF_ABOVE, square)) / polynomial(ERF_BELOW, square)
    return _within(y, F(-1), F(1))


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + e⁻ˣ)."""
    return F(1) / (exp(-x) + F(1))


def silu(x: Floats) -> Floats:
    """x / (1 + e⁻ˣ)."""
    return x / (exp(-x) + F(1))


def hardsigmoid(x: Floats) -> Floats:
    """min(max(x + 3, 0), 6) / 6."""
    return _within(x + F(3), F(0), F(6)) / F(6)


def hardswish(x: Floats) -> Floats:
    """x · min(max(x + 3, 0), 6) / 6, the product first."""
    return (x * _within(x + F(3), F(0), F(6))) / F(6)


def gelu(x: Floats) -> Floats:
    """x/2 · (1 + erf(x / √2))."""
    return (x * F(0.5)) * (erf(x * SQRT_HALF) + F(1))


def gelu_tanh(x: Floats) -> Floats:
    """x/2 · (1 + tanh(z)) = x / (1 + e⁻²ᶻ), z = √(2/π)·(x + 0.044715·x³)."""
    minus_2z = x * ((x * x) * GELU_THIRD + GELU_FIRST)
    return x / (exp(minus_2z) + F(1))


def tanh(x: Floats) -> Floats:
    """t / (t + 2), t = e²ˣ − 1."""
    t = expm1(x + x)
    return t / (t + F(2))


def mish(x: Floats) -> Floats:
    """x · tanh(ln(1 + eˣ)) = x · n / (n + 2), n = eˣ·(eˣ + 2)."""
    e = exp(_within(x, F(-104), F(30)))
    n: Floats = e * (e + F(2))
    return x * (n / (n + F(2)))


def kept(y: Floats, x: Floats) -> Floats:
    """y, but at most −2⁻¹²⁶ where x < 0, and at least +0 elsewhere; a NaN stays."""
    at_least_0 = np.maximum(y, F(0)) + F(0)  # −0 becomes +0
    with_sign_of_x: Floats = np.where(x < 0, np.minimum(y, -LEAST), at_least_0)
    return with_sign_of_x


def elu(x: Floats, alpha: Floats) -> Floats:
    """x where it is positive, else alpha · (eˣ − 1)."""
    return np.where(x > 0, x, expm1(x) * alpha)


def with_sign(y: Floats, x: Floats) -> Floats:
    """y, negative where x is: of a y that is nowhere of the other sign, or 0."""
    sign = np.asarray(x).view(np.uint32) & np.uint32(1 << 31)
    made: Floats = (np.asarray(y).view(np.uint32) | sign).view(np.float32)
    return made


def _within(x: Floats, low: np.float32, high: np.float32) -> Floats:
    """As a `clamp`: a NaN passes."""
    made: Floats = np.minimum(np.maximum(x, low), high)
    return made


DEFINITIONS: dict[str, Callable[[Floats], Floats]] = {
    "sigmoid": sigmoid,
    "silu": silu,
    "hardsigmoid": hardsigmoid,
    "hardswish": hardswish,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "tanh": tanh,
    "mish": mish,
}
"""Steps without numbers a channel, by name; `elu` has one."""
