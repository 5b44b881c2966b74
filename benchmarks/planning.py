"""``python -m benchmarks planning``: how long a plan takes."""

import argparse
import math
import statistics
import time
from typing import Any

import numpy as np

import lazyio
from benchmarks.options import add_shared, save

_DTYPES = ("u1", "i2", "f4", "f8")
_LARGEST_CHUNK = 8 << 20
_ROWS = {
    "no source": (),
    "source chunks": ("source",),
    "shards": ("shards",),
    "access": ("access",),
    "all of them": ("source", "shards", "access"),
}


def main(arguments: list[str]) -> int:
    """Time plans of random shapes; print median, 95th percentile and maximum.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks planning", description=__doc__)
    add_shared(parser)
    parser.add_argument("--cases", type=int, default=400, help="random shapes (default: 400)")
    given = parser.parse_args(arguments)
    n_cases = 40 if given.short else given.cases
    results = {label: _measure(n_cases, *extras) for label, extras in _ROWS.items()}
    print(f"{'ms':<14}{'median':>8}{'p95':>8}{'max':>8}{'refused':>9}")
    for label, one in results.items():
        print(
            f"{label:<14}{one['median']:8.3f}{one['p95']:8.3f}{one['max']:8.3f}{one['refused']:9d}"
        )
    save(given.json, milliseconds=results, cases=n_cases)
    return 0


def _measure(n_cases: int, *extras: str) -> dict[str, Any]:
    random = np.random.default_rng(1)
    lazyio.plan((1000, 1000), "f4", source_chunks=(100, 100), access=(1, 1000))
    taken, refused = [], 0
    for _ in range(n_cases):
        shape, dtype = _random_shape(random)
        wishes: dict[str, Any] = {}
        if "source" in extras:
            wishes["source_chunks"] = _random_chunks(random, shape, dtype)
        if "access" in extras:
            wishes["access"] = [_random_window(random, shape) for _ in range(3)]
        if "shards" in extras:
            wishes |= {"shards": "auto", "format": "zarr"}
        began = time.perf_counter()
        try:
            lazyio.plan(shape, dtype, **wishes)
        except lazyio.LazyioError:
            refused += 1
        taken.append(1000 * (time.perf_counter() - began))
    return {
        "median": statistics.median(taken),
        "p95": float(np.percentile(taken, 95)),
        "max": max(taken),
        "refused": refused,
    }


def _random_shape(random: np.random.Generator) -> tuple[tuple[int, ...], str]:
    """Return up to five axes, each extent log-uniform, of up to 2**40 elements."""
    n_axes = int(random.integers(1, 6))
    exponents = random.uniform(0, 1, n_axes)
    exponents *= random.uniform(10, 40) / exponents.sum()
    return tuple(int(2**one) for one in exponents), str(random.choice(_DTYPES))


def _random_window(random: np.random.Generator, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return one element, the whole axis or a few elements along each axis."""
    return tuple(int(random.choice([1, extent, min(50, extent)])) for extent in shape)


def _random_chunks(
    random: np.random.Generator, shape: tuple[int, ...], dtype: str
) -> tuple[int, ...]:
    """Return extents within the shape, halved until a chunk is of a usual size."""
    chunks = [int(random.integers(1, extent + 1)) for extent in shape]
    while math.prod(chunks) * np.dtype(dtype).itemsize > _LARGEST_CHUNK:
        axis = int(random.choice([axis for axis, extent in enumerate(chunks) if extent > 1]))
        chunks[axis] = -(-chunks[axis] // 2)
    return tuple(chunks)
