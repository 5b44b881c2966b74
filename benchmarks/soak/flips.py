"""``python -m benchmarks flips``: one bit of a written file, flipped anywhere.

A flip that changes what a stock reader gets must be found by ``lazyio.verify``.
Each is tried in a process of its own, since libhdf5 may crash on it.
"""

import argparse
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

import lazyio
from benchmarks.options import add_shared, output_folder, save

_VALUES = np.random.default_rng(0).integers(0, 99, (200, 60)).astype("i4")
_ATTRIBUTES = {"gain": 2.5, "unit": "volts", "sites": [1, 2, 3]}
_MOST_SECONDS = 20

FOUND, HARMLESS, CRASHED, HUNG, MISSED = "found", "harmless", "crashed", "hung", "missed"


@dataclass(frozen=True)
class Kind:
    """One kind of file."""

    name: str
    write: Callable[[Path], Any]


def _hdf5(**options: Any) -> Callable[[Path], Any]:
    return lambda path: lazyio.to_hdf5(_VALUES, path, "x", attrs=_ATTRIBUTES, **options)


def _zarr(**options: Any) -> Callable[[Path], Any]:
    return lambda path: lazyio.to_zarr({"x": _VALUES}, path, attributes=_ATTRIBUTES, **options)


KINDS = (
    Kind("plain.h5", _hdf5(chunks=(50, 20))),
    Kind("gzip.h5", _hdf5(chunks=(50, 20), compression="gzip", shuffle=True)),
    Kind("contiguous.h5", _hdf5(chunks=None)),
    Kind("growing.h5", _hdf5(chunks=(50, 20), maxshape=(None, 60), libver=("v110", "v114"))),
    Kind("default.zarr", _zarr(chunks=(50, 20))),
    Kind("plain.zarr", _zarr(chunks=(50, 20), compressors=None)),
    Kind("sharded.zarr", _zarr(chunks=(25, 20), shards=(50, 60))),
    Kind("v2.zarr", _zarr(chunks=(50, 20), zarr_format=2)),
)


def main(arguments: list[str]) -> int:
    """Flip bits; return 1 when one was missed.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks flips", description=__doc__)
    add_shared(parser)
    parser.add_argument("--flips", type=int, default=10_000, help="in all (default: 10000)")
    parser.add_argument("--seed", type=int, default=None, help="by default another every time")
    given = parser.parse_args(arguments)
    n_flips = 80 if given.short else given.flips
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}")
    results = {}
    with output_folder(given.data) as folder:
        for at, kind in enumerate(KINDS):
            path = folder / kind.name
            kind.write(path)
            wanted = n_flips // len(KINDS) + (at < n_flips % len(KINDS))
            counts = flip(path, wanted, random.Random(seed + at))
            results[kind.name] = dict(counts)
            told = ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
            print(f"{kind.name:14} {told}", flush=True)
    save(given.json, seed=seed, results=results)
    return 1 if any(counts.get(MISSED) for counts in results.values()) else 0


def flip(path: Path, n_flips: int, rng: random.Random) -> Counter[str]:
    """Flip that many bits, one at a time, and count what became of it."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    weights = [file.stat().st_size for file in files]
    counts: Counter[str] = Counter()
    for _ in range(n_flips):
        (file,) = rng.choices(files, weights)
        raw = file.read_bytes()
        at = rng.randrange(len(raw))
        damaged = raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]
        file.write_bytes(damaged)
        counts[_outcome(path)] += 1
        file.write_bytes(raw)
    return counts


def _outcome(path: Path) -> str:
    """Return what becomes of a damaged file, tried in another process."""
    child = os.fork()
    if not child:
        status = 1  # Raising is not finding.
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            status = 0 if lazyio.verify(path).status != "ok" else 2 if is_as_written(path) else 1
        finally:
            os._exit(status)
    until = time.monotonic() + _MOST_SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return CRASHED
            return {0: FOUND, 1: MISSED, 2: HARMLESS}.get(os.WEXITSTATUS(status), CRASHED)
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return HUNG


def is_as_written(path: Path) -> bool:
    """Return whether a stock reader gets values and attributes as they were written."""
    try:
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                found, attrs = file["x"][...], dict(file["x"].attrs)
        else:
            array = zarr.open_group(path, mode="r")["x"]
            found, attrs = array[...], dict(array.attrs)
    except Exception:  # noqa: BLE001 - any error is one that a reader sees
        return False
    is_same = found.dtype == _VALUES.dtype and np.array_equal(found, _VALUES)
    same_names = set(attrs) == set(_ATTRIBUTES)
    return (
        is_same
        and same_names
        and all(np.array_equal(attrs[name], value) for name, value in _ATTRIBUTES.items())
    )
