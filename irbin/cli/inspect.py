"""`irbin inspect`: a network's plan before anything is changed, or a packed folder's program."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from irbin.cli.console import check_json_target, json_alone, notes, results, say, write_json
from irbin.cli.flags import flat, given, words
from irbin.cli.live import stages
from irbin.cli.options import Json, Report, Source, check_page
from irbin.cli.plan_options import PlanFlags
from irbin.cli.source_options import SourceFlags
from irbin.errors import UsageError
from irbin.messages import counted
from irbin.planning.estimate import estimate
from irbin.records.json import from_json, to_json
from irbin.records.options import SourceOptions, SourceRecord
from irbin.records.plan import FITTED_TO, Estimate, Plan
from irbin.report.bench import bytes_line, torch_work_lines
from irbin.report.images import images_line
from irbin.report.jsonout import plan_json
from irbin.report.plan import layer_table, plan_heading, plan_notes, totals_table
from irbin.report.units import byte_size


@flat
def inspect(
    network: SourceFlags,
    plan: PlanFlags,
    source: Source = None,
    page: Report = None,
    json_to: Json = None,
) -> None:
    """Show what would become binary, what would stay float, and why.

    Lists every layer with its shape, multiply-adds, bytes before and after, decision and reason,
    then totals by precision, the predicted packed size, how much faster the packed network is
    estimated to be, and why where binarizing gains little. Takes the plan options of convert, and
    changes nothing. A converted folder shows the plan it was made with; a packed folder shows its
    program, a line a node with shapes, and what of it torch computes, if anything.
    """
    check_json_target(json_to, network.checkpoint, source)
    spec = network.named(source)
    check_page(page)
    from irbin.sources.opened import is_packed
    from irbin.zoo.entries import PREFIX, is_entry

    if is_packed(spec):
        if given(plan):
            raise UsageError(f"{spec} is packed already: plan options have no effect on it")
        if page is not None:
            raise UsageError(
                f"`--report` is of a plan, and {spec} is packed already; `irbin bench --report` "
                "shows its speed, `irbin eval --report` its accuracy"
            )
        _show_program(spec, json_to)
    else:
        shown, gains = _show_plan(spec, network.options(source), plan, json_to)
        if page is not None:
            named = ([] if source is None else [source]) + words(network)
            _write_page(page, spec, shown, gains, [*named, *words(plan)])
    if is_entry(spec):
        say(notes(), f"next: irbin zoo {spec.removeprefix(PREFIX)}", style="dim")


def _write_page(
    page: Path, spec: str, plan: Plan, gains: Estimate, arguments: Sequence[str]
) -> None:
    """The plan as a page, with the command that carries it out."""
    from irbin.html.page import write_page
    from irbin.html.plan import plan_page
    from irbin.sources.folder import folder_kind

    if folder_kind(Path(spec).expanduser()) in (None, "timm"):
        line = ["irbin", "convert", *arguments, "-o", "CONVERTED"]
    else:  # it was carried out already
        line = ["irbin", "finetune", *arguments, "--data-dir", "DATA", "-o", "RUN"]
    write_page(page, plan_page(spec, plan, gains, shlex.join(line)))
    say(notes(), f"wrote {page}", style="dim")


def _show_plan(
    spec: str, options: SourceOptions, flags: PlanFlags, json_to: str | None
) -> tuple[Plan, Estimate]:
    from irbin import verbs

    with json_alone(json_to), stages(patient=True) as stage:
        plan, source = verbs.inspect(spec, source_options=options, stage=stage, **given(flags))
    screen = results(json_to)
    say(screen, images_line(source))
    print_plan(screen, spec, plan)
    images = {**to_json(source.preprocessing), "stated_by": source.stated_by}
    gains = estimate(plan)
    write_json(plan_json(spec, plan, gains) | {"images": images}, json_to)
    return plan, gains


def print_plan(screen: Console, name: str, plan: Plan) -> None:
    """Layers, totals, notes, and what it gains."""
    say(screen, plan_heading(name, plan), style="bold")
    screen.print(layer_table(plan, screen.width))
    screen.print()
    print_totals(screen, plan)


def print_totals(screen: Console, plan: Plan) -> None:
    """Totals, notes, and what it gains, and where less is."""
    from irbin.kernels import native

    screen.print(totals_table(plan))
    for note in plan_notes(plan):
        say(screen, note)
    gains = estimate(plan)
    active = native.active()
    if active != FITTED_TO:
        say(
            screen,
            f"speed is estimated for a processor that runs `{FITTED_TO}`; this one runs "
            f"`{active}`, where less is gained: half of it, say (docs/performance.md)",
        )
    say(screen, gains.verdict, style="bold")
    for sentence in gains.advice:
        say(screen, sentence, style="yellow")


def _show_program(spec: str, json_to: str | None) -> None:
    from irbin import verbs
    from irbin.artifact.schema import FILES
    from irbin.hub.repository import located

    packed = verbs.inspect_packed(spec)  # reads and checks the whole folder
    folder = located(spec)
    files = [folder / name for name in FILES]
    screen = results(json_to)
    screen.print(packed.text, markup=False, soft_wrap=True)
    total = sum(path.stat().st_size for path in files)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if "source" in config:
        say(screen, images_line(from_json(SourceRecord, config["source"], str(folder))))
    for line in torch_work_lines(packed.torch_work):
        say(screen, f"{line}; with {packed.kernels} kernels")
    say(screen, bytes_line(packed.why_floats))
    say(screen, f"{spec}: {counted(len(files), 'file')}, {byte_size(total)}", style="bold")
    if json_to is not None:
        parts = {name: folder / f"{name}.json" for name in ("config", "program")}
        content = {name: json.loads(path.read_text("utf-8")) for name, path in parts.items()}
        here = {
            "torch_work": to_json(packed.torch_work),
            "kernels": packed.kernels,
            "why_floats": packed.why_floats,
        }
        write_json({"source": spec, "total_bytes": total, **here, **content}, json_to)
