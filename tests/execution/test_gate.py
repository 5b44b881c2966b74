"""The gate: who is inside is waited for, and nobody comes in any more."""

import os
import signal
import threading
import time

import pytest

from lazyio.errors import BlockError
from lazyio.execution.task import WriteGate


def test_who_is_inside_is_waited_for():
    gate, inside, done = WriteGate(), threading.Event(), []

    def write():
        with gate:
            inside.set()
            time.sleep(0.2)
            done.append(True)

    thread = threading.Thread(target=write)
    thread.start()
    inside.wait()
    gate.shut()
    assert done == [True]
    with pytest.raises(BlockError, match="stopped before this block"), gate:
        pass
    thread.join()


def test_that_is_not_interrupted():
    """The interrupt is raised afterwards."""
    gate, inside, done = WriteGate(), threading.Event(), []

    def write():
        with gate:
            inside.set()
            time.sleep(0.5)
            done.append(True)

    thread = threading.Thread(target=write)
    thread.start()
    inside.wait()
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        gate.shut()
    assert done == [True]
    thread.join()


def test_what_fails_inside_has_left():
    gate = WriteGate()
    with pytest.raises(ZeroDivisionError), gate:
        1 / 0  # noqa: B018
    gate.shut()
