"""``python -m benchmarks memory``: whether the peak stays within the limit."""

import argparse
import json

from benchmarks.child import ChildError, run_child
from benchmarks.memory_one import CASES, removed
from benchmarks.options import add_shared, chosen_from, output_folder, save
from benchmarks.recording import repeated_recording

_N_CHANNELS = 384
_LIMIT_MIB = 256
_WORKERS = 2


def main(arguments: list[str]) -> int:
    """Measure growth of peak memory; return 1 when any is over the limit.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    add_shared(parser)
    parser.add_argument("--gib", type=float, default=4, help="size of the array (default: 4)")
    parser.add_argument(
        "--cases",
        type=chosen_from(CASES),
        default=list(CASES),
        help=f"comma-separated, of {', '.join(CASES)} (default: all)",
    )
    given = parser.parse_args(arguments)
    gib = 0.5 if given.short else given.gib
    results = []
    print(f"{gib:g} GiB, memory_limit {_LIMIT_MIB} MiB, {_WORKERS} workers")
    with output_folder(given.data) as folder:
        large, small = folder / "large.raw", folder / "small.raw"
        repeated_recording(large, int(gib * 2**30), _N_CHANNELS)
        repeated_recording(small, 4 << 20, _N_CHANNELS)
        for case in given.cases:
            for compression in (None, "zstd"):
                job = {
                    "case": case,
                    "compression": compression,
                    "large": str(large),
                    "small": str(small),
                    "output": str(folder / "output"),
                    "n_channels": _N_CHANNELS,
                    "memory_limit": _LIMIT_MIB << 20,
                    "workers": _WORKERS,
                }
                results.append(_measure(job))
                removed(folder / "output")
    save(given.json, gib=gib, limit_mib=_LIMIT_MIB, workers=_WORKERS, results=results)
    return 0 if all(one["is_ok"] for one in results) else 1


def _measure(job: dict) -> dict:
    """Run one case, print its line, return it."""
    label = f"{job['case']:<20} {job['compression'] or 'none':<5}"
    result = {"case": job["case"], "compression": job["compression"], "is_ok": False}
    try:
        outcome = run_child("memory_one", json.dumps(job))
    except ChildError as error:
        print(f"{label} FAILED\n{error}")
        return result
    growth = outcome["growth"] / 2**20
    result |= {
        "growth_mib": growth,
        "seconds": outcome["seconds"],
        "is_ok": outcome["growth"] <= job["memory_limit"],
    }
    verdict = "OK" if result["is_ok"] else "OVER"
    print(
        f"{label} grew {growth:7.1f} MiB of {_LIMIT_MIB} MiB in {outcome['seconds']:6.1f} s"
        f"  {verdict}",
        flush=True,
    )
    return result
