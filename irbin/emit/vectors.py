"""What a test of the C compares with: images, answers, and a checksum of every result between."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.artifact.read import Artifact
from irbin.emit.placed import Placed
from irbin.program.fused import Fused, Item
from irbin.runtime.arrays import rows
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
    """What `irbin.load` gives for one image (channels, height, width), flat."""
    (result,) = Engine(artifact, float_convs=True).run(image[None])
    return np.ascontiguousarray(result).reshape(-1)


def vectors(artifact: Artifact, placed: Placed, n: int) -> bytes:
    """The file of test vectors; `main.c` says what it holds.

    Args:
        artifact: the packed folder.
        placed: its calls.
        n: images.
    """
    engine = Engine(artifact, float_convs=True)
    names = [name for call in placed.calls for name in call.sizes]
    n_in, n_out = int(np.prod(placed.image_shape)), int(np.prod(placed.output_shape))
    parts = [MAGIC, struct.pack("<4I", n, len(names), n_in, n_out)]
    for image in images(placed.image_shape, n):
        seen: dict[str, bytes] = {}
        axes: dict[str, int] = {}

        def watch(
            item: Item,
            values: dict[str, Any],
            _: float,
            seen: dict[str, bytes] = seen,
            axes: dict[str, int] = axes,
        ) -> None:
            if isinstance(item, Fused):
                for name in item.results():
                    array = values[name]
                    is_bits = name == item.bits
                    axes[name] = array.ndim - 1 if is_bits else item.channel_axis
                    seen[name] = rows(array, axes[name]).tobytes()
            elif item.name in names:
                seen[item.name] = np.ascontiguousarray(values[item.name]).tobytes()

        (result,) = engine.run(image[None], watch)
        for call in placed.calls:  # what only C turns
            if call.does == "to_rows":
                (name,) = call.sizes
                seen[name] = np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes()
        parts += [image.astype("<f4").tobytes(), np.ascontiguousarray(result).tobytes()]
        parts.append(struct.pack(f"<{len(names)}I", *(zlib.crc32(seen[name]) for name in names)))
    return b"".join(parts)
