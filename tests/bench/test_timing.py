import os
import subprocess
from types import SimpleNamespace

import pytest

import irbin
from irbin.bench import timing
from irbin.kernels import native


def test_latency_is_median_and_tenths_in_milliseconds():
    found = timing.latency([i / 1000 for i in range(11)])
    assert (found.p10_ms, found.median_ms, found.p90_ms) == pytest.approx((1, 5, 9))
    assert found.n_runs == 11


def test_one_run_is_its_own_tenths():
    found = timing.latency([0.002])
    assert (found.p10_ms, found.median_ms, found.p90_ms, found.n_runs) == (2, 2, 2, 1)


def test_calls_take_turns_and_the_first_of_each_turn_is_not_counted():
    order: list[str] = []
    told: list[tuple[int, int]] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    found = timing.interleaved(calls, 5, lambda done, total: told.append((done, total)))
    turn = timing.CALLS_A_TURN
    assert "".join(order) == ("a" * turn + "b" * turn) * 2
    assert [found[name].n_runs for name in "ab"] == [2 * (turn - 1)] * 2
    assert told == [(1, 2), (2, 2)]


def takes_nothing(_: float) -> None:
    pass


def test_the_slow_call_is_the_slow_one(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(timing.time, "sleep", takes_nothing)

    def takes(seconds: float):
        def call() -> None:
            clock.now += seconds

        return call

    found = timing.interleaved({"fast": takes(0.001), "slow": takes(0.25)}, 3)
    assert found["fast"].median_ms == pytest.approx(1)
    assert found["slow"].median_ms == pytest.approx(250)


def test_machine_says_what_runs_here():
    found = timing.machine()
    assert found.irbin == irbin.__version__
    assert found.kernels == native.active()
    assert 1 <= found.n_cores <= (os.cpu_count() or 1)
    assert found.processor


@pytest.mark.slow
def test_loading_that_fails_is_no_time(tmp_path):
    assert timing.load_ms(str(tmp_path), 1) is None


class TestPeakBytes:
    def said(self, monkeypatch, text: str, code: int = 0):
        done = subprocess.CompletedProcess([], code, text, "")
        monkeypatch.setattr(timing.subprocess, "run", lambda *_, **__: done)
        return timing.peak_bytes("m", [])

    def test_is_the_last_word_of_the_process(self, monkeypatch):
        assert self.said(monkeypatch, "a library's word\n12345\n") == 12345

    @pytest.mark.parametrize(("text", "code"), [("unknown\n", 0), ("", 0), ("7\n", 1)])
    def test_is_none_where_the_process_cannot_tell(self, monkeypatch, text, code):
        assert self.said(monkeypatch, text, code) is None

    def test_runs_the_module_with_its_arguments(self, monkeypatch, tmp_path):
        (tmp_path / "told.py").write_text(
            "import sys\nprint(7 if sys.argv[1:] == ['1', 'x y'] else 0)\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        assert timing.peak_bytes("told", ["1", "x y"]) == 7

    def test_takes_no_module_of_the_working_directory(self, monkeypatch, tmp_path):
        for place, number in (("installed", 5), ("here", 6)):
            (tmp_path / place).mkdir()
            (tmp_path / place / "number.py").write_text(f"N = {number}\n")
        (tmp_path / "installed" / "told.py").write_text("import number\nprint(number.N)\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
        monkeypatch.chdir(tmp_path / "here")
        assert timing.peak_bytes("told", []) == 5

    def test_has_the_irbin_that_asks_even_where_only_the_working_directory_did(
        self, monkeypatch, tmp_path
    ):
        (tmp_path / "told.py").write_text("print(3)\n")  # stands for irbin in a checkout
        monkeypatch.setattr(timing, "__file__", str(tmp_path / "irbin" / "bench" / "timing.py"))
        assert timing.peak_bytes("told", []) == 3

    def test_lives_with_warnings_that_are_errors(self, monkeypatch, tmp_path):
        (tmp_path / "told.py").write_text("import warnings\nwarnings.warn('x')\nprint(3)\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setenv("PYTHONWARNINGS", "error")
        assert timing.peak_bytes("told", []) == 3
