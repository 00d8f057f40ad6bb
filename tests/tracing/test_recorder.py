"""The recorder: what ran, how much work it was, and who read whose weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.layers import ScaledStdConv2d
from torch import Tensor, nn

from irbin.errors import TraceError
from irbin.tracing.recorder import meta_copy, one_image, record


def calls(network: nn.Module, names: list[str], size: tuple[int, int, int] = (3, 8, 8)):
    return record(network, names, size)[0].calls


def test_macs_are_one_product_per_weight_and_position() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 4×4 positions, 3·3·3·8 weights
        nn.Conv2d(8, 8, 3, padding=1, groups=4),
        nn.ConvTranspose2d(8, 4, 2, stride=2),  # each of 4×4 inputs meets all 8·4·2·2 weights
        nn.Flatten(),
        nn.Linear(4 * 64, 10),
    )
    found = calls(network, ["0", "1", "2", "4"])
    macs = [found[n].n_macs for n in ("0", "1", "2", "4")]
    assert macs == [16 * 216, 16 * 144, 16 * 128, 2560]
    assert found["0"].input_shape == (3, 8, 8)
    assert found["0"].output_shape == (8, 4, 4)
    assert found["4"].output_shape == (10,)


def test_a_shared_layer_counts_every_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.spare = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x))

    found = calls(Twice(), ["conv", "spare"])
    assert (found["conv"].n_calls, found["conv"].n_macs) == (2, 2 * 64 * 9)
    assert "spare" not in found


def test_a_weight_read_from_outside_is_noted_with_its_work() -> None:
    class Bypassed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.conv.weight.to(x.device))

    class Direct(Bypassed):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.conv.weight)

    direct = calls(Direct(), ["conv"])["conv"]
    assert (direct.n_calls, direct.read_by, direct.n_macs) == (0, "conv2d", 64 * 15)
    assert calls(Bypassed(), ["conv"])["conv"].read_by == "to"


def test_looking_at_a_weights_shape_is_not_reading_it() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            assert self.conv.weight.shape[0] == self.conv.weight.size(0) == len(self.conv.weight)
            return self.conv(x.to(self.conv.weight.device))

    assert calls(Looks(), ["conv"])["conv"].read_by == ""


def test_used_tensors_are_each_counted_once_and_batch_norm_as_channels() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3, affine=False)
            self.position = nn.Parameter(torch.zeros(1, 3, 8, 8))
            self.register_buffer("index", torch.arange(3), persistent=False)
            self.register_buffer("spare", torch.zeros(7))

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.norm(x)) + self.position + self.position
            return x[:, self.index]

    recording, ran = record(Tied(), [], (3, 8, 8))
    used = {id(t) for t in recording.used}
    assert used == {id(ran.position), id(ran.index)}
    assert recording.norm_features == 3


def test_networks_that_need_numbers_run_on_the_cpu() -> None:
    class Item(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) * (1 + x.sum().item())

    assert calls(Item(), ["conv"])["conv"].n_calls == 1


def test_meta_copy_keeps_sharing_and_leaves_the_source() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight
    copied = meta_copy(network)
    assert copied[0].weight is copied[1].weight
    assert copied[0].weight.is_meta
    assert not network[0].weight.is_meta


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 3, 4), (3, 4)), ((8, 5), (4, 5)), ((1, 7), (1, 7)), ((3, 2), (3, 2)), ((), ())],
)
def test_one_image_keeps_windows_together(shape, expected) -> None:
    assert one_image(torch.zeros(shape)) == expected


def test_wrong_input_size_is_an_error_that_says_so() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(10, 2))
    with pytest.raises(TraceError, match=r"does not run on .*mat1 and mat2.*`input_size=`"):
        record(network, ["1"], (3, 8, 8))


def test_a_weight_that_only_training_reads_is_noted() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)[:, :8]
            return F.linear(x, self.layer.weight) if self.training else self.layer(x)

    recording, _ = record(Both(), ["layer"], (1, 4, 4))
    assert recording.calls["layer"].read_by == "linear"
    assert recording.calls["layer"].n_calls == 1


class Parts(nn.Module):
    """Layers that run once an image, once a batch, on both, and several times."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.table, self.both, self.again = (nn.Linear(4, 4) for _ in range(4))
        self.register_buffer("positions", torch.ones(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.once(x.flatten(1)[:, :4])
        table = self.table(self.positions)
        joined = self.both(torch.cat([x, table]))
        for _ in range(3):
            x = self.again(x)
        return x + joined.sum() + (table @ table.mT).sum()


def test_work_is_that_of_an_image_that_comes_alone() -> None:
    recording, _ = record(Parts(), ["once", "table", "both", "again"], (1, 2, 2))
    macs = {name: calls.n_macs for name, calls in recording.calls.items()}
    assert macs == {"once": 16, "table": 6 * 16, "both": 7 * 16, "again": 3 * 16}
    assert recording.other_macs == 6 * 6 * 4


def test_work_in_training_that_does_not_compare_is_left_out() -> None:
    class Thrice(Parts):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y + self.once(x.flatten(1)[:, :4]) if self.training else y

    recording, _ = record(Thrice(), ["once", "again"], (1, 2, 2))
    assert recording.calls["once"].n_macs == 16
    assert recording.calls["again"].n_macs == 48


def test_a_gain_multiplies_no_activation() -> None:
    found = calls(nn.Sequential(ScaledStdConv2d(3, 8, 3)), ["0"])
    assert found["0"].n_macs == 64 * 8 * 27
