"""Timings as ratios, and as tables to read."""

from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any

from benchmarks.cases import LIMIT, OURS, READ, STOCK
from benchmarks.compare import Timing
from benchmarks.field import NAMES

_FORMATS = {"hdf5": "HDF5", "zarr": "Zarr"}

LEGEND = (
    "Median seconds. of limit: limit / lazyio. x: peer / lazyio, so that above 1 lazyio is ahead. "
    "size: bytes of lazyio's file beside h5py's (Zarr: zarr-python's)."
)


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
        the same for each peer under ``peers``, and the size beside that of
        h5py's file or zarr-python's array. Absent where a contender is.
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
    stock = by_name.get(STOCK[ours.row.format]) or by_name.get("dask")
    if stock is not None and ours.row.action != READ:
        found["size"] = ours.nbytes / stock.nbytes
    return found


def behind(rows: Iterable[Sequence[Timing]]) -> list[str]:
    """Return a line for every row in which a peer is ahead of lazyio, worst first.

    Parameters
    ----------
    rows : iterable of sequences of Timing
        One sequence per row.
    """
    found = []
    for timings in rows:
        peers = ratios(timings).get("peers", {})
        ahead = sorted((times, name) for name, times in peers.items() if times < 1)
        if ahead:
            listed = ", ".join(f"{name} {1 / times:.2f}x" for times, name in ahead)
            found.append((ahead[0][0], f"{timings[0].array} {timings[0].row.name}: {listed}"))
    return [said for _, said in sorted(found)]


def render(rows: Iterable[Sequence[Timing]]) -> str:
    """Return Markdown, a table for each array, format and direction.

    Parameters
    ----------
    rows : iterable of sequences of Timing
        One sequence per row of a table.
    """
    groups: dict[str, list[Sequence[Timing]]] = {}
    for timings in rows:
        if timings:
            groups.setdefault(_title(timings[0]), []).append(timings)
    tables = [f"{title}:\n\n{_table(group)}" for title, group in groups.items()]
    return "\n\n".join(tables)


def _title(timing: Timing) -> str:
    verb = "reading" if timing.row.action == READ else "writing"
    return f"`{timing.array}`, {verb} {_FORMATS[timing.row.format]}"


def _table(group: Sequence[Sequence[Timing]]) -> str:
    present = {timing.contender for timings in group for timing in timings}
    names = [name for name in NAMES if name in present]
    head = ["Row", *names, "of limit", "x best peer", "x dask", "size"]
    lines = [head, *(_cells(timings, names) for timings in group)]
    # A column in which nothing stands says nothing: reading has no sizes, mappings no limit.
    kept = [any(line[column] for line in lines[1:]) for column in range(len(head))]
    lines = [list(compress(line, kept)) for line in lines]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])


def _cells(timings: Sequence[Timing], names: Sequence[str]) -> list[str]:
    seconds = {timing.contender: _seconds(timing.median) for timing in timings}
    found = ratios(timings)
    best = f"{found['times_best_peer']:.2f} {found['best_peer']}" if "best_peer" in found else ""
    dask = found.get("peers", {}).get("dask")
    return [
        timings[0].row.label,
        *(seconds.get(name, "") for name in names),
        f"{found['of_limit']:.2f}" if "of_limit" in found else "",
        best,
        "" if dask is None else f"{dask:.2f}",
        f"{found['size']:.3f}" if "size" in found else "",
    ]


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:.2f}"
