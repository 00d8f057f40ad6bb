from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from irbin.errors import ArtifactError
from irbin.kernels.convolution import ConvKernel, FloatConvKernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.passes import PoolKernel, RowsKernel
from irbin.kernels.steps import Step
from irbin.program.fuse import FUSIONS, fuse
from irbin.program.fused import Fused, FusedStep
from irbin.program.lower import lower
from irbin.runtime.layers import make_kernel, residual_names, simplify_floats, written_out

CONSTANTS = {
    "c": torch.tensor([[[1.5]], [[-0.0]], [[math.inf]]]),
    "one": torch.tensor(2.5),
    "row": torch.tensor([1.0, 2.0, 3.0]),
    "every second": torch.arange(6.0)[::2],
    "four": torch.ones(4),
}


def written(*steps: FusedStep, n_channels: int = 3) -> tuple[Step, ...]:
    return written_out(steps, n_channels, CONSTANTS)


class TestWrittenOut:
    @pytest.mark.parametrize("kind", ["multiply", "add", "prelu"])
    @pytest.mark.parametrize(
        ("operand", "values"),
        [
            ("c", [1.5, -0.0, math.inf]),
            ("one", [2.5] * 3),
            ("row", [1, 2, 3]),
            ("every second", [0, 2, 4]),
            (0.1, [0.1] * 3),
            (1e300, [math.inf] * 3),
            (1e-300, [0] * 3),
        ],
    )
    def test_a_constant_is_a_vector_of_float32(self, kind, operand, values):
        (step,) = written(FusedStep(kind, operand))
        assert step.kind == kind
        assert step.values.dtype == np.float32
        assert step.values.flags.c_contiguous
        assert np.array_equal(step.values, np.array(values, np.float64).astype(np.float32))

    @pytest.mark.parametrize(("operand", "values"), [("row", [-1, -2, -3]), (0.0, [-0.0] * 3)])
    def test_a_difference_is_a_sum(self, operand, values):
        (step,) = written(FusedStep("subtract", operand))
        assert step.kind == "add"
        assert np.array_equal(np.signbit(step.values), np.signbit(values))
        assert np.array_equal(step.values, values)

    def test_a_clamp_keeps_its_bounds(self):
        (step,) = written(FusedStep("clamp", None, -0.1, math.inf))
        assert (step.kind, step.low, step.high, step.values) == ("clamp", -0.1, math.inf, None)

    def test_tensors_are_numbered_as_they_come(self):
        steps = (
            FusedStep("residual", "b"),
            FusedStep("multiply", 2.0),
            FusedStep("residual", "a"),
            FusedStep("residual", "b"),
        )
        assert [s.residual for s in written(*steps) if s.kind == "residual"] == [0, 1, 2]
        record = replace(records(nn.Conv2d(3, 3, 1), (3, 2, 2))[0][0], steps=steps)
        assert residual_names(record) == ("b", "a", "b")

    def test_a_write_stays_where_it_is(self):
        steps = (FusedStep("add", "row"), FusedStep("write"), FusedStep("subtract", "c"))
        value, write, sign = written(*steps)
        assert (value.kind, write.kind, sign.kind) == ("add", "write", "add")
        assert np.array_equal(sign.values, [-1.5, 0.0, -math.inf])

    def test_other_numbers_of_channels_are_refused(self):
        with pytest.raises(ValueError, match="shape"):
            written(FusedStep("add", "four"))


def test_a_product_with_ones_is_left_out_and_nothing_else_is():
    ones, twos = np.ones(3, np.float32), np.full(3, 2, np.float32)
    mixed = np.array([1, 1, 0.5], np.float32)
    steps = (
        Step("multiply", ones),
        Step("multiply", twos),
        Step("multiply", mixed),
        Step("add", ones),
        Step("prelu", ones),
        Step("clamp", low=1, high=1),
        Step("residual"),
    )
    assert simplify_floats(steps) == steps[1:]


def binary(layer: nn.Module, **settings) -> nn.Module:
    kind = BinaryConv2d if isinstance(layer, nn.Conv2d) else BinaryLinear
    return kind.from_float(layer, Method(**settings), EdePhase())


def records(net: nn.Module, size, passes=FUSIONS) -> list[tuple[Fused, object]]:
    lowered = lower(nn.Sequential(net).eval(), size)
    program, tensors = lowered.program, lowered.tensors
    types = {**program.inputs, **program.constants, **{n.name: n.type for n in program.nodes}}
    items = [i for i in fuse(program, program.nodes, passes) if isinstance(i, Fused)]
    return [(item, make_kernel(item, tensors, types)) for item in items]


class TestKernels:
    @pytest.mark.slow
    def test_a_float_convolution(self):
        layer = nn.Conv2d(3, 4, (2, 3), (2, 1), (1, 2), (1, 2))
        ((item, kernel),) = records(layer, (3, 9, 8))
        assert isinstance(kernel, FloatConvKernel)
        border = (2, 2, 1, 1)  # left, right, top, bottom
        assert kernel.geometry == Geometry((9, 8), (2, 3), (2, 1), border, (1, 2))
        assert kernel.geometry.out_size == item.type.shape[2:]
        assert np.array_equal(kernel.weight, layer.weight.detach().permute(0, 2, 3, 1))
        assert [s.kind for s in kernel.steps] == ["add"]
        assert np.array_equal(kernel.steps[0].values, layer.bias.detach())

    def test_a_binary_convolution(self):
        layer = nn.Conv2d(6, 4, (2, 3), (2, 1), (1, 2), (1, 2), groups=2)
        ((item, kernel),) = records(binary(layer), (6, 9, 8))
        assert isinstance(kernel, ConvKernel)
        assert kernel.geometry == Geometry((9, 8), (2, 3), (2, 1), (2, 2, 1, 1), (1, 2))
        assert kernel.geometry.out_size == item.type.shape[2:]
        assert (kernel.in_channels, kernel.groups, kernel.thresholds) == (6, 2, None)
        assert [s.kind for s in kernel.steps] == ["add"]  # its scales are 2^0

    def test_a_linear_layer_is_a_convolution_of_single_pixels(self):
        ((_, kernel),) = records(binary(nn.Linear(10, 3)), (2, 4, 10))
        assert isinstance(kernel, ConvKernel)
        assert kernel.geometry == Geometry((1, 1), (1, 1))
        assert kernel.weight_bits.shape == (3, 1, 1, 2)

    @pytest.mark.slow
    def test_a_scale_that_stays_float_is_a_step(self):
        layer = binary(nn.Linear(10, 3, bias=False), binarizer="plain")
        ((_, kernel),) = records(layer, (2, 4, 10))
        assert [s.kind for s in kernel.steps] == ["multiply"]
        assert np.array_equal(kernel.steps[0].values, layer.frozen()[1])

    @pytest.mark.slow
    def test_a_pooling_of_a_convolution(self):
        net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.MaxPool2d((2, 3), (1, 2), (1, 0)))
        net.append(nn.ReLU())
        ((_, kernel),) = records(net, (3, 9, 8))
        assert isinstance(kernel, PoolKernel)
        assert kernel.geometry == Geometry((7, 6), (2, 3), (1, 2), (0, 0, 1, 1))
        assert isinstance(kernel.producer, FloatConvKernel)
        assert kernel.producer.geometry.out_size == (7, 6)
        assert (kernel.before, [s.kind for s in kernel.steps]) == ((), ["clamp"])

    @pytest.mark.slow
    def test_a_pooling_of_floats_has_their_steps_before_its_own(self):
        class Net(nn.Module):
            def forward(self, x):
                return F.max_pool2d(F.relu(torch.sin(x) * 3), 2) + 1

        ((_, kernel),) = records(Net(), (3, 4, 4))
        assert isinstance(kernel, PoolKernel)
        assert kernel.producer is None
        assert [s.kind for s in kernel.before] == ["multiply", "clamp"]
        assert [s.kind for s in kernel.steps] == ["add"]

    @pytest.mark.slow
    def test_a_pass_over_floats(self):
        class Net(nn.Module):
            def forward(self, x):
                return F.relu(torch.sin(x) * 1.0 - 3)

        ((_, kernel),) = records(Net(), (3, 4, 5))
        assert isinstance(kernel, RowsKernel)
        assert kernel.n_channels == 3
        assert [s.kind for s in kernel.steps] == ["add", "clamp"]  # a product with 1 is none

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["conv", "linear"])
    def test_signs_alone_are_compared_with_thresholds(self, kind):
        layer = nn.Conv2d(8, 8, 1) if kind == "conv" else nn.Linear(8, 8)
        net = nn.Sequential(binary(layer), nn.Hardtanh(-1, 0.5), binary(layer))
        made = [kernel for _, kernel in records(net, (8, 8, 8))]
        assert [kernel.thresholds is not None for kernel in made] == [True, False]
        without = [kernel for _, kernel in records(net, (8, 8, 8), ("transform", "pack"))]
        assert [kernel.thresholds for kernel in without] == [None, None]

    @pytest.mark.slow
    def test_signs_that_do_not_follow_the_sum_are_computed(self):
        """A negative slope: the threshold that the record allows is not there."""
        net = nn.Sequential(binary(nn.Linear(8, 8)), nn.LeakyReLU(-0.5), binary(nn.Linear(8, 8)))
        (item, kernel), _ = records(net, (8, 8, 8))
        assert item.threshold
        assert kernel.thresholds is None

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["conv", "linear"])
    def test_learned_thresholds_are_part_of_the_comparison(self, kind):
        layer = nn.Conv2d(8, 8, 1) if kind == "conv" else nn.Linear(8, 8)
        net = nn.Sequential(binary(layer), nn.Hardtanh(), binary(layer, learned_threshold=True))
        nn.init.normal_(net[2].threshold)
        (item, kernel), _ = records(net, (8, 8, 8))
        assert item.threshold
        assert [s.kind for s in kernel.steps][-2:] == ["clamp", "add"]
        assert np.array_equal(kernel.steps[-1].values, -net[2].threshold.detach())
        assert kernel.thresholds is not None

    @pytest.mark.slow
    def test_learned_thresholds_beside_floats_stand_behind_a_write(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.first = binary(nn.Conv2d(8, 8, 1, bias=False))
                self.second = binary(nn.Conv2d(8, 8, 1, bias=False), learned_threshold=True)

            def forward(self, x):
                x = F.hardtanh(self.first(x))
                return self.second(x) + x

        (item, kernel), _ = records(Net(), (8, 4, 4))
        assert not item.threshold
        assert [s.kind for s in kernel.steps][-3:] == ["clamp", "write", "add"]
        assert (kernel.can_give_y, kernel.can_pack) == (True, True)

    def test_what_does_not_fit_is_named(self):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        lowered = lower(net, (3, 5, 5))
        program, tensors = lowered.program, lowered.tensors
        types = {**program.inputs, **program.constants, **{n.name: n.type for n in program.nodes}}
        (item,) = fuse(program, program.nodes)
        short = {**tensors, "0.bias": torch.zeros(3)}
        with pytest.raises(ArtifactError, match=r"^node `conv2d` \(aten\.conv2d\.default\): "):
            make_kernel(item, short, types)
