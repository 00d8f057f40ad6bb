from dataclasses import replace

import pytest
import torch
from torch import nn

from irbin.artifact.read import Artifact
from irbin.artifact.schema import Manifest
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method, binary_layers
from irbin.errors import UsageError
from irbin.evaluation.agreement import compare
from irbin.program.lower import lower
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.runtime.model import PackedModel
from tests.conftest import IEEE, tf32

MANIFEST = Manifest(
    "0",
    "float32",
    SourceRecord("s", "timm:s", 3, Preprocessing()),
    Plan(PlanOptions(), (), (3, 6, 6), 0, 0, 0),
)


def network(method: Method | None = None) -> nn.Sequential:
    torch.manual_seed(3)
    phase, method = EdePhase(), method or Method()
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        BinaryConv2d.from_float(
            nn.Conv2d(12, 10, 3, padding=1, groups=2, padding_mode="reflect"), method, phase
        ),
        nn.BatchNorm2d(10),
        BinaryConv2d.from_float(nn.Conv2d(10, 9, 3, padding=1), method, phase),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        BinaryLinear.from_float(nn.Linear(9, 9), method, phase),
        nn.Linear(9, 3),
    )
    net[2].running_var.uniform_(2, 9)
    net[2].running_mean.normal_()
    return net.eval()


def packed(net: nn.Module) -> PackedModel:
    lowered = lower(net, (3, 6, 6))
    return PackedModel(Artifact("", MANIFEST, lowered.program, lowered.tensors))


def images(*sizes: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(n, 3, 6, 6) for n in sizes]


@pytest.fixture(scope="module")
def pair():
    net = network()
    return net, packed(net)


@pytest.mark.slow
def test_an_export_agrees_with_its_network(pair):
    agreement = compare(*pair, images(4, 1, 0, 3))
    assert agreement.n_images == 8
    assert agreement.equal_top1 == 100
    assert agreement.max_difference < 1e-5
    assert agreement.disagreements == ()
    assert [layer.name for layer in agreement.layers] == ["1", "3", "6"]
    # reflected pixels have signs of their own, zeros have none
    assert [layer.n_signs for layer in agreement.layers] == [8 * 12 * 64, 8 * 10 * 36, 8 * 9]
    assert [layer.n_flipped for layer in agreement.layers] == [0, 0, 0]


def test_a_gpu_compares_in_float32_and_not_in_tf32(pair):
    net, model = pair
    seen, before = [], tf32()
    handle = net[0].register_forward_hook(lambda *_: seen.append(tf32()))
    try:
        compare(net, model, images(2))
    finally:
        handle.remove()
    assert seen == [IEEE]
    assert tf32() == before != seen[0]


def test_modes_are_given_back(pair):
    net, model = pair
    net.train()
    net[2].eval()
    before = net[2].running_mean.clone()
    compare(net, model, images(2))
    assert net.training
    assert not net[2].training
    assert torch.equal(net[2].running_mean, before)
    net.eval()


@pytest.mark.slow
def test_flipped_signs_are_counted_with_their_size_and_explained(pair):
    """The trained network's norm is moved after export: signs of small values change."""
    net, changed = network(), network()
    model = packed(net)
    with torch.no_grad():
        changed[2].bias += 0.2
    x = images(40)[0]
    agreement = compare(changed, model, [x[:25], x[25:]])
    first, second, _ = agreement.layers
    assert first.n_flipped == 0
    with torch.no_grad():
        moved, original = changed[:3](x), net[:3](x)
    flipped = (moved < 0) != (original < 0)
    assert second.n_flipped == int(flipped.sum()) > 0
    assert second.largest_flipped == pytest.approx(moved[flipped].abs().max().item(), rel=1e-5)
    with torch.no_grad():
        different = (changed(x).argmax(1) != net(x).argmax(1)).nonzero().flatten().tolist()
    assert [d.index for d in agreement.disagreements] == different
    assert different, "the change is large enough to move an answer"
    assert agreement.equal_top1 == pytest.approx(100 * (1 - len(different) / 40))
    one = agreement.disagreements[0]
    assert one.binary_class != one.packed_class
    assert one.margin > 0
    assert one.explanation.startswith("begins at `3`, where a value of ")


@pytest.mark.slow
def test_a_difference_without_a_flip_is_rounding(pair):
    net = network()
    model = packed(net)
    with torch.no_grad():
        net[7].bias += torch.tensor([0.0, 100.0, 200.0])
    explanations = {d.explanation for d in compare(net, model, images(9)).disagreements}
    assert len(explanations) == 1
    assert "no sign is flipped" in explanations.pop()


def with_thresholds() -> nn.Sequential:
    net = network(Method(learned_threshold=True))
    for layer in binary_layers(net).values():
        nn.init.normal_(layer.threshold)
    return net


@pytest.mark.slow
def test_signs_are_compared_behind_learned_thresholds():
    net = with_thresholds()
    agreement = compare(net, packed(net), images(9))
    assert agreement.equal_top1 == 100
    assert [layer.n_flipped for layer in agreement.layers] == [0, 0, 0]


@pytest.mark.slow
def test_a_threshold_that_moved_after_export_flips_signs():
    net, changed = with_thresholds(), with_thresholds()
    model = packed(net)
    with torch.no_grad():
        changed[3].threshold += 0.5
    x = images(20)[0]
    first, second, _ = compare(changed, model, [x]).layers
    assert first.n_flipped == 0
    with torch.no_grad():
        value = net[:3](x)
    behind = [layer.shifted(value) for layer in (changed[3], net[3])]
    flipped = (behind[0] < 0) != (behind[1] < 0)
    assert second.n_flipped == int(flipped.sum()) > 0
    # as far beyond the threshold as the trained one sees it
    assert second.largest_flipped == pytest.approx(behind[0][flipped].abs().max().item(), rel=1e-5)


@pytest.mark.slow
def test_weights_alone_have_no_signs_to_compare():
    net = network(Method(binary_activations=False))
    agreement = compare(net, packed(net), images(3))
    assert agreement.layers == ()
    assert agreement.equal_top1 == 100


def test_another_network_is_refused(pair):
    other = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    with pytest.raises(UsageError, match="`1` is a binary layer of the packed one only"):
        compare(other, pair[1], images(1))


def test_no_image_is_refused(pair):
    with pytest.raises(UsageError, match="expected at least one image"):
        compare(*pair, images(0))


@pytest.mark.slow
def test_layers_that_read_the_same_tensor_are_compared_each():
    """Whose signs are packed once where a network runs: SqueezeNet's, Inception's."""

    class Fire(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 9, 1)
            convs = (nn.Conv2d(9, 3, 1), nn.Conv2d(9, 3, 3, padding=1))
            self.one, self.three = (
                BinaryConv2d.from_float(conv, Method(), EdePhase()) for conv in convs
            )

        def forward(self, x):
            x = self.stem(x)
            return (self.one(x) + self.three(x)).mean((2, 3))

    torch.manual_seed(0)
    net = Fire().eval()
    agreement = compare(net, packed(net), images(4))
    assert [layer.name for layer in agreement.layers] == ["one", "three"]
    assert [layer.n_signs for layer in agreement.layers] == [4 * 9 * 36] * 2
    assert [layer.n_flipped for layer in agreement.layers] == [0, 0]


@pytest.mark.slow
def test_a_layer_that_reads_constants_alone_has_nothing_to_show():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.randn(5, 9))
            self.constant = BinaryLinear.from_float(nn.Linear(9, 12), Method(), EdePhase())
            self.seen = BinaryLinear.from_float(nn.Linear(12, 4), Method(), EdePhase())

        def forward(self, x):
            return self.seen(
                x.mean((1, 2, 3), keepdim=True)[..., 0, 0] * self.constant(self.table)[0]
            )

    torch.manual_seed(0)
    net = Table().eval()
    agreement = compare(net, packed(net), images(4))
    assert [layer.name for layer in agreement.layers] == ["seen"]
    assert agreement.equal_top1 == 100


class TestBackbones:
    def pair_of(self, net: nn.Module) -> tuple[nn.Module, PackedModel]:
        lowered = lower(net.eval(), (3, 6, 6))
        manifest = replace(MANIFEST, source=replace(MANIFEST.source, num_classes=0))
        return net, PackedModel(Artifact("", manifest, lowered.program, lowered.tensors))

    @pytest.mark.slow
    def test_all_outputs_count_and_top_1_does_not(self):
        class Maps(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = network()[:4]

            def forward(self, x):
                early = self.body[1](self.body[0](x))
                return {"early": early, "late": [self.body[3](self.body[2](early)), x]}

        net, model = self.pair_of(Maps())
        agreement = compare(net, model, images(3, 2))
        assert (agreement.n_images, agreement.equal_top1, agreement.disagreements) == (5, None, ())
        assert agreement.max_difference < 1e-5
        assert [layer.n_signs for layer in agreement.layers] == [5 * 12 * 64, 5 * 10 * 36]
        with torch.no_grad():
            net.body[3].bias += 2  # of the second output alone
        assert compare(net, model, images(3)).max_difference == pytest.approx(2)

    @pytest.mark.slow
    def test_another_number_of_outputs_is_refused(self):
        class Twice(nn.Sequential):
            def forward(self, x):
                y = super().forward(x)
                return y, y

        net, model = self.pair_of(network())
        with pytest.raises(UsageError, match=r"trained one returns \(3, 3\), \(3, 3\), the packed"):
            compare(Twice(*net), model, images(3))
