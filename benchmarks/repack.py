"""``python -m benchmarks repack``: whole HDF5 files copied by h5repack, cp and lazyio, in turns.

h5repack is Debian's, with one thread. lazyio has its copy on the disk when it is done; with
``--sync`` the others have, too.
"""

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.in_turns import InTurns
from benchmarks.recording import Recording

_THREADS = 2
_LIMIT = 512 << 20
_CHUNKS = (13_000, 96)


def _prepared(row: str, folder: Path, *, is_short: bool) -> dict[str, Any]:
    """Make what a row reads, and return its job."""
    job: dict[str, Any] = {
        "row": row,
        "threads": _THREADS,
        "source": str(folder / "source.h5"),
        "output": str(folder / "output.h5"),
        "chunks": _CHUNKS,
        "memory_limit": _LIMIT,
    }
    n_rows = 26_000 if is_short else 702_000
    if row == "objects":
        _write_objects(job["source"], 20 if is_short else 500)
    elif row == "virtual":
        _write_days(folder, job["source"], n_rows // 2)
    else:
        codec = {"compression": 4, "shuffle": True} if row in ("through", "rechunk") else {}
        with h5py.File(job["source"], "w") as file:
            made = file.create_dataset("x", (n_rows, 384), "i2", chunks=_CHUNKS, **codec)
            _fill(made)
    return job


def _fill(dataset: h5py.Dataset) -> None:
    """Write a recording, the same part of it over and over."""
    part = Recording(dataset.shape[1]).slab(min(26_000, len(dataset)))
    for begin in range(0, len(dataset), len(part)):
        dataset[begin : begin + len(part)] = part[: len(dataset) - begin]


def _write_objects(path: str, n_groups: int) -> None:
    """Write many small datasets, with attributes, text and references."""
    with h5py.File(path, "w") as file:
        for number in range(n_groups):
            group = file.create_group(f"group{number}")
            for name in "abcd":
                made = group.create_dataset(name, data=np.arange(100.0))
                made.attrs["unit"] = "V"
                made.attrs["of"] = group.ref
            group["text"] = ["some", "words"]


def _write_days(folder: Path, path: str, n_rows: int) -> None:
    """Write two files, and one with a virtual dataset of both."""
    layout = h5py.VirtualLayout((2 * n_rows, 384), "i2")
    for day in range(2):
        with h5py.File(folder / f"day{day}.h5", "w") as file:
            codec = {"compression": 4, "shuffle": True}
            made = file.create_dataset("x", (n_rows, 384), "i2", chunks=_CHUNKS, **codec)
            _fill(made)
            layout[day * n_rows : (day + 1) * n_rows] = h5py.VirtualSource(
                f"day{day}.h5", "x", made.shape
            )
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)


def _is_there(who: str) -> bool:
    """Return whether somebody can take part: h5repack only where it is installed."""
    return who != "h5repack" or shutil.which(who) is not None


_WITH_CP = ("h5repack", "cp", "lazyio")
main = InTurns(
    command="repack",
    description=__doc__,
    contenders={
        **dict.fromkeys(("gzip-4", "shuffle", "rechunk"), ("h5repack", "lazyio")),
        **dict.fromkeys(("through", "plain", "objects"), _WITH_CP),
        "virtual": ("h5py", "lazyio"),
    },
    prepared=_prepared,
    mebibytes={"peak MiB": "growth", "size MiB": "size"},
    flags={"sync": "have every copy on the disk"},
    is_there=_is_there,
).main
