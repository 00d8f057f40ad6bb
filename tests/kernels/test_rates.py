import numpy as np
import pytest

from irbin.errors import UsageError
from irbin.kernels import native, rates

NATIVE = [
    one.name for one in native.implementations() if one.supported and one.name != native.REFERENCE
]


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("floats", [False, True], ids=["bits", "floats"])
def test_register_rate_is_a_rate(name, floats):
    assert 0 < rates.register_rate(name, floats=floats) < 1e6


@pytest.mark.parametrize("output", rates.OUTPUTS)
def test_a_rate_is_of_what_was_asked_for_and_by_whom(output):
    before = native.n_calls()[NATIVE[-1]]
    found = rates.measure(NATIVE[-1], (16, 4, 4), output, n_runs=2)
    assert (found.implementation, found.shape, found.output) == (NATIVE[-1], (16, 4, 4), output)
    assert found.gmacs > 0
    assert found.register_gmacs > 0
    assert native.n_calls()[NATIVE[-1]] == before + 4  # one that is checked, one to warm up


def test_the_implementation_is_active_only_meanwhile():
    before = native.active()
    rates.measure(NATIVE[-1], (16, 4, 4), "floats", n_runs=1)
    assert native.active() == before


def test_inputs_are_not_zeros(monkeypatch):
    seen = []
    init = rates.ConvKernel.__init__

    def spy(self, weight_bits, *args, **kwargs):
        seen.append(weight_bits)
        init(self, weight_bits, *args, **kwargs)

    monkeypatch.setattr(rates.ConvKernel, "__init__", spy)
    rates.measure(NATIVE[-1], (16, 4, 4), "bits", n_runs=1)
    share = np.bitwise_count(seen[0]).sum() / (8 * seen[0].size)
    assert 0.4 < share < 0.6


def test_without_native_kernels_there_is_no_limit(monkeypatch):
    monkeypatch.setattr(native, "_module", None)
    with pytest.raises(UsageError, match="expected native kernels"):
        rates.register_rate("portable")
