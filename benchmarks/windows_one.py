"""The child process of ``windows``: minibatches of 64 rows, in one pattern, by one reader."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

import lazyio
from benchmarks.memory_one import growth_of

_BATCH = 64
_N_BATCHES = 2048
"""Of sequential patterns, at most."""
_N_RANDOM = 40
_CACHE_NBYTES = 256 << 20


def main() -> None:
    """Run the job on the command line; print its outcome as JSON."""
    job = json.loads(sys.argv[1])
    began = time.perf_counter()
    with _opened(job) as source:
        view = source["x"] if isinstance(source, h5py.File) else source
        opening = time.perf_counter() - began
        read = PATTERNS[job["pattern"]](view)
        began = time.perf_counter()
        growth = growth_of(read)
        seconds = time.perf_counter() - began
        counts = {name: getattr(view, name, 0) for name in ("hits", "misses")}
    print(json.dumps({"seconds": seconds, "opening": opening, "growth": growth, **counts}))


def _opened(job: dict[str, Any]) -> Any:
    if job["who"] == "window":
        return lazyio.window(job["path"], "x", memory_limit=job["limit"])
    cache = {"rdcc_nbytes": _CACHE_NBYTES, "rdcc_nslots": 1_000_003}
    return h5py.File(job["path"], **(cache if job["who"] == "h5py-cache" else {}))


def _slices(view: Any, starts: Any, size: int = _BATCH) -> Callable[[], None]:
    def read() -> None:
        for start in starts:
            view[start : start + size]

    return read


def _sequential(view: Any) -> Callable[[], None]:
    return _slices(view, range(0, len(view) - _BATCH, _BATCH)[:_N_BATCHES])


def _backward(view: Any) -> Callable[[], None]:
    return _slices(view, range(len(view) - _BATCH, -1, -_BATCH)[:_N_BATCHES])


def _strided(view: Any) -> Callable[[], None]:
    return _slices(view, range(0, len(view) - _BATCH, 5 * _BATCH)[: _N_BATCHES // 5])


def _blocks(view: Any) -> Callable[[], None]:
    """Blocks of 4096 rows in random order, each in minibatches one after another."""
    order = np.random.default_rng(0).permutation(len(view) // 4096)[: _N_BATCHES // 64]
    starts = [block * 4096 + at for block in order.tolist() for at in range(0, 4096, _BATCH)]
    return _slices(view, starts)


def _large(view: Any) -> Callable[[], None]:
    return _slices(view, range(0, len(view), 20_000)[:8], 20_000)


def _whole(view: Any) -> Callable[[], None]:
    return _slices(view, [0], len(view))


def _steps(view: Any) -> Callable[[], None]:
    starts = range(0, len(view) - 640, 640)[: _N_BATCHES // 10]

    def read() -> None:
        for start in starts:
            view[start : start + 640 : 10]

    return read


def _random(view: Any) -> Callable[[], None]:
    """Sorted lists of 64 rows: h5py takes no others."""
    random = np.random.default_rng(0)
    lists = [np.sort(random.choice(len(view), _BATCH, replace=False)) for _ in range(_N_RANDOM)]

    def read() -> None:
        for rows in lists:
            view[rows]

    return read


def _rows(view: Any) -> Callable[[], None]:
    """Random rows one by one, as torch asks a dataset for them."""
    rows = np.random.default_rng(0).integers(0, len(view), 4 * _BATCH).tolist()

    def read() -> None:
        for row in rows:
            view[row]

    return read


PATTERNS = {
    "sequential": _sequential,
    "backward": _backward,
    "strided": _strided,
    "blocks": _blocks,
    "large": _large,
    "whole": _whole,
    "steps": _steps,
    "random": _random,
    "rows": _rows,
}
"""What reads in one way, by the name of it."""

if __name__ == "__main__":
    main()
