from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from irbin import interrupt
from irbin.interrupt import Stop, held_interrupt, held_to_the_end, interrupt_after


def press(kind: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), kind)


@pytest.fixture
def answered() -> Iterator[None]:
    """Ctrl-C as in a terminal: a shell's background jobs ignore it, and so do their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Whose `now` is the time, in seconds."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: clock.now)
    return clock


def test_the_first_is_held_and_the_second_is_not(clock: SimpleNamespace) -> None:
    before = signal.getsignal(signal.SIGINT)
    with held_interrupt() as stop:
        assert not stop()
        press()
        assert stop()
        clock.now += interrupt.SAME_REQUEST + 0.1
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.getsignal(signal.SIGINT) is before


def test_one_that_is_passed_on_at_once_is_the_first(clock: SimpleNamespace) -> None:
    with held_interrupt() as stop:
        press()
        clock.now += interrupt.SAME_REQUEST - 0.1
        press()  # from torchrun, which got it from the terminal too
        assert stop()


def test_sigterm_is_held_however_often_it_comes(clock: SimpleNamespace) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with held_interrupt() as stop:
        for _ in range(3):
            press(signal.SIGTERM)
            assert stop()
            clock.now += 2 * interrupt.SAME_REQUEST
        with pytest.raises(KeyboardInterrupt):
            press()  # whoever sits there does not want to wait
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_a_program_round_python_answers_stays_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As R does, say: Python says None of such a handler, and cannot set it again."""
    before = signal.getsignal(signal.SIGINT)
    told = signal.getsignal
    monkeypatch.setattr(signal, "getsignal", lambda k: None if k == signal.SIGINT else told(k))
    with held_interrupt() as stop:
        assert told(signal.SIGINT) is before
        press(signal.SIGTERM)
        assert stop()


def test_a_request_counts_as_the_first() -> None:
    with held_interrupt() as stop:
        stop.request()
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_a_second_one_waits_for_a_save(clock: SimpleNamespace) -> None:
    written: list[bool] = []

    def save(stop: Stop) -> None:
        with stop.after_saving():
            press()
            clock.now += interrupt.SAME_REQUEST - 0.1
            press()  # the same one, passed on
            written.append(True)

    with held_interrupt() as stop:
        press()
        clock.now += interrupt.SAME_REQUEST + 0.1
        with pytest.raises(KeyboardInterrupt):
            save(stop)
        with stop.after_saving():  # it was told
            written.append(True)
    assert written == [True, True]


def test_a_third_one_waits_for_nothing(clock: SimpleNamespace) -> None:
    n_pressed = 0
    with held_interrupt() as stop, stop.after_saving():
        for _ in range(2):
            press()
            clock.now += interrupt.SAME_REQUEST + 0.1
            n_pressed += 1
        with pytest.raises(KeyboardInterrupt):
            press()
        stop._is_urgent = False  # it is told
    assert n_pressed == 2


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


def test_what_was_asked_for_is_held_to_the_end(clock: SimpleNamespace) -> None:
    """Between the end of training and that of the program SIGTERM may come again."""
    before = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    with held_to_the_end():
        for _ in range(2):
            with held_interrupt():
                press(signal.SIGTERM)
            press(signal.SIGTERM)
            clock.now += 2 * interrupt.SAME_REQUEST
            with pytest.raises(KeyboardInterrupt):
                press()
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_an_error_says_is_said() -> None:
    """`torchrun` sends SIGTERM to a process that has lost another one and is about to say so."""
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    with held_to_the_end():
        with pytest.raises(RuntimeError), held_interrupt():
            raise RuntimeError
        press(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is before[signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) is before[signal.SIGTERM]


def test_what_was_not_asked_for_is_not() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with held_to_the_end():
        with held_interrupt():
            pass
        assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("answered")
def test_no_library_makes_another_error_of_ctrl_c() -> None:
    before = signal.getsignal(signal.SIGINT)
    done = []

    def read(damage: Exception | None) -> None:
        with interrupt_after():
            press()
            done.append("read to the end")
            if damage is not None:
                raise damage

    for damage in (None, ValueError("damaged")):
        with pytest.raises(KeyboardInterrupt):
            read(damage)
    assert len(done) == 2
    with interrupt_after():
        pass
    assert signal.getsignal(signal.SIGINT) is before


def test_a_first_ctrl_c_stays_a_first_one() -> None:
    with held_interrupt() as stop:
        with interrupt_after():
            press()
            assert not stop()
        assert stop()


def test_ctrl_c_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt_after():
            press()
    finally:
        signal.signal(signal.SIGINT, before)
