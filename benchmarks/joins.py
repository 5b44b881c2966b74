"""``python -m benchmarks joins``: files as one, and digests of what others wrote, in turns."""

from pathlib import Path
from typing import Any

import numpy as np

import lazyio
from benchmarks.in_turns import InTurns


def _prepared(row: str, folder: Path, *, is_short: bool) -> dict[str, Any]:
    """Make the files of a row, and return its job."""
    n_files, n_rows = {"make": (500, 10), "read": (8, 250_000), "renew": (1, 1_000_000)}[row]
    if is_short:
        n_files, n_rows = min(n_files, 20), min(n_rows, 20_000)
    paths = [folder / f"{at}.h5" for at in range(n_files)]
    drift = np.cumsum(np.random.default_rng(0).normal(size=(n_rows, 1)) * 4, axis=0)
    noise = np.random.default_rng(1).normal(size=(min(n_rows, 10_000), 64)) * 5
    values = np.resize(noise, (n_rows, 64)) + drift
    for at, path in enumerate(paths):
        options = {"chunks": (min(4096, n_rows), 64), "compression": "gzip", "shuffle": True}
        data = (values + at).astype("i2")
        lazyio.to_hdf5(data, path, "x", compression_opts=4, digests=False, **options)
    whole = folder / "whole.h5"
    if row == "read":
        lazyio.virtual(whole, "x", paths)
    return {
        "row": row,
        "threads": 2,
        "paths": [str(path) for path in paths],
        "shape": [n_files * n_rows, 64],
        "whole": str(whole),
        "output": str(folder / "output.h5"),
    }


# A virtual dataset of many small files; the elements of one of a few large files, at gzip-4; the
# digests of one large file that has none.
main = InTurns(
    command="joins",
    description=__doc__,
    contenders={
        "make": ("h5py", "lazyio"),
        "read": ("h5py", "lazyio"),
        "renew": ("sha256", "lazyio"),
    },
    prepared=_prepared,
    mebibytes={"peak MiB": "growth"},
).main
