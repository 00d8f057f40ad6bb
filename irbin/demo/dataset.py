"""The demo's data: a balanced subset of Fashion-MNIST, unpacked as an ordinary image folder.

Fashion-MNIST (Xiao et al., 2017) is under the MIT licence, which lies beside the file.
`python -m irbin.demo.dataset FOLDER` makes the embedded file again from the original idx files.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irbin.errors import DataError
from irbin.files import whole_folder

CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
N_PER_CLASS = {"train": 600, "val": 100}
_IDX_PREFIX = {"train": "train", "val": "t10k"}
_FILE = "fashion-mnist-subset.npz"


def load_subset() -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """The embedded images by split: pixels (n, 28, 28) and labels (n,)."""
    with as_file(files("irbin.demo") / "data" / _FILE) as path, np.load(path) as archive:
        return {s: (archive[f"{s}_images"], archive[f"{s}_labels"]) for s in N_PER_CLASS}


def write_image_folder(destination: Path, report: Callable[[int, int], None] | None = None) -> None:
    """Writes `destination`/{train,val}/<class>/<index>.png; whole or not at all."""
    from PIL import Image

    subset = load_subset()
    n_images, n_done = sum(len(labels) for _, labels in subset.values()), 0
    with whole_folder(destination) as partial:
        for split, (images, labels) in subset.items():
            for name in CLASSES:
                (partial / split / name).mkdir(parents=True)
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                Image.fromarray(image).save(partial / split / CLASSES[label] / f"{index:05d}.png")
                n_done += 1
                if report is not None:
                    report(n_done, n_images)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes, gzipped: the format of the MNIST family.

    Raises:
        DataError: it is not one.
    """
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise DataError(f"{path}: expected an idx file of unsigned bytes, got {data[:4]!r}")
    n_axes = data[3]
    shape = np.frombuffer(data, ">u4", n_axes, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def make_subset(source: Path, destination: Path) -> None:
    """Takes the first images of each class, in the original order, and writes them compressed."""
    arrays: dict[str, NDArray[np.uint8]] = {}
    for split, n in N_PER_CLASS.items():
        prefix = source / _IDX_PREFIX[split]
        images = read_idx(Path(f"{prefix}-images-idx3-ubyte.gz"))
        labels = read_idx(Path(f"{prefix}-labels-idx1-ubyte.gz"))
        firsts = [np.flatnonzero(labels == c)[:n] for c in range(len(CLASSES))]
        chosen = np.sort(np.concatenate(firsts))
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images[chosen], labels[chosen]
    np.savez_compressed(destination, allow_pickle=False, **arrays)


if __name__ == "__main__":
    make_subset(Path(sys.argv[1]), Path(__file__).parent / "data" / _FILE)
