import os
import subprocess
import sys

import pytest
import torch

from irbin.runtime import threads
from irbin.runtime.threads import kernel_threads, set_num_threads, usable_cpus


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def make(cgroup, **files):
        for name, text in {"proc/self/cgroup": cgroup, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("quota", "wanted"),
    [
        ("max 100000", 8),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("9900000 100000", 8),
        ("", 8),
        ("nonsense", 8),
        ("0 0", 8),
    ],
)
def test_a_quota_of_version_2_limits(root, quota, wanted):
    assert usable_cpus(root("0::/\n", **{"sys/fs/cgroup/cpu.max": quota})) == wanted


def test_a_group_above_limits_too(root):
    files = {"sys/fs/cgroup/a/cpu.max": "200000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}
    assert usable_cpus(root("0::/a/b\n", **files)) == 2


@pytest.mark.parametrize("group", ["/", "/a/b"])
@pytest.mark.parametrize(("quota", "wanted"), [("-1", 8), ("300000", 3), ("250000", 3)])
def test_a_quota_of_version_1_limits(root, group, quota, wanted):
    folder = "sys/fs/cgroup/cpu,cpuacct/"
    files = {folder + "cpu.cfs_quota_us": quota, folder + "cpu.cfs_period_us": "100000\n"}
    assert usable_cpus(root(f"4:memory:/x\n3:cpu,cpuacct:{group}\n0::/\n", **files)) == wanted


def test_the_affinity_mask_limits(root, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert usable_cpus(root("")) == 1


def test_no_number_exceeds_the_cpus(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(threads._State, "looked_at", -float("inf"))
    monkeypatch.setattr(threads, "usable_cpus", lambda: 2)
    try:
        torch.set_num_threads(3)
        assert kernel_threads() == 2
        set_num_threads(1)
        assert kernel_threads() == torch.get_num_threads() == 1
        set_num_threads(4)
        assert torch.get_num_threads() == 4
        assert kernel_threads() == 2
    finally:
        torch.set_num_threads(before)


WITHOUT_TORCH = """
import sys
from irbin.runtime import threads
threads.usable_cpus = lambda: 3
print(threads.kernel_threads(), end=" ")
threads.set_num_threads(5)
print(threads.kernel_threads(), "torch" in sys.modules, end=" ")
import torch
print(threads.kernel_threads(), torch.get_num_threads(), end=" ")
torch.set_num_threads(1)
print(threads.kernel_threads())
"""


@pytest.mark.parametrize(
    ("omp", "first"), [("", 3), ("2", 2), ("2,1", 2), ("9", 3), ("x", 3), ("0", 3)]
)
@pytest.mark.slow
def test_without_torch_there_is_a_number_and_torch_is_told_once_it_is_loaded(omp, first):
    environment = os.environ | {"OMP_NUM_THREADS": omp}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == f"{first} 3 False 3 5 1\n", done.stderr
