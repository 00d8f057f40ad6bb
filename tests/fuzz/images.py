"""Mutants of image files: of their headers, their bytes, their length; bombs and odd pixels.

Each is read as a user's data set is read, to evaluate and to train.
"""

from __future__ import annotations

import io
import random
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from irbin.data.batches import Damaged, Images
from irbin.data.datasets import open_dataset
from irbin.data.images import Augmentation
from irbin.records.options import DataOptions, Preprocessing

from . import values
from .folders import _draw, folder
from .pool import Outcome

KINDS: dict[str, tuple[str, ...]] = {
    "PNG": ("RGB", "L", "LA", "RGBA", "P", "1", "I;16", "I"),
    "JPEG": ("RGB", "L", "CMYK"),
    "GIF": ("P", "L", "RGB", "RGBA"),
    "WEBP": ("RGB", "RGBA", "L"),
    "BMP": ("RGB", "L", "P", "1", "RGBA"),
    "TIFF": ("RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "I;16", "I", "F", "YCbCr", "LAB"),
    "PPM": ("RGB", "L", "1", "I"),
}
"""Formats, and modes of Pillow's that they hold."""
SIDES = (1, 2, 3, 7, 8, 9, 28, 31, 32, 33, 64, 150)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _picture(mode: str, size: tuple[int, int], draw: random.Random) -> Image.Image:
    rng = np.random.default_rng(draw.randrange(1 << 30))
    width, height = size
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 1 << 16, (height, width), np.uint16))
    if mode == "I":
        top = draw.choice((1 << 8, 1 << 16, 1 << 31))
        return Image.fromarray(rng.integers(0, top, (height, width)).astype(np.int32))
    if mode == "F":
        pixels = rng.standard_normal((height, width)).astype(np.float32)
        pixels.flat[0] = draw.choice((*values.FLOATS[:7], float("nan")))
        return Image.fromarray(pixels)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    if mode == "LAB":
        return Image.frombytes("LAB", size, image.tobytes())
    return image.convert(mode)


def _options(kind: str, mode: str, draw: random.Random) -> dict[str, Any]:
    """Of `Image.save`: compression, several pictures, transparency, profiles, EXIF."""
    found: dict[str, Any] = {}
    if kind in ("JPEG", "PNG", "WEBP", "TIFF") and draw.random() < 0.3:
        found["exif"] = _exif(draw)
    if kind in ("JPEG", "PNG", "WEBP") and draw.random() < 0.1:
        found["icc_profile"] = draw.randbytes(draw.choice((1, 128, 70000)))
    if kind == "JPEG":
        found |= {"progressive": draw.random() < 0.3, "subsampling": draw.choice((0, 1, 2))}
    if kind == "TIFF" and draw.random() < 0.6:
        usual = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "raw")
        found["compression"] = "group4" if mode == "1" else draw.choice(usual)
    if kind in ("PNG", "GIF") and mode == "P" and draw.random() < 0.6:
        found["transparency"] = draw.choice((0, 3, 255))
        if kind == "PNG" and draw.random() < 0.7:
            found["transparency"] = draw.randbytes(draw.choice((1, 5, 256)))
    if kind == "PNG" and mode in ("RGB", "L") and draw.random() < 0.1:
        found["transparency"] = (1, 2, 3) if mode == "RGB" else 7
    return found


def _exif(draw: random.Random) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = draw.choice((1, 3, 6, 8, 0, 9, 255))  # orientation
    exif[0x010F] = draw.choice(("maker", "x" * 500))
    data = bytearray(exif.tobytes())
    for _ in range(draw.choice((0, 0, 1, 4))):
        data[draw.randrange(6, len(data))] = draw.randrange(256)
    return bytes(data)


def _file(kind: str, draw: random.Random) -> tuple[bytes, bool]:
    """An image that somebody could have made, and whether it has pixels that can be read."""
    mode = draw.choice(KINDS[kind])
    size = (draw.choice(SIDES), draw.choice(SIDES))
    image = _picture(mode, size, draw)
    options = _options(kind, mode, draw)
    if kind in ("GIF", "PNG", "TIFF", "WEBP") and draw.random() < 0.15:
        options |= {"save_all": True, "append_images": [_picture(mode, size, draw)]}
    stream = io.BytesIO()
    try:
        image.save(stream, kind, **options)
    except Exception:  # Pillow cannot write that
        stream = io.BytesIO()
        _picture("RGB", size, draw).save(stream, kind)
    return stream.getvalue(), mode not in ("I", "F", "LAB")


def _chunk(name: bytes, data: bytes) -> bytes:
    """One of a PNG, its checksum right."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], len(SIGNATURE)
    while at + 8 <= len(data):
        (n,) = struct.unpack(">I", data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + n]))
        at += 12 + n
    return found


def _png(data: bytes, draw: random.Random) -> bytes:
    """Chunks changed, moved, doubled or left out, with checksums that are right."""
    chunks = _chunks(data)
    for _ in range(draw.choice((1, 1, 2))):
        i = draw.randrange(len(chunks))
        name, body = chunks[i]
        change = draw.randrange(5)
        if change < 2 and body:
            chunks[i] = (name, _numbered(body, draw, ">"))
        elif change == 2:
            chunks.insert(draw.randrange(len(chunks) + 1), chunks[i])
        elif change == 3 and len(chunks) > 1:
            del chunks[i]
        else:
            other = draw.choice((b"tRNS", b"PLTE", b"acTL", b"fcTL", b"zTXt", b"iCCP", b"gAMA"))
            chunks.insert(i, (other, draw.randbytes(draw.choice((0, 1, 3, 26, 768)))))
    return SIGNATURE + b"".join(_chunk(*chunk) for chunk in chunks)


def _numbered(data: bytes, draw: random.Random, order: str = "", most: int = 1 << 30) -> bytes:
    """With a whole number at a border written over some of its first `most` bytes."""
    kind = draw.choice(("B", "H", "H", "I", "I"))
    size = struct.calcsize(kind)
    end = min(len(data), most)
    if end < size:
        return bytes(draw.randrange(256) for _ in data)
    at = draw.randrange(end - size + 1)
    number = abs(values.integer(draw)) % (1 << 8 * size)
    packed = struct.pack((order or draw.choice("<>")) + kind, number)
    return data[:at] + packed + data[at + size :]


def _bomb(draw: random.Random) -> bytes:
    """Few bytes that say, or are, a great many pixels."""
    width, height = draw.choice(
        (
            (1, 65535),
            (65535, 1),
            (1, 1 << 24),
            (1 << 24, 1),
            (3, 40000),
            (9000, 9000),
            (14000, 14000),
            (1 << 31, 1),
            (0, 1),
            (1, 0),
            ((1 << 31) - 1,) * 2,
        )
    )
    depth, color = draw.choice(((1, 0), (1, 0), (8, 0), (8, 2), (16, 0), (16, 2), (8, 6), (8, 3)))
    row = 1 + (width * depth * {0: 1, 2: 3, 3: 1, 6: 4}[color] + 7) // 8
    n = min(row * height, 1 << 27 if draw.random() < 0.1 else 1 << 24)  # else fewer than it says
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))]
    chunks += [(b"PLTE", bytes(768))] if color == 3 else []
    if draw.random() < 0.2:
        chunks.append((b"zTXt", b"k\x00\x00" + zlib.compress(bytes(1 << 26), 1)))
    chunks += [(b"IDAT", zlib.compress(bytes(n), 1)), (b"IEND", b"")]
    return SIGNATURE + b"".join(_chunk(*chunk) for chunk in chunks)


def _mutated(data: bytes, kind: str, draw: random.Random) -> bytes:
    change = draw.randrange(8)
    if change < 3:
        if kind == "PNG" and draw.random() < 0.8:
            return _png(data, draw)
        for _ in range(draw.choice((1, 1, 2, 4))):
            data = _numbered(data, draw, most=draw.choice((32, 64, 200, 1 << 30)))
        return data
    if change == 3:
        return data[: draw.randrange(len(data) + 1)]
    if change < 6:
        flipped = bytearray(data)
        for _ in range(draw.choice((1, 2, 8, 32))):
            flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
        return bytes(flipped)
    at, n = draw.randrange(len(data) + 1), draw.choice((1, 4, 100))
    return data[:at] + draw.choice((b"", draw.randbytes(n))) + data[at + draw.choice((0, n)) :]


def _preprocessing(draw: random.Random) -> Preprocessing:
    size = draw.choice(((3, 32, 32), (1, 28, 28), (3, 100, 100), (1, 128, 97), (3, 1, 40)))
    n = size[0]
    found = Preprocessing(
        size, (0.5,) * n, (0.25,) * n, draw.choice(("bilinear", "bicubic")), 0.875
    )
    mode = draw.choice(("center", "center", "squash", "border"))
    return replace(found, crop_mode=mode, small_as_is=draw.random() < 0.7)


def _read(dataset: Images, keys: tuple[Any, ...], name: str) -> Outcome:
    """The law: a line that names the file, or an image of the network's size; twice the same."""
    expected = dataset.preprocessing.input_size
    found = []
    for key in keys:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            sample = dataset[key]
        if told:
            return "bad", f"a raw warning: {told[0].message}"
        if isinstance(sample, Damaged):
            if "\n" in sample.message or name not in sample.message or not sample.image:
                return "bad", f"one line that names the file, not {sample.message[:200]!r}"
            found.append(None)
            continue
        image, label = sample
        if (image.dtype, tuple(image.shape), label) != (torch.uint8, expected, 0):
            return "bad", f"{image.dtype} {tuple(image.shape)} label {label}, not {expected}"
        found.append(image)
    first, again = found
    if (first is None) != (again is None) or (first is not None and not torch.equal(first, again)):
        return "bad", "another answer at the second time"
    return ("refused" if first is None else "equal"), ""


KEEPING: tuple[Callable[[random.Random], Augmentation | None], ...] = (
    lambda _: None,
    lambda draw: Augmentation(crop_padding=draw.choice((0, 0, 4))),
    lambda draw: Augmentation(flip="alternating", aa=draw.choice((None, "rand-m9-mstd0.5"))),
)


def images(seed: int, number: int) -> Outcome:
    """A mutant of an image file, in the only class of a data set."""
    draw = _draw(seed, number)
    kind = draw.choice(tuple(KINDS))
    if draw.random() < 0.02:
        data, is_good = _bomb(draw), False
    else:
        data, is_good = _file(kind, draw)
        if draw.random() < 0.85:
            data, is_good = _mutated(data, kind, draw), False
    root = folder().path / "images"
    shutil.rmtree(root, ignore_errors=True)
    path = root / "train" / "class" / f"mutant.{draw.choice(('png', 'jpg', 'jpeg'))}"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    augmentation = draw.choice(KEEPING)(draw)
    preprocessing = _preprocessing(draw)
    dataset = open_dataset(
        DataOptions(data_dir=str(root)),
        "train",
        preprocessing,
        training=augmentation is not None,
        augmentation=augmentation,
        seed=seed,
    )
    assert isinstance(dataset, Images)
    key: Any = 0 if augmentation is None else (draw.randrange(4), 0)
    outcome, words = _read(dataset, (key, key), path.name)
    if outcome == "refused" and is_good and preprocessing.crop_mode != "border":
        return "bad", f"a {kind} that nobody changed: {dataset.look(0)}"
    return outcome, words
