"""The child process of ``ragged``: rows written or read by one library."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import h5py
import hdf5plugin  # Imported here, as below, so that it is not part of what is measured.
import numcodecs  # noqa: F401 - lazyio decodes zstd by it
import numpy as np
import tables

import lazyio
from benchmarks.memory_one import growth_of, removed

ROWS = ("write", "append", "one-by-one", "list", "slice", "step", "all")
PEERS = ("lazyio", "lazyio-zstd", "h5py-vlen", "pytables", "by-hand", "by-hand-zstd")
_ZSTD = {"compression": "zstd", "shuffle": True}
_CHUNKS = {"values": (65_536,), "offsets": (16_384,)}
"""Of what is written by hand: those that lazyio makes."""
_SLICE = 10_000
_STEP = 7


def main() -> None:
    """Run the job on the command line; print its outcome as JSON."""
    job = json.loads(sys.argv[1])
    dask.config.set(num_workers=job["threads"])
    who, row = job["who"], job["row"]
    path = Path(job["folder"], f"{who}.h5")
    if row == "prepare":
        _write(job, who, path)
        print(json.dumps({}))
        return
    if row in ("write", "append"):
        path = Path(job["folder"], "output.h5")
        work = _write if row == "write" else _append
        outcome = _timed(lambda: work(job, who, path))
        removed(path)
    else:
        with_rows = _READERS[who.removesuffix("-zstd")]
        outcome = _timed(lambda: with_rows(path, _key(job)))
    print(json.dumps(outcome))


def _timed(work: Callable[[], Any]) -> dict[str, float]:
    began, cpu_began = time.perf_counter(), time.process_time()
    growth = growth_of(work)
    cpu = time.process_time() - cpu_began
    return {"seconds": time.perf_counter() - began, "cpu": cpu, "growth": growth}


def _arrays(job: dict) -> tuple[np.ndarray, np.ndarray]:
    folder = Path(job["folder"])
    return np.load(folder / "values.npy"), np.load(folder / "offsets.npy")


def _rows(job: dict) -> list[np.ndarray]:
    values, offsets = _arrays(job)
    return np.split(values, offsets[1:-1])


def _key(job: dict) -> Any:
    """Return what rows are taken by: one number after the other, where it is a tuple."""
    n_rows = job["n_rows"]
    numbers = np.random.default_rng(1).integers(0, n_rows, job["n_taken"])
    start = n_rows // 3
    return {
        "one-by-one": tuple(numbers.tolist()),
        "list": np.unique(numbers),
        "slice": slice(start, start + min(_SLICE, n_rows // 3)),
        "step": slice(None, None, _STEP),
        "all": slice(None),
    }[job["row"]]


def _write(job: dict, who: str, path: Path) -> None:
    """Write all rows as the library does it best."""
    if who.startswith("by-hand"):
        with h5py.File(path, "w") as file:
            for name, array in zip(_CHUNKS, _arrays(job), strict=True):
                _by_hand_made(file, name, who, array.dtype, data=array)
    elif who.startswith("lazyio"):
        values, offsets = _arrays(job)
        codec = _ZSTD if who.endswith("zstd") else {}
        lazyio.to_hdf5(lazyio.Ragged(values, offsets), path, "rows", mode="w", **codec)
    elif who == "h5py-vlen":
        rows = _rows(job)
        with h5py.File(path, "w") as file:
            kind = h5py.vlen_dtype(rows[0].dtype)
            dataset = file.create_dataset("rows", (len(rows),), kind, chunks=(4096,))
            held = np.empty(len(rows), object)
            held[:] = rows
            dataset[:] = held
    else:
        _append(job, who, path)


def _by_hand_made(
    file: h5py.File, name: str, who: str, dtype: np.dtype, **more: Any
) -> h5py.Dataset:
    """Return one of the two datasets in which rows are kept by hand."""
    codec: Any = {**hdf5plugin.Zstd(), "shuffle": True} if who.endswith("zstd") else {}
    options = {"dtype": dtype, "maxshape": (None,), "chunks": _CHUNKS[name], **codec, **more}
    return file.create_dataset(f"rows/{name}", **options)


def _append(job: dict, who: str, path: Path) -> None:
    """Append one row after the other."""
    rows = _rows(job)
    if who.startswith("by-hand"):
        with h5py.File(path, "w") as file:
            values = _by_hand_made(file, "values", who, rows[0].dtype, shape=(0,))
            offsets = _by_hand_made(file, "offsets", who, np.dtype("i8"), data=[0])
            end = 0
            for number, row in enumerate(rows):
                values.resize((end + len(row),))
                values[end:] = row
                end += len(row)
                offsets.resize((number + 2,))
                offsets[number + 1] = end
    elif who.startswith("lazyio"):
        codec: Any = _ZSTD if who.endswith("zstd") else {}
        with lazyio.writer(path, mode="w") as w:
            made = w.create("rows", dtype="f4", ragged=True, **codec)
            for row in rows:
                made.append(row)
    elif who == "h5py-vlen":
        with h5py.File(path, "w") as file:
            kind = h5py.vlen_dtype(rows[0].dtype)
            dataset = file.create_dataset("rows", (len(rows),), kind, chunks=(4096,))
            for number, row in enumerate(rows):
                dataset[number] = row
    else:
        with tables.open_file(path, "w") as file:
            array = file.create_vlarray("/", "rows", tables.Float32Atom(), expectedrows=len(rows))
            for row in rows:
                array.append(row)


def _taken(rows: Any, key: Any) -> list[np.ndarray]:
    return [rows[number] for number in key] if isinstance(key, tuple) else rows[key]


def _by_lazyio(path: Path, key: Any) -> Any:
    return _taken(lazyio.open_ragged(path, "rows"), key)


def _by_h5py(path: Path, key: Any) -> Any:
    with h5py.File(path) as file:
        return _taken(file["rows"], key)


def _by_pytables(path: Path, key: Any) -> Any:
    with tables.open_file(path) as file:
        return _taken(file.root.rows, key)


def _by_hand(path: Path, key: Any) -> Any:
    with h5py.File(path) as file:
        values, offsets = file["rows/values"], file["rows/offsets"][:]
        if isinstance(key, slice) and key.step is None:
            numbers = range(*key.indices(len(offsets) - 1))
            start, stop = offsets[numbers[0]], offsets[numbers[-1] + 1]
            cuts = offsets[numbers[0] + 1 : numbers[-1] + 1] - start
            return np.split(values[start:stop], cuts)
        numbers = range(*key.indices(len(offsets) - 1)) if isinstance(key, slice) else key
        return [values[offsets[number] : offsets[number + 1]] for number in numbers]


_READERS: dict[str, Callable[[Path, Any], Any]] = {
    "lazyio": _by_lazyio,
    "h5py-vlen": _by_h5py,
    "pytables": _by_pytables,
    "by-hand": _by_hand,
}

if __name__ == "__main__":
    main()
