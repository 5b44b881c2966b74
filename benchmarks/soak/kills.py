"""``python -m benchmarks kills``: SIGKILL at random times, till every job is done.

After each kill the final name must hold what was there before, or all that is
new; and the next call must go on. Only kills that came before the end count.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from benchmarks.options import add_shared, chosen_from, output_folder, save
from benchmarks.soak.cases import NAMES, Case, Slow, cases
from lazyio.atomic.recovery import recover

_N_ROWS = 4000
_WORKERS = 2


@dataclass
class Tally:
    """What became of the jobs of one case."""

    case: str
    n_kills: int = 0
    n_jobs: int = 0
    n_violations: int = 0
    n_rows_again: int = 0

    def line(self) -> str:
        """Return it as a line of a table."""
        return (
            f"{self.case:20} {self.n_kills:6} kills {self.n_jobs:5} jobs done "
            f"{self.n_violations:3} violations, {self.n_rows_again / max(1, self.n_kills):6.1f} "
            f"rows read again for each kill"
        )


def main(arguments: list[str]) -> int:
    """Kill and resume; return 1 when anything was lost.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks kills", description=__doc__)
    add_shared(parser)
    parser.add_argument("--kills", type=int, default=1000, help="in all (default: 1000)")
    parser.add_argument("--seed", type=int, default=None, help="by default another every time")
    parser.add_argument(
        "--cases",
        type=chosen_from(NAMES),
        default=NAMES,
        help=f"comma-separated, of {', '.join(NAMES)} (default: all)",
    )
    given = parser.parse_args(arguments)
    n_kills = 24 if given.short else given.kills
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}")
    tallies = []
    with output_folder(given.data) as folder:
        for at, name in enumerate(given.cases):
            wanted = n_kills // len(given.cases) + (at < n_kills % len(given.cases))
            tally = soak(cases(_N_ROWS)[name], folder / "soak", wanted, random.Random(seed + at))
            print(tally.line(), flush=True)
            tallies.append(tally)
    save(given.json, seed=seed, tallies=[vars(tally) for tally in tallies])
    print(f"{sum(t.n_kills for t in tallies)} kills that landed before the end")
    return 1 if any(tally.n_violations for tally in tallies) else 0


def soak(case: Case, folder: Path, n_kills: int, rng: random.Random) -> Tally:
    """Kill jobs of one case so many times, and see every one of them to its end."""
    tally = Tally(case.name)
    while tally.n_kills < n_kills:
        _begin(case, folder)
        killed = 0
        for attempt in range(1000):
            # Rarely killed again and again before anything is done: that is tried too.
            longest = 0.05 if rng.random() < 0.2 else 0.6
            seconds = rng.uniform(0, longest) if tally.n_kills < n_kills else 60.0
            is_killed = _run(case, folder, seconds)
            killed += is_killed
            tally.n_kills += is_killed
            if not _holds(case, folder, is_done=not is_killed):
                tally.n_violations += 1
                kept = Path(tempfile.gettempdir(), f"lazyio-violation-{case.name}")
                shutil.copytree(folder, kept, dirs_exist_ok=True)
                print(f"{case.name}: violation at attempt {attempt}, see {kept}", file=sys.stderr)
                return tally
            if not is_killed:
                break
        tally.n_jobs += 1
        reads = _rows_read(folder)
        again = sum(reads) - _N_ROWS
        tally.n_rows_again += again
        # A block for each worker, and one that the next call computes again to compare it.
        if again > killed * (_WORKERS + 1) * max(reads):
            tally.n_violations += 1
            print(f"{case.name}: {again} rows read again in {killed} kills", file=sys.stderr)
    return tally


def _begin(case: Case, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "log").touch()
    if case.prepare is not None:
        case.prepare(folder / case.target)


def _run(case: Case, folder: Path, seconds: float) -> bool:
    """Run a job in a process of its own, and return whether it had to be killed."""
    child = os.fork()
    if not child:
        status = 1
        try:
            with case.forced_way():
                case.write(folder / case.target, Slow(str(folder / "log"), 0.004, _N_ROWS))
            status = 0
        except BaseException:  # noqa: BLE001 - said here, and counted by the parent
            traceback.print_exc()
        finally:
            os._exit(status)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.0005)
    else:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        msg = f"{case.name}: the job failed"
        raise RuntimeError(msg)
    return False


def _holds(case: Case, folder: Path, *, is_done: bool) -> bool:
    """Return whether what is there is old or new, and new once the job is done."""
    if is_done:
        return case.is_new(folder)
    if case.in_place or case.several:
        recover(folder / case.target)
    return case.is_old(folder) or case.is_new(folder)


def _rows_read(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "log").read_text().split()]
