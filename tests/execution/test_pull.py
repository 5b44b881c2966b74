"""Threads that pull: every item once, the first error out, nobody left at work."""

import threading
import time

import pytest

from lazyio.execution import threads as pulling
from lazyio.execution.threads import pull


def test_every_item_is_worked_on_once() -> None:
    """All items are done, each by one thread, and reported to the caller's thread."""
    done, reported = [], []
    caller = threading.get_ident()

    def work(item, workspace):
        done.append(item)

    def on_done(item):
        assert threading.get_ident() == caller
        reported.append(item)

    pull(range(500), work, n_threads=3, on_done=on_done)
    assert sorted(done) == sorted(reported) == list(range(500))


def test_no_more_in_flight_than_threads() -> None:
    """At most as many items are worked on at once as there are threads."""
    inside, most = 0, 0
    lock = threading.Lock()

    def work(item, workspace):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.001)
        with lock:
            inside -= 1

    pull(range(100), work, n_threads=3, on_done=lambda item: None)
    assert most == 3


def test_a_workspace_belongs_to_one_thread() -> None:
    """Each thread gets a workspace of its own, for all of its items."""
    owners = {}

    def work(item, workspace):
        owners.setdefault(id(workspace), set()).add(threading.get_ident())
        time.sleep(0.0001)

    pull(range(200), work, n_threads=2, on_done=lambda item: None)
    assert all(len(threads) == 1 for threads in owners.values())


@pytest.mark.parametrize("where", ["work", "items", "on_done"])
def test_the_first_error_comes_out_and_all_threads_have_ended(where: str) -> None:
    """An error anywhere stops the run, and no thread is at work afterwards."""
    running = threading.active_count()

    def items():
        yield from range(10)
        if where == "items":
            raise KeyError("items")
        yield from range(10, 1000)

    def work(item, workspace):
        if where == "work" and item == 20:
            raise KeyError("work")

    def on_done(item):
        if where == "on_done" and item == 20:
            raise KeyError("on_done")

    with pytest.raises(KeyError, match=where):
        pull(items(), work, n_threads=3, on_done=on_done)
    assert threading.active_count() == running


def test_what_takes_long_is_told(monkeypatch) -> None:
    """Nothing is done for a while: what is worked on, and whether that is the end."""
    monkeypatch.setattr(pulling, "_LONG", 0.05)
    monkeypatch.setattr(pulling, "_LONG_ENDING", 0.05)
    told, is_slow = [], threading.Event()

    def work(item, workspace):
        if item == 1:
            is_slow.set()
            time.sleep(0.3)
        if item == 2:
            is_slow.wait()
            raise KeyError("work")

    def on_wait(items, *, is_ending):
        told.append((items, is_ending))

    pull([0, 1], work, n_threads=1, on_done=lambda item: None, on_wait=on_wait)
    assert ([1], False) in told
    told.clear()
    with pytest.raises(KeyError):
        pull([2, 1], work, n_threads=2, on_done=lambda item: None, on_wait=on_wait)
    assert {str(items) for items, _ in told} <= {"[1]", "[]"}


def test_an_interrupt_waits_for_the_threads() -> None:
    """Ctrl-C while waiting ends the run after the items at hand, and no later."""
    done = []

    def work(item, workspace):
        time.sleep(0.005)
        done.append(item)

    def on_done(item):
        if item == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(range(1000), work, n_threads=2, on_done=on_done)
    count = len(done)
    time.sleep(0.05)
    assert len(done) == count < 100
