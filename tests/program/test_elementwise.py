"""Every operator that becomes a step, and everything beside it that must not."""

from __future__ import annotations

import math

import pytest
import torch

from irbin.program.elementwise import as_step, channel_axis_of
from irbin.program.fused import FusedStep
from irbin.program.kept import KEPT
from irbin.program.types import INT, Dtype, Node, Ref, TensorType

F32 = "float32"
X = TensorType(F32, ("N", 6, 4, 8))
TYPES = {
    "x": X,
    "y": X,
    "row": TensorType(F32, ("N", 6, 4, 1)),
    "double": TensorType("float64", ("N", 6, 4, 8)),
    "c": TensorType(F32, (6, 1, 1)),
    "c4": TensorType(F32, (1, 6, 1, 1)),
    "one": TensorType(F32, ()),
    "one4": TensorType(F32, (1, 1, 1, 1)),
    "width": TensorType(F32, (8,)),
    "plane": TensorType(F32, (4, 8)),
    "image": TensorType(F32, (6, 4, 8)),
    "few": TensorType(F32, (3, 1, 1)),
    "fifth": TensorType(F32, (1, 1, 6, 1, 1)),
    "halves": TensorType("float16", (6, 1, 1)),
    "counts": TensorType("int64", (6, 1, 1)),
    "slopes": TensorType(F32, (6,)),
    "slope": TensorType(F32, (1,)),
    "slopes8": TensorType(F32, (8,)),
    "batch": TensorType(INT),
    "several": (X, X),
}
CONSTANTS = {
    "c",
    "c4",
    "one",
    "one4",
    "width",
    "plane",
    "image",
    "few",
    "fifth",
    "halves",
    "counts",
    "slopes",
    "slope",
    "slopes8",
}
x = Ref("x")


def step(op: str, *args, axis: int = 1, kind=X, **kwargs) -> FusedStep | None:
    node = Node("z", f"aten.{op}", args, kwargs, kind)
    return as_step(node, "x", axis, TYPES, CONSTANTS)


OPERATIONS = {"mul": "multiply", "add": "add", "sub": "subtract"}


class TestArithmetic:
    @pytest.mark.parametrize(("op", "kind"), OPERATIONS.items())
    @pytest.mark.parametrize("constant", ["c", "c4", "one", "one4"])
    def test_a_constant_per_channel_or_for_all_is_a_step(self, op, kind, constant):
        assert step(f"{op}.Tensor", x, Ref(constant)) == FusedStep(kind, constant)

    @pytest.mark.parametrize(("op", "kind"), OPERATIONS.items())
    @pytest.mark.parametrize("number", [2, -0.5, 0.0, math.inf], ids=str)
    def test_a_number_is_a_step(self, op, kind, number):
        found = step(f"{op}.Tensor", x, number)
        assert found == FusedStep(kind, float(number))
        assert isinstance(found.operand, float)

    @pytest.mark.parametrize("op", ["mul", "add"])
    def test_the_constant_may_stand_first(self, op):
        assert step(f"{op}.Tensor", Ref("c"), x) == FusedStep(OPERATIONS[op], "c")

    def test_but_not_where_something_is_taken_away_from_it(self):
        assert step("sub.Tensor", Ref("c"), x) is None
        assert step("rsub.Scalar", x, 1.0) is None

    @pytest.mark.parametrize("op", OPERATIONS)
    @pytest.mark.parametrize(
        "constant", ["width", "plane", "image", "few", "fifth", "halves", "counts"]
    )
    def test_a_constant_of_another_shape_or_type_is_none(self, op, constant):
        assert step(f"{op}.Tensor", x, Ref(constant)) is None

    def test_along_the_last_axis_a_vector_has_one_number_per_channel(self):
        assert step("mul.Tensor", x, Ref("width"), axis=3) == FusedStep("multiply", "width")
        assert step("mul.Tensor", x, Ref("c"), axis=3) is None

    @pytest.mark.parametrize("op", ["add", "sub"])
    def test_alpha_is_1(self, op):
        kind = OPERATIONS[op]
        assert step(f"{op}.Tensor", x, Ref("c"), alpha=1) == FusedStep(kind, "c")
        for alpha in (2, -1, 1.5, Ref("batch")):
            assert step(f"{op}.Tensor", x, Ref("c"), alpha=alpha) is None
            assert step(f"{op}.Tensor", x, Ref("c"), alpha) is None
            assert step(f"{op}.Tensor", x, Ref("y"), alpha=alpha) is None

    @pytest.mark.parametrize("operand", [math.nan, True, None, Ref("batch"), Dtype(F32)], ids=str)
    def test_what_is_no_number_is_none(self, operand):
        assert step("mul.Tensor", x, operand) is None

    @pytest.mark.parametrize("op", OPERATIONS)
    def test_an_operand_by_keyword_is_left_to_torch(self, op):
        assert step(f"{op}.Tensor", x, other=Ref("c")) is None
        assert step(f"{op}.Tensor", x, other=2.0) is None

    def test_division_is_no_product(self):
        assert step("div.Tensor", x, 3.0) is None


class TestResidual:
    def test_is_a_tensor_of_the_same_type_on_either_side(self):
        assert step("add.Tensor", x, Ref("y")) == FusedStep("residual", "y")
        assert step("add.Tensor", Ref("y"), x) == FusedStep("residual", "y")

    @pytest.mark.parametrize("other", ["row", "double", "several"])
    def test_of_another_type_is_none(self, other):
        """A broadcast one, too."""
        assert step("add.Tensor", x, Ref(other)) is None

    def test_is_neither_multiplied_nor_taken_away(self):
        assert step("mul.Tensor", x, Ref("y")) is None
        assert step("sub.Tensor", x, Ref("y")) is None
        assert step("sub.Tensor", Ref("y"), x) is None


CLAMPS = [
    ("relu.default", (), {}, 0, math.inf),
    ("relu6.default", (), {}, 0, 6),
    ("hardtanh.default", (), {}, -1, 1),
    ("hardtanh.default", (-2, 0.5), {}, -2, 0.5),
    ("hardtanh.default", (-2,), {"max_val": 3.0}, -2, 3),
    ("hardtanh.default", (), {"min_val": 0}, 0, 1),
    ("clamp.default", (-1.5,), {}, -1.5, math.inf),
    ("clamp.default", (None, 2), {}, -math.inf, 2),
    ("clamp.default", (), {"max": 2.5}, -math.inf, 2.5),
    ("clamp.default", (1, 1), {}, 1, 1),
    ("clamp.default", (-math.inf, math.inf), {}, -math.inf, math.inf),
    ("clamp_min.default", (-3,), {}, -3, math.inf),
    ("clamp_min.default", (), {"min": 3}, 3, math.inf),
    ("clamp_max.default", (4.5,), {}, -math.inf, 4.5),
    ("clamp_max.default", (), {"max": 4}, -math.inf, 4),
]


class TestActivations:
    @pytest.mark.parametrize(
        ("op", "args", "kwargs", "low", "high"), CLAMPS, ids=[f"{c[0]}{c[1:3]}" for c in CLAMPS]
    )
    def test_clamps(self, op, args, kwargs, low, high):
        assert step(op, x, *args, **kwargs) == FusedStep("clamp", None, low, high)

    @pytest.mark.parametrize(
        ("op", "args"),
        [
            ("clamp.default", (math.nan, 1)),
            ("clamp.default", (0, math.nan)),
            ("hardtanh.default", (math.nan, 1)),
            ("clamp_min.default", (math.nan,)),
            ("clamp_max.default", (math.nan,)),
            ("clamp_min.default", ()),
            ("clamp_min.default", (True,)),
            ("clamp.default", (Ref("batch"), None)),
            ("clamp.default", ()),  # torch refuses
            ("clamp.default", (None, None)),
            ("clamp.default", (2, 1)),
            ("hardtanh.default", (1, 0.5)),
        ],
        ids=str,
    )
    def test_bounds_that_are_no_interval_are_none(self, op, args):
        assert step(op, x, *args) is None

    def test_prelu_has_slopes_along_the_second_axis_or_one(self):
        assert step("prelu.default", x, Ref("slopes")) == FusedStep("prelu", "slopes")
        assert step("prelu.default", x, weight=Ref("slopes")) == FusedStep("prelu", "slopes")
        for axis in (1, 3):
            assert step("prelu.default", x, Ref("slope"), axis=axis) == FusedStep("prelu", "slope")
        for slopes in ("slopes", "slopes8"):  # torch's stay on axis 1
            assert step("prelu.default", x, Ref(slopes), axis=3) is None

    @pytest.mark.parametrize("slopes", ["slopes8", "c", "halves", "y"])
    def test_other_slopes_are_none(self, slopes):
        assert step("prelu.default", x, Ref(slopes)) is None

    def test_slopes_of_another_tensor_are_none(self):
        assert step("prelu.default", Ref("y"), x) is None

    @pytest.mark.parametrize(
        ("args", "kwargs", "slope"),
        [((), {}, 0.01), ((0.2,), {}, 0.2), ((), {"negative_slope": -1}, -1), ((0,), {}, 0)],
    )
    def test_leaky_relu_is_a_prelu_of_one_number(self, args, kwargs, slope):
        assert step("leaky_relu.default", x, *args, **kwargs) == FusedStep("prelu", float(slope))

    def test_a_slope_that_is_no_number_is_none(self):
        assert step("leaky_relu.default", x, math.nan) is None
        assert step("leaky_relu.default", x, True) is None

    @pytest.mark.parametrize("op", ["silu", "sigmoid", "hardsigmoid", "tanh", "hardswish", "mish"])
    def test_those_that_kernels_define(self, op):
        assert step(f"{op}.default", x) == FusedStep(op)
        assert step(f"{op}.default", x, 1) is None
        assert step(f"{op}.default", x, alpha=1) is None

    def test_gelu_has_two_forms(self):
        assert step("gelu.default", x) == FusedStep("gelu")
        assert step("gelu.default", x, "none") == FusedStep("gelu")
        assert step("gelu.default", x, "tanh") == FusedStep("gelu_tanh")
        assert step("gelu.default", x, approximate="tanh") == FusedStep("gelu_tanh")

    def test_elu_has_a_factor_for_what_is_negative(self):
        assert step("elu.default", x) == FusedStep("elu", 1.0)
        assert step("elu.default", x, 0.5) == FusedStep("elu", 0.5)
        assert step("elu.default", x, 2, 1.0, 1) == FusedStep("elu", 2.0)
        assert step("elu.default", x, alpha=2) == FusedStep("elu", 2.0)

    @pytest.mark.parametrize("args", [(math.nan,), (True,), (1, 1.05), (1, 1, 0.5)], ids=str)
    def test_other_elus_are_none(self, args):
        assert step("elu.default", x, *args) is None

    @pytest.mark.parametrize("op", ["exp", "erf", "abs", "neg"])
    def test_other_functions_are_none(self, op):
        assert step(f"{op}.default", x) is None


@pytest.mark.parametrize("divisor", [1, 2, -0.25, 2.0**124, 2.0**-125])
def test_a_quotient_by_a_power_of_two_is_a_product(divisor):
    assert step("div.Tensor", x, divisor) == FusedStep("multiply", 1 / divisor)
    numbers = torch.tensor([0.0, -0.0, 1.7, -3e38, 1e-45, math.inf])
    found, wanted = numbers * (1 / divisor), numbers / divisor
    assert torch.equal(found.view(torch.int32), wanted.view(torch.int32))


OTHER_DIVISORS = [0, 3, 0.1, 2.0**127, 2.0**-127, math.inf, math.nan, True, Ref("c")]


@pytest.mark.parametrize("divisor", OTHER_DIVISORS, ids=str)
def test_other_quotients_are_none(divisor):
    assert step("div.Tensor", x, divisor) is None
    assert step("div.Tensor", Ref("c"), x) is None
    assert step("div.Tensor", x, 2, alpha=1) is None


def test_a_kept_sign_is_one_of_its_activation():
    made = Node("z", KEPT, (x, "aten.gelu.default"), {"approximate": "tanh"}, X)
    found = as_step(made, "x", 1, TYPES, CONSTANTS)
    assert found == FusedStep("gelu_tanh", keeps_sign=True)


def test_a_node_of_another_value_is_no_step():
    assert step("relu.default", Ref("y")) is None
    assert step("relu.default") is None
    assert step("relu.default", self=x) is None


@pytest.mark.parametrize("kind", [TYPES["row"], TYPES["double"], (X, X)], ids=str)
def test_a_step_keeps_type_and_shape(kind):
    assert step("relu.default", x, kind=kind) is None
    assert step("mul.Tensor", x, 2.0, kind=kind) is None


class TestChannelAxis:
    @staticmethod
    def axis(kind: TensorType, *readers: Node) -> int | None:
        types = {**TYPES, "x": kind, "last": TensorType(F32, (kind.shape[-1],))}
        return channel_axis_of("x", types, readers, CONSTANTS | {"last"})

    @staticmethod
    def reader(op: str, *args, **kwargs) -> Node:
        return Node("z", op, args, kwargs, X)

    def test_of_four_is_the_second_where_nothing_tells(self):
        assert self.axis(X) == 1
        assert self.axis(X, self.reader("aten.relu.default", x)) == 1
        assert self.axis(X, self.reader("aten.mul.Tensor", x, 2.0)) == 1
        assert self.axis(X, self.reader("aten.add.Tensor", x, Ref("y"))) == 1

    @pytest.mark.parametrize("shape", [("N", 7), ("N", 5, 7), ("N", 2, 3, 5, 7)], ids=str)
    def test_of_others_is_the_last(self, shape):
        assert self.axis(TensorType(F32, shape)) == len(shape) - 1

    def test_constants_tell(self):
        for op in ("mul", "add", "sub"):
            first = self.reader(f"aten.{op}.Tensor", x, Ref("c"))
            last = self.reader(f"aten.{op}.Tensor", x, Ref("last"))
            assert self.axis(X, first) == 1
            assert self.axis(X, last) == 3
            assert self.axis(X, self.reader("aten.relu.default", x), last) == 3

    @pytest.mark.parametrize(("given", "found"), [(1, 1), (3, 3), (2, None)])
    def test_packing_tells(self, given, found):
        assert self.axis(X, self.reader("bitpack", x, given, 1)) == found

    def test_packing_of_tokens_along_another_axis_tells_that_there_is_none(self):
        tokens = TensorType(F32, ("N", 5, 8))
        assert self.axis(tokens, self.reader("bitpack", x, 1, 1)) is None
        assert self.axis(tokens, self.reader("bitpack", x, 2, 1)) == 2

    def test_a_number_of_channels_is_known(self):
        """It has one value for all batches."""
        assert self.axis(TensorType(F32, (5, "N"))) is None
        assert self.axis(TensorType(F32, (5, "N", 3, 7))) == 3
        assert self.axis(TensorType(F32, (5, "N", 3, "2*N"))) is None

    def test_operands_by_keyword_tell_nothing(self):
        assert self.axis(X, self.reader("aten.mul.Tensor", x, other=Ref("last"))) == 1
        assert self.axis(X, self.reader("aten.mul.Tensor", self=x, other=Ref("last"))) == 1

    def test_several_tensors_have_none(self):
        assert channel_axis_of("several", TYPES, (), CONSTANTS) is None
