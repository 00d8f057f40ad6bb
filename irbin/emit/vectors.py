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
from irbin.emit.ready import engine_of
from irbin.program.fused import Item, results
from irbin.runtime.arrays import as_array, rows

MAGIC = b"irbinvec"
SEED = 1


def pixels(shape: tuple[int, int, int], n: int) -> NDArray[np.uint8]:
    """Random images of bytes, (n, height, width, channels).

    Args:
        shape: (channels, height, width).
        n: how many.
    """
    channels, height, width = shape
    draw = np.random.default_rng(SEED)
    return draw.integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def images(shape: tuple[int, int, int], n: int) -> NDArray[np.float32]:
    """Random images whose numbers look like normalized ones.

    Args:
        shape: (channels, height, width).
        n: how many.
    """
    drawn = np.random.default_rng(SEED).standard_normal((n, *shape))
    return drawn.astype(np.float32)


def test_bytes(n: int) -> NDArray[np.uint8]:
    """The numbers of `irbin_test_bytes`."""
    state, made = 1, np.empty(n, np.uint8)
    for i in range(n):
        state = (state * 1664525 + 1013904223) % 2**32
        made[i] = state >> 24
    return made


def test_image(n: int) -> NDArray[np.float32]:
    """The numbers of `irbin_test_image`."""
    made: NDArray[np.float32] = (test_bytes(n).astype(np.float32) - 128) / np.float32(64)
    return made


def answer(artifact: Artifact, placed: Placed) -> NDArray[np.float32]:
    """What `irbin.load` gives for the test image: its results, flat."""
    channels, height, width = placed.image_shape
    n, engine = math.prod(placed.image_shape), engine_of(artifact)
    if placed.input == "float32":
        return _flat(engine.run(test_image(n).reshape(1, channels, height, width)))
    return _flat(engine.run(engine.as_read(test_bytes(n).reshape(1, height, width, channels))))


def vectors(artifact: Artifact, placed: Placed, n: int) -> bytes:
    """The file of test vectors; `main.c` says what it holds.

    Args:
        artifact: the packed folder.
        placed: its calls.
        n: images.
    """
    engine = engine_of(artifact)
    names = [name for call in placed.calls for name in call.sizes]
    n_in = math.prod(placed.image_shape)
    n_out = sum(math.prod(shape) for shape in placed.output_shapes)
    parts = [MAGIC, struct.pack("<4I", n, len(names), n_in, n_out)]
    draw = images if placed.input == "float32" else pixels
    for image in draw(placed.image_shape, n):
        seen = _Seen(placed, names)
        read = image[None] if placed.input == "float32" else engine.as_read(image[None])
        seen.note(engine.work.source, read)
        for name, value in engine.work.constants.items():
            seen.note(name, value)
        results = engine.run(read, seen.watch)
        parts += [image.tobytes(), _flat(results).astype("<f4").tobytes()]
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
