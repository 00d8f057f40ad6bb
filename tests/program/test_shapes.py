from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbin.errors import ArtifactError
from irbin.program.shapes import sizes
from irbin.program.types import TensorType


def size(text: str, n: int) -> int:
    (found,) = sizes(TensorType("float32", (text,)), n)
    return found


EXPRESSIONS = {
    "N": lambda n: n,
    "4*N": lambda n: 4 * n,
    "N*4": lambda n: 4 * n,
    "2*N + 1": lambda n: 2 * n + 1,
    "2*(N + 1)": lambda n: 2 * (n + 1),
    "N//2": lambda n: n // 2,
    "(N//2)": lambda n: n // 2,
    "4*((N + 1)//2)": lambda n: 4 * ((n + 1) // 2),
    "N - 1 + 1": lambda n: n,
    "-1 + 3*(N + 1)": lambda n: 3 * n + 2,
    "-(-N)": lambda n: n,
    "N**2": lambda n: n * n,
    "(2*N)**3": lambda n: 8 * n**3,
    "N**0": lambda n: 1,
    "N**8": lambda n: n**8,
    "(((N)))": lambda n: n,
    "7": lambda n: 7,
}


@pytest.mark.parametrize("text", EXPRESSIONS)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 13])
def test_an_expression_means_what_it_says(text, n):
    assert size(text, n) == EXPRESSIONS[text](n)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 100), st.integers(0, 1000))
def test_sums_products_and_quotients_of_n(a, b, c, n):
    assert size(f"({a}*N + {b})//{c}", n) == (a * n + b) // c
    assert size(f"{a} + {b}*N + N//{c} - 0", n) == a + b * n + n // c


def test_other_sizes_stay():
    assert sizes(TensorType("float32", ("N", 3, "2*N", 8)), 5) == (5, 3, 10, 8)
    assert sizes(TensorType("float32", (3, 4)), 5) == (3, 4)
    assert sizes(TensorType("int"), 5) == ()


@pytest.mark.parametrize(
    "text",
    [
        "", "N/2", "N%2", "N // 0", "N**-1", "N**9", "9**9**9", "M", "n", "NN", "N N", "2N", "N(",
        "N()", "N(2)", "(N", "N,", "(N, 2)", "2.0*N", "1e3", "+N", "~N", "N if N else 1", "N < 2",
        "abs(N)", "max(N, 1)", "N.real", "N[0]", "__import__('os')", "'N'", "None", "N := 2",
        "N @ N", "N << 2", "N and N", "lambda: N", "[N]",
    ],
)  # fmt: skip  # a case a line
def test_anything_else_is_refused(text):
    with pytest.raises(ArtifactError) as caught:
        size(text, 3)
    assert str(caught.value) == f"expected a size that is a sum or product of N, got `{text}`"


def test_an_expression_too_deep_to_read_is_refused():
    for text in ("(" * 500 + "N" + ")" * 500, "-" * 100_000 + "N", "N" + "+N" * 100_000):
        with pytest.raises(ArtifactError, match="expected a size that is a sum or product of N"):
            size(text, 3)
