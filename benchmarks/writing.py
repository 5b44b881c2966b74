"""``python -m benchmarks``: every row, every contender."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from benchmarks.cases import CONTENDERS, NAMES, OURS, ROWS, Array, Row
from benchmarks.compare import Contest, Timing
from benchmarks.options import add_shared, output_folder, save
from benchmarks.recording import cmip6, recording, small_netcdf
from benchmarks.table import ratios, render

_SHORT_NETCDF_ROWS = ("hdf5:none", "hdf5:gzip-4", "zarr:zstd")


def main(arguments: list[str]) -> int:
    """Time, print the table; return 1 when anything was written wrongly.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    given = _parser().parse_args(arguments)
    repeats = 1 if given.short else given.repeats
    timings: list[list[Timing]] = []
    with output_folder(given.data) as folder:
        contest = Contest(folder, repeats=repeats, threads=given.threads)
        for array, rows in _arrays(given, folder):
            for row in rows:
                names = [name for name in CONTENDERS[row.format] if name in given.contenders]
                timings.append(contest.run(array, row, names))
    print(render(timings))
    for name, module in contest.missing.items():
        print(f"{name} was skipped: there is no module {module!r}.")
    for case in contest.failed:
        print("FAILED:", *case)
    save(
        given.json,
        threads=given.threads,
        repeats=repeats,
        is_short=given.short,
        missing=contest.missing,
        failed=[list(case) for case in contest.failed],
        timings=[timing.to_dict() for row in timings for timing in row],
        ratios=[
            {"array": row[0].array, "row": row[0].row, **ratios(row)} for row in timings if row
        ],
    )
    return 1 if contest.failed or OURS in contest.missing else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time lazyio, its peers and the limit at writing the same arrays.",
        epilog="Further commands: planning, chunks, memory.",
    )
    add_shared(parser)
    parser.add_argument(
        "--rows",
        type=lambda text: _subset(text, ROWS),
        default=list(ROWS),
        help=f"comma-separated, of {', '.join(ROWS)}",
    )
    parser.add_argument(
        "--contenders",
        type=lambda text: _subset(text, NAMES),
        default=list(NAMES),
        help=f"comma-separated, of {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--arrays",
        type=lambda text: _subset(text, ("recording", "cmip6")),
        default=["recording", "cmip6"],
        help="comma-separated, of recording, cmip6",
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--threads", type=int, default=2, help="for each contender (default: 2)")
    return parser


def _subset(text: str, known: Iterable[str]) -> list[str]:
    names = text.split(",")
    unknown = set(names) - set(known)
    if unknown:
        msg = f"{', '.join(sorted(unknown))}: choose from {', '.join(known)}"
        raise argparse.ArgumentTypeError(msg)
    return names


def _arrays(given: argparse.Namespace, folder: Path) -> list[tuple[Array, list[Row]]]:
    """Return the arrays to write, each with its rows."""
    rows = [ROWS[name] for name in given.rows]
    found = []
    if "recording" in given.arrays:
        found.append((recording(given.data.resolve(), short=given.short), rows))
    if "cmip6" in given.arrays and given.short:
        few = [row for row in rows if row.name in _SHORT_NETCDF_ROWS]
        found.append((small_netcdf(folder), few))
    elif "cmip6" in given.arrays:
        real = cmip6()
        if real is None:
            print("cmip6 is skipped: cmip6_tas.nc is not there.")
        else:
            found.append((real, rows))
    return found
