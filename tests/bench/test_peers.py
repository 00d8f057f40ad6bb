from __future__ import annotations

import copy
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from irbin.bench.peers import NEEDS, PEERS, Peer, make_peers
from irbin.errors import UsageError
from irbin.records.options import Preprocessing

compiles = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None
    or not Path(sysconfig.get_paths()["include"], "Python.h").is_file(),
    reason="torch.compile needs a C++ compiler and Python's headers",
)


class Tiny(nn.Module):
    """Three input channels, two convolutions with batch norm, five classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Fails(nn.Module):
    """A network that no runtime can take."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no such luck\nand a second line")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network(images: Tensor) -> nn.Module:
    """In training mode, and its batch norms have seen something."""
    torch.manual_seed(0)
    network = Tiny()
    with torch.no_grad():
        for _ in range(30):
            network(images)
    return network


@pytest.fixture(scope="module")
def logits(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(network).eval()(images)


def require(name: str) -> None:
    for package in NEEDS.get(name, ()):
        if importlib.util.find_spec(package) is None:  # not imported: that is `make_peers`' to do
            pytest.skip(f"{package} is not installed")


def outputs(peers: list[Peer], images: Tensor) -> dict[str, Tensor]:
    return {peer.name: torch.as_tensor(peer.run(images)).float() for peer in peers}


def assert_close(mine: Tensor, logits: Tensor, tolerance: float) -> None:
    assert mine.shape == logits.shape
    assert (mine - logits).abs().max() <= tolerance


def test_torch_equals_the_network(network: nn.Module, images: Tensor, logits: Tensor) -> None:
    peers = make_peers(["torch"], network, images, 1)
    results = outputs(peers, images)
    assert list(results) == ["torch fp32"]
    assert_close(results["torch fp32"], logits, 1e-4)
    assert peers[0].version == torch.__version__


FED = Preprocessing((3, 32, 32), (0.4, 0.5, 0.3), (0.2, 0.25, 0.3))


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_bytes_are_normalized_by_each_runtime(name: str, network: nn.Module) -> None:
    require(name)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=generator)
    x = pixels.permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(FED.mean).view(-1, 1, 1)) / torch.tensor(FED.std).view(-1, 1, 1)
    with torch.no_grad():
        wanted = copy.deepcopy(network).eval()(x)
    results = outputs(make_peers([name], network, pixels, 1, normalization=FED), pixels)
    for peer, found in results.items():
        assert_close(found, wanted, 1e-3 if peer.endswith("fp32") else 0.1)


@pytest.mark.sweep  # 13 s where torch has compiled nothing yet
@compiles
@pytest.mark.parametrize("has_bf16", [True, False], ids=["bf16", "no bf16"])
def test_torch_compile_equals_the_network(
    network: nn.Module,
    images: Tensor,
    logits: Tensor,
    has_bf16: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if has_bf16 and not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this processor has no AVX512_BF16")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    told: list[str] = []
    peers = make_peers(["torch-compile"], network, images, 1, told.append)
    with torch._dynamo.config.patch(error_on_recompile=True):  # what was frozen is what runs
        results = outputs(peers, images)
    assert_close(results.pop("torch-compile fp32"), logits, 1e-4)
    if has_bf16:
        assert_close(results.pop("torch-compile bf16"), logits, 0.05)
    left_out = "torch-compile bf16 is left out: this processor has no AVX512_BF16"
    assert told == ([] if has_bf16 else [left_out])
    assert not results
    assert capfd.readouterr() == ("", "")


def test_onnxruntime_equals_the_network(network: nn.Module, images: Tensor, logits: Tensor) -> None:
    require("onnxruntime")
    results = outputs(make_peers(["onnxruntime"], network, images, 1), images)
    assert list(results) == ["onnxruntime fp32", "onnxruntime int8"]
    assert_close(results["onnxruntime fp32"], logits, 1e-4)
    assert_close(results["onnxruntime int8"], logits, 0.1)
    assert not torch.allclose(results["onnxruntime int8"], logits, atol=1e-5)


def test_openvino_equals_the_network(network: nn.Module, images: Tensor, logits: Tensor) -> None:
    require("openvino")
    told: list[str] = []
    results = outputs(make_peers(["openvino"], network, images, 1, told.append), images)
    assert list(results) == ["openvino fp32", "openvino default", "openvino int8"]
    assert_close(results["openvino fp32"], logits, 1e-4)
    assert_close(results["openvino default"], logits, 0.05)
    assert_close(results["openvino int8"], logits, 0.1)
    assert not torch.allclose(results["openvino int8"], logits, atol=1e-5)
    assert re.fullmatch(r"openvino default computes in (f32|bf16|f16)", "; ".join(told))


def test_openvino_sends_no_usage_data(network: nn.Module, images: Tensor) -> None:
    require("openvino")
    make_peers(["openvino"], network, images, 1)
    assert "openvino_telemetry" not in sys.modules


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_nothing_is_changed_printed_or_left_behind(
    name: str,
    network: nn.Module,
    images: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    require(name)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = {key: (value.clone(), value.stride()) for key, value in network.state_dict().items()}
    shown = images.clone()
    turned = images.contiguous(memory_format=torch.channels_last)
    for peer in make_peers([name], network, images, 1):
        y = torch.as_tensor(peer.run(images)).clone()
        assert torch.equal(torch.as_tensor(peer.run(turned)), y)
    assert network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key][0])
        assert value.stride() == before[key][1]
    assert torch.equal(images, shown)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_twice_is_once(network: nn.Module, images: Tensor) -> None:
    assert len(make_peers(["torch", "torch"], network, images, 1)) == 1
    assert make_peers([], network, images, 1) == []


def test_unknown_peer_is_refused(network: nn.Module, images: Tensor) -> None:
    message = (
        "`names`: expected any of `torch`, `torch-compile`, `onnxruntime`, `openvino`, got `tvm`"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        make_peers(["torch", "tvm"], network, images, 1)


@pytest.mark.parametrize(
    ("name", "package"), [(name, package) for name in NEEDS for package in NEEDS[name]]
)
def test_missing_package_says_what_to_install(
    name: str,
    package: str,
    network: nn.Module,
    images: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for needed in NEEDS[name]:  # as if the others were there, and this one were not
        monkeypatch.setitem(sys.modules, needed, None if needed == package else sys)
    message = (
        f"`{name}`: expected the package `{package}` to be installed, got ModuleNotFoundError; "
        "run `pip install 'irbin[peers]'`"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        make_peers(["torch", name], network, images, 1)


def test_other_number_of_threads_is_refused(network: nn.Module, images: Tensor) -> None:
    message = "`n_threads`: expected torch's own, 1, got 3; call `torch.set_num_threads` first"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        make_peers(["torch"], network, images, 3)


def test_other_images_are_refused(network: nn.Module, images: Tensor) -> None:
    (peer,) = make_peers(["torch"], network, images, 1)
    message = "torch fp32: expected images (2, 3, 32, 32), got (1, 3, 32, 32)"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        peer.run(images[:1])


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_network_that_cannot_be_taken_is_named_in_one_line(name: str, images: Tensor) -> None:
    require(name)
    with pytest.raises(UsageError, match=f"^`{name}`: expected to run the network, got ") as caught:
        make_peers([name], Fails(), images, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@compiles
def test_compiler_that_fails_is_an_error(network: nn.Module, images: Tensor) -> None:
    from torch._inductor import config

    broken = {"cpp.cxx": (None, "no-such-compiler"), "force_disable_caches": True}
    torch.compiler.reset()
    with (
        config.patch(broken),
        pytest.raises(UsageError, match=r"^`torch-compile`: expected to run the network, got "),
    ):
        make_peers(["torch-compile"], network, images, 1)
