"""``python -m benchmarks windows``: minibatches by h5py's slicing and by a window, in turns."""

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.child import run_child
from benchmarks.options import add_shared, chosen_from, output_folder, save
from benchmarks.windows_one import PATTERNS

_WHO = ("h5py", "h5py-cache", "window")
_COLUMNS = 64
_FILES = {
    "gzip": {"chunks": (4096, _COLUMNS), "compression": "gzip"},
    "gzip-shuffle": {"chunks": (4096, _COLUMNS), "compression": "gzip", "shuffle": True},
    "lzf": {"chunks": (4096, _COLUMNS), "compression": "lzf"},
    "chunked": {"chunks": (4096, _COLUMNS)},
    "small": {"chunks": (64, _COLUMNS), "compression": "gzip"},
    "tiny": {"chunks": (4, _COLUMNS)},
    "contiguous": {},
}
_ROWS = [f"{file}:{pattern}" for file in _FILES for pattern in PATTERNS]
_LIMIT = 256 << 20


def main(arguments: list[str]) -> int:
    """Time each row; print seconds, peak memory and ratios.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks windows", description=__doc__)
    add_shared(parser)
    parser.add_argument("--rows", type=chosen_from(_ROWS), default=_ROWS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=int, default=_LIMIT, help="bytes of the window")
    given = parser.parse_args(arguments)
    results = []
    print(
        "row                     who         milliseconds (least)  to open  peak MiB   hits  misses"
    )
    with output_folder(given.data) as folder:
        for row in given.rows:
            file, pattern = row.split(":")
            path = _prepared(file, folder, is_short=given.short)
            job = {"path": str(path), "pattern": pattern, "limit": given.limit}
            outcomes: dict[str, list[dict[str, Any]]] = {who: [] for who in _WHO}
            for _ in range(1 if given.short else given.repeats):
                for who in _WHO:
                    outcomes[who].append(run_child("windows_one", json.dumps(job | {"who": who})))
            results += [{"row": row, "who": who, "runs": runs} for who, runs in outcomes.items()]
            for line in _lines(row, outcomes):
                print(line, flush=True)
    save(given.json, results=results)
    return 0


def _prepared(file: str, folder: Path, *, is_short: bool) -> Path:
    """Make a file, once: 512 MiB of rounded noise, larger than the window."""
    path = folder / f"{file}.h5"
    if path.exists():
        return path
    n_blocks = (8 if is_short else 512) // (8 if file == "tiny" else 1)
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as written:
        made = written.create_dataset("x", (n_blocks * 4096, _COLUMNS), "f4", **_FILES[file])
        for at in range(n_blocks):
            block = random.normal(size=(4096, _COLUMNS)).round(2).astype("f4")
            made[at * 4096 : (at + 1) * 4096] = block
    return path


def _lines(row: str, outcomes: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    least = {}
    for who, runs in outcomes.items():
        least[who] = min(one["seconds"] for one in runs)
        growth = statistics.median(one["growth"] for one in runs) / 2**20
        counts = f"{runs[0]['hits']:6} {runs[0]['misses']:7}"
        opening = min(one["opening"] for one in runs) * 1e3
        yield f"{row:23} {who:11} {least[who] * 1e3:20.1f} {opening:8.1f} {growth:9.0f} {counts}"
    ratios = [f"{least[who] / least['window']:.2f} of {who}" for who in _WHO[:-1]]
    yield f"{row:23} ratio       {', '.join(ratios)}"
