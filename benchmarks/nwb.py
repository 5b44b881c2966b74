"""``python -m benchmarks nwb``: one NWB session written by HDMF, neuroconv and lazyio, in turns.

neuroconv asks for zarr 2: beside it call ``python -m benchmarks.nwb``, which needs no zarr. With
``--format zarr`` hdmf-zarr writes beside lazyio, on Python 3.12 or newer.
"""

import argparse
import importlib.util
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.child import run_child
from benchmarks.memory_one import removed
from benchmarks.options import add_shared, output_folder, save
from benchmarks.recording import read_through, recording

_N_CHANNELS = 384
_THREADS = 2
_WHO = {"hdf5": ("hdmf", "lazyio"), "zarr": ("hdmf-zarr", "lazyio")}
_ENDS = {"hdf5": ".nwb", "zarr": ".nwb.zarr"}
_LIMIT = 1 << 30
"""Of lazyio; HDMF holds one buffer of 1 GB."""


def main(arguments: list[str]) -> int:
    """Time a session of Neuropixels size at gzip-4; print seconds and ratios.

    neuroconv takes part where it is installed.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks nwb", description=__doc__)
    add_shared(parser)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--format", choices=_WHO, default="hdf5", help="of the file")
    given = parser.parse_args(arguments)
    n_rows = 50_000 if given.short else 5_600_000
    who = list(_WHO[given.format])
    if given.format == "hdf5" and importlib.util.find_spec("neuroconv") is not None:
        who.insert(1, "neuroconv")
    print("who        seconds (least)  peak MiB  stored MiB")
    with output_folder(given.data) as folder:
        raw = recording(folder, shape=(n_rows, _N_CHANNELS), chunks=(13_000, 96))
        read_through(raw.path)
        outcomes: dict[str, list[dict[str, Any]]] = {name: [] for name in who}
        for _ in range(1 if given.short else given.repeats):
            for name in who:
                output = folder / f"{name}{_ENDS[given.format]}"
                outcomes[name].append(_run(name, raw.path, n_rows, output))
    seconds = {name: min(one["seconds"] for one in runs) for name, runs in outcomes.items()}
    for name, runs in outcomes.items():
        growth = statistics.median(one["growth"] for one in runs) / 2**20
        print(f"{name:10} {seconds[name]:15.2f} {growth:9.0f} {runs[0]['stored'] / 2**20:11.1f}")
    for name in who[:-1]:
        print(f"{name} / lazyio: {seconds[name] / seconds['lazyio']:.2f}")
    save(given.json, results=[{"who": name, "runs": runs} for name, runs in outcomes.items()])
    return 0


def _run(who: str, raw: str, n_rows: int, output: Path) -> dict[str, Any]:
    job = {
        "who": who,
        "raw": raw,
        "shape": (n_rows, _N_CHANNELS),
        "output": str(output),
        "threads": _THREADS,
        "memory_limit": _LIMIT,
    }
    found = dict(run_child("nwb_one", json.dumps(job)))
    removed(output)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
