"""From a fresh interpreter to the first answer: a packed network without torch, and torch alone.

`python -m docs.maintain.start` prints medians of processes that take turns, in milliseconds: of
`zoo:resnet20-cifar10-1w1a` what passes until each step is done; of torch its import, and the answer
of the same network in float, without weights to read. What Python takes to begin and end is in all.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

N_RUNS = 11

LOAD = "import numpy, irbin; model = irbin.load('zoo:resnet20-cifar10-1w1a')"
RESNET20 = """
import torch
from torch import nn
from torch.nn import functional as F

class Block(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, n_out // n_in, 1, bias=False)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if y.shape != x.shape:
            half = x.shape[1] // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
        return F.relu(x + y)

widths = [16] * 4 + [32] * 3 + [64] * 3
blocks = [Block(n_in, n_out) for n_in, n_out in zip(widths, widths[1:])]
stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
net = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)).eval()
with torch.inference_mode():
    net(torch.zeros(1, 3, 32, 32))
"""
PROGRAMS = {
    "Python": "",
    "… and NumPy": "import numpy",
    "… and irbin's runtime": "import numpy, irbin.runtime.loading",
    "… and the network": LOAD,
    "… and its first answer": f"{LOAD}; model(numpy.zeros((1, 3, 32, 32), numpy.float32))",
    "torch": "import torch",
    "torch and ResNet-20's first answer": RESNET20,
}


def seconds(program: str) -> float:
    """How long a fresh interpreter takes for a program, to its end."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - begin


def main() -> None:
    """Prints a line a program."""
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for turn in range(N_RUNS + 1):
        for name, program in PROGRAMS.items():
            took = seconds(program)
            if turn:  # the first reads files that nothing has read yet
                times[name].append(took)
    for name, all_of_it in times.items():
        print(f"{1e3 * statistics.median(all_of_it):8.0f} ms  {name}")


if __name__ == "__main__":
    main()
