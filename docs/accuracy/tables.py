"""Collects finished runs into `results.csv` and `curves.csv`, and writes the tables of the page.

    python docs/accuracy/tables.py --runs runs [--data-dir data/cifar10]

With a data set, every binary run is exported first, and its packed file evaluated on the whole
validation split. Runs that are not at hand keep their rows. Without `--runs` only the tables of
`docs/accuracy.md` are written anew, from the two files.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev

import torch
import yaml

import irbin
from irbin.records.options import DataOptions
from irbin.zoo.entries import read_record

from experiments import HERE, Experiment, Task, experiments, folder  # isort: skip
from experiments import standing as how_far  # isort: skip

PAGE = HERE.parent / "accuracy.md"
RESULTS, CURVES = HERE / "results.csv", HERE / "curves.csv"
PUBLISHED = HERE / "published.yaml"
COLUMNS = (
    "experiment",
    "seed",
    "epochs",
    "batch_size",
    "top1",
    "packed_top1",
    "packed_images",
    "signs_kept",
    "hours",
    "threads",
    "processor",
    "started",
    "torch",
    "git",
    "source",
)

Row = dict[str, str]


def read(path: Path) -> list[Row]:
    """The rows of a table; none where it does not exist yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """A table with these columns."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def collect(runs: Path, data_dir: str | None) -> None:
    """Takes over every finished run of `experiments.yaml` that lies in `runs`."""
    rows = {(row["experiment"], row["seed"]): row for row in read(RESULTS)}
    curves = {(row["experiment"], row["seed"], row["epoch"]): row for row in read(CURVES)}
    for experiment in experiments().values():
        for seed in experiment.seeds:
            out, key = folder(runs, experiment.name, seed), (experiment.name, str(seed))
            if how_far(Task(experiment, seed), runs).state != "finished":
                continue
            row = _row(experiment, seed, out)
            row |= _packed(experiment, out, runs, data_dir, rows.get(key, {}))
            row["signs_kept"] = rows.get(key, {}).get("signs_kept") or _signs_kept(out, runs)
            print(f"{out.name}: {row['top1']} %, packed {row['packed_top1'] or '–'} %", flush=True)
            rows[key] = row
            for line in read(out / "summary.csv"):
                if line["eval_top1"] not in ("", "nan"):
                    curve = {"experiment": experiment.name, "seed": str(seed)}
                    curve |= {"epoch": line["epoch"], "top1": line["eval_top1"]}
                    curves[(*key, line["epoch"])] = curve
    order = list(experiments())
    known = [key for key in rows if key[0] in order]
    known.sort(key=lambda key: (order.index(key[0]), int(key[1])))
    write(RESULTS, COLUMNS, (rows[key] for key in known))
    points = sorted(
        (key for key in curves if key[0] in order),
        key=lambda key: (order.index(key[0]), int(key[1]), int(key[2])),
    )
    write(CURVES, ("experiment", "seed", "epoch", "top1"), (curves[key] for key in points))


def _row(experiment: Experiment, seed: int, out: Path) -> Row:
    """What a finished run tells of itself."""
    args = yaml.safe_load((out / "args.yaml").read_text(encoding="utf-8"))
    ended = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return {
        "experiment": experiment.name,
        "seed": str(seed),
        "epochs": str(ended["epochs"]),
        "batch_size": str(args["data"]["batch_size"]),
        "top1": f"{ended['last_top1']:.2f}",
        "hours": f"{ended['seconds'] / 3600:.2f}",
        "threads": str(args["threads"]),
        "processor": str(args["hardware"]["processor"]),
        "started": str(args["started"])[:16],
        "torch": str(args["versions"]["torch"]),
        "git": str((args["git"] or {}).get("revision", ""))[:10],
        "source": begun_with(args["source"]["spec"]),
    }


def begun_with(spec: str) -> str:
    """The network that a run started from: a run by its folder's name, anything else as typed."""
    path = Path(spec)
    return path.parent.name if path.is_absolute() else spec


def _packed(
    experiment: Experiment, out: Path, runs: Path, data_dir: str | None, before: Row
) -> Row:
    """Accuracy of the packed file of the last epoch's network; as before where it is known."""
    if before.get("packed_top1"):
        return {key: before[key] for key in ("packed_top1", "packed_images")}
    if experiment.convert is None or data_dir is None:
        return {"packed_top1": "", "packed_images": ""}
    packed = runs / "packed" / out.name
    if not packed.exists():
        averaged = experiment.set.get("model_ema")  # which only `best` holds
        irbin.export(out / ("best" if averaged else "last"), packed)
    data = DataOptions(data_dir=data_dir, val_split="val", batch_size=250)
    found = irbin.evaluate(packed, data=data)
    return {"packed_top1": f"{found.top1:.2f}", "packed_images": str(found.n_images)}


def _signs_kept(out: Path, runs: Path) -> str:
    """Percent of the binary weights whose sign is that of the weight that was converted."""
    converted = runs / "converted" / out.name
    if not converted.exists():
        return ""
    before, after = (irbin.open_network(place) for place in (converted, out / "last"))
    assert before.plan is not None
    same = torch.cat(
        [
            (before.module.get_submodule(name).binary_weight() > 0).flatten()
            == (after.module.get_submodule(name).binary_weight() > 0).flatten()
            for name in before.plan.binary_names
        ]
    )
    return f"{100 * same.float().mean().item():.1f}"


def table(group: str) -> str:
    """A group's runs: each one's seeds, their mean and spread, and how far from the first.

    A group that does not compare has the seeds' alone.
    """
    rows, chosen = read(RESULTS), [e for e in experiments().values() if e.group == group]
    has_paper, compares = any(e.paper for e in chosen), any(e.compare for e in chosen)
    signs = any(e.signs for e in chosen)
    heads = ["", *(["paper"] if has_paper else []), "top-1 % of each seed"]
    heads += ["mean", "spread", "to the first row"] if compares else []
    heads += ["signs kept, %"] if signs else []
    heads += ["epochs", "hours a run"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    first = None
    for experiment in chosen:
        mine = [row for row in rows if row["experiment"] == experiment.name]
        tops = [float(row["packed_top1"] or row["top1"]) for row in mine]
        if not tops:
            continue
        first = mean(tops) if first is None else first
        cells = [experiment.label, *([experiment.paper] if has_paper else [])]
        cells += [", ".join(f"{top:.2f}" for top in tops)]
        if compares:
            spread = f"{stdev(tops):.2f}" if len(tops) > 1 else "–"
            cells += [f"{mean(tops):.2f}", spread, f"{mean(tops) - first:+.2f}"]
        cells += [", ".join(row["signs_kept"] or "–" for row in mine)] if signs else []
        cells += [mine[0]["epochs"], f"{mean(float(row['hours']) for row in mine):.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def standing() -> str:
    """The networks of `published.yaml`: others' figures beside those of irbin's zoo."""
    heads = ("network", "paper, float", "paper, IR-Net", "best since, at the same class of cost")
    heads += ("irbin", "recipe", "epochs", "seed", "hours", "float network it came from")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for published in yaml.safe_load(PUBLISHED.read_text(encoding="utf-8")):
        theirs = [published[key] for key in ("network", "float", "irnet", "best")]
        for name in published["zoo"]:
            record = read_record(name)
            run = record.runs[-1]
            cells = [f"[{record.top1:.2f}](../irbin/zoo/{name}/record.json)", f"`{run.recipe}`"]
            cells += [str(run.epochs), str(run.seed), f"{run.seconds / 3600:.1f}"]
            taught = record.teacher_top1
            cells += ["–, from noise" if taught is None else f"{taught:.2f}"]
            lines.append(f"| {' | '.join([*theirs, *cells])} |")
            theirs = [""] * len(theirs)
        if not published["zoo"]:
            lines.append(f"| {' | '.join([*theirs, 'not run', *['–'] * 5])} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with every `<!-- table: GROUP -->` filled up to its `<!-- end -->`."""

    def filled(match: re.Match[str]) -> str:
        made = standing() if match[1] == "standing" else table(match[1])
        return f"<!-- table: {match[1]} -->\n{made}\n<!-- end -->"

    return re.sub(r"<!-- table: (\S+) -->\n.*?<!-- end -->", filled, text, flags=re.DOTALL)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--data-dir")
    asked = parser.parse_args()
    if asked.runs is not None:
        collect(asked.runs, asked.data_dir)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
