"""The sources of a network: its header, its plan, its constants, and what is made of templates."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from irbin.artifact.read import Artifact
from irbin.emit.calls import call_lines, plain, walk_lines
from irbin.emit.placed import Placed
from irbin.emit.weights import Weights, float_literal
from irbin.emit.writer import pointer
from irbin.program.fused import Fused
from irbin.records.in_c import CKernels, CWeights
from irbin.version import __version__

ABI = 1
"""Of the functions that a header declares."""
SIMD = (
    "irbin_simd.h",
    "select.c",
    "avx512.c",
    "avx512.inl",
    "avx2.c",
    "avx2.inl",
    "neon.c",
    "neon.inl",
)
"""Kernels for instruction sets, and what chooses among them."""
ARENA_ALIGNMENT = 16
"""Bytes; offsets in the arena are multiples of 64, the portable kernels need 4."""


@dataclass(frozen=True, eq=False)
class Network:
    """What the sources say. Made by `folder`."""

    name: str
    """Of its functions and files."""
    artifact: Artifact
    """The packed folder."""
    placed: Placed
    """Its calls."""
    spec: str
    """What it was exported from."""
    test_answer: np.ndarray
    """What `irbin.load` says of the test image, float32."""
    weights: CWeights = "c"
    """Where constants stand."""
    kernels: CKernels = "portable"
    """Whether there are several sets."""

    @property
    def upper(self) -> str:
        """Its name in macros."""
        return self.name.upper()

    @property
    def n_in(self) -> int:
        """Numbers of an image."""
        return int(np.prod(self.placed.image_shape))

    @property
    def n_out(self) -> int:
        """Floats of an answer."""
        return sum(math.prod(shape) for shape in self.placed.output_shapes)

    @property
    def self_test_bytes(self) -> int:
        """The arena, then an image and an answer."""
        return self.placed.arena_bytes + self.item_bytes * self.n_in + 4 * self.n_out

    @property
    def reads_bytes(self) -> bool:
        """Whether an image is bytes."""
        return self.placed.input == "uint8"

    @property
    def function(self) -> str:
        """That computes an answer."""
        return f"{self.name}_run_u8" if self.reads_bytes else f"{self.name}_run"

    @property
    def item_bytes(self) -> int:
        """Of a number of an image."""
        return 1 if self.reads_bytes else 4

    @property
    def classes(self) -> tuple[str, ...]:
        """A name for every answer; its number where none is known, none for what is no class."""
        names = tuple(self.artifact.manifest.source.class_names or ())
        if [len(shape) for shape in self.placed.output_shapes] != [1]:
            return ()
        return names if len(names) == self.n_out else tuple(map(str, range(self.n_out)))

    @property
    def is_classifier(self) -> bool:
        """Whether it tells classes of colored pictures, so that a program may do so."""
        return self.placed.image_shape[0] == 3 and bool(self.classes)


@dataclass(frozen=True)
class Sources:
    """The files, by name within the folder."""

    files: dict[str, str | bytes]
    """Texts, and constants as one file."""
    weight_bytes: int
    """Of all constants."""


def sources(network: Network) -> Sources:
    """All texts of the folder; the test vectors are no text.

    Raises:
        LowerError: see `call_lines`.
    """
    weights = Weights(network.name)
    calls = [
        line
        for number, call in enumerate(network.placed.calls)
        for line in call_lines(call, weights, number)
    ]
    answers = _answer_lines(network.placed, weights)
    answer = weights.add(network.test_answer.view(np.int32), "test_answer")
    blanks = _blanks(network, calls, weights, answers, answer)
    name = network.name
    filled = {
        f"{name}.h": "network.h",
        f"{name}.c": "network.c",
        f"{name}_weights.h": "weights.h",
        "CMakeLists.txt": "CMakeLists.txt",
        "README.md": "README.md",
        "test/main.c": "main.c",
        "test/time.c": "time.c",
    }
    if network.is_classifier:
        filled["test/classify.c"] = "classify.c"
    texts: dict[str, str | bytes] = {
        path: _fill(made_of, blanks) for path, made_of in filled.items()
    }
    if network.weights == "c":
        texts[f"{name}_weights.c"] = _weights_source(network, weights)
    else:
        texts[f"{name}_weights.bin"] = weights.binary()
        included = "\n".join(weights.included(f"{name}_weights.bin"))
        texts[f"{name}_weights.S"] = _fill("weights.S", {"INCLUDED": included})
    texts[f"{name}.json"] = _json(network, weights)
    simd = [f"simd/{file}" for file in SIMD] if network.kernels == "simd" else []
    for copied in ("irbin_nn.h", "irbin_nn.c", "LICENSE", *simd):
        texts[copied] = template(copied)
    return Sources(texts, weights.n_bytes)


def template(name: str) -> str:
    """A file that comes with this room."""
    return (files("irbin.emit") / "c" / name).read_text(encoding="utf-8")


def through_table(lines: str) -> str:
    """Calls of kernels, through the table of the set that was chosen."""
    return re.sub(r"\birbin_(\w+)\(", r"nn->\1(", lines)


def c_string(text: str) -> str:
    """A text as C's literal, in ASCII and octal escapes, which end after three digits."""
    made = []
    for byte in text.encode("utf-8"):
        is_plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
        made.append(chr(byte) if is_plain else f"\\{byte:03o}")
    return f'"{"".join(made)}"'


def _answer_lines(placed: Placed, weights: Weights) -> str:
    lines = []
    for number, walk in enumerate(placed.outputs):
        (place,), at = walk.places, walk.to.offset // 4
        source = pointer(place, "FLOATS")
        if place.constant is not None:
            source = f"{weights.add(place.constant, f'result{number}')} + {place.offset // 4}"
        lines += walk_lines(walk.does, (source,), f"logits + {at}")
    return "\n".join(f"    {line}" for line in lines)


def _weights_source(network: Network, weights: Weights) -> str:
    lines = "\n".join(weights.definitions())
    return f'#include "{network.name}_weights.h"\n\n#include <math.h>\n\n{lines}\n'


def _json(network: Network, weights: Weights) -> str:
    operators = {
        node.op
        for call in network.placed.calls
        for node in ((call.item.root,) if isinstance(call.item, Fused) else (call.item,))
    }
    preprocessing = network.artifact.manifest.source.preprocessing
    told = {
        "name": network.name,
        "source": network.spec,
        "irbin_version": __version__,
        "abi": ABI,
        "arena_bytes": network.placed.arena_bytes,
        "arena_alignment": ARENA_ALIGNMENT,
        "self_test_bytes": network.self_test_bytes,
        "constant_bytes": weights.n_bytes,
        "kernels": network.kernels,
        "constants_crc32": f"{weights.crc:08x}",
        "input": list(network.placed.image_shape),
        "input_type": network.placed.input,
        "outputs": [list(shape) for shape in network.placed.output_shapes],
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "classes": list(network.classes),
        "operators": sorted(operators),
        "by_definition": list(network.placed.by_definition),
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _told(network: Network, weights: Weights) -> dict[str, str]:
    """What templates say of the network as a whole."""
    placed, classes = network.placed, network.classes
    channels, height, width = placed.image_shape
    return {
        "NAME": network.name,
        "UPPER": network.upper,
        "VERSION": __version__,
        "SPEC": plain(network.spec),
        "TOLD": c_string(f"irbin {__version__}, {network.spec}"),
        "ABI": str(ABI),
        "CHANNELS": str(channels),
        "HEIGHT": str(height),
        "WIDTH": str(width),
        "SHAPE": ", ".join(map(str, placed.image_shape)),
        "N_IN": str(network.n_in),
        "UNIT": "BYTES" if network.reads_bytes else "FLOATS",
        "TYPE": "uint8_t" if network.reads_bytes else "float",
        "RUN": network.function,
        "PIXELS": "hwc" if network.reads_bytes else "chw",
        "TEST_IMAGE": "irbin_test_bytes" if network.reads_bytes else "irbin_test_image",
        "READS_BYTES": str(int(network.reads_bytes)),
        "WEIGHTS": f"{network.name}_weights.{'c' if network.weights == 'c' else 'S'}",
        "LANGUAGES": "C" if network.weights == "c" else "C ASM",
        "FED": _fed(network),
        "N_OUT": str(network.n_out),
        "ARENA_BYTES": str(placed.arena_bytes),
        "ARENA": f"{placed.arena_bytes:,}",
        "ALIGNMENT": str(ARENA_ALIGNMENT),
        "SELF_TEST_BYTES": str(network.self_test_bytes),
        "FLASH": f"{weights.n_bytes:,}",
        "N_CLASSES": str(len(classes)),
        "CLASSES": "".join(f"    {c_string(one)},\n" for one in classes),
        "N_RESULTS": str(sum(len(call.sizes) for call in placed.calls)),
    }


def _blanks(
    network: Network, calls: list[str], weights: Weights, answers: str, expected: str
) -> dict[str, str]:
    preprocessing = network.artifact.manifest.source.preprocessing
    statistics = zip(preprocessing.mean, preprocessing.std, strict=True)
    lines, is_simd = "\n".join(calls), network.kernels == "simd"
    if is_simd:
        chosen = "    const irbin_kernels *const nn = irbin_best_kernels();\n"
        lines, answers = chosen + through_table(lines), through_table(answers)
    return _told(network, weights) | {
        "CALLS": lines,
        "ANSWER": answers,
        "INCLUDE_SIMD": '\n#include "simd/irbin_simd.h"' if is_simd else "",
        "SIMD_SOURCES": " ".join(f"simd/{file}" for file in SIMD if file.endswith(".c"))
        if is_simd
        else "",
        "BY_HAND": " simd/*.c" if is_simd else "",
        "CHECKED": "\n".join(weights.checked()),
        "CRC": f"0x{weights.crc:08x}u",
        "EXPECTED": expected,
        "DECLARATIONS": "\n".join(weights.declarations()),
        "IMAGE": _image_words(network),
        "EQUAL": _equal_words(network),
        "STATISTICS": "\n".join(f"| {i} | {m} | {s} |" for i, (m, s) in enumerate(statistics)),
        "MEAN": ", ".join(float_literal(float(np.float32(m))) for m in preprocessing.mean),
        "STD": ", ".join(float_literal(float(np.float32(s))) for s in preprocessing.std),
        "CLASSIFY": _classify_target(network.name) if network.is_classifier else "",
    }


def _fed(network: Network) -> str:
    """How an image is given, for the header."""
    if network.reads_bytes:
        return "(height, width, channels), bytes as a picture has them; README.md says of which."
    return "(channels, height, width), normalized as README.md says."


def _image_words(network: Network) -> str:
    """Of the README."""
    channels, height, width = network.placed.image_shape
    if network.reads_bytes:
        return (
            f"`hwc` is one image, (height, width, channels) = ({height}, {width}, {channels}), "
            "bytes from 0 to 255;\n`(byte / 255 - mean) / std` is part of the first layer:"
        )
    return (
        f"`chw` is one image, (channels, height, width) = ({channels}, {height}, {width}), each "
        "value\n`(byte / 255 - mean) / std`:"
    )


def _equal_words(network: Network) -> str:
    """Of the README: what it answers beside what `irbin.load` answers."""
    left = network.placed.by_definition
    if not left:
        return "Answers are those of `irbin.load`, bit for bit, on every processor."
    return (
        "Answers are the same bits on every processor, and those of `irbin.load` but for rounding: "
        f"it leaves\nto torch {', '.join(f'`{name}`' for name in left)}, which adds in an order of "
        "its own; here the order is written down."
    )


def _classify_target(name: str) -> str:
    return (
        f"add_executable({name}_classify test/classify.c)\n"
        f"  target_link_libraries({name}_classify PRIVATE {name})\n"
        f"  {name}_options({name}_classify)"
    )


def _fill(name: str, blanks: Mapping[str, str]) -> str:
    """A template with its blanks filled; what is filled in is not looked at again."""
    return re.sub(r"@([A-Z_]+)@", lambda blank: blanks[blank[1]], template(name))
