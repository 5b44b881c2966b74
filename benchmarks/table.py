"""Timings as ratios, and as a table to read."""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.cases import LIMIT, NAMES, OURS
from benchmarks.compare import Timing


def ratios(timings: Sequence[Timing]) -> dict[str, Any]:
    """Return what the medians of one row say about lazyio.

    Parameters
    ----------
    timings : sequence of Timing
        Of one row of one array.

    Returns
    -------
    dict
        ``of_limit``, ``best_peer`` and how many times faster than it lazyio is,
        the same for each peer under ``peers``, and the size beside h5py's
        (Zarr rows: zarr-python's, which dask writes with). Absent where
        a contender is.
    """
    by_name = {timing.contender: timing for timing in timings}
    ours = by_name.get(OURS)
    if ours is None:
        return {}
    found: dict[str, Any] = {}
    if LIMIT in by_name:
        found["of_limit"] = by_name[LIMIT].median / ours.median
    peers = {name: one for name, one in by_name.items() if name not in (LIMIT, OURS)}
    if peers:
        best = min(peers, key=lambda name: peers[name].median)
        found["best_peer"] = best
        found["times_best_peer"] = peers[best].median / ours.median
        found["peers"] = {name: one.median / ours.median for name, one in peers.items()}
    stock = by_name.get("h5py" if ours.row.startswith("hdf5") else "dask")
    if stock is not None:
        found["size"] = ours.nbytes / stock.nbytes
    return found


def render(rows: Iterable[Sequence[Timing]]) -> str:
    """Return the table.

    Parameters
    ----------
    rows : iterable of sequences of Timing
        One sequence per row of the table.
    """
    head = ["array", "row", *NAMES, "of limit", "x best peer", "x dask", "size"]
    lines = [head, *(_line(timings) for timings in rows if timings)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = [
        "  ".join(
            cell.ljust(width) if number < 2 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    body.insert(1, "-" * max(map(len, body)))
    return "\n".join(
        [
            *body,
            "",
            "Median seconds. of limit: limit / lazyio. x: peer / lazyio.",
            "size: bytes of lazyio's file beside h5py's (Zarr: beside zarr-python's).",
        ]
    )


def _line(timings: Sequence[Timing]) -> list[str]:
    seconds = {timing.contender: f"{timing.median:.3f}" for timing in timings}
    found = ratios(timings)
    best = f"{found['times_best_peer']:.2f} {found['best_peer']}" if "best_peer" in found else ""
    dask = found.get("peers", {}).get("dask")
    return [
        timings[0].array,
        timings[0].row,
        *(seconds.get(name, "") for name in NAMES),
        f"{found['of_limit']:.2f}" if "of_limit" in found else "",
        best,
        "" if dask is None else f"{dask:.2f}",
        f"{found['size']:.3f}" if "size" in found else "",
    ]
