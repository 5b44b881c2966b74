"""``python -m benchmarks``: every row, every contender, in turns."""

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import LIMIT, OURS
from benchmarks.catalogue import CATALOGUE, selection
from benchmarks.compare import Case, Contest, Timing
from benchmarks.field import NAMES, contenders
from benchmarks.options import add_shared, chosen_from, output_folder, save
from benchmarks.rows import ROWS
from benchmarks.table import LEGEND, behind, ratios, render
from benchmarks.versions import told


def main(arguments: list[str]) -> int:
    """Measure, print the tables; return 1 when anything was written or read wrongly.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    given = _parser().parse_args(arguments)
    with output_folder(given.data) as folder:
        contest = Contest(
            folder,
            repeats=given.repeats,
            threads=given.threads,
            is_synced=given.fsync,
            patience=given.patience,
        )
        cases = list(_cases(given))
        rows = contest.run_once(cases) if given.short else [contest.run(case) for case in cases]
    text = _page(rows, contest, given)
    print(text)
    if given.docs is not None:
        given.docs.write_text(text + "\n", "utf-8")
    for case in contest.failed:
        print("FAILED:", *case)
    save(given.json, **_results(rows, contest, given))
    return 1 if contest.failed or {OURS, LIMIT} & contest.missing.keys() else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure lazyio, its peers and the limit at the same writing and reading.",
        epilog="Further commands: planning, reads, chunks, memory.",
    )
    add_shared(parser)
    parser.add_argument("--all", action="store_true", help="every array with all of its rows")
    for what, known in (("rows", ROWS), ("arrays", CATALOGUE), ("contenders", NAMES)):
        parser.add_argument(
            f"--{what}",
            type=chosen_from(known),
            help=f"comma-separated, name* for all that begin so, of {', '.join(known)}",
        )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--threads", type=int, default=2, help="for each contender (default: 2)")
    parser.add_argument(
        "--patience",
        type=float,
        default=math.inf,
        metavar="SECONDS",
        help="who has taken longer at a row does not run again (default: all repeats)",
    )
    parser.add_argument(
        "--fsync",
        action="store_true",
        help="the clock stops when everything is on the disk, by the means that each has",
    )
    parser.add_argument("--docs", type=Path, help="file to rewrite with the tables")
    return parser


def _cases(given: argparse.Namespace) -> Iterable[Case]:
    """Yield what is to be done, making arrays on the way."""
    chosen = selection(given.arrays, given.rows, is_all=given.all or given.short)
    for name, rows in chosen.items():
        array = CATALOGUE[name].make(given.data.resolve(), given.short)
        if array is None:
            print(f"{name} is skipped: its file is not there.", file=sys.stderr)
            continue
        for row in map(ROWS.__getitem__, rows):
            names = contenders(array, row)
            taking_part = tuple(one for one in names if one in (given.contenders or NAMES))
            yield Case(array=array, row=row, contenders=taking_part)


def _page(rows: Sequence[Sequence[Timing]], contest: Contest, given: argparse.Namespace) -> str:
    """Return the tables with what has to be known to read them."""
    parts = [render(rows), LEGEND, told()]
    if given.short:
        parts.append("Small sizes: whether everything works and is written right, no figures.")
    if given.patience < math.inf:
        parts.append(
            f"Of {given.repeats} runs; who had taken more than {given.patience:g} s did not go on."
        )
    if given.fsync:
        others = ", ".join(sorted(contest.synced_after)) or "none"
        parts.append(
            "Everything is on the disk when a clock stops. Without an option of their own for it, "
            f"so that their files were synced after: {others}."
        )
    parts += [
        f"{name} was skipped: there is no module {module!r}."
        for name, module in contest.missing.items()
    ]
    if not given.short:
        lines = [f"- {line}" for line in behind(rows)] or ["- none"]
        parts.append("\n".join(["Rows in which a peer is ahead of lazyio, how far:", "", *lines]))
    return "\n\n".join(parts)


def _results(
    rows: Sequence[Sequence[Timing]], contest: Contest, given: argparse.Namespace
) -> dict[str, Any]:
    return {
        "threads": given.threads,
        "repeats": given.repeats,
        "is_short": given.short,
        "is_synced": given.fsync,
        "missing": contest.missing,
        "failed": [list(case) for case in contest.failed],
        "timings": [timing.to_dict() for row in rows for timing in row],
        "ratios": [
            {"array": row[0].array, "row": row[0].row.name, **ratios(row)} for row in rows if row
        ],
        "behind": behind(rows),
    }
