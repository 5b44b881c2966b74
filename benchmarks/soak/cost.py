"""``python -m benchmarks cost``: what digests and the journal add to a write.

The same write with ``digests=False``, as it is by default, and with
``resume=True``, in turns; nothing waits for the disk.
"""

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.child import run_child
from benchmarks.options import add_shared, output_folder, save
from benchmarks.recording import recording

_WAYS = ("bare", "digests", "resume")
_ROWS = {
    "hdf5:none": {},
    "hdf5:gzip-1": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "hdf5:zstd-1": {"compression": "zstd", "compression_opts": 1, "shuffle": True},
    "hdf5:blosc-lz4-5": {"compression": "blosc", "compression_opts": ["lz4", 5, "byte"]},
    "zarr:none": {"compressors": None},
    "zarr:zstd": {},
    "zarr:zstd-sharded": {"shards": [26000, 384]},
}
_SHAPE, _CHUNKS = (700_000, 384), (13_000, 96)


def main(arguments: list[str]) -> int:
    """Measure, and print what each way costs beside the bare one.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks cost", description=__doc__)
    add_shared(parser)
    parser.add_argument("--repeats", type=int, default=7, help="runs of each (default: 7)")
    given = parser.parse_args(arguments)
    shape = (7_000, 384) if given.short else _SHAPE
    results = {}
    with output_folder(given.data) as folder:
        source = Path(recording(Path(given.data), shape=shape, chunks=_CHUNKS).path)
        for row, options in _ROWS.items():
            seconds: dict[str, list[float]] = {way: [] for way in _WAYS}
            for _ in range(1 if given.short else given.repeats):
                for way in _WAYS:
                    seconds[way].append(_measure(row, way, options, source, shape, folder))
            medians = {way: statistics.median(times) for way, times in seconds.items()}
            results[row] = medians
            added = {way: medians[way] / medians["bare"] - 1 for way in _WAYS[1:]}
            told = ", ".join(f"{way} {share:+.1%}" for way, share in added.items())
            print(f"{row:20} {medians['bare']:.3f} s bare, {told}", flush=True)
    save(given.json, seconds=results)
    return 0


def _measure(
    row: str,
    way: str,
    options: dict[str, object],
    source: Path,
    shape: tuple[int, int],
    folder: Path,
) -> float:
    format_, _, _ = row.partition(":")
    job = {
        "format": format_,
        "way": way,
        "options": options,
        "source": str(source),
        "shape": shape,
        "chunks": _CHUNKS,
        "output": str(folder / f"output.{format_}"),
    }
    seconds: float = run_child("soak.cost_one", json.dumps(job))["seconds"]
    return seconds
