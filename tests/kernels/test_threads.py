"""Threads of our own, in processes with torch and without."""

import subprocess
import sys

import pytest

CONVOLVE = """
import sys

import pytest
import numpy as np
from irbin.kernels import native, reference
from irbin.kernels.ops import bconv2d

random = np.random.default_rng(0)
bits = reference.bitpack(random.standard_normal((2, 64, 40, 40)).astype(np.float32), 1)
weight = reference.bitpack(random.standard_normal((48, 64, 3, 3)).astype(np.float32), 1)

def same(n_threads):
    found = bconv2d(bits, weight, None, None, 64, border=(1, 1, 1, 1), n_threads=n_threads)
    return np.array_equal(found, wanted)

wanted = bconv2d(bits, weight, None, None, 64, border=(1, 1, 1, 1))
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", CONVOLVE + code],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.mark.slow
def test_without_torch_threads_are_our_own_and_give_the_same():
    done = run("assert 'torch' not in sys.modules; print(native.thread_pool(), same(3), same(2))")
    assert done.stdout == "own True True\n", done.stderr


@pytest.mark.slow
def test_a_forked_child_gets_threads_of_its_own():
    code = """
import os
assert same(2)
child = os.fork()
if child == 0:
    os._exit(0 if same(2) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code).stdout == "0\n"


@pytest.mark.slow
def test_no_memory_in_a_thread_is_an_error_of_the_caller():
    code = """
import resource
assert same(2)  # there are workers
far = {"border": (0, 0, 2**15, 0), "dilation": (2**15, 1), "n_threads": 2}
many, taps = np.zeros((1, 64, 8, 64), np.uint8), np.zeros((64, 2, 1, 64), np.uint8)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
_, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (size + (6 << 20), hard))
try:
    bconv2d(many, taps, None, None, 512, **far)
except MemoryError:
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    print("told", same(2))
"""
    done = run(code)
    assert done.stdout == "told True\n", done.stderr


@pytest.mark.slow
def test_a_child_of_a_process_with_torch_computes_after_use():
    code = """
import os, torch
import irbin
from irbin.runtime.threads import kernel_threads
torch.set_num_threads(2)
model = irbin.load("zoo:resnet20-cifar10-1w1a")
x = torch.randn(8, 3, 32, 32)
wanted = model(x)
torch.randn(512, 512) @ torch.randn(512, 512)
child = os.fork()
if child == 0:
    again = torch.equal(model(x), wanted)
    os._exit(0 if again and torch.get_num_threads() == 1 and kernel_threads() == 2 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), native.thread_pool())
"""
    done = run(code)
    assert done.stdout.startswith("0 "), done.stderr


@pytest.mark.slow
def test_several_callers_at_once_get_their_own_results():
    code = """
import threading
results = []
threads = [threading.Thread(target=lambda: results.append(same(2))) for _ in range(6)]
for t in threads: t.start()
for t in threads: t.join()
print(results == [True] * 6)
"""
    assert run(code).stdout == "True\n"


@pytest.mark.slow
def test_with_torch_threads_are_our_own_too():
    done = run("import torch; print(same(2), native.thread_pool())")
    assert done.stdout == "True own\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 2, 3, 4, 7, 64])
def test_any_number_of_threads_gives_the_same(n_threads):
    assert run(f"print(all(same({n_threads}) for _ in range(20)))").stdout == "True\n"
