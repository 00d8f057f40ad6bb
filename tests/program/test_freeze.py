import pytest
import torch

from irbin.program.freeze import exponents


def test_exponents_of_powers_of_two_are_exact():
    log2 = torch.tensor([-126, -1, 0, 1, 127])
    found = exponents(torch.ldexp(torch.ones(5), log2))
    assert found.dtype == torch.int8
    assert torch.equal(found, log2.to(torch.int8))


@pytest.mark.parametrize("scale", [0.0, -1.0, 0.75, 2.0**-127, float("inf"), float("nan")])
def test_other_scales_are_refused(scale):
    with pytest.raises(ValueError, match="expected scales"):
        exponents(torch.tensor([1.0, scale]))
