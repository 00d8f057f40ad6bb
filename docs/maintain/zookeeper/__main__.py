"""A program of its own: the network that a run kept becomes an entry of the zoo.

    python -m docs.maintain.zookeeper RUN NAME --data-dir data/cifar10

A binary network is exported, a float one stored with its weights in float16. Either is evaluated
from the stored files on the whole validation split; then `irbin/zoo/NAME` and the table in
`irbin/zoo/README.md` are written. No path of the machine goes with it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from docs.maintain.zookeeper.add import add
from irbin.errors import IrbinError
from irbin.records.options import DataOptions
from irbin.zoo.entries import PREFIX


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    parser = argparse.ArgumentParser(
        "python -m docs.maintain.zookeeper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="run folder; its best is taken, or its last if there is none")
    parser.add_argument("name", help="such as resnet20-cifar10-1w1a, resnet20-cifar10-float")
    parser.add_argument("--data-dir", help="folder of the data set")
    parser.add_argument("--dataset", default="", help="timm's data set string")
    parser.add_argument("--val-split", default=DataOptions.val_split)
    parser.add_argument("--workers", type=int, default=DataOptions.workers)
    parser.add_argument("--last", action="store_true", help="its last epoch's network")
    parser.add_argument("--replace", action="store_true", help="also a better entry")
    given = parser.parse_args(arguments)
    data = DataOptions(
        data_dir=given.data_dir,
        dataset=given.dataset,
        val_split=given.val_split,
        workers=given.workers,
    )
    try:
        record = add(given.run, given.name, data, last=given.last, replace_better=given.replace)
    except IrbinError as error:
        sys.stderr.write(f"zookeeper: {error}\n")
        return error.exit_code
    sys.stdout.write(
        f"{PREFIX}{record.name}: {record.kept}, {record.top1:.2f} % top-1 on "
        f"{record.n_images:,} images, {record.size_bytes:,} bytes\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
