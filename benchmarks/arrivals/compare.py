"""``python -m benchmarks arrivals``: rows, batches, streams and blocks as they come.

Each contender in a process of its own, in turns; nothing waits for the disk.
"""

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.arrivals.tasks import TASKS
from benchmarks.child import run_child
from benchmarks.options import add_shared, output_folder, save

_SHORT = {"n_rows": 4000, "n_blocks": 20}


def main(arguments: list[str]) -> int:
    """Measure, and print a table: seconds, and how many times faster lazyio is.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks arrivals", description=__doc__)
    add_shared(parser)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each (default: 5)")
    parser.add_argument("--only", default="", help="tasks whose name begins with this")
    given = parser.parse_args(arguments)
    results = {}
    print("Median seconds; in brackets peer / lazyio, so that above 1 lazyio is ahead; MB of file.")
    with output_folder(given.data) as folder:
        for task in TASKS:
            if task.startswith(given.only):
                repeats = 1 if given.short else given.repeats
                results[task] = measure(task, folder, repeats, is_short=given.short)
                print(_line(task, results[task]), flush=True)
    save(given.json, seconds=results)
    return 0


def measure(
    task: str, folder: Path, repeats: int, *, is_short: bool
) -> dict[str, dict[str, float]]:
    """Return the median seconds of each contender, and the size of its file.

    Parameters
    ----------
    task : str
        One of ``TASKS``.
    folder : Path
        Where files go.
    repeats : int
        Runs of each, in turns.
    is_short : bool
        Whether little data will do.
    """
    writers, facts = TASKS[task]
    changes = {name: value for name, value in _SHORT.items() if is_short and name in facts}
    runs: dict[str, list[float]] = {name: [] for name in writers}
    sizes: dict[str, float] = {}
    for _ in range(repeats):
        for name in writers:
            output = str(folder / "output.h5")
            job = {"task": task, "contender": name, "changes": changes, "output": output}
            found = run_child("arrivals.one", json.dumps(job))
            runs[name].append(found["seconds"])
            sizes[name] = found["nbytes"] / 1e6
    return {
        name: {"seconds": statistics.median(seconds), "MB": sizes[name]}
        for name, seconds in runs.items()
    }


def _line(task: str, found: dict[str, dict[str, float]]) -> str:
    ours = found["lazyio"]["seconds"]
    told = []
    for name, one in found.items():
        ratio = "" if name == "lazyio" else f" ({one['seconds'] / ours:.2f})"
        told.append(f"{name} {one['seconds']:.3f}{ratio} {one['MB']:.2f} MB")
    return f"{task}: {'; '.join(told)}"
