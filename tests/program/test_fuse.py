"""What each pass takes in, what it leaves alone, and that nothing is lost or done twice."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import irbin.program.fuse as fuse_module
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from irbin.bounds import MAX_RESIDUALS
from irbin.errors import UsageError
from irbin.kernels import native
from irbin.program.fuse import FUSIONS, checked, fuse
from irbin.program.fused import Fused, FusedStep, Item, results
from irbin.program.lower import lower
from irbin.program.program import Program
from irbin.program.types import Node, Ref, TensorType

F32, U8 = "float32", "uint8"
SUBSETS = [kept for n in range(len(FUSIONS) + 1) for kept in combinations(FUSIONS, n)]


def stacked(kind: TensorType) -> TensorType:
    """Two of a kind on a new first axis."""
    return TensorType(kind.dtype, (2, *kind.shape))


class Net:
    """A program written down call by call; each gives a reference to its result."""

    def __init__(self, *shape):
        self.x, self.nodes = Ref("x"), []
        self.types = {"x": TensorType(F32, ("N", *shape))}
        self.constants: dict[str, TensorType] = {}

    def constant(self, *shape, dtype=F32) -> Ref:
        name = f"c{len(self.constants)}"
        self.constants[name] = self.types[name] = TensorType(dtype, shape)
        return Ref(name)

    def __call__(self, name, op, *args, kind=None, **kwargs) -> Ref:
        op = op if op.startswith("b") or "." in op else f"{op}.default"
        op = op if op.startswith("b") else f"aten.{op}"
        node = Node(name, op, args, kwargs, kind or self.types[args[0].name])
        self.nodes.append(node)
        self.types[name] = node.type
        return Ref(name)

    def pack(self, name, x, axis=1, groups=1) -> Ref:
        shape = self.types[x.name].shape
        outer = [s for i, s in enumerate(shape) if i != axis]
        n_bytes = groups * -(-shape[axis] // groups // 8)
        kind = TensorType(U8, (*outer, n_bytes))
        return self(name, "bitpack", x, axis, groups, kind=kind)

    def conv(self, name, bits, n_in=16, n_out=16, groups=1) -> Ref:
        weight = self.constant(n_out, 3, 3, -(-n_in // groups // 8), dtype=U8)
        n, height, width, _ = self.types[bits.name].shape
        args = (bits, weight, None, None, n_in, (1, 1), (1, 1, 1, 1), (1, 1), groups)
        return self(name, "bconv2d", *args, kind=TensorType(F32, (n, n_out, height, width)))

    def linear(self, name, bits, n_in=16, n_out=16) -> Ref:
        weight = self.constant(n_out, -(-n_in // 8), dtype=U8)
        outer = self.types[bits.name].shape[:-1]
        kind = TensorType(F32, (*outer, n_out))
        return self(name, "bgemm", bits, weight, None, None, n_in, kind=kind)

    def float_conv(self, name, x, n_out=16, bias=False) -> Ref:
        n, n_in, height, width = self.types[x.name].shape
        args = (self.constant(n_out, n_in, 3, 3), self.constant(n_out) if bias else None)
        kind = TensorType(F32, (n, n_out, height, width))
        return self(name, "conv2d", x, *args, (1, 1), (1, 1), kind=kind)

    def pool(self, name, x) -> Ref:
        n, n_channels, height, width = self.types[x.name].shape
        kind = TensorType(F32, (n, n_channels, height // 2, width // 2))
        return self(name, "max_pool2d", x, (2, 2), kind=kind)

    def fuse(self, *passes, output=None, **settings) -> tuple[Item, ...]:
        outputs = (output.name if output else self.nodes[-1].name,)
        program = Program({"x": self.types["x"]}, self.constants, tuple(self.nodes), outputs)
        # nodes that stand for torch's are no walks of ours here
        return fuse(program, program.nodes, passes, **{"walks": False, **settings})


def form(items) -> list[str]:
    """Each item in a word: its kind and the nodes it stands for, or a node's name."""
    return [i.name if isinstance(i, Node) else f"{i.kind}: {' '.join(i.absorbed)}" for i in items]


@pytest.fixture
def net():
    return Net(16, 8, 8)


def packed_conv(net: Net, name="y") -> Ref:
    return net.conv(name, net.pack(f"{name}_bits", net.x))


class TestStart:
    def test_without_passes_every_kernel_is_a_record_and_nothing_else_is(self, net):
        y = net.float_conv("small", net.x)
        y = net("pooled", "relu", net.pool("pool", y))
        y = net.conv("binary", net.pack("bits", y))
        y = net.linear("rows", net.pack("row_bits", y, 3), 4, 5)
        items = net.fuse()
        nodes = {i.name for i in items if isinstance(i, Node)}
        assert nodes == {"pool", "pooled", "bits", "row_bits"}
        records = {i.name: i for i in items if isinstance(i, Fused)}
        assert {name: r.kind for name, r in records.items()} == {
            "small": "conv",
            "binary": "dot",
            "rows": "dot",
        }
        assert {name: r.channel_axis for name, r in records.items()} == {
            "small": 1,
            "binary": 1,
            "rows": 3,
        }
        for name, record in records.items():
            assert (record.floats, record.bits, record.steps) == (name, None, ())
            assert record.absorbed == (name,)
            assert record.is_root
            assert not record.threshold

    def test_a_bias_is_a_step(self, net):
        net.float_conv("y", net.x, bias=True)
        (record,) = net.fuse()
        assert record.steps == (FusedStep("add", "c1"),)
        assert record.refs() == ("x", "c0", "c1")

    def test_float_convolutions_are_torchs_where_that_is_asked_for(self, net):
        y = net("a", "relu", net.float_conv("conv", net.x, bias=True))
        net.pool("pool", y)
        for passes in SUBSETS:
            items = net.fuse(*passes, float_convs=False)
            assert items[0] is net.nodes[0]
        # what is behind them is not
        assert form(items) == ["conv", "pool: a pool"]

    def test_padding_by_name_is_padding_in_numbers(self):
        net = Net(3, 8, 8)
        w = net.constant(4, 3, 3, 3)
        kind = TensorType(F32, ("N", 4, 8, 8))
        net("y", "conv2d.padding", net.x, w, None, (1, 1), "same", kind=kind)
        assert form(net.fuse(*FUSIONS)) == ["conv: y"]

    def test_padding_that_is_wider_on_one_side_is_another_operator(self):
        net = Net(3, 8, 8)
        w = net.constant(4, 3, 2, 2)
        kind = TensorType(F32, ("N", 4, 8, 8))
        net("y", "conv2d.padding", net.x, w, None, (1, 1), "same", kind=kind)
        assert form(net.fuse(*FUSIONS)) == ["y"]

    @pytest.mark.parametrize(
        ("given", "wanted"),
        [
            (("pool", "fold"), "expected any of KNOWN, got `fold`"),
            ("pack", "expected a list of any of KNOWN, got 'pack'"),
            (None, "expected a list of any of KNOWN, got None"),
        ],
    )
    def test_no_other_pass_is_known(self, given, wanted):
        known = "`pool`, `transform`, `pack`, `threshold`"
        with pytest.raises(UsageError, match=f"^`fusions`: {wanted.replace('KNOWN', known)}$"):
            checked(given)


class TestTransform:
    def test_takes_in_a_chain_in_order(self, net):
        c = net.constant(16, 1, 1)
        y = net("product", "mul.Tensor", packed_conv(net), c)
        y = net("sum", "add.Tensor", net("less", "sub.Tensor", y, 1.5), net.x)
        net("act", "hardtanh", y)
        bits, record = net.fuse("transform")
        assert bits.name == "y_bits"
        assert record.steps == (
            FusedStep("multiply", "c0"),
            FusedStep("subtract", 1.5),
            FusedStep("residual", "x"),
            FusedStep("clamp", None, -1, 1),
        )
        assert record.absorbed == ("y", "product", "less", "sum", "act")
        assert record.floats == record.name == "act"
        assert record.refs() == ("y_bits", "c1", "c0", "x")

    def test_is_the_only_pass_that_does(self, net):
        net("act", "relu", packed_conv(net))
        passes = [p for p in FUSIONS if p != "transform"]
        assert form(net.fuse(*passes)) == ["y_bits", "dot: y", "act"]

    def test_ends_at_a_value_with_two_readers(self, net):
        y = net("a", "relu", packed_conv(net))
        net("end", "mul.Tensor", net("b", "neg", y), net("c", "abs", y))
        assert form(net.fuse("transform")) == ["y_bits", "dot: y a", "b", "c", "end"]

    def test_ends_at_a_value_that_is_read_twice_by_one(self, net):
        y = packed_conv(net)
        net("square", "mul.Tensor", y, y)
        assert form(net.fuse("transform")) == ["y_bits", "dot: y", "meet: square"]

    def test_ends_at_the_programs_output(self, net):
        y = net("a", "relu", packed_conv(net))
        net("b", "mul.Tensor", y, 2.0)
        assert form(net.fuse("transform", output=y)) == ["y_bits", "dot: y a", "rows: b"]
        assert form(net.fuse("transform")) == ["y_bits", "dot: y a b"]

    def test_waits_for_the_tensor_it_adds(self, net):
        """The record stands where its last node stood."""
        y = packed_conv(net)
        other = net("other", "neg", net.x)
        net("sum", "add.Tensor", y, other)
        assert form(net.fuse("transform")) == ["y_bits", "other", "dot: y sum"]

    def test_of_two_kernels_that_are_added_the_first_takes_the_sum(self, net):
        net("sum", "add.Tensor", packed_conv(net, "a"), packed_conv(net, "b"))
        items = net.fuse("transform")
        assert form(items) == ["a_bits", "dot: b", "dot: a sum"]
        assert items[-1].steps == (FusedStep("residual", "b"),)

    def test_adds_as_many_tensors_as_a_kernel_can(self, net):
        if native._module is not None:
            assert native.module().MAX_RESIDUALS == MAX_RESIDUALS
        y = packed_conv(net)
        others = [net(f"other{i}", "neg", net.x) for i in range(5)]
        for i, other in enumerate(others):
            y = net(f"sum{i}", "add.Tensor", y, other)
        *_, record, last = net.fuse("transform")
        assert record.absorbed == ("y", "sum0", "sum1", "sum2", "sum3")
        assert last.name == "sum4"

    @pytest.mark.parametrize("axis", [1, 3])
    def test_channels_of_a_linear_layer_are_its_last_axis(self, net, axis):
        y = net.linear("y", net.pack("bits", net.x, 3), 8, 16)
        c = net.constant(16, 1, 1) if axis == 1 else net.constant(16)
        net("z", "mul.Tensor", y, c)
        assert form(net.fuse("transform")) == [
            "bits",
            *(["dot: y", "z"] if axis == 1 else ["dot: y z"]),
        ]

    @pytest.mark.parametrize("before", [0, 5])
    def test_zero_channels_around_what_is_added_are_not_made(self, net, before):
        wider = self.wider(net, before)
        net("sum", "add.Tensor", net.conv("y", net.pack("bits", wider), 24, 24), wider)
        assert form(net.fuse("transform")) == ["crop: wider", "bits", "dot: y sum"]
        net = Net(16, 8, 8)
        y = net.conv("y", net.pack("bits", net.x), 16, 24)
        net("sum", "add.Tensor", y, self.wider(net, before))
        *_, record = net.fuse("transform")
        assert record.absorbed == ("wider", "y", "sum")
        (step,) = record.steps
        assert (step.operand, step.before, step.channels) == ("x", before, 16)

    @pytest.mark.parametrize(
        ("around", "value"), [((0, 0, 0, 0, 4, 4), 1.0), ((0, 0, 0, 0, 4, 4), -0.0)]
    )
    def test_other_channels_around_it_are_made(self, net, around, value):
        y = net.conv("y", net.pack("bits", net.x), 16, 24)
        kind = TensorType(F32, ("N", 24, 8, 8))
        other = net("wider", "constant_pad_nd", net.x, around, value, kind=kind)
        net("sum", "add.Tensor", y, other)
        assert "crop: wider" in form(net.fuse("transform"))

    @staticmethod
    def wider(net, before):
        kind = TensorType(F32, ("N", 24, 8, 8))
        around = (0, 0, 0, 0, before, 8 - before)
        return net("wider", "constant_pad_nd", net.x, around, 0.0, kind=kind)


class TestFloatChains:
    @pytest.mark.parametrize("start", ["abs", "neg"])
    def test_two_nodes_behind_a_float_node_are_one_pass(self, net, start):
        y = net("start", start, net.x)
        net("b", "mul.Tensor", net("a", "relu", y), 2.0)
        start_node, record = net.fuse("transform")
        assert start_node.name == "start"
        assert (record.kind, record.source, record.is_root) == ("rows", "start", False)
        assert record.absorbed == ("a", "b")
        assert record.root is start_node
        assert record.refs() == ("start",)

    @pytest.mark.parametrize("passes", [(), ("pool",), FUSIONS])
    def test_an_activation_that_kernels_define_is_one_always(self, net, passes):
        """Of the images too; torch's bits would be others."""
        net("b", "neg", net("a", "silu", net.x))
        record, last = net.fuse(*passes)
        assert form([record, last]) == ["rows: a", "b"]
        assert (record.root.name, record.source, record.is_root) == ("a", "x", False)
        assert record.steps == (FusedStep("silu"),)

    def test_an_activation_takes_in_what_follows(self, net):
        y = net("b", "mul.Tensor", net("a", "gelu", net.x), net.constant(16, 1, 1))
        net("c", "sigmoid", y)
        (record,) = net.fuse("transform")
        assert [step.kind for step in record.steps] == ["gelu", "multiply", "sigmoid"]
        assert form(net.fuse("pool")) == ["rows: a", "b", "rows: c"]

    def test_steps_on_what_a_kernel_made_are_passes_where_others_read_it_too(self, net):
        y = packed_conv(net)
        z = net("b", "relu", net("a", "mul.Tensor", y, net.constant(16, 1, 1)))
        net("end", "add.Tensor", net("turned", "neg", z), y)
        assert form(net.fuse(*FUSIONS)) == ["y_bits", "dot: y", "rows: a b", "turned", "rows: end"]

    def test_they_lie_as_what_they_read_does_through_permutations(self, net):
        turned = TensorType(F32, ("N", 8, 8, 16))
        y = net("turned", "permute", packed_conv(net), (0, 2, 3, 1), kind=turned)
        y = net("a", "relu", y, kind=turned)
        back = net("back", "transpose.int", y, 1, -1, kind=TensorType(F32, ("N", 16, 8, 8)))
        net("b", "silu", back)
        records = [item for item in net.fuse("transform") if isinstance(item, Fused)]
        assert form(records) == ["dot: y", "rows: a", "rows: b"]
        assert [record.channel_axis for record in records] == [1, 3, 1]

    def test_one_is_left_to_torch(self, net):
        net("a", "relu", net("start", "neg", net.x))
        assert form(net.fuse(*FUSIONS)) == ["start", "a"]

    def test_one_that_is_packed_is_not(self, net):
        y = net("a", "relu", net("start", "neg", net.x))
        net.conv("y", net.pack("bits", y))
        assert form(net.fuse(*FUSIONS)) == ["start", "rows: a bits", "dot: y"]

    def test_nor_is_one_that_is_pooled(self, net):
        net.pool("pool", net("a", "relu", net("start", "neg", net.x)))
        pool = net.fuse(*FUSIONS)[-1]
        assert form([pool, pool.producer]) == ["pool: a pool", "rows: a"]
        assert form(net.fuse("transform", "pack")) == ["start", "a", "pool"]

    def test_the_images_themselves_start_none(self, net):
        net("b", "mul.Tensor", net("a", "add.Tensor", net.x, 1.0), 2.0)
        assert form(net.fuse("transform")) == ["a", "b"]

    def test_nor_do_other_types(self, net):
        double = TensorType("float64", net.types["x"].shape)
        y = net("start", "_to_copy", net.x, kind=double)
        net("b", "mul.Tensor", net("a", "relu", y), 2.0)
        assert form(net.fuse("transform")) == ["start", "a", "b"]

    def test_nor_does_a_vector_or_a_number(self, net):
        for shape in ((), ("N",)):
            y = net("start", "sum", net.x, kind=TensorType(F32, shape))
            net("b", "mul.Tensor", net("a", "relu", y), 2.0)
            assert form(net.fuse("transform")) == ["start", "a", "b"]
            net.nodes.clear()

    def test_nor_does_what_has_no_number_of_channels(self, net):
        y = net("start", "sum.dim_IntList", net.x, (1,), kind=TensorType(F32, (5, "N")))
        net("b", "mul.Tensor", net("a", "relu", y), 2.0)
        assert form(net.fuse("transform")) == ["start", "a", "b"]

    def test_one_that_ends_may_be_followed_by_one_along_another_axis(self, net):
        first, last = net.constant(16, 1, 1), net.constant(8)
        y = net("start", "neg", net.x)
        y = net("b", "relu", net("a", "mul.Tensor", y, first))
        net("d", "relu", net("c", "mul.Tensor", y, last))
        items = net.fuse("transform")
        assert form(items) == ["start", "rows: a b", "rows: c d"]
        assert [i.channel_axis for i in items[1:]] == [1, 3]


class TestPool:
    def test_makes_what_it_pools(self, net):
        y = net("a", "relu", net.float_conv("conv", net.x))
        net("b", "mul.Tensor", net.pool("pool", y), 2.0)
        (record,) = net.fuse(*FUSIONS)
        assert form([record, record.producer]) == ["pool: conv a pool b", "conv: conv a"]
        assert record.source == record.producer.source == "x"
        assert record.steps == (FusedStep("multiply", 2.0),)
        assert record.refs() == ("x", "c0")

    def test_alone_takes_no_steps(self, net):
        y = net("a", "relu", net.float_conv("conv", net.x))
        net("b", "mul.Tensor", net.pool("pool", y), 2.0)
        assert form(net.fuse("pool")) == ["conv: conv", "a", "pool: pool", "b"]

    def test_is_torchs_without_the_pass(self, net):
        net.pool("pool", net.float_conv("conv", net.x))
        assert form(net.fuse("transform", "pack", "threshold")) == ["conv: conv", "pool"]
        assert form(net.fuse("pool")) == ["pool: conv pool"]

    def test_makes_signs_products_too(self, net):
        net.pool("pool", packed_conv(net))
        (_, record) = net.fuse(*FUSIONS)
        assert record.producer.kind == "dot"
        assert record.source == "y_bits"

    def test_leaves_what_others_read(self, net):
        y = net.float_conv("conv", net.x)
        pools = (net.pool("pool", y), net.pool("again", y))
        net("end", "stack", pools, kind=stacked(net.types["pool"]))
        assert form(net.fuse(*FUSIONS)) == ["conv: conv", "pool: pool", "pool: again", "end"]

    def test_leaves_what_the_program_returns(self, net):
        y = net.float_conv("conv", net.x)
        net.pool("pool", y)
        assert form(net.fuse(*FUSIONS, output=y)) == ["conv: conv", "pool: pool"]

    def test_leaves_sums_of_tensors(self, net):
        y = net("sum", "add.Tensor", net.float_conv("conv", net.x), net.x)
        net.pool("pool", y)
        assert form(net.fuse(*FUSIONS)) == ["conv: conv sum", "pool: pool"]

    def test_leaves_other_channels(self, net):
        net.pool("pool", net.linear("y", net.pack("bits", net.x, 3), 8, 8))
        assert form(net.fuse(*FUSIONS)) == ["bits", "dot: y", "pool: pool"]

    def test_leaves_another_pool(self, net):
        net.pool("second", net.pool("first", net.float_conv("conv", net.x)))
        assert form(net.fuse(*FUSIONS)) == ["pool: conv first", "pool: second"]


class TestPack:
    def test_signs_alone_are_written_where_nobody_reads_floats(self, net):
        y = net("a", "relu", packed_conv(net))
        net.conv("z", net.pack("bits", y))
        _, record, last = net.fuse("transform", "pack")
        assert (record.floats, record.bits) == (None, "bits")
        assert record.bits_type == net.types["bits"]
        assert results(record) == ("bits",)
        assert record.absorbed == ("y", "a", "bits")
        assert last.source == "bits"

    def test_both_are_where_somebody_does(self, net):
        y = packed_conv(net)
        z = net.conv("z", net.pack("bits", y))
        net("end", "add.Tensor", net("act", "neg", z), y)
        _, record, *_ = net.fuse("transform", "pack")
        assert (record.floats, record.bits) == ("y", "bits")
        assert results(record) == ("y", "bits")

    def test_both_are_where_a_kernel_adds_the_floats(self, net):
        y = packed_conv(net)
        net("end", "add.Tensor", net.conv("z", net.pack("bits", y)), y)
        _, record, last = net.fuse("transform", "pack")
        assert results(record) == ("y", "bits")
        assert last.steps == (FusedStep("residual", "y"),)

    def test_both_are_where_the_program_returns_the_floats(self, net):
        y = packed_conv(net)
        net.pack("bits", y)
        _, record = net.fuse("pack", output=y)
        assert results(record) == ("y", "bits")

    def test_is_the_only_pass_that_does(self, net):
        net.conv("z", net.pack("bits", packed_conv(net)))
        passes = [p for p in FUSIONS if p != "pack"]
        assert form(net.fuse(*passes)) == ["y_bits", "dot: y", "bits", "dot: z"]

    def test_a_second_packing_stays(self, net):
        y = packed_conv(net)
        a, b = net.pack("a", y), net.pack("b", y, groups=2)
        net("end", "add.Tensor", net.conv("z", a), net.conv("w", b, groups=2))
        items = net.fuse("pack")
        assert form(items) == ["y_bits", "dot: y a", "b", "dot: z", "dot: w", "end"]
        assert items[1].floats == "y"

    @pytest.mark.parametrize(("axis", "is_taken"), [(1, True), (2, False), (3, False)])
    def test_along_other_axes_stays(self, net, axis, is_taken):
        net.pack("bits", packed_conv(net), axis)
        assert form(net.fuse(*FUSIONS))[1:] == (["dot: y bits"] if is_taken else ["dot: y", "bits"])

    @pytest.mark.parametrize(("groups", "is_taken"), [(1, True), (2, True), (4, False)])
    def test_groups_that_do_not_end_on_bytes_stay(self, net, groups, is_taken):
        net.pack("bits", packed_conv(net), groups=groups)
        assert form(net.fuse(*FUSIONS))[1:] == (["dot: y bits"] if is_taken else ["dot: y", "bits"])

    @pytest.mark.parametrize(
        ("n_out", "groups", "is_taken"),
        [
            (16, 1, True),
            (16, 2, True),
            (32, 4, True),
            (16, 4, False),
            (12, 1, True),
            (12, 2, False),
        ],
    )
    def test_a_grouped_convolutions_groups_end_on_bytes(self, net, n_out, groups, is_taken):
        y = net.conv("y", net.pack("y_bits", net.x, groups=groups), 16, n_out, groups)
        net.pack("bits", y)
        assert form(net.fuse(*FUSIONS))[1:] == (["dot: y bits"] if is_taken else ["dot: y", "bits"])

    def test_pools_and_passes_over_floats_pack_as_well(self, net):
        y = net("b", "mul.Tensor", net("a", "relu", net("start", "neg", net.x)), 2.0)
        y = net.conv("y", net.pack("b_bits", y))
        net.linear("z", net.pack("bits", net.pool("pool", y)), 16, 3)
        assert form(net.fuse(*FUSIONS)) == [
            "start",
            "rows: a b b_bits",
            "pool: y pool bits",
            "dot: z",
        ]


class TestThresholdBesideFloats:
    """One step between a value that others read and its bits."""

    @staticmethod
    def shifted(net: Net, op="sub.Tensor", operand=None, **settings) -> Ref:
        """y and the packed signs of what the step makes of it; y is added behind."""
        y = packed_conv(net)
        operand = net.constant(16, 1, 1) if operand is None else operand
        step = net("step", op, y, operand, **settings)
        return net("end", "add.Tensor", net.conv("z", net.pack("bits", step)), y)

    @pytest.mark.parametrize(
        ("op", "kind"),
        [("sub.Tensor", "subtract"), ("add.Tensor", "add"), ("mul.Tensor", "multiply")],
    )
    def test_stands_behind_a_write(self, net, op, kind):
        self.shifted(net, op)
        _, record, last = net.fuse("transform", "pack")
        assert results(record) == ("y", "bits")
        assert [s.kind for s in record.steps] == ["write", kind]
        assert record.steps[1].operand == "c1"
        assert record.absorbed == ("y", "step", "bits")
        assert record.refs() == ("y_bits", "c0", "c1")
        assert not record.threshold
        assert last.steps == (FusedStep("residual", "y"),)

    def test_steps_of_the_value_stand_in_front_of_it(self, net):
        y = net("act", "hardtanh", packed_conv(net))
        step = net("step", "sub.Tensor", y, 0.5)
        net("end", "add.Tensor", net.conv("z", net.pack("bits", step)), y)
        record = net.fuse(*FUSIONS)[1]
        assert [s.kind for s in record.steps] == ["clamp", "write", "subtract"]
        assert results(record) == ("act", "bits")

    def test_only_the_pack_pass_does_that(self, net):
        self.shifted(net)
        passes = [p for p in FUSIONS if p != "pack"]
        assert form(net.fuse(*passes)) == ["y_bits", "dot: y", "rows: step", "bits", "dot: z end"]

    def test_without_the_transform_pass_it_is_absorbed_and_the_floats_are_not_written(self, net):
        net.conv("z", net.pack("bits", net("step", "sub.Tensor", packed_conv(net), 0.5)))
        for passes, compared in ((("pack",), False), (("pack", "threshold"), True)):
            _, record, _ = net.fuse(*passes)
            assert results(record) == ("bits",)
            assert [s.kind for s in record.steps] == ["write", "subtract"]
            assert record.threshold is compared

    def test_of_a_value_that_the_program_returns(self, net):
        step = net("step", "sub.Tensor", packed_conv(net), 0.5)
        net.pack("bits", step)
        _, record = net.fuse(*FUSIONS, output=Ref("y"))
        assert results(record) == ("y", "bits")
        assert [s.kind for s in record.steps] == ["write", "subtract"]

    def test_of_pools_and_passes_over_floats(self, net):
        y = net("b", "mul.Tensor", net("a", "relu", net("start", "neg", net.x)), 2.0)
        z = net.conv("z", net.pack("bits", net("step", "sub.Tensor", y, 0.5)))
        pool = net.pool("pool", net("sum", "add.Tensor", z, y))
        w = net.conv("w", net.pack("w_bits", net("low", "sub.Tensor", pool, 1.0)))
        net("end", "stack", (w, pool), kind=stacked(net.types["pool"]))
        assert form(net.fuse(*FUSIONS)) == [
            "start",
            "rows: a b step bits",
            "dot: z sum",
            "pool: pool low w_bits",
            "dot: w",
            "end",
        ]

    def test_a_tensor_is_no_threshold(self, net):
        self.shifted(net, "add.Tensor", net.x)
        assert form(net.fuse(*FUSIONS)) == ["y_bits", "dot: y", "rows: step bits", "dot: z end"]

    def test_nor_is_another_function(self, net):
        y = packed_conv(net)
        net("end", "add.Tensor", net.conv("z", net.pack("bits", net("step", "relu", y))), y)
        assert form(net.fuse(*FUSIONS)) == ["y_bits", "dot: y", "rows: step bits", "dot: z end"]

    def test_nor_a_number_for_each_column(self, net):
        self.shifted(net, operand=net.constant(8))
        assert form(net.fuse(*FUSIONS)) == ["y_bits", "dot: y", "step", "bits", "dot: z end"]

    def test_nor_a_difference_the_other_way_round(self, net):
        y, limit = packed_conv(net), net.constant(16, 1, 1)
        step = net("step", "sub.Tensor", limit, y, kind=net.types["y"])
        net("end", "add.Tensor", net.conv("z", net.pack("bits", step)), y)
        assert form(net.fuse(*FUSIONS)) == ["y_bits", "dot: y", "step", "bits", "dot: z end"]

    def test_what_others_read_stays(self, net):
        y = packed_conv(net)
        step = net("step", "sub.Tensor", y, 0.5)
        z = net("sum", "add.Tensor", net.conv("z", net.pack("bits", step)), step)
        net("end", "add.Tensor", z, y)
        assert "rows: step bits" in form(net.fuse(*FUSIONS))

    def test_what_the_program_returns_stays(self, net):
        self.shifted(net)
        assert "rows: step bits" in form(net.fuse(*FUSIONS, output=Ref("step")))

    def test_other_axes_and_groups_stay(self, net):
        for settings in ({"axis": 3}, {"groups": 4}):
            y = packed_conv(net)
            net.pack("bits", net("step", "sub.Tensor", y, 0.5), **settings)
            net("end", "neg", y)
            assert form(net.fuse(*FUSIONS))[1:4] == ["dot: y", "rows: step", "bits"]
            net.nodes.clear()

    def test_a_second_one_stays(self, net):
        y = packed_conv(net)
        a, b = (net(f"step_{n}", "sub.Tensor", y, net.constant(16, 1, 1)) for n in "ab")
        z = net("sum", "add.Tensor", net.conv("z", net.pack("a", a)), y)
        net("end", "add.Tensor", net.conv("w", net.pack("b", b)), z)
        assert form(net.fuse(*FUSIONS)) == [
            "y_bits",
            "dot: y step_a a",
            "rows: step_b b",
            "dot: w",
            "dot: z sum end",
        ]

    def test_the_bits_of_the_value_itself_come_first(self, net):
        y = packed_conv(net)
        z = net("sum", "add.Tensor", net.conv("z", net.pack("own", y)), y)
        step = net("step", "sub.Tensor", y, 0.5)
        net("end", "add.Tensor", net.conv("w", net.pack("bits", step)), z)
        assert form(net.fuse(*FUSIONS))[:3] == ["y_bits", "dot: y own", "rows: step bits"]


class TestThreshold:
    @staticmethod
    def record(net: Net, *passes, output=None) -> Fused:
        return next(i for i in net.fuse(*passes, output=output) if i.name != "y_bits")

    def test_where_signs_alone_are_read(self, net):
        y = net("a", "hardtanh", net("b", "mul.Tensor", packed_conv(net), net.constant(16, 1, 1)))
        net.conv("z", net.pack("bits", y))
        assert self.record(net, *FUSIONS).threshold
        assert not self.record(net, "pool", "transform", "pack").threshold
        assert not self.record(net, "threshold", "transform", "pool").threshold

    def test_not_where_floats_are_read(self, net):
        y = packed_conv(net)
        net.pack("bits", y)
        assert self.record(net, *FUSIONS).threshold
        assert not self.record(net, *FUSIONS, output=y).threshold

    def test_not_where_a_tensor_is_added(self, net):
        net.pack("bits", net("sum", "add.Tensor", packed_conv(net), net.x))
        record = self.record(net, *FUSIONS)
        assert results(record) == ("bits",)
        assert not record.threshold

    def test_not_behind_floats(self, net):
        net.pack("bits", net.pool("pool", packed_conv(net)))
        assert not self.record(net, *FUSIONS).threshold
        net.nodes.clear()
        net.pack("bits", net.float_conv("conv", net.x))
        assert not self.record(net, *FUSIONS).threshold


def binary(layer: nn.Module, **settings) -> nn.Module:
    kind = BinaryConv2d if isinstance(layer, nn.Conv2d) else BinaryLinear
    return kind.from_float(layer, Method(**settings), EdePhase())


class Trained(nn.Module):
    """A pooled stem, residual blocks, groups, a pooled convolution, tokens."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.a, self.b, self.c, self.d = (
            binary(nn.Conv2d(16, 16, 3, padding=1, bias=False, groups=groups))
            for groups in (1, 2, 1, 4)
        )
        self.prelu, self.layer_norm = nn.PReLU(16), nn.LayerNorm(16)
        self.up, self.down = binary(nn.Linear(16, 24)), binary(nn.Linear(24, 16))
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
        x = F.hardtanh(self.norm(self.a(x)) + x)
        x = self.prelu(self.c(F.hardtanh(self.norm(self.b(x)))) + x)
        x = F.hardtanh(self.norm(F.max_pool2d(self.d(x), 2)))
        t = x.flatten(2).transpose(1, 2)
        t = t + self.down(self.up(self.layer_norm(t) * 2 - 0.5)) * 0.5
        return self.head(t.mean(1))


@pytest.fixture(scope="module")
def program():
    return lower(Trained().eval(), (3, 16, 16)).program


def recorded(items, predicate) -> list[Fused]:
    return [i for i in items if isinstance(i, Fused) and predicate(i)]


class TestTrainedNetwork:
    @pytest.mark.slow
    @pytest.mark.parametrize("passes", SUBSETS, ids="+".join)
    def test_every_node_is_done_once(self, program, passes):
        items = fuse(program, program.nodes, passes)
        done = [n for i in items for n in ((i.name,) if isinstance(i, Node) else i.absorbed)]
        assert sorted(done) == sorted(node.name for node in program.nodes)

    @pytest.mark.slow
    @pytest.mark.parametrize("passes", SUBSETS, ids="+".join)
    def test_every_item_reads_what_stands_before_it(self, program, passes):
        known = {*program.inputs, *program.constants}
        for item in fuse(program, program.nodes, passes):
            assert known >= set(item.refs())
            assert not known & set(results(item))
            known |= set(results(item))
        assert known >= set(program.outputs)

    @pytest.mark.parametrize("passes", SUBSETS, ids="+".join)
    def test_results_keep_their_names_and_types(self, program, passes):
        types = {node.name: node.type for node in program.nodes}
        for item in fuse(program, program.nodes, passes):
            if isinstance(item, Fused):
                assert item.floats is None or types[item.floats] == item.type
                assert item.bits is None or types[item.bits] == item.bits_type
                assert results(item)

    @pytest.mark.parametrize("passes", SUBSETS, ids="+".join)
    def test_passes_come_in_their_own_order_however_they_are_given(self, program, passes):
        items = fuse(program, program.nodes, passes)
        assert fuse(program, program.nodes, passes[::-1]) == items
        assert fuse(program, program.nodes, {*passes}) == items

    @pytest.mark.parametrize("passes", SUBSETS, ids="+".join)
    def test_each_pass_shows_where_it_was_made_and_nowhere_else(self, program, passes):
        items = fuse(program, program.nodes, passes)
        assert bool(recorded(items, lambda i: i.kind == "pool")) == ("pool" in passes)
        assert bool(recorded(items, lambda i: i.producer)) == ("pool" in passes)
        # whose learned numbers are steps of their own
        biased = recorded(items, lambda i: i.kind in ("conv", "linear", "layer_norm"))
        stepped = recorded(items, lambda i: i.steps and i not in biased)
        assert bool(stepped) == ("transform" in passes)
        normed = recorded(items, lambda i: i.kind == "layer_norm" and len(i.steps) > 2)
        assert bool(normed) == ("transform" in passes)
        assert bool(recorded(items, lambda i: i.bits)) == ("pack" in passes)
        assert bool(recorded(items, lambda i: i.floats is None)) == ("pack" in passes)
        compared = bool(recorded(items, lambda i: i.threshold))
        assert compared == ({"pack", "threshold"} <= set(passes))

    def test_all_of_them_make_this(self, program):
        assert form(fuse(program, program.nodes)) == [
            "sym_size",
            "pool: conv2d mul add relu max_pool2d bitpack",
            "dot: bconv2d mul_1 add_1 add_2 hardtanh bitpack_1",
            "dot: bconv2d_1 mul_2 add_3 hardtanh_1 bitpack_2",
            "dot: bconv2d_2 add_4 prelu",
            "bitpack_3",
            "pool: bconv2d_3 max_pool2d_1 mul_3 add_5 hardtanh_2",
            "reshape",
            "transpose",
            "layer_norm: layer_norm mul_4 sub bitpack_4",
            "dot: bgemm bitpack_5",
            "dot: bgemm_1 mul_5 add_6",
            "average: mean",
            "linear: linear",
        ]


def test_the_pages_tell_the_passes_in_the_order_of_their_names():
    told = re.findall(r"^    (\w+) +", fuse_module.__doc__.split("\n\n")[1], re.M)
    assert tuple(name for name in told if name.islower()) == FUSIONS
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text("utf-8")
    assert ", ".join(f"`{name}`" for name in FUSIONS) in page
