"""Threads that are fed: one thread asks for items, and none is asked for after an error."""

import logging
import threading
import time

import pytest

from lazyio.execution import threads as feeding
from lazyio.execution.threads import feed


def _nothing(*_):
    """Do nothing."""


def test_every_item_is_worked_on_once():
    """The caller's thread takes them and is told; others work."""
    done, reported, caller = [], [], threading.get_ident()

    def items(_):
        for item in range(500):
            assert threading.get_ident() == caller
            yield item

    def work(item, _):
        assert threading.get_ident() != caller
        done.append(item)

    def on_done(item):
        assert threading.get_ident() == caller
        reported.append(item)

    running = threading.active_count()
    feed(items, work, n_threads=3, on_done=on_done, on_wait=_nothing)
    assert sorted(done) == sorted(reported) == list(range(500))
    assert threading.active_count() == running


def test_no_more_at_once_than_threads():
    """One that is made counts, as it is in memory."""
    out, most = 0, 0
    lock = threading.Lock()

    def items(_):
        nonlocal out, most
        for item in range(100):
            with lock:
                out += 1
                most = max(most, out)
            yield item

    def work(*_):
        nonlocal out
        time.sleep(0.001)
        with lock:
            out -= 1

    feed(items, work, n_threads=3, on_done=_nothing, on_wait=_nothing)
    assert most == 3


@pytest.mark.parametrize("n_threads", [1, 3])
def test_nothing_is_asked_for_after_an_error(caplog, n_threads):
    """It is logged when it happens, while the iterator waits, and raised then."""
    asked = []

    def source():
        for item in range(1000):
            asked.append(item)
            if len(asked) > 5:
                while "the disk is full" not in caplog.text:
                    time.sleep(0.001)
            yield item

    def work(item, _):
        if item == 3:
            raise OSError(28, "the disk is full")

    with caplog.at_level(logging.ERROR, "lazyio"), pytest.raises(OSError, match="disk is full"):
        feed(
            lambda trouble: trouble.checked(source()),
            work,
            n_threads=n_threads,
            on_done=_nothing,
            on_wait=_nothing,
        )
    assert len(asked) <= 7


@pytest.mark.parametrize("where", ["items", "on_done"])
def test_other_errors_come_out_and_all_threads_end(where):
    running = threading.active_count()

    def items(_):
        yield from range(10)
        if where == "items":
            raise KeyError("items")
        yield from range(10, 1000)

    def on_done(item):
        if where == "on_done" and item == 5:
            raise KeyError("on_done")

    with pytest.raises(KeyError, match=where):
        feed(items, _nothing, n_threads=3, on_done=on_done, on_wait=_nothing)
    assert threading.active_count() == running


def test_an_interrupt_waits_for_the_threads():
    done = []

    def work(item, _):
        time.sleep(0.005)
        done.append(item)

    def items(_):
        yield from range(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feed(items, work, n_threads=2, on_done=_nothing, on_wait=_nothing)
    count = len(done)
    time.sleep(0.05)
    assert len(done) == count <= 5


def test_a_next_item_that_takes_long_is_told(monkeypatch):
    monkeypatch.setattr(feeding, "_LONG", 0.02)
    told = threading.Event()

    def items(_):
        yield 0
        assert told.wait(5)

    feed(items, _nothing, n_threads=1, on_done=_nothing, on_wait=told.set)


def test_the_end_of_slow_work_is_told(monkeypatch, caplog):
    monkeypatch.setattr(feeding, "_LONG", 0.02)
    monkeypatch.setattr(feeding, "_LONG_ENDING", 0.02)

    is_at_work = threading.Event()

    def items(_):
        yield 0
        assert is_at_work.wait(5)
        raise KeyError("items")

    def work(*_):
        is_at_work.set()
        time.sleep(0.2)

    with pytest.raises(KeyError, match="items"):
        feed(items, work, n_threads=2, on_done=_nothing, on_wait=_nothing)
    assert "waiting for what is being written" in caplog.text
