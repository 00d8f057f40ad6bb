"""C = `irbin.load`, bit for bit: every result of every call, as the test in the folder sees it.

Networks are few and small, since each takes a compiler: one is made of many windows side by side.
Without gcc nothing here runs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import irbin
from irbin.artifact.read import Artifact, read_artifact
from irbin.artifact.schema import Manifest
from irbin.binary.activations import SignKept
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from irbin.emit.folder import write_c
from irbin.emit.vectors import images
from irbin.errors import UsageError
from irbin.program.lower import lower
from irbin.records.in_c import COptions
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.zoo.entries import located

GCC = shutil.which("gcc")
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wno-unknown-pragmas")
SIZE = (3, 9, 8)
NOT_KERNELS = {"irbin_status_text", "irbin_crc32", "irbin_test_image", "irbin_test_bytes"}

pytestmark = pytest.mark.skipif(GCC is None, reason="there is no gcc")


def binary(layer: nn.Module) -> nn.Module:
    kind = BinaryConv2d if isinstance(layer, nn.Conv2d) else BinaryLinear
    return kind.from_float(layer, Method(), EdePhase())


def norm(n: int, kind: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    """As after training: factors of both signs."""
    made = kind(n)
    for parameter in (made.weight, made.bias):
        nn.init.normal_(parameter)
    nn.init.normal_(made.running_mean, std=3)
    return made


WINDOWS: tuple[dict, ...] = (
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 2, "stride": 2},
    {"kernel_size": (1, 4), "padding": (0, 3), "stride": (2, 1)},
    {"kernel_size": (5, 2), "padding": (4, 0), "dilation": (2, 3)},
    {"kernel_size": 3, "padding": 4, "dilation": 4},
    {"kernel_size": (9, 8)},
    {"kernel_size": 2, "stride": (3, 4)},
)
CHANNELS = (1, 7, 8, 9, 15, 16, 17, 33)
"""Read by the windows; some end within a byte, a word, a block."""


class Windows(nn.Module):
    """Windows of every shape over signs and over floats; what they give has 18 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 33, 3, padding=1), norm(33)
        shapes = list(zip(CHANNELS, WINDOWS, strict=True))
        self.of_signs = nn.ModuleList(binary(nn.Conv2d(n, 18, **w)) for n, w in shapes)
        self.of_floats = nn.ModuleList(nn.Conv2d(n, 18, **w) for n, w in shapes)
        self.last = norm(18, nn.BatchNorm1d)

    def forward(self, x):
        x, total = F.hardtanh(self.norm(self.stem(x))), 0
        for n, signs, floats in zip(CHANNELS, self.of_signs, self.of_floats, strict=True):
            for conv in (signs, floats):
                part = x if n == x.shape[1] else x[:, :n]
                total = total + F.adaptive_avg_pool2d(conv(part), 1)
        return self.last(total.flatten(1))


class Signs(nn.Module):
    """Signs of the image, groups, thresholds, poolings of dots, rows; a copy in front of a row.

    What is added has all channels, and fewer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = binary(nn.Conv2d(3, 16, 3, padding=1))
        self.grouped = binary(nn.Conv2d(16, 16, 3, padding=1, groups=2))
        self.odd = binary(nn.Conv2d(16, 20, 3, padding=1, groups=4))
        self.pooled = binary(nn.Conv2d(20, 10, 3, padding=1))
        self.norms = nn.ModuleList(norm(n) for n in (16, 16, 20, 10))
        self.row, self.last = binary(nn.Linear(10 * 16, 9)), nn.Linear(9, 5)
        self.slope = nn.PReLU(16)
        nn.init.normal_(self.slope.weight)

    def forward(self, x):
        x = self.slope(self.norms[0](self.stem(x)))
        x = F.hardtanh(self.norms[1](self.grouped(x)) + x)
        x = F.hardtanh(self.norms[2](self.odd(x)) + F.pad(x, (0, 0, 0, 0, 1, 3)))
        x = F.hardtanh(self.norms[3](F.max_pool2d(self.pooled(x), 2)))
        return self.last(F.relu(self.row(x.flatten(1))))


class Floats(nn.Module):
    """What else there is of floats: depthwise, groups, boxes, joins, gates, means, maxima."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth = (
            nn.Conv2d(3, 16, 3, padding=1),
            nn.Conv2d(16, 16, 3, 2, 1, groups=16),
        )
        self.grouped = nn.Conv2d(16, 32, 3, padding=1, groups=2)
        self.squeeze, self.excite = nn.Conv2d(32, 9, 1), nn.Conv2d(9, 32, 1)
        self.norms = nn.ModuleList(norm(16) for _ in range(2))
        self.body = binary(nn.Conv2d(60, 20, 3, padding=1))

    def forward(self, x):
        image = F.pad(F.max_pool2d(x, 3, 2, 1), (0, 0, 0, 0, 1, 0))
        x = self.depth(F.max_pool2d(F.relu(self.norms[0](self.stem(x))), 3, 1, 1))
        y = F.relu6(self.grouped(x))
        x = F.max_pool2d(F.relu(self.norms[1](x)), 3, 1, 1)
        scale = F.hardtanh(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        y = F.relu(y * scale + scale)
        neighbors = y.reshape(y.shape[0], 8, 4, *y.shape[2:]).mean(2)
        y = torch.cat((y, image, x, neighbors), 1)
        y = F.avg_pool2d(y, 2, 1, 1, ceil_mode=True, count_include_pad=False)
        y = F.pad(self.body(y)[:, 1:19, ::2, 1:], (1, 0, 0, 2), value=-1.5) - 0.25
        return F.max_pool2d(y, 3, 2, ceil_mode=True)


class Moves(nn.Module):
    """Numbers moved and met outside of kernels, on the image, on parts, on turned ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 16, 1), binary(nn.Conv2d(16, 16, 3, padding=1))
        self.row = nn.Linear(8, 6)
        self.of_pixels, self.of_groups = nn.LayerNorm(18), nn.GroupNorm(3, 18)
        for one in (self.of_pixels, self.of_groups):
            nn.init.normal_(one.weight)
            nn.init.normal_(one.bias)

    def forward(self, x):
        image = F.relu(x.flatten(2))[:, :, ::3].transpose(1, 2)
        x = self.body(self.stem(x.flip(3)))
        first, second, third = x.split((5, 5, 6), 1)
        mixed = first * second - third[:, 1:] / 3 + (1.5 - first).abs() * first.square()
        mixed = torch.maximum(mixed, torch.minimum(second, first))
        mixed = torch.cat((mixed, third, x[:, :7, :1].expand(-1, -1, 9, -1)), 1)
        mixed = self.of_groups(mixed) + self.of_pixels(mixed.permute(0, 2, 3, 1)).permute(
            0, 3, 1, 2
        )
        mixed = mixed.reshape(-1, 3, 6, 9, 8).transpose(1, 2).reshape(-1, 18, 9, 8)
        mixed = F.interpolate(mixed, scale_factor=2) - (mixed < 0).float().repeat(1, 1, 2, 2)
        mixed = F.pixel_shuffle(mixed[:, :16], 2).roll((3, -2), (2, 3))
        mixed = F.max_pool2d(mixed, 4).reshape(-1, 4, 9, 8)
        mixed = torch.stack((mixed, -mixed), 1).sum(1) + (mixed * mixed + 1).reciprocal()
        return self.row(mixed), image


class Pairs(nn.Module):
    """Tensors that meet number by number, with signs behind; means and parts of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.rows = nn.Conv2d(3, 20, 1), binary(nn.Linear(10, 24))
        self.body, self.head = binary(nn.Conv2d(8, 9, 3)), nn.Linear(17, 4)

    def forward(self, x):
        first, second = self.stem(x).chunk(2, 1)
        y = self.rows((first * second).permute(0, 2, 3, 1))
        one, other, third = y.split(8, -1)
        y = F.silu(one * other - third)
        z = self.body(y.permute(0, 3, 1, 2) * torch.tanh(third).permute(0, 3, 1, 2))
        means = (z.mean((2, 3)), y.flatten(1, 2).mean(1))
        return self.head(torch.cat(means, 1)), y.mean((1, 2), keepdim=True)


class Activations(nn.Module):
    """All of them, behind layers whose results are as large as those they differ at."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.kept = nn.Conv2d(3, 33, 3, padding=1), SignKept(nn.GELU())
        self.bodies = nn.ModuleList(binary(nn.Conv2d(33, 33, 1)) for _ in range(10))
        self.norms = nn.ModuleList(norm(33) for _ in range(10))

    def forward(self, x):
        x, parts = self.stem(x), []
        kinds = (F.silu, F.sigmoid, F.hardswish, F.hardsigmoid, F.gelu, torch.tanh, F.elu)
        kinds = (*kinds, self._gelu, F.mish, self.kept)
        for conv, of, f in zip(self.bodies, self.norms, kinds, strict=True):
            x = f(of(conv(x)))
            parts.append(x)
        return torch.cat(parts, 1)

    @staticmethod
    def _gelu(x):
        return F.gelu(x, approximate="tanh")


class Attends(nn.Module):
    """Attention of images' pixels and of rows, heads of odd sizes, with masks and without."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 3 * 21, 3, 2, 1), nn.LayerNorm(21)
        self.rows, self.last = binary(nn.Linear(21, 3 * 34)), binary(nn.Linear(34, 5))
        self.mask = nn.Buffer(torch.randn(1, 2, 20, 20).masked_fill(torch.rand(20, 20) > 0.7, -1e9))

    def forward(self, x):
        x = self.stem(x)
        y = F.scaled_dot_product_attention(*self.heads(x.flatten(2).mT, 3))
        y = F.hardtanh(y.transpose(1, 2).reshape(-1, 20, 21))
        y = self.norm(x.flatten(2).mT[..., :21] + y)
        q, k, v = self.heads(self.rows(y), 2)
        z = F.scaled_dot_product_attention(q, k, v, self.mask, scale=0.5)
        return self.last(z.transpose(1, 2).reshape(-1, 20, 34))

    @staticmethod
    def heads(x, n: int):
        """Queries, keys and values out of one tensor of rows."""
        return x.reshape(-1, 20, 3, n, x.shape[-1] // (3 * n)).permute(2, 0, 3, 1, 4).unbind(0)


class Products(nn.Module):
    """Products of computed tensors, softmax along any axis, attention of windows, with masks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.rows = nn.Conv2d(3, 18, 3, padding=1), binary(nn.Linear(18, 9))
        self.few = nn.Conv2d(18, 36, 3, padding=1, groups=18)
        self.of_windows = binary(nn.Conv2d(3, 3, 3, padding=1))
        self.mask = nn.Buffer(torch.rand(12, 12) > 0.3)
        self.added = nn.Buffer(torch.randn(3, 1, 6))

    def forward(self, x):
        x = F.relu(self.few(self.stem(x)))[:, ::2]
        of_heads = x.reshape(-1, 3, 6, 72)
        scores = of_heads @ of_heads.mT * 0.25
        y = (scores.softmax(-1) @ of_heads).reshape(-1, 18, 9, 8)
        shares = (y * x).softmax(1)
        windows = shares.reshape(-1, 3, 6, 3, 3, 8).permute(0, 3, 1, 4, 5, 2).reshape(-1, 3, 24, 6)
        windows = F.relu(F.max_pool2d(self.of_windows(windows), 3, 1, 1))
        z = F.scaled_dot_product_attention(windows[:, :, ::2], windows, windows)
        z = z.reshape(-1, 3, 12, 18)
        z = F.scaled_dot_product_attention(z, z, z, self.mask) * z
        half = z[:, :, 1::2]
        z = F.scaled_dot_product_attention(z, half, half, self.added, scale=0.5)
        return self.rows(z) @ z.transpose(1, 2).reshape(-1, 3, 9, 24), (y * x).softmax(2)


def of_floats(layer: nn.Conv2d) -> nn.Module:
    return BinaryConv2d.from_float(layer, Method(binary_activations=False), EdePhase())


class SignsForFloats(nn.Module):
    """Weights that are signs, of the image's planes too, pooled and not, one in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = of_floats(nn.Conv2d(3, 13, 3, padding=(2, 1)))
        self.pooled = of_floats(nn.Conv2d(13, 24, (3, 2), 1, 1, dilation=(2, 1), bias=True))
        self.grouped = of_floats(nn.Conv2d(24, 16, 3, padding=1, groups=2))
        self.dilated = of_floats(nn.Conv2d(16, 9, 3, padding=2, dilation=2))
        self.norms = nn.ModuleList(norm(n) for n in (13, 24, 16))
        self.last = of_floats(nn.Conv2d(9, 5, 1))

    def forward(self, x):
        x = F.relu(self.norms[0](self.stem(x)))
        x = F.relu(self.norms[1](F.max_pool2d(self.pooled(x), 2, 1)))
        x = F.hardtanh(self.norms[2](self.grouped(x)) + x[:, :16])
        return self.last(self.dilated(x)).mean((2, 3))


class Bytes(nn.Module):
    """First layers that read pixels: odd windows, one pooled, one grown over the border."""

    def __init__(self) -> None:
        super().__init__()
        self.pooled, self.wide = nn.Conv2d(3, 19, 3, 2, 1), nn.Conv2d(3, 9, (2, 5), 1, 3, 2)
        self.norms = nn.ModuleList((norm(19), norm(9)))
        self.last = binary(nn.Linear(28, 4))

    def forward(self, x):
        one = F.max_pool2d(F.relu(self.norms[0](self.pooled(x))), 3, 2, 1)
        other = F.hardswish(self.norms[1](self.wide(x)))
        both = torch.cat([part.mean((2, 3)) for part in (one, other)], 1)
        return self.last(both)


class Folds(nn.Module):
    """One number of several, choices by what is compared, letters, other windows, other sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 12, 3, padding=1), binary(nn.Conv2d(12, 12, 1))
        self.lines = nn.Conv1d(12, 8, 3, 2, 1, dilation=2, groups=2)
        self.depth = nn.Conv1d(12, 12, 5, padding=2, groups=12, bias=False)
        self.larger = nn.ConvTranspose2d(12, 18, (3, 2), (2, 3), (1, 0), (1, 0), 2)
        self.dense = nn.ConvTranspose2d(12, 9, 3, 1, 2, dilation=2)
        self.mask = nn.Buffer(torch.rand(9, 8) > 0.4)
        self.of_rows, self.last = nn.RMSNorm(12), binary(nn.Linear(12, 7))

    def forward(self, x):
        x = self.body(self.stem(x))
        zeros = x.new_zeros((9, 8))
        zeros[2:, :3] = 2
        y = x / x.sum((1, 3), keepdim=True) + F.normalize(x, dim=1) + zeros
        spread = x.var(1, keepdim=True) + x.std((2, 3), keepdim=True, unbiased=False)
        y = y * torch.rsqrt(x.square().sum((2, 1), keepdim=True)) + (spread + 0.5).sqrt()
        y = torch.where(y > x, y, -x) + torch.where(y != y, 0.0, y).exp()
        y = y.masked_fill(self.mask, -0.75) - (x == x.amax((1, 2), keepdim=True)).float()
        lost = (y < 0) & (x.flip(3) <= 0.25).logical_not() | self.mask
        y = torch.where(lost, x.amin(1, keepdim=True), y).abs() ** 0.5
        y = torch.where(y >= 0.75, y, x)
        z = torch.einsum("nchw,nkhw->nckh", x, y), torch.einsum("nchw,wk->nhck", y, self.few())
        rows = self.of_rows(y.flatten(2).mT).mT
        lines = self.lines(rows), self.depth(rows)
        sizes = [F.interpolate(one, (13, 10), mode="bilinear") for one in (x, self.dense(y))]
        corners = F.interpolate(self.larger(x), (5, 6), mode="bilinear", align_corners=True)
        return self.last(y.mT.mean((2, 3))), *z, *lines, *sizes, corners

    def few(self):
        """Computed from a constant."""
        return self.mask.float().mT.cumsum(1)


NETWORKS = {
    "folds": Folds,
    "windows": Windows,
    "signs": Signs,
    "floats": Floats,
    "signs_for_floats": SignsForFloats,
    "attends": Attends,
    "products": Products,
    "moves": Moves,
    "pairs": Pairs,
    "activations": Activations,
    "bytes": Bytes,
}


@cache
def artifact(name: str) -> Artifact:
    torch.manual_seed(sum(map(ord, name)))
    lowered = lower(NETWORKS[name]().eval(), SIZE)
    source = SourceRecord("s", "timm:s", 2, Preprocessing(input_size=SIZE))
    plan = Plan(PlanOptions(), (), SIZE, 0, 0, 0)
    return Artifact("", Manifest("0", "float32", source, plan), lowered.program, lowered.tensors)


def build(folder: Path, *flags: str) -> Path:
    """The folder's test, compiled as someone without CMake would."""
    program = folder / "t"
    sources = [*map(str, folder.glob("*.c")), str(folder / "test" / "main.c")]
    sources += map(str, folder.glob("simd/*.c"))
    command = [str(GCC), *flags, *STRICT, "-DIRBIN_TRACE", f"-I{folder}", *sources]
    done = subprocess.run(
        [*command, "-lm", "-o", str(program)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return program


def said(program: Path, folder: Path) -> tuple[int, str]:
    """Exit status and last line of the test."""
    command = [str(program), str(folder / "test" / "vectors.bin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a network, written once."""

    @cache
    def write(name: str) -> Path:
        out = tmp_path_factory.mktemp("c") / "net"
        read = "uint8" if name == "bytes" else "float32"
        options = COptions("net", input=read, test_images=2)
        write_c(artifact(name), out, spec=name, options=options)
        return out

    return write


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["-std=c11 -O1", "-std=gnu11 -O3 -march=native"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_result_is_equal(written, name: str, flags: str) -> None:
    folder = written(name)
    status, text = said(build(folder, *flags.split()), folder)
    assert status == 0, text
    assert text.endswith("each: equal\n")


@pytest.fixture(scope="module")
def written_with_sets(tmp_path_factory):
    """The folder of a network with kernels for several instruction sets, written once."""

    @cache
    def write(name: str) -> Path:
        out = tmp_path_factory.mktemp("c") / "net"
        read = "uint8" if name == "bytes" else "float32"
        options = COptions("net", input=read, test_images=1, kernels="simd")
        write_c(artifact(name), out, spec=name, options=options)
        return out

    return write


def runs(kernels: str) -> bool:
    """Whether this processor has the instructions."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    needed = {"avx512": ("avx512_vpopcntdq", "avx512bw"), "avx2": ("avx2", "fma")}
    return all(flag in flags.split() for flag in needed.get(kernels, ()))


SANITIZED = ("-std=c11", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module")
def sets(written_with_sets, tmp_path_factory) -> list[str]:
    """The kernels of every set, compiled once: networks share them."""
    folder, place = written_with_sets("signs"), tmp_path_factory.mktemp("sets")
    objects = []
    for name in ("irbin_nn", "simd/avx512", "simd/avx2", "simd/neon"):
        objects.append(str(place / f"{Path(name).name}.o"))
        command = [str(GCC), *SANITIZED, *STRICT, "-c", str(folder / f"{name}.c")]
        subprocess.run([*command, "-o", objects[-1]], check=True)
    return objects


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["avx512", "avx2", "portable"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_set_of_instructions_gives_the_same_bits(
    written_with_sets, sets, name: str, kernels: str
) -> None:
    if not runs(kernels):
        pytest.skip(f"no {kernels}")
    folder = written_with_sets(name)
    program = folder / f"t_{kernels}"
    files = ("net.c", "net_weights.c", "test/main.c", "simd/select.c")
    sources = [str(folder / file) for file in files]
    flags = [*SANITIZED, "-DIRBIN_TRACE", f"-DIRBIN_ONLY=irbin_{kernels}", f"-I{folder}"]
    command = [str(GCC), *flags, *sources, *sets, "-lm", "-o", str(program)]
    subprocess.run(command, check=True)
    status, text = said(program, folder)
    assert status == 0, text
    assert text.endswith("each: equal\n")


@pytest.mark.slow
def test_a_set_is_chosen_when_it_runs(written_with_sets) -> None:
    folder = written_with_sets("signs")
    assert "nn->bconv2d(&conv, " in (folder / "net.c").read_text()
    status, text = said(build(folder, "-std=c11", "-O2"), folder)
    assert status == 0, text


@pytest.mark.slow
def test_constants_in_a_file_are_the_same(tmp_path) -> None:
    """The assembler takes them in; the self-test takes their checksum."""
    out = tmp_path / "net"
    options = COptions("net", weights="binary", test_images=1)
    write_c(artifact("signs"), out, spec="signs", options=options)
    assert not (out / "net_weights.c").exists()
    status, text = said(build(out, "-O1", f"-Wa,-I{out}", str(out / "net_weights.S")), out)
    assert (status, text.endswith("each: equal\n")) == (0, True), text
    content = bytearray((out / "net_weights.bin").read_bytes())
    content[0] ^= 1
    (out / "net_weights.bin").write_bytes(content)
    status, text = said(build(out, "-O1", f"-Wa,-I{out}", str(out / "net_weights.S")), out)
    assert status == 1
    assert "the weights are not those that were exported" in text


def test_what_reads_floats_alone_reads_no_bytes(tmp_path) -> None:
    why = r"\(`\w+` \(bitpack\) reads them\), got `uint8`$"
    with pytest.raises(UsageError, match=rf"^`input`: expected `float32` of this network {why}"):
        write_c(artifact("signs"), tmp_path / "out", spec="s", options=COptions(input="uint8"))
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_the_networks_call_every_kernel(written) -> None:
    declared = set(re.findall(r"\b(irbin_\w+)\(", (written("signs") / "irbin_nn.h").read_text()))
    called = {
        function
        for name in NETWORKS
        for function in re.findall(r"\b(irbin_\w+)\(", (written(name) / "net.c").read_text())
    }
    assert declared - NOT_KERNELS - called == set()


@pytest.mark.slow
def test_another_bit_is_told(written, tmp_path) -> None:
    """The test that comes with the folder can fail: one bit of one weight, and the self-test."""
    folder = shutil.copytree(written("signs"), tmp_path / "net")
    source = folder / "net_weights.c"
    text = source.read_text()
    at = text.index("0x", text.index("_weight["))
    bit = text[at : at + 10]
    source.write_text(text.replace(bit, f"0x{int(bit, 16) ^ 1:08x}", 1))
    status, text = said(build(folder, "-O1"), folder)
    assert status == 1
    assert re.search(r"^result 0 differs$|^result \d+ differs$", text, re.MULTILINE)
    assert "the weights are not those that were exported" in text
    assert text.endswith("NOT equal\n")


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-ffinite-math-only"])
def test_fast_math_does_not_compile(written, flag: str) -> None:
    source = str(written("signs") / "irbin_nn.c")
    command = [str(GCC), flag, "-fsyntax-only", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "compile without -ffast-math" in done.stderr


@pytest.mark.slow
def test_a_program_tells_how_long_an_image_takes(written, tmp_path) -> None:
    folder, program = written("bytes"), tmp_path / "time"
    sources = [*map(str, folder.glob("*.c")), str(folder / "test" / "time.c")]
    command = [str(GCC), "-std=c11", "-O1", *STRICT, f"-I{folder}", *sources, "-lm"]
    subprocess.run([*command, "-o", str(program)], check=True)
    wanted = r"net: median \d+\.\d{3} ms an image, fastest \d+\.\d{3}, of 3 runs, one thread\n"
    assert re.fullmatch(wanted, subprocess.check_output([str(program), "3"], text=True))
    for wrong in ("0", "many", "10001"):
        done = subprocess.run([str(program), wrong], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout[:16]) == (2, "usage: net_time ")


@pytest.mark.slow
def test_a_program_tells_what_is_in_a_picture(written, tmp_path) -> None:
    """Of a size of its own; what is no picture is told in a line."""
    folder, program = written("bytes"), tmp_path / "classify"
    sources = [*map(str, folder.glob("*.c")), str(folder / "test" / "classify.c")]
    command = [str(GCC), "-std=c11", "-O1", *STRICT, f"-I{folder}", *sources, "-lm"]
    subprocess.run([*command, "-o", str(program)], check=True)
    picture = tmp_path / "picture.ppm"
    whole = b"P6\n# of noise\n12 7\n255\n" + bytes(range(252))
    picture.write_bytes(whole)
    assert re.fullmatch(
        r"[0-3] \(logit -?\d+\.\d{3}\)\n",
        subprocess.check_output([str(program), picture], text=True),
    )
    for content in (whole[:-1], b"P5" + whole[2:], whole.replace(b"255", b"254"), b"", None):
        picture.unlink()
        if content is not None:
            picture.write_bytes(content)
        done = subprocess.run([program, picture], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"{picture}: expected a whole picture as binary PPM (P6)")
        picture.touch()


@pytest.mark.slow
def test_a_network_of_the_zoo_answers_as_it_does_when_loaded(tmp_path) -> None:
    """`vectors.bin` holds what the public `irbin.load` gives, and the C gives it too."""
    entry, out = "zoo:resnet20-cifar10-1w1a", tmp_path / "net"
    write_c(read_artifact(located(entry)), out, spec=entry, options=COptions("net", test_images=2))
    content = (out / "test" / "vectors.bin").read_bytes()
    _, n_results, n_in, n_out = np.frombuffer(content[8:24], "<u4").tolist()
    each = np.frombuffer(content[24:], "<u4").reshape(2, n_in + n_out + n_results)
    drawn = images((3, 32, 32), 2)
    answers = np.asarray(irbin.load(entry).run(drawn))
    assert np.array_equal(each[:, :n_in], drawn.reshape(2, -1).view("<u4"))
    assert np.array_equal(each[:, n_in : n_in + n_out], answers.view("<u4"))
    for level in ("-O0", "-Os", "-O3"):
        status, text = said(build(out, "-std=c11", level), out)
        assert status == 0, text
