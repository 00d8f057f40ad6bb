"""What `irbin inspect` estimates against what `irbin bench` measures.

    python -m docs.maintain.estimates [NETWORK:SHORTCUT[:BITS] ...] [--folder FOLDER] [--runs 9]

A row a network: speed-ups over torch's eager float32 at batch 1 on one thread, and how far the
seconds of either network are from what they were estimated at. Networks have random weights. They
are converted and exported into the folder first, where a second run finds them: so that a quiet
machine is needed for the measuring alone (`--only-prepare`).
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from tempfile import gettempdir

import irbin
from irbin.planning.estimate import estimate
from irbin.records.bench import BenchRecord
from irbin.records.plan import Estimate

NETWORKS = (
    "resnet18:bireal",
    "paper_resnet20:bireal",
    "paper_vgg-small:none",
    "resnet50:bireal",
    "resnet50:none",
    "mobilenetv2_100:bireal",
    "mobilenetv2_100:none",
    "vit_tiny_patch16_224:none",
    "efficientnet_b0:bireal",
    "convnext_atto:bireal",
    "densenet121:bireal",
    "regnetx_002:bireal",
    "mobilenetv3_large_100:none",
    "resnext50_32x4d:bireal",
    "torchvision_googlenet:bireal",
    "resnet18:none:1w32a",
)
"""Their names with `_` for the `:` of a source's kind."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--folder", type=Path, default=Path(gettempdir()) / "irbin-estimates")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--only-prepare", action="store_true")
    asked = parser.parse_args()
    folders = {name: prepared(name, asked.folder) for name in asked.networks}
    if asked.only_prepare:
        return
    print("| network, shortcut | estimated | measured | off | torch's time off | packed time off |")
    print("|---|---|---|---|---|---|")
    apart = []
    for name, folder in folders.items():
        record = irbin.benchmark(folder, n_threads=1, n_runs=asked.runs, memory=False)
        plan = irbin.open_network(f"{folder}-binary").plan
        assert plan is not None, "it was converted"
        gains = estimate(plan)
        apart.append(abs(gains.speed_up / measured(record)[2] - 1))
        print(row(name, record, gains), flush=True)
    print(f"median error {statistics.median(apart):.0%}, largest {max(apart):.0%}")


def prepared(name: str, folder: Path) -> Path:
    """The packed folder of a network of `NETWORKS`, made if it is not there."""
    source, shortcut, bits = (*name.split(":"), "1w1a")[:3]
    for kind in ("paper", "torchvision"):
        source = source.replace(f"{kind}_", f"{kind}:", 1) if source.startswith(kind) else source
    packed = folder / name.replace(":", "-")
    binary = folder / f"{packed.name}-binary"
    if not packed.exists():
        options = irbin.SourceOptions(pretrained=False)
        irbin.convert(
            source, binary, source_options=options, overwrite=True, shortcut=shortcut, bits=bits
        )
        irbin.export(binary, packed)
    return packed


def measured(record: BenchRecord) -> tuple[float, float, float]:
    """Milliseconds of the packed and the float network, and how many times as fast the first is."""
    times = {entry.name: entry.latency.median_ms for entry in record.entries}
    packed, floats = record.entries[0].latency.median_ms, times["torch fp32"]
    return packed, floats, floats / packed


def row(name: str, record: BenchRecord, gains: Estimate) -> str:
    """A line of the table."""
    packed, floats, times = measured(record)
    return (
        f"| {name} | {gains.speed_up:.2f} | {times:.2f} | {gains.speed_up / times - 1:+.0%} "
        f"| {1e3 * gains.float_seconds / floats - 1:+.0%} "
        f"| {1e3 * gains.packed_seconds / packed - 1:+.0%} |"
    )


if __name__ == "__main__":
    main()
