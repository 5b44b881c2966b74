"""Bytes that a process sends and receives by distributed's TCP, counted exactly."""

import functools
import time
from typing import Any

from distributed.comm import tcp

_COUNTED = {"nbytes": 0}


def count_from_now() -> None:
    """Count all messages of this process; may be called again."""
    _COUNTED["nbytes"] = 0
    if hasattr(tcp.TCP.write, "__wrapped__"):
        return
    write, from_frames = tcp.TCP.write, tcp.from_frames

    @functools.wraps(write)
    async def counted_write(self: Any, *given: Any, **named: Any) -> Any:
        nbytes = await write(self, *given, **named)
        _COUNTED["nbytes"] += nbytes
        return nbytes

    @functools.wraps(from_frames)
    async def counted_frames(frames: Any, **named: Any) -> Any:
        _COUNTED["nbytes"] += sum(memoryview(frame).nbytes for frame in frames)
        return await from_frames(frames, **named)

    tcp.TCP.write, tcp.from_frames = counted_write, counted_frames


def used() -> tuple[int, float]:
    """Return the bytes counted, and the seconds of processor that this process has taken."""
    return _COUNTED["nbytes"], time.process_time()
