"""When results share memory, when they must not, and what is the caller's."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from irbin.errors import ArtifactError
from irbin.kernels import native
from irbin.program.fuse import FUSIONS, fuse
from irbin.program.fused import Fused, results
from irbin.program.lower import lower
from irbin.program.types import Node, Ref, TensorType
from irbin.runtime.layers import make_kernel
from irbin.runtime.operators import operation
from irbin.runtime.schedule import Schedule, Work

FLOATS, BITS = 4 * 16 * 8 * 8, 2 * 8 * 8
MEAN = 4 * 16
"""Of every channel, which the last kernel takes."""
"""Bytes of the results below, an image."""


def work_of(net: nn.Module, size=(16, 8, 8), passes=FUSIONS) -> Work:
    lowered = lower(net.eval(), size)
    program, constants = lowered.program, lowered.tensors
    types = {**program.inputs, **program.constants, **{n.name: n.type for n in program.nodes}}
    items = fuse(program, program.nodes, passes)
    kernels = {i.name: make_kernel(i, constants, types) for i in items if isinstance(i, Fused)}
    operations = {node.op: operation(node.op) for node in program.nodes}
    return Work(items, kernels, operations, constants, *program.inputs, program.outputs)


def conv() -> nn.Module:
    layer = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    return BinaryConv2d.from_float(layer, Method(), EdePhase())


class Chain(nn.Module):
    def __init__(self, n_layers: int, *, is_residual: bool):
        super().__init__()
        torch.manual_seed(0)
        self.convs, self.is_residual = nn.ModuleList(conv() for _ in range(n_layers)), is_residual

    def forward(self, x):
        for conv in self.convs:
            x = F.hardtanh(conv(x) + x if self.is_residual else conv(x))
        return x.mean((2, 3)).sin()  # which torch computes


@cache
def chain(n_layers: int, *, is_residual: bool) -> Work:
    return work_of(Chain(n_layers, is_residual=is_residual))


def runs(schedule: Schedule, n: int = 3, size=(16, 8, 8)) -> list[torch.Tensor]:
    """Three runs on the same images."""
    x = torch.randn(n, *size, generator=torch.Generator().manual_seed(1))
    return [only(schedule.run(x, 1)) for _ in range(3)]


def only(results: list[torch.Tensor]) -> torch.Tensor:
    """Of a program with one output."""
    (result,) = results
    return result


def same(tensors) -> bool:
    return all(torch.equal(tensors[0], one) for one in tensors[1:])


class TestMemory:
    @pytest.mark.slow
    @pytest.mark.parametrize("n", [1, 3])
    def test_signs_alone_go_back_and_forth_between_two_places(self, n):
        """The last layer's floats are written, all others' signs."""
        schedule = Schedule(chain(6, is_residual=False), n)
        assert schedule.n_bytes == n * (5 * BITS + FLOATS + MEAN)
        assert same(runs(schedule, n))
        assert schedule.n_bytes == n * (BITS + FLOATS)

    @pytest.mark.slow
    @pytest.mark.parametrize("n", [1, 3])
    def test_a_residual_trunk_takes_one_place(self, n):
        """Each sum is written over what it adds."""
        schedule = Schedule(chain(6, is_residual=True), n)
        assert schedule.n_bytes == n * (5 * BITS + 6 * FLOATS + MEAN)
        assert same(runs(schedule, n))
        assert schedule.n_bytes == n * (2 * BITS + FLOATS)

    def test_for_one_who_keeps_them_results_stay_apart(self):
        schedule = Schedule(chain(6, is_residual=True), 1, keep_apart=True)
        before = schedule.n_bytes
        kept, copies = {}, {}

        def watch(item, values, _):
            for name in results(item):
                kept[name], copies[name] = values[name], values[name].clone()

        schedule.run(torch.randn(1, 16, 8, 8), 1, watch)
        assert schedule.n_bytes == before
        assert len(kept) == 6 + 6 + 2
        assert all(torch.equal(kept[name], copies[name]) for name in kept)

    def test_no_images_take_next_to_no_memory(self):
        schedule = Schedule(chain(6, is_residual=True), 0)
        assert same(runs(schedule, 0))
        assert schedule.n_bytes <= 11 * 64

    @pytest.mark.slow
    @pytest.mark.parametrize("reach", ["pool", "point"])
    def test_what_a_window_reads_is_not_written_over(self, reach):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.first, self.point = nn.Conv2d(16, 48, 1), nn.Conv2d(48, 48, 1)

            def forward(self, x):
                x = F.relu(self.first(x))
                return F.hardtanh(
                    (F.max_pool2d(x, 3, 1, 1) if reach == "pool" else self.point(x)) + x
                )

        schedule = Schedule(work_of(Net()), 2)
        assert same(runs(schedule, 2))
        assert schedule.n_bytes == 2 * 2 * 3 * FLOATS

    @pytest.mark.slow
    def test_what_a_view_shows_is_kept_for_it(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.convs = nn.ModuleList(conv() for _ in range(4))

            def forward(self, x):
                first = self.convs[0](x)
                rows = first.permute(0, 2, 3, 1).reshape(x.shape[0], 64, 16)  # a view of a view
                low, high = first.split(8, 1)
                y = first
                for conv in self.convs[1:]:
                    y = F.hardtanh(conv(y))
                return y.mean((2, 3)) + rows[:, 5] + torch.cat((high, low), 1)[:, :, 2, 3]

        assert same(runs(Schedule(work_of(Net()), 3)))


class Returns(nn.Module):
    """A result that lies in memory of somebody else."""

    def __init__(self, what):
        super().__init__()
        torch.manual_seed(0)
        self.what, self.conv = what, conv()
        self.constant = nn.Parameter(torch.randn(1, 16))

    def forward(self, x):
        match self.what:
            case "an image":
                return x
            case "part of an image":
                return x[:, 3:5]
            case "a constant":
                return self.constant
            case "an expanded constant":
                return self.constant.expand(x.shape[0], -1)
        y = F.relu(self.conv(x))
        match self.what:
            case "a result":
                return y
            case "a part":
                return y[:, 2:4]
        return y.permute(0, 2, 3, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    [
        "an image",
        "part of an image",
        "a constant",
        "an expanded constant",
        "a result",
        "a part",
        "a turned result",
    ],
)
def test_a_result_is_the_callers(what):
    schedule = Schedule(work_of(Returns(what)), 1)
    x = torch.randn(1, 16, 8, 8)
    before = x.clone()
    first = only(schedule.run(x, 1))
    wanted = first.clone()
    for _ in range(2):
        later = only(schedule.run(x, 1))
        assert torch.equal(later, wanted)
        assert torch.equal(first, wanted)
        later.fill_(7)
        assert torch.equal(x, before)


class Several(nn.Module):
    """Results that lie in memory of somebody else, of one another, and twice the same."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(conv() for _ in range(3))
        self.constant = nn.Parameter(torch.randn(1, 16))

    def forward(self, x):
        early = F.hardtanh(self.convs[0](x) + x)
        late = F.hardtanh(self.convs[2](F.hardtanh(self.convs[1](early) + early)) + early)
        made = late.sin()
        constants = self.constant, self.constant.expand(x.shape[0], -1), self.constant + 1
        views = x[:, 3:5], early[:, 2:4], late.permute(0, 2, 3, 1), made.flatten(1)
        return [x, early, late, made, *views, *constants, early, x, self.constant]


@pytest.mark.slow
@pytest.mark.parametrize("passes", [FUSIONS, ()], ids=["fused", "plain"])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_each_of_several_results_is_the_callers(n, passes):
    net = Several()
    schedule = Schedule(work_of(net, passes=passes), n)
    x = torch.randn(n, 16, 8, 8)
    wanted = net(torch.cat((x, torch.zeros(1, 16, 8, 8))))
    wanted = [y if len(y) == 1 else y[:n] for y in wanted]
    before, kept = x.clone(), schedule.run(x, 1)
    for _ in range(3):
        found = schedule.run(x, 1)
        for i, y in enumerate(found):
            assert torch.allclose(y, wanted[i], atol=1e-6), i
            assert torch.equal(y, kept[i]), i
            y.fill_(7)  # neither the images' nor another result's
        assert torch.equal(x, before)


class TestWatch:
    def test_is_told_of_every_item_in_order_with_its_seconds(self):
        work = chain(6, is_residual=True)
        told = []
        schedule = Schedule(work, 2)
        for _ in range(2):
            schedule.run(torch.randn(2, 16, 8, 8), 1, lambda *each: told.append(each))
        assert [item for item, _, _ in told] == [*work.items] * 2
        assert all(0 < seconds < 10 for _, _, seconds in told)

    @pytest.mark.slow
    def test_sees_what_is_needed_and_nothing_of_torchs_that_is_not(self):
        class Net(nn.Module):
            def forward(self, x):
                a = x.sin()
                b = a.cos()
                c = a.exp() + b.exp()
                return c.sin() + x

        work = work_of(Net(), (2, 4, 4), ())
        seen = []
        Schedule(work, 1).run(torch.randn(1, 2, 4, 4), 1, lambda i, v, _: seen.append({*v}))
        for i, item in enumerate(work.items):
            later = [name for one in work.items[i:] for name in one.refs()]
            known = {work.source, *(one.name for one in work.items[:i])}
            assert seen[i] == {item.name} | (known & {*later})


class TestErrors:
    @staticmethod
    def failing(op: str, *args) -> Work:
        kind = TensorType("float32", ("N", 4))
        node = Node("y", op, (Ref("x"), *args), {}, kind)
        return Work((node,), {}, {op: operation(op)}, {}, "x", ("y",))

    @pytest.mark.parametrize(
        ("op", "args"),
        [
            ("aten.reshape.default", ((-1, 9),)),
            ("aten.mul.Tensor", ("text",)),
            ("aten.select.int", (1, 7)),
        ],
        ids=["sizes", "types", "index"],
    )
    def test_the_node_that_fails_is_named(self, op, args):
        schedule = Schedule(self.failing(op, *args), 1)
        for _ in range(2):
            with pytest.raises(ArtifactError) as caught:
                schedule.run(torch.zeros(1, 4), 1)
            message = str(caught.value)
            assert message.startswith(f"node `y` ({op}) fails: ")
            assert "\n" not in message

    @pytest.mark.slow
    def test_a_size_that_is_no_expression_of_n_is_refused_when_the_schedule_is_made(self):
        work = work_of(Chain(1, is_residual=False))
        (bits, record, *rest) = work.items
        odd = TensorType("float32", ("N/2", 16, 8, 8))
        changed = Fused(**{**vars(record), "type": odd})
        broken = Work((bits, changed, *rest), *list(vars(work).values())[1:])
        with pytest.raises(ArtifactError, match="expected a size that is a sum or product of N"):
            Schedule(broken, 1)


@pytest.fixture(scope="module")
def work_and_wanted():
    work = work_of(nn.Sequential(Chain(2, is_residual=True), nn.Linear(16, 3)))
    x = torch.randn(2, 16, 8, 8)
    return work, x, only(Schedule(work, 2).run(x, 1))


class TestSurroundings:
    """What a caller sets for torch as a whole changes nothing."""

    @pytest.mark.slow
    @pytest.mark.parametrize("is_first", [True, False])
    def test_default_type(self, work_and_wanted, is_first):
        work, x, wanted = work_and_wanted
        schedule = Schedule(work, 2)
        if not is_first:
            schedule.run(x, 1)
        torch.set_default_dtype(torch.float64)
        try:
            schedule = Schedule(work, 2) if is_first else schedule
            found = [only(schedule.run(x, 1)) for _ in range(2)]
        finally:
            torch.set_default_dtype(torch.float32)
        assert same([wanted, *found, only(schedule.run(x, 1))])

    def test_default_device(self, work_and_wanted):
        work, x, wanted = work_and_wanted
        with torch.device("meta"):
            schedule = Schedule(work, 2)
            found = [only(schedule.run(x, 1)) for _ in range(2)]
        assert same([wanted, *found, only(schedule.run(x, 1))])

    @pytest.mark.parametrize("is_first", [True, False])
    def test_inference_mode(self, work_and_wanted, is_first):
        work, x, wanted = work_and_wanted
        schedule = Schedule(work, 2)
        found = [] if is_first else [only(schedule.run(x, 1))]
        with torch.inference_mode():
            found += [only(schedule.run(x, 1)) for _ in range(2)]
        with torch.no_grad():
            found.append(only(schedule.run(x, 1)))
        assert same([wanted, *found])


class Reads(nn.Module):
    def __init__(self, reader):
        super().__init__()
        torch.manual_seed(0)
        self.reader, self.conv = reader, nn.Conv2d(16, 4, 3)

    def forward(self, x):
        y = self.conv(x).mean((2, 3)) if self.reader != "torch" else 0
        return y + x[:, :4].mean((2, 3)) if self.reader != "a kernel" else y


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["torch", "a kernel", "both"])
def test_images_may_lie_in_memory_as_they_like(reader):
    work = work_of(Reads(reader), (16, 37, 31))
    images = torch.randn(2, 16, 37, 31)
    wanted = only(Schedule(work, 2).run(images, 1))
    layouts = {
        "channels-last": images.contiguous(memory_format=torch.channels_last),
        "strided": torch.stack((images, images), -1)[..., 0],
        "turned": images.transpose(2, 3).contiguous().transpose(2, 3),
    }
    for name, x in layouts.items():
        assert not x.is_contiguous()
        schedule = Schedule(work, 2)
        assert same([wanted, *(only(schedule.run(x, 1)) for _ in range(2))]), name
    one = images[:, :1].expand(-1, 16, -1, -1)
    schedule = Schedule(work, 2)
    assert same([only(schedule.run(each, 1)) for each in (one, one.contiguous())])


@pytest.mark.slow
def test_the_definition_runs_the_same_schedule():
    layer = BinaryLinear.from_float(nn.Linear(16, 5), Method(), EdePhase())
    work = work_of(nn.Sequential(Chain(2, is_residual=True), layer))
    native_results = runs(Schedule(work, 3))
    with native.using(native.REFERENCE):
        assert same([*native_results, *runs(Schedule(work, 3))])
