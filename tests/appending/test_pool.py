"""The threads behind a writer: order where it is asked for, and errors that let nobody wait."""

import threading

import pytest

from lazyio.appending.array import Pool
from lazyio.appending.writer import Flusher


def nothing(*_):
    """Do nothing."""


def test_what_is_held_waits():
    """Until it is released; what came before, and that of others, does not."""
    pool, done = Pool(nothing), []
    pool.start(2)
    pool.submit("a", lambda _: done.append("before"), nothing)
    pool.hold("a")
    pool.submit("a", lambda _: done.append("held"), nothing)
    pool.submit("b", lambda _: done.append("other"), nothing)
    pool.drain()
    assert sorted(done) == ["before", "other"]
    pool.release()
    pool.drain()
    assert done[-1] == "held"
    pool.close()


def test_after_an_error_nothing_is_written_and_all_is_given_back():
    failed, given, written = threading.Event(), [], []
    pool = Pool(failed.set)
    pool.start(1)

    def fail(_):
        raise OSError(28, "full")

    pool.submit("a", fail, lambda: given.append(1))
    for _ in range(5):
        pool.submit("a", written.append, lambda: given.append(1))
    with pytest.raises(OSError, match="full"):
        pool.drain()
    assert (len(given), written, failed.is_set()) == (6, [], True)
    with pytest.raises(OSError, match="full"):
        pool.check()
    pool.close()


def test_what_waits_is_written_before_the_end():
    pool, done = Pool(nothing), []
    pool.start(2)
    pool.hold("a")
    for at in range(10):
        pool.submit("a", lambda _, at=at: done.append(at), nothing)
    pool.close()
    assert sorted(done) == [*range(10)]


def test_a_flush_that_is_asked_for_began_after_that():
    """Whoever asks while one is under way waits for the next."""
    begun, go_on, asked = threading.Event(), threading.Event(), []

    def flush(is_asked):
        asked.append(is_asked)
        begun.set()
        go_on.wait(10)

    flusher = Flusher(flush)
    threads = [threading.Thread(target=flusher.ask) for _ in range(2)]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert asked[:2] == [True, True]
    flusher.close()


def test_errors_of_a_flush_go_to_who_asked():
    def fail(_):
        raise OSError(28, "full")

    flusher = Flusher(fail)
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            flusher.ask()
    flusher.close()
