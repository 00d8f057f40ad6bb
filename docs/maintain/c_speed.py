"""A program of its own: how long an image takes in exported C, against `irbin.load`.

    OMP_NUM_THREADS=1 python -m docs.maintain.c_speed zoo:resnet20-cifar10-1w1a \
        [--float]

Needs gcc. All take turns on one thread; medians, and ratios to `irbin.load`. `--float` adds
`zoo:resnet20-cifar10-float` in ONNX Runtime and, where it is installed, OpenVINO.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import irbin
from docs.maintain.onnx_answers import float_file

FLAGS = ("gcc", "-std=c11", "-O3", "-ffp-contract=off", "-w", "-shared", "-fPIC")
WAYS = {
    "C, portable": ("portable", ()),
    "C, portable, -march=native": ("portable", ("-march=native",)),
    "C, simd": ("simd", ()),
    "C, simd, AVX2": ("simd", ("-DIRBIN_ONLY=irbin_avx2",)),
}
Call = Callable[[], Any]


def in_c(source: str, place: Path, kernels: str, flags: tuple[str, ...], image: np.ndarray) -> Call:
    """A call of the network's function.

    Args:
        source: what `irbin.export_c` takes.
        place: a folder to build in.
        kernels: which of them.
        flags: of the compiler, further ones.
        image: (1, channels, height, width).
    """
    folder = place / "net"
    options = irbin.COptions("net", test_images=1, kernels=kernels)  # type: ignore[arg-type]
    irbin.export_c(source, folder, c_options=options)
    files = [str(path) for path in (*folder.glob("*.c"), *folder.glob("simd/*.c"))]
    library = place / "net.so"
    subprocess.run([*FLAGS, *flags, *files, "-lm", "-o", str(library)], check=True)
    run = ctypes.CDLL(str(library)).net_run
    header = (folder / "net.h").read_text(encoding="utf-8")
    lines = [line.split()[1:] for line in header.splitlines() if line.startswith("#define NET_")]
    sizes = dict(line for line in lines if len(line) == 2)
    n_bytes = int(sizes["NET_ARENA_BYTES"])
    arena = np.empty(n_bytes + 64, np.uint8)
    begin = -arena.ctypes.data % 64
    logits = np.empty(int(sizes["NET_OUTPUT_FLOATS"]), np.float32)
    pointers = [
        ctypes.c_void_p(at)
        for at in (image.ctypes.data, logits.ctypes.data, arena.ctypes.data + begin)
    ]
    run(*pointers, ctypes.c_size_t(n_bytes))
    if not np.array_equal(logits, np.asarray(irbin.load(source).run(image)).reshape(-1)):
        raise SystemExit(f"{kernels}: other logits than irbin.load")

    used = (image, arena, logits)  # they live as long as what reads and writes them
    return lambda: (run(*pointers, ctypes.c_size_t(n_bytes)), used)


def of_floats(place: Path, image: np.ndarray) -> dict[str, Call]:
    """The float network where others run it."""
    import onnxruntime

    path = place / "float.onnx"
    float_file(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    calls: dict[str, Call] = {"float, ONNX Runtime": lambda: session.run(None, {name: image})}
    try:
        import openvino
    except ImportError:
        return calls
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().read_model(str(path))
    model.reshape(image.shape)
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    calls["float, OpenVINO"] = lambda: request.infer([image])
    return calls


def measured(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Medians in milliseconds of calls that take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            for _ in range(3):
                call()
            begin = time.perf_counter()
            for _ in range(5):
                call()
            times[name].append((time.perf_counter() - begin) / 5 * 1e3)
    return {name: median(taken) for name, taken in times.items()}


def main() -> None:
    """Prints a line a way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("--float", action="store_true")
    parser.add_argument("--rounds", type=int, default=200)
    asked = parser.parse_args()
    loaded = irbin.load(asked.source)
    shape = (1, *loaded.manifest.source.preprocessing.input_size)
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        calls: dict[str, Call] = {"irbin.load": lambda: loaded.run(image)}
        for number, (name, (kernels, flags)) in enumerate(WAYS.items()):
            place = Path(folder, str(number))
            place.mkdir()
            calls[name] = in_c(asked.source, place, kernels, flags, image)
        if asked.float:
            calls |= of_floats(Path(folder), image)
        taken = measured(calls, asked.rounds)
    for name, milliseconds in taken.items():
        ratio = milliseconds / taken["irbin.load"]
        print(f"{name}: {milliseconds:.3f} ms, {ratio:.2f} times irbin.load")


if __name__ == "__main__":
    main()
