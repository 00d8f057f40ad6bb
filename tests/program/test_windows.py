"""Which convolutions and poolings are for our kernels, and which are left to torch."""

from __future__ import annotations

import pytest

from irbin.program.fused import Fused
from irbin.program.graph import Graph
from irbin.program.start import start
from irbin.program.types import Node, Ref, TensorType
from irbin.program.windows import conv_window, has_few_outputs, pool_window

F32 = "float32"
CONV_TYPES = {
    "x": TensorType(F32, ("N", 4, 9, 7)),
    "w": TensorType(F32, (6, 4, 3, 3)),
    "b": TensorType(F32, (6,)),
}


class TestConvWindow:
    def window(self, *rest, kind=(6, 7, 5), types=(), constants=("w", "b"), **kwargs):
        node = Node(
            "y",
            "aten.conv2d.default",
            (Ref("x"), Ref("w"), *rest),
            kwargs,
            TensorType(F32, ("N", *kind)),
        )
        return conv_window(node, {**CONV_TYPES, **dict(types)}, constants)

    def test_arguments_have_their_defaults(self):
        for rest in ((), (None,), (Ref("b"),), (None, (1, 1), (0, 0), (1, 1), 1)):
            assert self.window(*rest) == ((1, 1), (0, 0), (1, 1))

    def test_is_stride_padding_dilation_down_and_right(self):
        found = self.window(None, (2, 1), (3, 0), (1, 2), kind=(6, 7, 3))
        assert found == ((2, 1), (3, 0), (1, 2))

    def test_one_number_stands_for_both(self):
        assert self.window(None, 2, 1, kind=(6, 5, 4)) == ((2, 2), (1, 1), (1, 1))
        assert self.window(None, (2,), (1,), kind=(6, 5, 4)) == ((2, 2), (1, 1), (1, 1))

    def test_groups_are_ours_where_they_divide_the_channels(self):
        weight = {"w": TensorType(F32, (16, 2, 3, 3))}
        plain, rest = ((1, 1), (0, 0), (1, 1)), (None, (1, 1), (0, 0), (1, 1), 2)
        assert self.window(*rest, types=weight, kind=(16, 7, 5)) == plain
        for groups in (1, 3, 4, 0, -2):
            wrong = (*rest[:-1], groups)
            assert self.window(*wrong, types=weight, kind=(16, 7, 5)) is None

    @pytest.mark.parametrize(
        ("shape", "groups", "few"),
        [((14, 2, 3, 3), 2, True), ((16, 2, 3, 3), 2, False), ((4, 1, 3, 3), 4, False)],
    )
    def test_groups_of_few_channels_are_torchs_unless_each_is_one_alone(self, shape, groups, few):
        """What is faster is `start`'s to ask for; the window fits either way."""
        args = (None, (1, 1), (0, 0), (1, 1), groups)
        types = {**CONV_TYPES, "w": TensorType(F32, shape)}
        assert self.window(*args, types=types, kind=(shape[0], 7, 5)) is not None
        kind = TensorType(F32, ("N", shape[0], 7, 5))
        node = Node("y", "aten.conv2d.default", (Ref("x"), Ref("w"), *args), {}, kind)
        assert has_few_outputs(node) is few or shape[1] == 1
        graph = Graph([node], types, {"w"}, ("y",))
        start(graph, with_pools=True, with_convs=True)
        assert isinstance(graph.items[0], Node) is few
        start(graph, with_pools=True, with_convs=True, all_convs=True)
        assert isinstance(graph.items[0], Fused)

    def test_computed_weights_and_biases_are_torchs(self):
        assert self.window(Ref("b"), constants=("b",)) is None
        assert self.window(Ref("b"), constants=("w",)) is None

    def test_sizes_that_depend_on_the_batch_are_torchs(self):
        assert self.window(types={"x": TensorType(F32, ("N", 4, "N", 7))}) is None
        assert self.window(types={"w": TensorType(F32, ("N", 4, 3, 3))}) is None

    def test_images_without_a_batch_are_torchs(self):
        assert self.window(types={"x": TensorType(F32, (4, 9, 7))}) is None

    @pytest.mark.parametrize("name", ["x", "w", "b"])
    def test_other_types_are_torchs(self, name):
        double = TensorType("float64", CONV_TYPES[name].shape)
        assert self.window(Ref("b"), types={name: double}) is None

    @pytest.mark.parametrize(
        ("rest", "types"),
        [
            ((), {"x": TensorType(F32, ("N", 3, 9, 7))}),
            ((), {"w": TensorType(F32, (5, 4, 3, 3))}),
            ((), {"w": TensorType(F32, (6, 4, 3))}),
            ((Ref("b"),), {"b": TensorType(F32, (5,))}),
            ((None, (2, 1)), {}),
            ((None, (0, 1)), {}),
            ((None, (1, 1), (-1, 0)), {}),
            ((None, (1, 1), (0, 0), (0, 1)), {}),
            ((None, (1, 1), (0, 0), (5, 1)), {}),
            ((None, (1, 1, 1)), {}),
            ((None, "x"), {}),
        ],
    )
    def test_sizes_that_do_not_fit_are_torchs_to_refuse(self, rest, types):
        """A kernel writes as much as its window gives, whatever a file declares."""
        assert self.window(*rest, types=types) is None

    def test_arguments_by_keyword_are_torchs(self):
        assert self.window(bias=Ref("b")) is None
        kind = TensorType(F32, ("N", 6, 7, 5))
        node = Node("y", "aten.conv2d.default", (Ref("x"),), {"weight": Ref("w")}, kind)
        assert conv_window(node, CONV_TYPES, ("w",)) is None

    def test_sums_of_any_length_are_ours(self):
        types = {
            "x": TensorType(F32, ("N", 5000, 9, 7)),
            "w": TensorType(F32, (6, 5000, 3, 3)),
        }
        assert self.window(types=types) is not None


POOL_TYPES = {"x": TensorType(F32, ("N", 4, 9, 7)), "flat": TensorType(F32, (4, 9, 7))}


class TestPoolWindow:
    def window(self, *args, kind=None, x="x", types=POOL_TYPES, **kwargs):
        kind = kind or TensorType(F32, ("N", 4, 3, 2))
        return pool_window(
            Node("y", "aten.max_pool2d.default", (Ref(x), *args), kwargs, kind), types
        )

    def test_steps_by_its_size_unless_told(self):
        expected = ((3, 3), (3, 3), (0, 0), (1, 1))
        for args in ((3,), ((3, 3),), ((3, 3), ()), ((3, 3), (3, 3), 0, 1, False)):
            assert self.window(*args) == expected

    def test_is_kernel_stride_padding_dilation_down_and_right(self):
        kind = TensorType(F32, ("N", 4, 4, 5))
        found = self.window((3, 2), (2, 1), (1, 0), (2, 2), kind=kind)
        assert found == ((3, 2), (2, 1), (1, 0), (2, 2))

    def test_sizes_may_be_rounded_up(self):
        kind = TensorType(F32, ("N", 4, 5, 4))
        found = self.window((2, 2), (2, 2), (0, 0), (1, 1), True, kind=kind)
        assert found == ((2, 2), (2, 2), (0, 0), (1, 1))
        assert self.window((2, 2), (2, 2), (0, 0), (1, 1), False, kind=kind) is None
        assert self.window((2, 2), (2, 2), (0, 0), (1, 1), True) is None

    @pytest.mark.parametrize(("padding", "is_ours"), [(0, True), (1, True), (2, False), (3, False)])
    def test_padding_as_wide_as_the_window_is_torchs(self, padding, is_ours):
        kind = TensorType(F32, ("N", 4, 8 + 2 * padding, 6 + 2 * padding))
        assert (self.window((2, 2), (1, 1), padding, kind=kind) is not None) == is_ours

    def test_arguments_by_keyword_are_torchs(self):
        assert self.window((3, 3), stride=(3, 3)) is None
        assert self.window(kernel_size=(3, 3)) is None

    def test_images_without_a_batch_are_torchs(self):
        assert self.window(3, x="flat", kind=TensorType(F32, (4, 3, 2))) is None

    @pytest.mark.parametrize("dtype", ["float64", "float16", "uint8"])
    def test_other_types_are_torchs(self, dtype):
        types = {"x": TensorType(dtype, ("N", 4, 9, 7))}
        assert self.window(3, types=types, kind=TensorType(dtype, ("N", 4, 3, 2))) is None

    @pytest.mark.parametrize(
        "kind",
        [("N", 4, 3, 3), ("N", 5, 3, 2), (3, 4, 3, 2), ("N", 4, 3), ("N", 4, "N", 2)],
        ids=str,
    )
    def test_a_declared_shape_is_what_the_window_gives(self, kind):
        assert self.window(3, kind=TensorType(F32, kind)) is None
