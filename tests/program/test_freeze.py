import pytest
import torch

from irbin.program.freeze import ConvGeometry, PackedConv2d, PackedLinear, exponents


def test_exponents_of_powers_of_two_are_exact():
    log2 = torch.tensor([-126, -1, 0, 1, 127])
    found = exponents(torch.ldexp(torch.ones(5), log2))
    assert found.dtype == torch.int8
    assert torch.equal(found, log2.to(torch.int8))


@pytest.mark.parametrize("scale", [0.0, -1.0, 0.75, 2.0**-127, float("inf"), float("nan")])
def test_other_scales_are_refused(scale):
    with pytest.raises(ValueError, match="expected scales"):
        exponents(torch.tensor([1.0, scale]))


NO_BORDER = ConvGeometry(lambda height, width: (0, 0, 0, 0), "zeros", (1, 1), (1, 1), 1)


def test_thresholds_broadcast_over_what_follows_the_channels():
    threshold = torch.nn.Parameter(torch.tensor([0.5, -1.0, 0.0]))
    one = torch.ones(2)
    conv = PackedConv2d(torch.ones(2, 3, 1, 1), one, None, threshold, NO_BORDER, keep_scale=False)
    linear = PackedLinear(torch.ones(2, 3), one, None, threshold, keep_scale=False)
    assert conv.threshold.shape == (3, 1, 1)
    assert linear.threshold.shape == (3,)
    x = torch.arange(3.0)
    expected = torch.tensor([-0.5, 2.0, 2.0])
    assert torch.equal(linear.shifted(x), expected)
    assert torch.equal(conv.shifted(x.view(1, 3, 1, 1)).flatten(), expected)
    assert not conv.threshold.requires_grad
    assert set(conv.state_dict()) == {"bits", "scale_log2", "threshold"}


def test_without_thresholds_the_sign_is_of_the_input_itself():
    linear = PackedLinear(torch.ones(2, 3), torch.ones(2), None, None, keep_scale=False)
    x = torch.randn(2, 3)
    assert linear.threshold is None
    assert linear.shifted(x) is x
    assert set(linear.state_dict()) == {"bits", "scale_log2"}


def test_a_trained_threshold_that_moves_on_leaves_the_frozen_one():
    threshold = torch.nn.Parameter(torch.zeros(3))
    linear = PackedLinear(torch.ones(2, 3), torch.ones(2), None, threshold, keep_scale=False)
    with torch.no_grad():
        threshold += 1
    assert not linear.threshold.any()
