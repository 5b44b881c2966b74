"""The child process of ``memory``: one write, and how far memory grew for it."""

import contextlib
import json
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import h5py

import lazyio

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def growth_of(work: Callable[[], Any]) -> int:
    """Return how many bytes of resident memory a call needed at most, beyond what was there.

    Parameters
    ----------
    work : callable
        Without arguments.
    """
    # 5 sets the kernel's peak back to what is resident now.
    with contextlib.suppress(OSError):
        _CLEAR_REFS.write_text("5")
    before = _peak_nbytes()
    work()
    return _peak_nbytes() - before


def main() -> None:
    """Run the job on the command line; print its outcome as JSON."""
    job = json.loads(sys.argv[1])
    warm = job | {"large": job["small"], "output": job["output"] + ".warm"}
    _writer(warm)()
    removed(Path(warm["output"]))
    write = _writer(job)
    began = time.perf_counter()
    growth = growth_of(write)
    print(json.dumps({"growth": growth, "seconds": time.perf_counter() - began}))


def removed(path: Path) -> None:
    """Remove a file or a folder, if it is there.

    Parameters
    ----------
    path : Path
        Which.
    """
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _writer(job: dict[str, Any]) -> Callable[[], Any]:
    """Return what writes a case, having made what must be there before."""
    return CASES[job["case"]](job)


def _aligned(job: dict[str, Any]) -> Callable[[], Any]:
    return lambda: _to_hdf5(job, _lazy(job))


def _misaligned(job: dict[str, Any]) -> Callable[[], Any]:
    blocks = _graph(job, 9999)
    return lambda: _to_hdf5(job, blocks, chunks=_rows_first(blocks))


def _channel_major(job: dict[str, Any]) -> Callable[[], Any]:
    data = _lazy(job)
    return lambda: _to_hdf5(job, data, chunks=(min(524_288, len(data)), 1))


def _columns_first(job: dict[str, Any]) -> Callable[[], Any]:
    return lambda: _to_hdf5(job, _lazy(job, order="F"))


def _two_graphs(job: dict[str, Any]) -> Callable[[], Any]:
    """Two arrays, of which the blocks cut across the chunks in different ways."""
    arrays = {"first": _graph(job, 9999), "second": ~_graph(job, 7001)}
    chunks = _rows_first(arrays["first"])
    return lambda: _to_hdf5(job, arrays, chunks=chunks)


def _region(job: dict[str, Any]) -> Callable[[], Any]:
    """Rows and columns in the middle of an existing dataset, none of them at a chunk's edge."""
    data = _lazy(job)
    n, channels = data.shape
    with h5py.File(job["output"], "w") as file:
        shape, chunks = (n + 20, channels + 20), _rows_first(data)
        file.create_dataset("data", shape, data.dtype, chunks=chunks, **_filters(job))
    region = (slice(7, 7 + n), slice(7, 7 + channels))
    limits = {"memory_limit": job["memory_limit"], "workers": job["workers"]}
    return lambda: lazyio.to_hdf5(data, job["output"], region=region, **limits)


def _sharded(job: dict[str, Any]) -> Callable[[], Any]:
    from zarr.codecs import ZstdCodec  # Not there in zarr 2, beside which others write HDF5.

    data = _lazy(job)
    chunks = (min(2500, len(data)), job["n_channels"] // 4)
    return lambda: lazyio.to_zarr(
        data,
        job["output"],
        chunks=chunks,
        shards=(4 * chunks[0], 4 * chunks[1]),
        compressors=ZstdCodec(level=1) if job["compression"] else None,
        memory_limit=job["memory_limit"],
        workers=job["workers"],
    )


CASES: dict[str, Callable[[dict[str, Any]], Callable[[], Any]]] = {
    "aligned": _aligned,
    "misaligned graph": _misaligned,
    "channel-major": _channel_major,
    "columns first": _columns_first,
    "two graphs": _two_graphs,
    "region": _region,
    "sharded Zarr": _sharded,
}
"""What is written, by the name in the table."""


def _lazy(job: dict[str, Any], **options: Any) -> da.Array:
    shape = (-1, job["n_channels"])
    return lazyio.from_raw(job["large"], shape, "<i2", memory_limit=job["memory_limit"], **options)


def _graph(job: dict[str, Any], n_rows: int) -> da.Array:
    """Return blocks of so many rows, behind work that lazyio knows nothing of."""
    blocks = _lazy(job, chunks=(n_rows, job["n_channels"]))
    return blocks.map_blocks(lambda block: block)


def _rows_first(data: da.Array) -> tuple[int, int]:
    return (min(5000, len(data)), 100)


def _to_hdf5(job: dict[str, Any], data: Any, chunks: Any = "auto") -> None:
    limits = {"memory_limit": job["memory_limit"], "workers": job["workers"]}
    lazyio.to_hdf5(data, job["output"], chunks=chunks, **limits, **_filters(job))


def _filters(job: dict[str, Any]) -> dict[str, Any]:
    if not job["compression"]:
        return {}
    import hdf5plugin  # Some 10 MB that count only where they are used.

    return {**hdf5plugin.Zstd(clevel=1), "shuffle": True}


def _peak_nbytes() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text()) if _STATUS.exists() else None
    kibibytes = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes << 10


if __name__ == "__main__":
    main()
