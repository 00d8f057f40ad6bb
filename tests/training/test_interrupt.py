from __future__ import annotations

import os
import signal
import threading

import pytest

from irbin.training.interrupt import held_interrupt


def press(kind: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), kind)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_the_first_is_held_and_the_second_is_not(kind: signal.Signals) -> None:
    before = signal.getsignal(kind)
    with held_interrupt() as stop:
        assert not stop()
        press(kind)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            press(kind)
    assert signal.getsignal(kind) is before


def test_a_request_counts_as_the_first() -> None:
    with held_interrupt() as stop:
        stop.request()
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_threads_get_a_flag_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[bool] = []

    def work() -> None:
        with held_interrupt() as stop:
            stop.request()
            seen.append(stop() and signal.getsignal(signal.SIGINT) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
