"""What ONNX Runtime answers from exported files, beside `irbin.load`, and how long it takes.

    python -m docs.maintain.onnx_answers [--data-dir DATA] [--images N] [--speed] NETWORK…

Of every packed network: the file's bytes; on the first N images of the validation split, with ONNX
Runtime's optimizer off and on, the largest difference of a logit, how many images have another
class first, and how many signs in front of binary layers are others. With --speed: milliseconds of
a batch of 1 and of 64 on one thread, `irbin.load`, ONNX Runtime, and ONNX Runtime on
`zoo:resnet20-cifar10-float`, in turns; medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.artifact.read import Artifact, read_artifact
from irbin.artifact.schema import Manifest
from irbin.data.datasets import open_dataset
from irbin.data.loaders import eval_loader
from irbin.data.order import Feed
from irbin.exporting import export_onnx
from irbin.onnx.model import write_onnx
from irbin.onnx.package import package
from irbin.program.lower import lower
from irbin.records.options import DataOptions
from irbin.records.plan import Plan, PlanOptions
from irbin.runtime.arrays import as_array
from irbin.runtime.engine import Engine
from irbin.runtime.loading import load
from irbin.runtime.threads import set_num_threads
from irbin.sources.opened import open_network
from irbin.zoo.entries import located

FLOAT = "zoo:resnet20-cifar10-float"
TURNS = 40

Run = Callable[[NDArray[np.float32]], list[Any]]


def session(content: bytes, optimizes: bool) -> Run:
    """ONNX Runtime on one thread."""
    ort = package("onnxruntime", "onnx_answers")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimizes else levels.ORT_DISABLE_ALL
    )
    made = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = made.get_inputs()[0].name
    return lambda x: list(made.run(None, {name: x}))


def with_signs(path: Path, artifact: Artifact) -> tuple[bytes, list[str]]:
    """The file with the signs in front of binary layers as further results, and their names."""
    onnx = package("onnx", "onnx_answers")
    model = onnx.load(path)
    made = {name for node in model.graph.node for name in node.output}
    names = [n.name for n in artifact.program.nodes if n.op == "bitpack" and n.name in made]
    kind = onnx.TensorProto.FLOAT
    model.graph.output.extend(onnx.helper.make_tensor_value_info(n, kind, None) for n in names)
    return model.SerializeToString(), names


def signs(artifact: Artifact, x: NDArray[np.float32], names: Iterable[str]) -> dict[str, Any]:
    """What irbin packs, as floats were: whether each is negative."""
    inputs = {n.args[0].name: n.name for n in artifact.program.nodes if n.op == "bitpack"}  # type: ignore[union-attr]
    wanted, found = set(names), {}
    engine = Engine(artifact)

    def see(node: Any, value: Any) -> None:
        if inputs.get(node.name) in wanted:
            found[inputs[node.name]] = as_array(value) < 0

    engine.record(x, see)
    return found


def compared(source: str, path: Path, images: NDArray[np.float32]) -> None:
    """Prints a line for each setting of the optimizer."""
    artifact = read_artifact(located(source))
    content, names = with_signs(path, artifact)
    ours = np.concatenate([as_array(Engine(artifact).run(x)[0]) for x in parts(images)])
    for optimizes in (False, True):
        plain, seen = session(path.read_bytes(), optimizes), session(content, optimizes)
        theirs = np.concatenate([plain(x)[0] for x in parts(images)])
        flips = n_signs = 0
        for x in parts(images):
            said = dict(zip(names, seen(x)[1:], strict=True))
            for name, negative in signs(artifact, x, names).items():
                flips += int(((said[name] < 0) != negative).sum())
                n_signs += negative.size
        other = int((ours.argmax(1) != theirs.argmax(1)).sum())
        far = int((np.abs(ours - theirs).max(1) > 1e-3).sum())
        print(
            f"{source}: optimizer {'on' if optimizes else 'off'}, {len(images)} images: logits "
            f"within {np.abs(ours - theirs).max():.1e}, {far} images off by more than 0.001, "
            f"{other} with another class first, {flips} of {n_signs} signs are others"
        )


def parts(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """In batches."""
    return [images[at : at + 100] for at in range(0, len(images), 100)]


def first_images(folder: str, n: int, source: str) -> NDArray[np.float32]:
    """The first of the validation split, fed as the network wants it."""
    data = DataOptions(data_dir=folder, batch_size=100, workers=0)
    preprocessing = read_artifact(located(source)).manifest.source.preprocessing
    dataset = open_dataset(data, data.val_split, preprocessing, training=False)
    made: list[NDArray[np.float32]] = []
    for images, _ in eval_loader(dataset, data, Feed()):
        made.append(images.numpy())
        if sum(map(len, made)) >= n:
            break
    return np.concatenate(made)[:n]


def float_file(path: Path) -> None:
    """The float network as ONNX, written by the same rules."""
    network = open_network(FLOAT)
    size = network.source.preprocessing.input_size
    lowered = lower(network.module.eval(), size)
    plan = Plan(PlanOptions(), (), size, 0, 0, 0)
    manifest = Manifest("0", "float32", network.source, plan)
    write_onnx(Artifact("", manifest, lowered.program, lowered.tensors), path, spec=FLOAT)


def timed(source: str, path: Path, plain: Path) -> None:
    """Prints a line for each batch size."""
    set_num_threads(1)
    artifact = read_artifact(located(source))
    packed = load(source)
    runs: dict[str, Run] = {
        "irbin.load": packed.run,
        "ONNX Runtime": session(path.read_bytes(), True),
        "ONNX Runtime, float": session(plain.read_bytes(), True),
    }
    for n in (1, 64):
        size = artifact.manifest.source.preprocessing.input_size
        x = np.random.default_rng(n).standard_normal((n, *size)).astype(np.float32)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(TURNS + 3):
            for name, run in runs.items():
                begin = time.perf_counter()
                run(x)
                seconds[name].append(time.perf_counter() - begin)
        told = [f"{name} {1000 * statistics.median(s[3:]):.3f} ms" for name, s in seconds.items()]
        print(f"{source}, batch {n}, one thread: {'; '.join(told)}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m docs.maintain.onnx_answers")
    parser.add_argument(
        "networks", nargs="+", metavar="NETWORK", help="packed folders, or zoo:NAME"
    )
    parser.add_argument("--data-dir")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--speed", action="store_true")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        plain = Path(folder, "float.onnx")
        if given.speed:
            float_file(plain)
        for at, source in enumerate(given.networks):
            path = Path(folder, f"{at}.onnx")
            record = export_onnx(source, path)
            print(f"{source}: {record.total_bytes} bytes")
            if given.data_dir:
                images = first_images(given.data_dir, given.images, source)
                compared(source, path, images)
            if given.speed:
                timed(source, path, plain)


if __name__ == "__main__":
    main()
