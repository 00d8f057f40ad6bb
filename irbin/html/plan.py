"""A plan as a page: what becomes of every layer, why, what is gained, and the next command."""

from __future__ import annotations

from irbin.html.blocks import Block, Cell, Command, Figure, Page, Section, Words, table
from irbin.html.charts import bars
from irbin.html.layers import Part, stacked
from irbin.html.words import sentence
from irbin.messages import counted
from irbin.records.plan import Decision, Estimate, Plan
from irbin.report.plan import plan_heading, plan_notes
from irbin.report.units import byte_size, count, digits, shape

SECTIONS = (
    "Size and speed before and after",
    "Layer by layer",
    "Every layer and why",
    "How far to trust the estimate",
    "What to type",
)
"""Of both pages."""
ESTIMATE = (
    "Seconds are estimated from prices of single layers on one thread of an AVX-512 processor, at "
    "batch 1; on others their ratio alone means something. `irbin bench NAME --threads 1` prints "
    "estimate and measurement side by side, and docs/performance.md how far they were apart."
)


def plan_page(name: str, plan: Plan, gains: Estimate, command: str) -> Page:
    """The page of what would become of a network, or became of one.

    Args:
        name: of the network.
        plan: its layers' fates.
        gains: see `planning.estimate`.
        command: that carries it out.
    """
    sections = (
        _before_and_after(plan, gains),
        _layers(plan),
        (_reasons(plan), *(Words(note) for note in plan_notes(plan))),
        _trust(plan, gains),
        (Command(command),),
    )
    about = plan_heading(name, plan)
    titled = (Section(t, blocks) for t, blocks in zip(SECTIONS, sections, strict=True))
    return Page(f"Plan of {name}", about, tuple(titled))


def _before_and_after(plan: Plan, gains: Estimate) -> tuple[Block, ...]:
    sizes = [
        ("float", plan.float_bytes / 1e6),
        ("packed", plan.packed_bytes() / 1e6),
        ("packed, float16", plan.packed_bytes("float16") / 1e6),
    ]
    times = [("float, torch", 1e3 * gains.float_seconds), ("packed", 1e3 * gains.packed_seconds)]
    n_binary = len(plan.binary_names)
    layers = [("binary", float(n_binary)), ("float", float(len(plan.decisions) - n_binary))]
    drawings = (
        bars("size, MB", sizes, lambda megabytes: byte_size(1e6 * megabytes)),
        bars("estimated time of an image, ms", times, digits),
        bars("layers", layers, lambda n: f"{n:.0f}"),
    )
    advice = (Words(line, "note") for line in gains.advice)
    verdict = Words(sentence(gains.verdict), "strong")
    return (verdict, *advice, Figure("Before and after.", drawings))


def _layers(plan: Plan) -> tuple[Block, ...]:
    layers = plan.decisions
    names = [d.layer.name for d in layers]
    packed = [d.packed_bytes / 1e3 for d in layers]
    saved = [max(d.float_bytes - d.packed_bytes, 0) / 1e3 for d in layers]
    binary = [d.layer.n_macs / 1e6 * d.binary for d in layers]
    floats = [d.layer.n_macs / 1e6 * (not d.binary) for d in layers]
    if not layers:
        return (Words("The network has no layer with weights."),)
    drawings = (
        stacked("size, kB", names, (Part("stays", 0, packed), Part("saved", 2, saved))),
        stacked(
            "multiply-adds of an image, millions",
            names,
            (Part("binary", 0, binary), Part("float", 1, floats)),
        ),
    )
    return (Figure("A bar a layer, in the order in which they run.", drawings),)


def _reasons(plan: Plan) -> Block:
    heads = ("layer", "kind", "shape", "MACs", "float", "packed", "becomes", "reason")
    rows = [_row(decision) for decision in plan.decisions]
    caption = f"{counted(len(rows), 'layer')}, {len(plan.binary_names)} of them binary."
    return table(caption, heads, rows, numbers=("MACs", "float", "packed"))


def _row(decision: Decision) -> tuple[str | Cell, ...]:
    layer = decision.layer
    kind = "depthwise" if layer.is_depthwise else layer.kind
    word = "binary" if decision.binary else "float"
    return (
        layer.name,
        layer.type_name if layer.kind == "other" else kind,
        shape(layer.weight_shape),
        Cell(count(layer.n_macs), layer.n_macs),
        Cell(byte_size(decision.float_bytes), decision.float_bytes),
        Cell(byte_size(decision.packed_bytes), decision.packed_bytes),
        Cell(word, tone="good" if decision.binary else "note"),
        "" if decision.reason == word else decision.reason,
    )


def _trust(plan: Plan, gains: Estimate) -> tuple[Block, ...]:
    parts = [(what, Cell(digits(1e3 * s), s)) for what, s in gains.packed_parts.items()]
    size = (
        f"The predicted {byte_size(plan.packed_bytes())} are those of all tensors in the packed "
        "folder, to the byte but for constants that the network's code computes; headers and JSON "
        "come on top."
    )
    heads = ("computing", "estimated ms")
    takes = table("What takes the packed network's time.", heads, parts, numbers=heads[1:])
    return (Words(size), Words(ESTIMATE), takes)
