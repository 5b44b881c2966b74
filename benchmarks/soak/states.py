"""``python -m benchmarks states``: every state that a crash may leave, looked at.

Runs are recorded step by step. What a kill leaves after every step, and what a
power cut may leave (writes and names dropped that were not forced to the disk,
others torn), is put into a folder, mended by ``lazyio recover``, and must then
hold what was there before, or all that is new.
"""

import argparse
import json
import logging
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.options import add_shared, chosen_from, output_folder, save
from benchmarks.soak.cases import NAMES, Case, Slow, cases
from benchmarks.soak.recorder import Files, Recorder, States, put
from lazyio.atomic.recovery import recover

_N_ROWS = 400


def main(arguments: list[str]) -> int:
    """Enumerate states; return 1 when one is neither old nor new.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks states", description=__doc__)
    add_shared(parser)
    parser.add_argument("--states", type=int, default=100_000, help="in all (default: 100000)")
    parser.add_argument("--seed", type=int, default=None, help="by default another every time")
    parser.add_argument("--cases", type=chosen_from(NAMES), default=NAMES, help="as in kills")
    given = parser.parse_args(arguments)
    n_states = 240 if given.short else given.states
    logging.getLogger("lazyio").setLevel(logging.ERROR)  # It tells of every change it finishes.
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}")
    results = {}
    with output_folder(given.data) as folder:
        for at, name in enumerate(given.cases):
            wanted = n_states // len(given.cases)
            counts = enumerate_states(
                cases(_N_ROWS)[name], folder, wanted, random.Random(seed + at)
            )
            results[name] = counts
            print(f"{name:20} {json.dumps(counts)}", flush=True)
    save(given.json, seed=seed, results=results)
    total = sum(sum(counts.values()) for counts in results.values())
    print(f"{total} states")
    return 1 if any(counts.get("violation") for counts in results.values()) else 0


def enumerate_states(case: Case, folder: Path, n_states: int, rng: random.Random) -> dict[str, int]:
    """Look at so many states of a case: all that kills leave, the others after power cuts."""
    recorder = _recorded(case, folder / "recorded")
    counts: Counter[str] = Counter()
    root = folder / "state"
    for files in _states(States(recorder, rng), n_states):
        put(files, root)
        counts[_verdict(case, root)] += 1
        if counts["violation"] == 1:
            put(files, folder / f"violation-{case.name}")
    return dict(counts)


def _states(states: States, n_states: int) -> Iterator[Files]:
    killed = list(states.killed())
    if len(killed) > n_states // 2:
        killed = states.rng.sample(killed, n_states // 2)
    yield from killed
    for _ in range(n_states - len(killed)):
        yield states.cut()


def _recorded(case: Case, root: Path) -> Recorder:
    put({}, root)
    if case.prepare is not None:
        case.prepare(root / case.target)
    recorder = Recorder(root.resolve())
    with case.forced_way(), recorder.active():
        case.write(root.resolve() / case.target, Slow(os.devnull, 0, _N_ROWS))
    return recorder


def _verdict(case: Case, root: Path) -> str:
    """Return what a state comes to, once it is mended."""
    try:
        recover(root / case.target)
        if case.is_old(root):
            return "old"
        if case.is_new(root):
            return "new"
    except Exception:  # noqa: BLE001 - whatever keeps a reader out
        return "violation"
    return "violation"
