"""The float network on other people's runtimes, each at its best, for `irbin bench`.

Float32 everywhere, and beside it what a runtime computes faster with: bfloat16 where the processor
has it, 8-bit integers (activations u8, weights s8 per channel) calibrated after training. Made for
timing: the integers are calibrated on the images to be timed, so they say nothing of accuracy.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from irbin.bench.normalizing import INPUT, Given, Normalize, join_onnx, of_bytes
from irbin.errors import UsageError
from irbin.messages import with_class
from irbin.records.options import Preprocessing

Run = Callable[[Tensor], Any]
Made = Iterator[tuple[str, str, Run]]
"""The peer's name, the package that computes, and how to run it."""

PEERS = ("torch", "torch-compile", "onnxruntime", "openvino")
NEEDS = {"onnxruntime": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino", "nncf")}
"""Packages of `irbin[peers]` behind a peer."""

N_CALIBRATION = 4
"""Batches that the ranges of activations are taken from: the images, then with noise added."""
NOISE = 0.1
"""Its standard deviation; normalized images have one near 1."""


@dataclass(frozen=True, eq=False)
class Peer:
    """A float network on one runtime at one precision. Made here, timed by benchmarks."""

    name: str
    """`torch fp32`, `torch-compile fp32`, `torch-compile bf16`, `onnxruntime fp32`, `onnxruntime
    int8`, `openvino fp32`, `openvino default` (the precision it chooses itself) or `openvino
    int8`."""
    version: str
    """Of the package that computes."""
    run: Run
    """One inference, done when it returns: images as it was made for to a tensor or array (batch,
    num_classes)."""


def make_peers(
    names: Sequence[str],
    module: nn.Module,
    images: Tensor,
    n_threads: int,
    report: Callable[[str], None] | None = None,
    normalization: Preprocessing | None = None,
) -> list[Peer]:
    """A float network on each of the runtimes named, at each of their precisions, warmed up.

    The module is copied, never changed. Nothing is printed and no file is left behind.

    Args:
        names: of `PEERS`; twice is once.
        module: float32 network on the CPU, (batch, channels, height, width) to (batch,
            num_classes).
        images: float32 (batch, channels, height, width), or bytes, uint8 (batch, height, width,
            channels); the peers run batches of this shape only, and calibrate on it.
        n_threads: how many each runtime computes on; torch must be set to as many already.
        report: told in one line what is left out, and what a runtime chose by itself.
        normalization: of bytes, which each runtime does in the way it offers.

    Raises:
        UsageError: there is no such peer, its package is not installed, torch is set to another
            number of threads, or the runtime cannot take the network (for `torch-compile` also:
            no C++ compiler works).
    """
    _check(names, n_threads)
    peers: list[Peer] = []
    for name in dict.fromkeys(names):
        notes: list[str] = []
        with _taking(name), _quiet(), torch.no_grad():
            network = copy.deepcopy(module).eval()
            given = Given(network, images, normalization)
            for label, package, run in _MAKERS[name](given, n_threads, notes):
                run(images)
                peers.append(Peer(label, _version(package), _fixed(label, images.shape, run)))
        if report is not None:  # after `_quiet`, where its listener may print again
            for note in notes:
                report(note)
    return peers


def _torch(given: Given, *_: object) -> Made:
    yield "torch fp32", "torch", _channels_last(given.network)


def _torch_compile(given: Given, _: int, notes: list[str]) -> Made:
    network, images = given.network, given.images
    yield "torch-compile fp32", "torch", _compiled(network, images, bf16=False)
    if torch.cpu._is_avx512_bf16_supported():
        yield "torch-compile bf16", "torch", _compiled(network, images, bf16=True)
    else:
        notes.append("torch-compile bf16 is left out: this processor has no AVX512_BF16")


def _channels_last(network: nn.Module, bf16: bool = False, compiled: bool = False) -> Run:
    network = network.to(memory_format=torch.channels_last)
    call = torch.compile(network, dynamic=False) if compiled else network

    def run(images: Tensor) -> Any:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            if images.dtype == torch.uint8:
                return call(images)
            return call(images.contiguous(memory_format=torch.channels_last))

    return run


def _compiled(network: nn.Module, images: Tensor, bf16: bool) -> Run:
    """Compiled, with the weights frozen, by a first call.

    A later call that differed in shape, threads or autocast would compile again, unfrozen. Without
    our limits torch would run the ninth network of a class uncompiled, and not say so.
    """
    from torch._dynamo import config as dynamo
    from torch._inductor import config as inductor

    run = _channels_last(network, bf16, compiled=True)
    limits = {"recompile_limit": 256, "fail_on_recompile_limit_hit": True}
    with inductor.patch(freezing=True), dynamo.patch(limits):
        run(images)
    return run


def _onnxruntime(given: Given, n_threads: int, _: list[str]) -> Made:
    with TemporaryDirectory() as folder:
        plain, quantized = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        _export_onnx(given.plain, given.normalized, plain)
        _quantize_onnx(plain, quantized, given.normalized)
        if given.normalization is not None:
            first = Path(folder, "normalize.onnx")
            _export_onnx(Normalize(given.normalization), given.images, first)
            for path in (plain, quantized):
                join_onnx(first, path)
        yield "onnxruntime fp32", "onnxruntime", _session(plain, n_threads)
        yield "onnxruntime int8", "onnxruntime", _session(quantized, n_threads)


def _export_onnx(network: nn.Module, images: Tensor, path: Path) -> None:
    torch.onnx.export(
        network,
        (images,),
        path,
        input_names=[INPUT],
        opset_version=18,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _quantize_onnx(plain: Path, quantized: Path, images: Tensor) -> None:
    """Writes `quantized`: activations u8, since with s8 most convolutions would stay float."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    fused = plain.with_name("fused.onnx")
    quant_pre_process(plain, fused)
    feeds = iter([{INPUT: batch} for batch in _calibration(images)])
    quantize_static(
        fused,
        quantized,
        SimpleNamespace(get_next=lambda: next(feeds, None)),
        quant_format=QuantFormat.QDQ,
        calibrate_method=CalibrationMethod.MinMax,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


def _session(path: Path, n_threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    # threads that wait for work after a run would take the cores from whoever is timed next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Any:
        return session.run(None, {INPUT: images.contiguous().numpy()})[0]

    return run


def _openvino(given: Given, n_threads: int, notes: list[str]) -> Made:
    import nncf
    import openvino

    images = given.normalized
    plain = openvino.convert_model(
        given.plain, example_input=images, input=[tuple(images.shape)], share_weights=False
    )
    batches = _calibration(images)
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars
        quantized = nncf.quantize(plain, nncf.Dataset(batches), subset_size=len(batches))
    if given.normalization is not None:
        plain, quantized = (of_bytes(one, given.normalization) for one in (plain, quantized))
    settings = {"INFERENCE_NUM_THREADS": n_threads, "PERFORMANCE_HINT": "LATENCY"}
    in_float32 = {**settings, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    yield "openvino fp32", "openvino", _request(core.compile_model(plain, "CPU", in_float32))
    compiled = core.compile_model(plain, "CPU", settings)
    yield "openvino default", "openvino", _request(compiled)
    yield "openvino int8", "openvino", _request(core.compile_model(quantized, "CPU", settings))
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    notes.append(f"openvino default computes in {precision}")


def _request(compiled: Any) -> Run:
    import openvino

    request = compiled.create_infer_request()

    def run(images: Tensor) -> Any:
        batch = openvino.Tensor(images.contiguous().numpy(), shared_memory=True)
        return request.infer([batch], share_inputs=True)[0]

    return run


_MAKERS: dict[str, Callable[[Given, int, list[str]], Made]] = dict(
    zip(PEERS, (_torch, _torch_compile, _onnxruntime, _openvino), strict=True)
)


def _check(names: Sequence[str], n_threads: int) -> None:
    """Before anything slow begins."""
    unknown = next((name for name in names if name not in PEERS), None)
    if unknown is not None:
        known = ", ".join(f"`{peer}`" for peer in PEERS)
        raise UsageError(f"`names`: expected any of {known}, got `{unknown}`")
    if n_threads != (now := torch.get_num_threads()):
        raise UsageError(
            f"`n_threads`: expected torch's own, {now}, got {n_threads}; call "
            "`torch.set_num_threads` first"
        )
    for package, peer in [(package, name) for name in names for package in NEEDS.get(name, ())]:
        try:
            with _quiet(), _no_telemetry():
                importlib.import_module(package)
        except ImportError as error:
            raise UsageError(
                f"`{peer}`: expected the package `{package}` to be installed, got "
                f"{type(error).__name__}; run `pip install 'irbin[peers]'`"
            ) from error


@contextlib.contextmanager
def _no_telemetry() -> Iterator[None]:
    """OpenVINO and NNCF, imported within, send no usage data; a thread would, amid timings."""
    name = "openvino_telemetry"
    kept = sys.modules.pop(name, None)
    sys.modules[name] = None  # type: ignore[assignment]  # cannot be imported; both do without
    try:
        yield
    finally:
        del sys.modules[name]
        if kept is not None:
            sys.modules[name] = kept


@contextlib.contextmanager
def _taking(name: str) -> Iterator[None]:
    """What a runtime raises over the network becomes one line."""
    try:
        yield
    except Exception as error:
        why = with_class(error)
        raise UsageError(f"`{name}`: expected to run the network, got {why}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallows warnings, and log lines below errors; raises what is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _fixed(name: str, shape: torch.Size, run: Run) -> Run:
    """Refuses other shapes, which some runtimes would take, but much slower."""

    def checked(images: Tensor) -> Any:
        if images.shape != shape:
            raise UsageError(f"{name}: expected images {tuple(shape)}, got {tuple(images.shape)}")
        return run(images)

    return checked


def _version(package: str) -> str:
    return str(sys.modules[package].__version__).partition("-")[0]  # without openvino's build


def _calibration(images: Tensor) -> list[Any]:
    """Arrays as `images`: float32 (batch, channels, height, width)."""
    generator = torch.Generator().manual_seed(0)
    noises = [torch.randn(images.shape, generator=generator) for _ in range(N_CALIBRATION - 1)]
    return [images.contiguous().numpy(), *((images + NOISE * noise).numpy() for noise in noises)]
