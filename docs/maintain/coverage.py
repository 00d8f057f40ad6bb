"""A program of its own: one network through the whole journey, as a row of `docs/coverage.csv`.

    python -m docs.maintain.coverage docs/coverage.csv > docs/coverage.md

turns the rows into the page. `pytest -m sweep` makes them, from `tests/sweep/models.csv`.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import irbin
from irbin import verbs
from irbin.evaluation.agreement import compare
from irbin.planning.estimate import estimate
from irbin.records.options import SourceOptions
from irbin.records.plan import Bits, Plan
from irbin.records.results import Agreement
from irbin.rewriting.calibrate import reestimate_batch_norm
from irbin.rewriting.network import Network
from irbin.sources.spec import load_source

BITS: tuple[Bits, ...] = ("1w1a", "1w32a")

ROUNDING = 1e-3
"""A sign that begins to differ at a larger |x| than this is no matter of rounding; answers may
differ by this share of the largest where no sign does."""

EQUAL = "equal"
NOT_TRIED = ("not tried", "not packed")
"""What the column of C begins with where nothing was exported."""

STEP = 0.05
"""Learning rate of the one training step."""


@dataclass
class Row:
    """What became of one network."""

    family: str
    source: str
    input_size: int
    """Height and width."""
    n_layers: int = 0
    n_binary: int = 0
    """Both at 1w1a."""
    unseen: int = 0
    """Binary layers that only the recorded run saw."""
    macs_share: float = 0.0
    """Of all multiply-adds, those binary at 1w1a; per cent."""
    float_bytes: int = 0
    packed_bytes: int = 0
    """Tensors written at 1w1a."""
    speed_up: float = 0.0
    """Estimated, of 1w1a."""
    agreement_1w1a: str = ""
    """`equal`, how signs differ, or the error."""
    agreement_1w32a: str = ""
    seconds: float = 0.0
    train_steps: int = 0
    """Taken at each width between converting and exporting."""
    c: str = ""
    """As C, at 1w1a: `equal`, what refuses it, or what differs; '' if not tried (`in_c.py`)."""

    @property
    def is_green(self) -> bool:
        """Whether both widths went all the way."""
        return all(a.startswith(EQUAL) for a in (self.agreement_1w1a, self.agreement_1w32a))


def journey(family: str, source: str, input_size: int, widths: Iterable[Bits] = BITS) -> Row:
    """Opens, plans, converts, trains, exports, loads and compares one network of random weights.

    Converting checks a forward and a backward pass: finite gradients in every latent weight.

    Args:
        family: for the row.
        source: a timm or torchvision name.
        input_size: height and width of the three-channel images.
        widths: to walk at; the row says nothing of the others.
    """
    row, start = Row(family, source, input_size), time.perf_counter()
    torch.manual_seed(0)
    try:
        options = SourceOptions(pretrained=False, input_size=(3, input_size, input_size))
        network = load_source(source, options)
        randomize(network.module)
        for bits in widths:
            setattr(row, f"agreement_{bits}", _walk(network, bits, row))
    except Exception as error:  # any is a finding, and the row says which
        row.agreement_1w1a = row.agreement_1w32a = f"{type(error).__name__}: {error}"
    row.seconds = round(time.perf_counter() - start, 1)
    return row


def randomize(module: nn.Module) -> None:
    """Makes a fresh network's constants random, in place: a trained one has no exact zeros either.

    Norm statistics and weights, and whatever starts as zero (biases, last norms, layer scales).
    """
    generator = torch.Generator().manual_seed(0)

    def normal(like: Tensor, std: float) -> Tensor:
        return std * torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None:
                mean, var = m.get_buffer("running_mean"), m.get_buffer("running_var")
                mean.add_(normal(mean, 0.1))
                var.add_(normal(var, 0.1).abs())
        for p in module.parameters():
            if p.dim() <= 1 or not p.any():
                p.add_(normal(p, 0.05))


def train_step(module: nn.Module, images: Tensor) -> None:
    """One step of SGD on a converted network, in place: its gradients have norm one altogether.

    The loss is the mean square of all answers, auxiliary heads' too, against random targets.

    Args:
        module: left in the mode it was in.
        images: (batch, channels, height, width); two or more, for batch norm.

    Raises:
        RuntimeError: a gradient is not finite.
    """
    was_training = {m: m.training for m in module.modules()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        answers = [a for a in tree_leaves(module.train()(images)) if isinstance(a, Tensor)]
        loss = torch.stack([F.mse_loss(a, torch.randn_like(a)) for a in answers]).sum()
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, STEP)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    optimizer.step()
    optimizer.zero_grad()
    for m, training in was_training.items():
        m.training = training


def _walk(network: Network, bits: Bits, row: Row) -> str:
    try:
        plan = verbs.plan(network, bits=bits)
        if bits == "1w1a":
            _note_plan(plan, row)
        binary = verbs.convert(network, bits=bits)
        train_step(binary.module, images(row.input_size, 4, seed=3))
        row.train_steps = 1
        reestimate_batch_norm(binary.module, [images(row.input_size, 8, seed=2)])
        with tempfile.TemporaryDirectory() as folder:
            written = verbs.export(binary, Path(folder, "packed"))
            packed = irbin.load(Path(folder, "packed"))
        if bits == "1w1a":
            row.packed_bytes = written.tensor_bytes
        two = images(row.input_size, 2, seed=1)
        answers = _answers(binary.module, two)
        found = compare(binary.module, packed, [two])
        verdict = _verdict(found, answers.abs().max().item(), 0.0)
        if verdict.startswith(EQUAL):
            return verdict
        own = (answers - _answers(binary.module.double(), two.double())).abs().max().item()
        return _verdict(found, answers.abs().max().item(), own)
    except Exception as error:  # any is a finding, and the row says which
        return f"{type(error).__name__}: {error}"


def images(input_size: int, n_images: int, seed: int) -> Tensor:
    """Random images of three channels.

    Args:
        input_size: height and width.
        n_images: how many.
        seed: of the numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_images, 3, input_size, input_size, generator=generator)


def _note_plan(plan: Plan, row: Row) -> None:
    row.n_layers, row.n_binary = len(plan.decisions), len(plan.binary_names)
    row.unseen = sum(d.binary and bool(d.layer.unseen) for d in plan.decisions)
    row.macs_share = round(100 * plan.binary_macs / max(plan.n_macs, 1), 1)
    row.float_bytes = plan.float_bytes
    row.speed_up = round(estimate(plan).speed_up, 1)


def _answers(module: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = module.eval()(images)
    return found.double()


def _verdict(found: Agreement, largest: float, own: float) -> str:
    """`equal`, `equal but for rounding: …`, or what is wrong.

    Args:
        found: packed against trained.
        largest: absolute value among the trained network's answers.
        own: by how much those differ when computed in float64: a deep random network may turn the
            last bit of an image into another answer, packed or not.
    """
    flipped = [layer for layer in found.layers if layer.n_flipped]
    if not flipped:
        share = found.max_difference / max(largest, 1e-30)
        if share <= ROUNDING:
            return EQUAL
        words = f"answers differ by {share:.2g} of the largest"
        if found.max_difference > 2 * own or not share < float("inf"):
            return words
        its_own = (
            f"the trained network's by {own / max(largest, 1e-30):.2g} from its own in float64"
        )
        return f"{EQUAL} but for rounding: {words}, {its_own}"
    n_flipped = sum(layer.n_flipped for layer in flipped)
    n_signs = sum(layer.n_signs for layer in found.layers)
    first = flipped[0]
    begins = f"begins at `{first.name}`, |x| ≤ {first.largest_flipped:.1g}"
    words = f"{n_flipped} of {n_signs} signs differ, {begins}"
    if first.largest_flipped <= ROUNDING:
        return f"{EQUAL} but for rounding: {words}"
    return words


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file; none where there is no file."""
    if not path.is_file():
        return []
    kinds = {f.name: {"int": int, "float": float}.get(str(f.type), str) for f in fields(Row)}
    with path.open(newline="", encoding="utf-8") as file:
        return [Row(**{k: kinds[k](v) for k, v in row.items()}) for row in csv.DictReader(file)]


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """A CSV file of these rows, whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    partial.replace(path)


def append_row(row: Row, path: Path) -> None:
    """Adds a row to a CSV file, with the head line where there is none; one write, so whole."""
    import fcntl

    with path.open("a", newline="", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # two parts of a sweep may write at once
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(asdict(row))


_HEAD = """# Coverage

<!-- made by `python -m docs.maintain.coverage docs/coverage.csv > docs/coverage.md`; do not edit -->

Every timm module's smallest model and every torchvision classifier, with random weights and a small input: planned with default flags,
converted at `1w1a` and `1w32a` (which runs a forward and a backward pass and checks the gradient of every latent weight), trained by one step of SGD,
batch norm measured on random images, exported, loaded again, and compared with the trained form on two images. The rows come from

```
pytest -m sweep
```

which goes on where it was stopped, and takes less than an hour on two cores when run as two parts beside each other
(`IRBIN_SWEEP_PART=1/2 pytest -m sweep` and `2/2`).

- **binary** counts layers with weights; **MACs** is the share of all multiply-adds, attention products included, that becomes binary.
- **size** is the float32 network over the packed tensors; **speed** is the estimate of `irbin inspect` at that input size, not a measurement.
- **packed = binary**: *yes* means that no sign of any binary layer's input differs. *≈* means that some do, beginning where a float value lies so
  near zero that rounding decides (the largest such |x| is given); with random weights one such sign changes later ones. *≈* alone: no sign differs, and
  the answers differ by no more than twice what the trained network's own do between float32 and float64.
- **C** is `irbin export --to c` at `1w1a`: *yes* means that every result of every call was, bit for bit, what `irbin.load` has there (gcc, one random image, in a network
  converted in the same way but for the training step). *by definition*: every result was, bit for bit, that of the definitions, which `irbin.load` has from torch, but for rounding, where these operators are named. Others name the operators that
  C is not written for. *not tried: time*: the program that fills the column has not come so far. *not packed*: there is no packed folder. `python -m docs.maintain.in_c docs/coverage.csv` fills the column.
- A star marks layers planned from a recorded run, because tracing cannot see them: no activation before them is replaced.
"""


def page(rows: Iterable[Row]) -> str:
    """The rows as a Markdown page."""
    rows = sorted(rows, key=lambda r: (r.family == "torchvision", r.family, r.source))
    green = Counter(row.is_green for row in rows)
    c = Counter(
        "defined" if row.c.startswith("by def") else row.c == EQUAL
        for row in rows
        if row.c and not row.c.startswith(NOT_TRIED)
    )
    lines = [_HEAD, f"{green[True]} of {len(rows)} networks went all the way at both widths."]
    lines += [
        f"{c[True] + c['defined']} of the {c.total()} that were tried run as C, {c['defined']} of these by "
        "definition in places.\n"
    ]
    lines += [
        "| family | model | input | binary | MACs | size | packed bytes | speed | packed = binary | 1w32a | C |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(row) for row in rows]
    untrained = sum(row.train_steps == 0 for row in rows)
    if untrained:
        lines += ["", f"{untrained} of these rows were made without the training step."]
    explained = [row for row in rows if not row.is_green]
    if explained:
        lines += ["", "## Not all the way, and why", ""]
        lines += [
            f"- `{r.source}`: {r.agreement_1w1a}; 1w32a: {r.agreement_1w32a}" for r in explained
        ]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    size = f"{row.float_bytes / row.packed_bytes:.1f}×" if row.packed_bytes else ""
    star = "*" if row.unseen else ""
    cells = (
        row.family,
        f"`{row.source.removeprefix('torchvision:')}`",
        str(row.input_size),
        f"{row.n_binary} / {row.n_layers}{star}",
        f"{row.macs_share:.1f} %",
        size,
        f"{row.packed_bytes:,}",
        f"{row.speed_up:.1f}×",
        _mark(row.agreement_1w1a),
        _mark(row.agreement_1w32a),
        "yes" if row.c == EQUAL else row.c.removeprefix("refused: "),
    )
    return "| " + " | ".join(cells) + " |"


def _mark(agreement: str) -> str:
    if agreement == EQUAL:
        return "yes"
    if agreement.startswith(EQUAL):
        return "≈ " + agreement.partition("|x| ")[2]
    return "no, see below"


if __name__ == "__main__":
    sys.stdout.write(page(read_rows(Path(sys.argv[1]))))
