"""How float32 is computed: every way of asking torch, within and after, whatever was set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

STATES = {
    "nothing": "",
    "high": "torch.set_float32_matmul_precision('high')",
    "medium": "torch.set_float32_matmul_precision('medium')",
    "cuBLAS allowed": "cuda.matmul.allow_tf32 = True",
    "cuBLAS allowed, and not": "cuda.matmul.allow_tf32 = True; cuda.matmul.allow_tf32 = False",
    "cuDNN not allowed": "cudnn.allow_tf32 = False",
    "cuDNN allowed": "cudnn.allow_tf32 = True",
    "everything tf32": "backends.fp32_precision = 'tf32'",
    "everything ieee": "backends.fp32_precision = 'ieee'",
    "CUDA tf32": "cudnn.fp32_precision = 'tf32'",
    "CUDA ieee": "cudnn.fp32_precision = 'ieee'",
    "products tf32": "cuda.matmul.fp32_precision = 'tf32'",
    "convolutions ieee": "cudnn.conv.fp32_precision = 'ieee'",
    "convolutions and recurrences ieee": "cudnn.conv.fp32_precision = 'ieee'\n"
    "cudnn.rnn.fp32_precision = 'ieee'",
    "oneDNN bf16": "mkldnn.set_flags(_fp32_precision='bf16')",
    "oneDNN's products tf32": "mkldnn.matmul.fp32_precision = 'tf32'",
    "high, then products ieee": "torch.set_float32_matmul_precision('high')\n"
    "cuda.matmul.fp32_precision = 'ieee'",
    "medium, then oneDNN's products ieee": "torch.set_float32_matmul_precision('medium')\n"
    "mkldnn.matmul.fp32_precision = 'ieee'",
    "flags that only torch may set": "cudnn.allow_tf32 = True; backends.disable_global_flags()",
    "not allowed, then everything tf32": "cudnn.allow_tf32 = False; "
    "backends.fp32_precision = 'tf32'",
}
"""Each by torch's older words, its newer ones, or both."""

PROGRAM = """
import json, os, sys
import torch
from irbin.evaluation.modes import exact_float32

backends = torch.backends
cudnn, cuda, mkldnn = backends.cudnn, backends.cuda, backends.mkldnn
PARTS = {"conv": cudnn.conv, "rnn": cudnn.rnn, "matmul": cuda.matmul, "cpu matmul": mkldnn.matmul,
         "cpu conv": mkldnn.conv, "cpu rnn": mkldnn.rnn}

def flags():
    with cudnn.flags():
        pass

OLDER = {"cuDNN": lambda: cudnn.allow_tf32, "cuBLAS": lambda: cuda.matmul.allow_tf32,
         "precision": torch.get_float32_matmul_precision, "oneDNN": lambda: mkldnn.allow_tf32}

def read(ask):
    try:
        return ask()
    except RuntimeError:
        return "raises"

def seen():
    found = {name: read(ask) for name, ask in OLDER.items()}
    found |= {name: part.fp32_precision for name, part in PARTS.items()}
    return found | {"all": backends.fp32_precision, "CUDA": cudnn.fp32_precision,
                    "oneDNN's": mkldnn.fp32_precision}

for name, code in json.loads(sys.argv[1]).items():
    sys.stdout.flush()
    if os.fork() == 0:
        exec(code)
        before = seen()
        with exact_float32():
            within = seen()
            flags()
            with exact_float32():
                again = seen()
            back = seen()
        print(json.dumps([name, before, within, again, back, seen()]))
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0, name
"""


@pytest.fixture(scope="module")
def told() -> dict[str, list[dict[str, Any]]]:
    """What torch says before, within twice over, and after, by state; each in its own process."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), json.dumps(STATES)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("state", STATES)
class TestExactFloat32:
    @pytest.mark.slow
    def test_everything_can_be_read_within(
        self, state: str, told: dict[str, list[dict[str, Any]]]
    ) -> None:
        _, within, again, back, _ = told[state]
        for seen in (within, again, back):
            assert "raises" not in seen.values()

    def test_everything_is_exact_within(
        self, state: str, told: dict[str, list[dict[str, Any]]]
    ) -> None:
        for seen in told[state][1:4]:
            assert (seen["cuDNN"], seen["cuBLAS"], seen["precision"]) == (False, False, "highest")
            parts = ("conv", "rnn", "matmul", "cpu matmul", "cpu conv", "cpu rnn")
            assert {seen[part] for part in parts} == {"ieee"}

    def test_everything_is_said_as_before_afterwards(
        self, state: str, told: dict[str, list[dict[str, Any]]]
    ) -> None:
        before, *_, after = told[state]
        assert after == before
