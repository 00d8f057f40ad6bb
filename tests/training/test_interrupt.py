from __future__ import annotations

import os
import signal
import threading

import pytest

from irbin.training.interrupt import held_interrupt


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_ctrl_c_is_held_and_the_second_is_not() -> None:
    before = signal.getsignal(signal.SIGINT)
    with held_interrupt() as stop:
        assert not stop()
        press()
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.getsignal(signal.SIGINT) is before


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
