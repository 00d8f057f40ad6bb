import pytest
import torch
import torch.nn.functional as F
from torch import nn

from irbin.binary.estimator import sign
from irbin.errors import SourceError
from irbin.planning.plan import make_plan
from irbin.records.options import SourceOptions
from irbin.records.plan import PlanOptions
from irbin.rewriting.rewrite import rewrite
from irbin.sources.paper import PAPER_NETWORKS, PadShortcut, build_paper
from irbin.sources.spec import load_source
from irbin.tracing.trace import trace

# name, binary weights, float weights of first and last layer (bias included), 1×1 shortcut weights
COUNTS = [
    ("resnet20", 267_264, 1_082, 0),
    ("resnet18", 10_985_472, 6_858, 172_032),
    ("vgg-small", 4_571_136, 85_386, 0),
    ("resnet18-imagenet", 10_985_472, 522_408, 172_032),
    ("resnet34-imagenet", 21_086_208, 522_408, 172_032),
]


def layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize(("name", "binary", "ends", "shortcuts"), COUNTS, ids=lambda v: str(v))
def test_weight_counts_are_the_papers(name: str, binary: int, ends: int, shortcuts: int) -> None:
    with torch.device("meta"):
        found = layers(build_paper(name))
    first, *middle, last = found
    n_ends = first.weight.numel() + last.weight.numel() + last.bias.numel()
    pointwise = [m for m in middle if m.kernel_size == (1, 1)]
    assert n_ends == ends
    assert sum(m.weight.numel() for m in pointwise) == shortcuts
    assert sum(m.weight.numel() for m in middle if m not in pointwise) == binary
    assert all(m.bias is None for m in middle)


def test_resnet20_has_1504_batch_norm_parameters() -> None:
    norms = [
        m
        for m in build_paper("resnet20").modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]
    assert sum(m.weight.numel() + m.bias.numel() for m in norms) == 1_504


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER_NETWORKS)
@pytest.mark.parametrize(("num_classes", "in_chans"), [(10, 3), (3, 1)])
def test_maps_images_to_logits(name: str, num_classes: int, in_chans: int) -> None:
    network = build_paper(name, num_classes, in_chans).eval()
    assert network(torch.zeros(2, in_chans, 32, 32)).shape == (2, num_classes)
    assert network.num_classes == num_classes


def test_every_block_calls_one_activation_twice() -> None:
    network = build_paper("resnet20").eval()
    blocks = [m for m in network.modules() if type(m).__name__ == "BasicBlock"]
    calls: dict[int, int] = {}
    for block in blocks:
        block.act.register_forward_hook(
            lambda m, *_: calls.__setitem__(id(m), calls.get(id(m), 0) + 1)
        )
    network(torch.zeros(1, 3, 32, 32))
    assert len(blocks) == 9
    assert list(calls.values()) == [2] * 9


def test_only_resnet18_has_no_activation_at_the_stem() -> None:
    assert isinstance(build_paper("resnet18").act, nn.Identity)
    assert isinstance(build_paper("resnet20").act, nn.ReLU)


@pytest.mark.slow
def test_resnets_have_batch_norm_before_the_classifier() -> None:
    for name, width in (("resnet20", 64), ("resnet18", 512), ("resnet34-imagenet", 512)):
        network = build_paper(name)
        assert isinstance(network.bn2, nn.BatchNorm1d)
        assert network.bn2.num_features == width


def test_resnet20_is_the_standard_block_with_option_a() -> None:
    torch.manual_seed(0)
    network = build_paper("resnet20").eval()
    x = torch.randn(2, 3, 32, 32)
    y = F.relu(network.bn1(network.conv1(x)))
    for stage in (network.layer1, network.layer2, network.layer3):
        for block in stage:
            bypass = y
            if block.conv1.stride == (2, 2):
                padded = torch.zeros(2, 2 * y.shape[1], y.shape[2] // 2, y.shape[3] // 2)
                quarter = y.shape[1] // 2
                padded[:, quarter : quarter + y.shape[1]] = y[:, :, ::2, ::2]
                bypass = padded
            inner = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(y)))))
            y = F.relu(inner + bypass)
    expected = network.linear(network.bn2(y.mean((2, 3))))
    torch.testing.assert_close(network(x), expected)


def test_vgg_small_pools_before_batch_norm() -> None:
    torch.manual_seed(0)
    network = build_paper("vgg-small").eval()
    order: list[str] = []
    for name, module in network.named_children():
        module.register_forward_hook(lambda m, *_, name=name: order.append(name))
    network(torch.randn(1, 3, 32, 32))
    assert order[:7] == ["conv0", "bn0", "act", "conv1", "pooling", "bn1", "act"]
    assert order[-5:] == ["conv5", "pooling", "bn5", "act", "fc"]


@pytest.mark.parametrize("n", [1, 7, 8, 31, 32, 33])
def test_pad_shortcut_keeps_every_second_pixel_and_adds_zero_channels(n: int) -> None:
    x = torch.randn(1, 3, n, n)
    y = PadShortcut(3, 8, 2)(x)
    assert torch.equal(y[:, 2:5], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 5:].any()
    assert y.shape == (1, 8, (n + 1) // 2, (n + 1) // 2)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SourceError, match="`paper:resnet20`, `paper:resnet18`, `paper:vgg-small`"):
        build_paper("resnet21")


def authors_block(block: nn.Module, y: torch.Tensor) -> torch.Tensor:
    """The authors' Bi-Real block, written out: a shortcut and a Hardtanh after each convolution."""
    y = F.hardtanh(block.bn1(sign_conv(block.conv1, y)) + block.shortcut(y))
    return F.hardtanh(block.bn2(sign_conv(block.conv2, y)) + y)


def sign_conv(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    w = conv.weight - conv.weight.mean((1, 2, 3), keepdim=True)
    w = w / w.std((1, 2, 3), keepdim=True)
    scale = 2 ** w.abs().mean((1, 2, 3), keepdim=True).log2().round()
    return F.conv2d(sign(x), sign(w) * scale, stride=conv.stride, padding=1)


@pytest.mark.slow
def test_resnet20_converted_with_hardtanh_and_bireal_is_the_authors_network() -> None:
    torch.manual_seed(0)
    network = load_source("paper:resnet20", SourceOptions())
    options = PlanOptions(activation="hardtanh", shortcut="bireal")
    plan = make_plan(trace(network.module, (3, 32, 32)), options)
    converted = rewrite(network, plan).module.eval()
    reference = network.module.eval()
    x = torch.randn(2, 3, 32, 32)
    y = F.hardtanh(reference.bn1(reference.conv1(x)))
    for stage in (reference.layer1, reference.layer2, reference.layer3):
        for block in stage:
            y = authors_block(block, y)
    expected = reference.linear(reference.bn2(y.mean((2, 3))))
    torch.testing.assert_close(converted(x), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "depths"),
    [("resnet18-imagenet", (2, 2, 2, 2)), ("resnet34-imagenet", (3, 4, 6, 3))],
)
def test_imagenet_networks_are_the_authors(name: str, depths: tuple[int, ...]) -> None:
    """Written out: stem, Bi-Real blocks with float 1×1 shortcuts, batch norm before `fc`."""
    torch.manual_seed(0)
    network = load_source(f"paper:{name}", SourceOptions())
    seen = network.source.preprocessing
    assert (seen.input_size, seen.crop_pct, seen.interpolation) == (
        (3, 224, 224),
        0.875,
        "bilinear",
    )
    assert network.source.num_classes == 1000
    norms = [m for m in network.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert all(torch.equal(m.weight, torch.ones_like(m.weight)) for m in norms)
    options = PlanOptions(activation="hardtanh", shortcut="bireal")
    plan = make_plan(trace(network.module, (3, 64, 64)), options)
    converted = rewrite(network, plan).module.eval()
    reference = network.module.eval()
    for norm in norms:  # as if it had been trained, so that an order is seen
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2.0)
    converted.load_state_dict(reference.state_dict(), strict=False)
    x = torch.randn(2, 3, 64, 64)
    y = F.conv2d(x, reference.conv1.weight, stride=2, padding=3)
    y = F.max_pool2d(F.hardtanh(reference.bn1(y)), 3, 2, padding=1)
    stages = (reference.layer1, reference.layer2, reference.layer3, reference.layer4)
    for i, stage in enumerate(stages):
        assert len(stage) == depths[i]
        for block in stage:
            y = authors_block(block, y)
        assert y.shape[1:] == (64 * 2**i, 16 // 2**i, 16 // 2**i)
    expected = reference.fc(reference.bn2(y.mean((2, 3))))
    torch.testing.assert_close(converted(x), expected, rtol=1e-4, atol=1e-4)


def test_imagenet_convolutions_begin_as_the_authors_do() -> None:
    torch.manual_seed(0)
    network = build_paper("resnet18-imagenet")
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            area = module.kernel_size[0] * module.kernel_size[1]
            wanted = (2 / (area * module.out_channels)) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(wanted, rel=0.05), name


@pytest.mark.slow
@pytest.mark.parametrize(("name", "binary", "ends", "shortcuts"), COUNTS, ids=lambda v: str(v))
def test_default_plan_binarizes_what_the_authors_do(
    name: str, binary: int, ends: int, shortcuts: int
) -> None:
    graph = trace(build_paper(name), PAPER_NETWORKS[name].preprocessing.input_size)
    plan = make_plan(graph, PlanOptions())
    kept = [d for d in plan.decisions if not d.binary]
    assert sum(d.n_params for d in plan.decisions if d.binary) == binary
    assert sum(d.n_params for d in kept) == ends + shortcuts
    assert {d.reason for d in kept} <= {"first layer", "last layer", "1×1 shortcut"}
