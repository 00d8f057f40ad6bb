"""Mutants of packed folders: programs, single operators, manifests, tensor files."""

from __future__ import annotations

import json
import random
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from irbin.artifact.read import read_artifact
from irbin.artifact.schema import (
    CONFIG_FILE,
    PROGRAM_FILE,
    TENSORS_FILE,
    Manifest,
    manifest_to_json,
)
from irbin.errors import ArtifactError, IrbinError
from irbin.kernels import native
from irbin.program.types import DTYPES, TensorType
from irbin.program.vocabulary import signatures
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.runtime.model import PackedModel

from . import values
from .pool import Outcome


def _manifest(size: tuple[int, int, int]) -> dict[str, Any]:
    """What fits a program of such images and any answers, or every mutant would be refused."""
    each = (0.5,) * size[0]
    preprocessing = Preprocessing(input_size=size, mean=each, std=each)
    source = SourceRecord("net", "timm:net", 0, preprocessing)
    return manifest_to_json(
        Manifest("0", "float32", source, Plan(PlanOptions(), (), size, 0, 0, 0))
    )


MANIFEST = _manifest((2, 6, 6))


def _node(name: str, op: str, args: list[Any], kind: Any, **kwargs: Any) -> dict[str, Any]:
    more = {"kwargs": kwargs} if kwargs else {}
    return {"name": name, "op": op, "args": args, **more, "type": kind}


def _ref(name: str) -> dict[str, str]:
    return {"ref": name}


def _image(channels: int, size: int = 6) -> str:
    return f"float32[N,{channels},{size},{size}]"


PROGRAM: dict[str, Any] = {
    "inputs": {"x": _image(2)},
    "constants": {
        "stem": "float32[16,2,3,3]", "w": "uint8[16,3,3,2]", "w.s": "int8[16]", "w.b": "float32[16]",
        "g": "uint8[16,3,3,1]", "norm.m": "float32[16,1,1]", "norm.a": "float32[16,1,1]",
        "slope": "float32[16]", "l": "uint8[8,2]", "u": "uint8[16,1,1,2]", "head": "float32[3,16]",
        "table": "int64[4]",
    },
    "nodes": [
        _node("stem_y", "aten.conv2d.default", [_ref("x"), _ref("stem"), None, [1, 1], [1, 1]], _image(16)),
        _node("act", "aten.hardtanh.default", [_ref("stem_y"), -1.0, 1.0], _image(16)),
        _node("p", "bitpack", [_ref("act"), 1, 1], "uint8[N,6,6,2]"),
        _node("y", "bconv2d", [_ref("p"), _ref("w"), _ref("w.s"), _ref("w.b"), 16, [1, 1], [1, 1, 1, 1], [1, 1], 1], _image(16)),
        _node("m", "aten.mul.Tensor", [_ref("y"), _ref("norm.m")], _image(16)),
        _node("a", "aten.add.Tensor", [_ref("m"), _ref("norm.a")], _image(16)),
        _node("sum", "aten.add.Tensor", [_ref("a"), _ref("act")], _image(16)),
        _node("r", "aten.prelu.default", [_ref("sum"), _ref("slope")], _image(16)),
        _node("pool", "aten.max_pool2d.default", [_ref("r"), [3, 3], [2, 2], [1, 1]], _image(16, 3)),
        _node("q", "bitpack", [_ref("pool"), 1, 2], "uint8[N,3,3,2]"),
        _node("z", "bconv2d", [_ref("q"), _ref("g"), None, None, 16, [2, 2], [0, 1, 1, 0], [1, 1], 2], "float32[N,16,1,1]"),
        _node("n", "aten.sym_size.int", [_ref("z"), 0], "int"),
        _node("rows", "aten.reshape.default", [_ref("z"), [_ref("n"), 16]], "float32[N,16]"),
        _node("b", "bitpack", [_ref("rows"), 1, 1], "uint8[N,2]"),
        _node("d", "bgemm", [_ref("b"), _ref("l"), None, None, 16], "float32[N,8]"),
        _node("k", "bitunpack", [_ref("u"), _ref("w.s"), 16], "float32[16,16,1,1]"),
        _node("v", "aten.conv2d.default", [_ref("pool"), _ref("k")], _image(16, 3)),
        _node("avg", "aten.mean.dim", [_ref("v"), [2, 3]], "float32[N,16]"),
        _node("out", "aten.linear.default", [_ref("avg"), _ref("head")], "float32[N,3]"),
        _node("t", "aten.index.Tensor", [_ref("d"), [None, _ref("table")]], "float32[N,4]"),
        _node("e", "aten.cat.default", [[_ref("out"), _ref("t")], 1], "float32[N,7]"),
    ],
    "outputs": ["e", "d"],
}  # fmt: skip  # a change a line


def _tensor(kind: TensorType, draw: random.Random) -> Tensor:
    """Random values; weights of `bitpack`'s kind keep their tails where rows are whole bytes."""
    torch.manual_seed(draw.randrange(1 << 30))
    shape = [size if isinstance(size, int) else 1 for size in kind.shape]
    dtype = getattr(torch, kind.dtype)
    if dtype == torch.int8:
        return torch.randint(-5, 4, shape, dtype=dtype)
    if dtype == torch.bool or not dtype.is_floating_point:
        return torch.randint(
            0, 2 if dtype == torch.bool else 255 if dtype == torch.uint8 else 3, shape, dtype=dtype
        )
    found = torch.randn(shape).to(dtype)
    if draw.random() < 0.1 and found.numel():
        found.view(-1)[0] = draw.choice((float("nan"), float("inf"), -0.0, 1e-45))
    return found


def _tensors(program: Any, draw: random.Random) -> dict[str, Tensor]:
    """Of the constants, as far as they can be made and are small."""
    found = {}
    constants = program.get("constants") if isinstance(program, dict) else None
    for name, text in constants.items() if isinstance(constants, dict) else ():
        try:
            kind = TensorType.parse(text)
            n = 1
            for size in kind.shape:
                n *= size if isinstance(size, int) else 1
            if kind.dtype in DTYPES and n < 1 << 20:
                found[name] = _tensor(kind, draw)
        except ArtifactError:
            continue
    return found


class Folder:
    """A folder in memory's file system, written anew for each mutant of this process."""

    def __init__(self) -> None:
        root = Path("/dev/shm")
        self.path = Path(
            tempfile.mkdtemp(dir=root if root.is_dir() else None, prefix="irbin-fuzz-")
        )

    def write(self, config: str, program: str, tensors: bytes) -> None:
        (self.path / CONFIG_FILE).write_text(config, encoding="utf-8", errors="surrogatepass")
        (self.path / PROGRAM_FILE).write_text(program, encoding="utf-8", errors="surrogatepass")
        (self.path / TENSORS_FILE).write_bytes(tensors)


_folders: dict[str, Folder] = {}


def folder() -> Folder:
    """The one of all children of a fuzzer, which work one after the other."""
    return _folders.setdefault("one", Folder())


def _images(model: PackedModel, n: int) -> Tensor:
    ((_, kind),) = model.program.inputs.items()
    torch.manual_seed(n)
    return torch.randn(n, *kind.shape[1:])  # type: ignore[arg-type]  # only N is open


def _flat(result: Tensor | list[Tensor]) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else result


def _same(one: Tensor | list[Tensor], other: Tensor | list[Tensor]) -> bool:
    pairs = list(zip(_flat(one), _flat(other), strict=True))
    return all(a.dtype == b.dtype and torch.equal(_bits(a), _bits(b)) for a, b in pairs)


def _bits(x: Tensor) -> Tensor:
    return torch.nan_to_num(x, nan=12345.0) if x.is_floating_point() else x


def read_and_run(path: Path) -> Outcome:
    """The law: one error, or at every run the answer of the reference kernels without fusions."""
    try:
        artifact = read_artifact(path)
        model = PackedModel(artifact, float_convs=True)
        x = _images(model, 2)
        first = model(x)
        again = model(x)
    except IrbinError as error:
        message = str(error)
        return ("bad", f"more than a line: {message!r}") if "\n" in message else ("refused", "")
    if not _same(first, again):
        return "bad", "another answer at the second run"
    with native.using(native.REFERENCE):
        plain = PackedModel(artifact, fusions=(), float_convs=True)(x)
    if not _same(first, plain):
        return "bad", "another answer than the reference's"
    return "equal", ""


def _draw(seed: int, number: int) -> random.Random:
    return random.Random(f"{seed} {number}")


def programs(seed: int, number: int) -> Outcome:
    """A mutant of a program, its tensors made to fit where that can be."""
    draw = _draw(seed, number)
    program = values.mutated(PROGRAM, draw, draw.choice((0, 1, 1, 1, 2, 3)))
    text = json.dumps(program)
    if draw.random() < 0.03:
        text = text[: draw.randrange(len(text))]
    here = folder()
    here.write(json.dumps(MANIFEST), text, save(_tensors(program, draw), {"format": "pt"}))
    return read_and_run(here.path)


OPERATORS = tuple(name for name in signatures() if name.startswith("aten."))
_NAMES = ("x", "f", "v", "i", "b")
_KINDS = {
    "f": "float32[2,3,4]",
    "v": "float32[4]",
    "i": "int64[2,3]",
    "b": "bool[3,4]",
    "s": "int64[]",
}


def _argument(kind: str, draw: random.Random) -> Any:
    if kind.endswith("?"):
        return None if draw.random() < 0.4 else _argument(kind[:-1], draw)
    if kind.endswith("[]"):
        return [_argument(kind[:-2], draw) for _ in range(draw.choice((0, 1, 2, 2, 2, 3, 4)))]
    if kind == "Tensor" or (kind == "operand" and draw.random() < 0.5):
        return _ref(draw.choice((*_NAMES, "s")))
    if kind == "bool":
        return draw.random() < 0.5
    if kind in ("int", "number", "operand"):
        return (
            draw.choice((-1, 0, 1, 1, 2, 2, 3, 4)) if draw.random() < 0.8 else values.integer(draw)
        )
    if kind == "float":
        return draw.choice((0.0, 0.5, 1.0, 2.0, *values.FLOATS))
    if kind == "dtype":
        return {"dtype": draw.choice(DTYPES)}
    return draw.choice(
        (
            "none",
            "tanh",
            "floor",
            "trunc",
            "ij",
            "same",
            "valid",
            "constant",
            "reflect",
            "ij,jk->ik",
            "i->",
            *values.TEXTS,
        )
    )


def _results(op: str, draw: random.Random) -> Any:
    one = draw.choice(("float32", "float32", "int64", "bool"))
    shape = draw.choice(
        ("N,2,5,5", "2,3,4", "4", "2,3", "", "N", "N,2", "N,2,5", "N,2,3,3", "2,3,5", "N,50")
    )
    return f"{one}[{shape}]"


def operators(seed: int, number: int) -> Outcome:
    """One ATen operator with arguments that fit its signature; its claim is mended to be true."""
    draw = _draw(seed, number)
    op = OPERATORS[number % len(OPERATORS)]
    args, kwargs = [], {}
    for argument in signatures()[op]:
        if argument.optional and draw.random() < 0.4:
            continue
        kwargs[argument.name] = _argument(argument.kind, draw)
    node = _node("y", op, args, _results(op, draw), **kwargs)
    program = {
        "inputs": {"x": "float32[N,2,5,5]"},
        "constants": dict(_KINDS),
        "nodes": [node],
        "outputs": ["y"],
    }
    outcome: Outcome = ("refused", "")
    for _ in range(3):
        here = folder()
        here.write(
            json.dumps(_manifest((2, 5, 5))),
            json.dumps(program),
            save(_tensors(program, draw), {"format": "pt"}),
        )
        claim = _claim(here.path)
        if claim is None:
            break
        node["type"] = claim
    if isinstance(node["type"], list):  # several results: the first one is the program's
        program["nodes"] = [node, _node("z", "getitem", [_ref("y"), 0], node["type"][0])]
        program["outputs"] = ["z"]
        here.write(
            json.dumps(_manifest((2, 5, 5))),
            json.dumps(program),
            save(_tensors(program, draw), {"format": "pt"}),
        )
    elif node["type"] == "int":
        return outcome
    return read_and_run(here.path)


def _claim(path: Path) -> Any:
    """What the operator gives, as a refusal says it; None if nothing is wrong or nothing is said."""
    try:
        model = PackedModel(read_artifact(path), float_convs=True)
        model(_images(model, 2))
    except ArtifactError as error:
        text = str(error)
        for start, end in (("it gives ", ", but "), ("gives ", " for 1 image")):
            if start in text and end in text:
                found = text.partition(start)[2].partition(end)[0]
                if found.startswith("["):
                    return f"float32{found.replace(' ', '')}"
                kinds = found.split(", ")
                return kinds if len(kinds) > 1 else found
        if "tensors, not" in text:
            n = text.partition(" gives ")[2].partition(" ")[0]
            return ["float32[1]"] * (int(n) if n.isdigit() else 2)
        if "gives a size" in text:
            return "int"
    return None


def manifests(seed: int, number: int) -> Outcome:
    """A mutant of `config.json`."""
    draw = _draw(seed, number)
    text = json.dumps(values.mutated(MANIFEST, draw, draw.choice((1, 1, 2, 4))))
    if draw.random() < 0.2:
        at = draw.randrange(len(text))
        text = (
            text[:at]
            + draw.choice(("", "[" * 2000, "1e999", "9" * 5000, "NaN", "\ud800", '"'))
            + text[at + 1 :]
        )
    here = folder()
    here.write(text, json.dumps(PROGRAM), _GOOD)
    try:
        read_artifact(here.path)
    except IrbinError as error:
        return ("bad", "more than a line") if "\n" in str(error) else ("refused", "")
    return "equal", ""


_GOOD = save(_tensors(PROGRAM, random.Random(0)), {"format": "pt"})


def safetensors(seed: int, number: int) -> Outcome:
    """A mutant of `packed.safetensors`: of its header's JSON, of its bytes, of its length."""
    draw = _draw(seed, number)
    here = folder()
    here.write(json.dumps(MANIFEST), json.dumps(PROGRAM), b"".join(_damaged(_GOOD, draw)))
    return read_and_run(here.path)


def _damaged(content: bytes, draw: random.Random) -> Iterator[bytes]:
    size = struct.unpack("<Q", content[:8])[0]
    header, data = content[8 : 8 + size], content[8 + size :]
    change = draw.randrange(6)
    if change < 3:
        header = json.dumps(values.mutated(json.loads(header), draw, draw.choice((1, 2)))).encode(
            errors="replace"
        )
        size = len(header) if draw.random() < 0.9 else abs(values.integer(draw)) % (1 << 64)
    elif change == 3:
        data = data[: draw.randrange(len(data))]
    elif change == 4:
        flipped = bytearray(header + data)
        for _ in range(draw.choice((1, 2, 8))):
            flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
        header, data = bytes(flipped[: len(header)]), bytes(flipped[len(header) :])
    else:
        size = abs(values.integer(draw)) % (1 << 64)
    yield struct.pack("<Q", size)
    yield header
    yield data
