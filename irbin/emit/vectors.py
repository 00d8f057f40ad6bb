"""What a test of the C compares with: images, answers, and a checksum of every result between."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.artifact.read import Artifact
from irbin.emit.placed import Placed
from irbin.program.fused import Item, results
from irbin.runtime.arrays import as_array, rows
from irbin.runtime.engine import Engine

MAGIC = b"irbinvec"
SEED = 1


def images(shape: tuple[int, int, int], n: int) -> NDArray[np.float32]:
    """Random images whose numbers look like normalized ones.

    Args:
        shape: (channels, height, width).
        n: how many.
    """
    drawn = np.random.default_rng(SEED).standard_normal((n, *shape))
    return drawn.astype(np.float32)


def test_image(n: int) -> NDArray[np.float32]:
    """The numbers of `irbin_test_image`."""
    state, made = 1, np.empty(n, np.float32)
    for i in range(n):
        state = (state * 1664525 + 1013904223) % 2**32
        made[i] = ((state >> 24) - 128) / 64
    return made


def answer(artifact: Artifact, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `irbin.load` gives for one image (channels, height, width): its results, flat."""
    return _flat(Engine(artifact, float_convs=True).run(image[None]))


def vectors(artifact: Artifact, placed: Placed, n: int) -> bytes:
    """The file of test vectors; `main.c` says what it holds.

    Args:
        artifact: the packed folder.
        placed: its calls.
        n: images.
    """
    engine = Engine(artifact, float_convs=True)
    names = [name for call in placed.calls for name in call.sizes]
    n_in = math.prod(placed.image_shape)
    n_out = sum(math.prod(shape) for shape in placed.output_shapes)
    parts = [MAGIC, struct.pack("<4I", n, len(names), n_in, n_out)]
    for image in images(placed.image_shape, n):
        seen = _Seen(placed, names)
        seen.note(engine.work.source, image[None])
        for name, value in engine.work.constants.items():
            seen.note(name, value)
        results = engine.run(image[None], seen.watch)
        parts += [image.astype("<f4").tobytes(), _flat(results).astype("<f4").tobytes()]
        parts.append(struct.pack(f"<{len(names)}I", *(seen.sums[name] for name in names)))
    return b"".join(parts)


class _Seen:
    """Checksums of what the calls are to give, taken when `irbin.load` has it."""

    def __init__(self, placed: Placed, names: Sequence[str]) -> None:
        self.sums: dict[str, int] = {}
        self._wanted: dict[str, list[tuple[str, int]]] = {}
        for name in names:
            origin, axis = placed.origins[name]
            self._wanted.setdefault(origin, []).append((name, axis))

    def watch(self, item: Item, values: Mapping[str, Any], _: float) -> None:
        """Told of every item."""
        for name in results(item):
            self.note(name, values.get(name))

    def note(self, origin: str, value: Any) -> None:
        """Takes the sums of a value."""
        for name, axis in self._wanted.get(origin, ()):
            array = as_array(value)
            if array.dtype == np.bool_:  # C keeps them as floats
                array = array.astype(np.float32)
            self.sums[name] = zlib.crc32(rows(array, axis).tobytes())


def _flat(results: Sequence[Any]) -> NDArray[np.float32]:
    return np.concatenate([np.ascontiguousarray(one).reshape(-1) for one in results])
