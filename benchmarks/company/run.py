"""``python -m benchmarks company``: lazyio beside other programs at the same file or store.

In each trial lazyio does something to a file or store, and is killed or not;
another program acts meanwhile or afterwards; then lazyio acts again, and what was
interrupted is recovered. What stock readers find in the end must follow from all
that was told to be done, in some order, and from nothing that was refused; no
read may change anything, no error may be foreign, and no process may crash.

To see one trial again: ``python -m benchmarks company --seed S --trials 1 -v``,
with the same names of formats, operations and programs.
"""

import argparse
import gc
import json
import os
import pickle
import random
import selectors
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.company.operations import OPERATIONS
from benchmarks.company.trial import Result, Trial, known_programs, spec_of
from benchmarks.options import chosen_from

_SHORT_SECONDS = 15.0


def main(arguments: list[str]) -> int:
    """Run trials, print what was found, and return 1 if anything was violated.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    given = _parser().parse_args(arguments)
    first = random.SystemRandom().randrange(10**8) if given.seed is None else given.seed
    narrowed = {
        "kinds": given.formats,
        "operations": given.operations,
        "programs": given.programs,
    }
    n_trials = 200 if given.short and given.trials is None else given.trials or 1000
    print(f"seeds {first} to {first + n_trials - 1}", flush=True)
    seeds = range(first, first + n_trials)
    until = time.monotonic() + _SHORT_SECONDS if given.short else None
    n_jobs = 1 if given.verbose else given.jobs
    began = time.monotonic()
    results = []
    gc.freeze()
    for result in _results(seeds, narrowed, given, n_jobs, until):
        results.append(result)
        for what in result.violations:
            print(_line(result, what), flush=True)
    seconds = time.monotonic() - began
    _print_tallies(results)
    n_bad = sum(bool(result.violations) for result in results)
    print(f"{len(results)} trials in {seconds:.0f} s, {n_bad} with violations")
    if given.json is not None:
        _add_up(given.json, results)
    return 1 if n_bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks company",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    operations = [one.name for one in OPERATIONS]
    programs = [one.name for one in known_programs()]
    parser.add_argument("--trials", type=int, help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, help="of the first trial; the next has the next")
    parser.add_argument("--short", action="store_true", help="at most 200 trials and 15 s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials at a time")
    parser.add_argument("--formats", type=chosen_from(["hdf5", "zarr"]), default=[])
    parser.add_argument(
        "--operations", type=chosen_from(operations), default=[], help=f"of {', '.join(operations)}"
    )
    parser.add_argument(
        "--programs", type=chosen_from(programs), default=[], help=f"of {', '.join(programs)}"
    )
    parser.add_argument(
        "--data", type=Path, help="folder to work in (default: in memory where the system has it)"
    )
    parser.add_argument("--json", type=Path, help="add the tallies to those in this file")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell all that happens")
    return parser


def _results(
    seeds: Sequence[int],
    narrowed: dict[str, Any],
    given: argparse.Namespace,
    n_jobs: int,
    until: float | None,
) -> Iterator[Result]:
    """Yield what becomes of trials, several at a time."""
    memory = Path("/dev/shm")
    data = given.data or (memory if memory.is_dir() else Path(tempfile.gettempdir()))
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="company-", dir=data) as folder:
        ways = selectors.DefaultSelector()
        children = []
        for job in range(n_jobs):
            read, write = os.pipe()
            child = os.fork()
            if not child:
                os.close(read)
                mine = seeds[job::n_jobs]
                _work(mine, narrowed, Path(folder, str(job)), write, until, given.verbose)
            os.close(write)
            children.append(child)
            ways.register(os.fdopen(read, "rb"), selectors.EVENT_READ)
        while ways.get_map():
            for key, _ in ways.select():
                file: Any = key.fileobj
                try:
                    found = pickle.load(file)
                except EOFError:
                    ways.unregister(file)
                    file.close()
                    continue
                if isinstance(found, str):
                    print(found, file=sys.stderr, flush=True)
                else:
                    yield found
        for child in children:
            os.waitpid(child, 0)


def _work(
    seeds: Sequence[int],
    narrowed: dict[str, Any],
    folder: Path,
    descriptor: int,
    until: float | None,
    is_told: bool,
) -> None:
    """Run trials in a process of its own, which ends then."""
    folder.mkdir()
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        try:
            for seed in seeds:
                if until is not None and time.monotonic() > until:
                    break
                result = Trial(spec_of(seed, **narrowed), folder, is_told=is_told).run()
                pickle.dump(result, file)
        except BaseException:  # noqa: BLE001 - said by the parent
            pickle.dump(f"seed {seed}: the trial itself failed\n{traceback.format_exc()}", file)
    os._exit(0)


def _line(result: Result, what: str) -> str:
    killed = ", killed" if result.killed else ""
    return f"seed {result.seed}: {result.program} / {result.operation}{killed}: {what}"


def _print_tallies(results: Sequence[Result]) -> None:
    """Print how often each pair was tried, and what was violated."""
    tried = Counter((one.program, one.operation, one.killed) for one in results)
    bad = Counter(
        (one.program, one.operation, one.killed, what) for one in results for what in one.violations
    )
    for (program, operation, killed, what), count in sorted(bad.items()):
        n_tried = tried[program, operation, killed]
        how = "killed" if killed else ""
        print(f"{program:18} {operation:22} {how:7} {count:4} of {n_tried:4}  {what}")
    notes = Counter(note for one in results for note in one.notes)
    for note, count in notes.most_common(20):
        print(f"{count:6}  {note}")


def _add_up(path: Path, results: Sequence[Result]) -> None:
    """Add tallies to those of earlier runs."""
    held = json.loads(path.read_text()) if path.exists() else {"seeds": [], "rows": {}}
    rows = held["rows"]
    for one in results:
        key = f"{one.program} / {one.operation}{' / killed' if one.killed else ''}"
        row = rows.setdefault(key, {"trials": 0, "violations": {}})
        row["trials"] += 1
        for what in one.violations:
            row["violations"][what] = row["violations"].get(what, 0) + 1
    held["seeds"] += [one.seed for one in results]
    held["trials"] = sum(row["trials"] for row in rows.values())
    path.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
