"""``python -m benchmarks faults``: one system call fails, or there is no room for more.

After each the target must hold what was there before, and an error of lazyio
with its ``errno`` says so; or all that is new, and no error is raised. The
same call made again must end it. Only faults that happened count.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.options import add_shared, chosen_from, output_folder, save
from benchmarks.soak.fault_cases import NAMES

LIBRARY = Path(__file__).with_name("faults.c")
_N_SHORT = 100


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What became of one fault."""

    seed: int
    operation: str
    fault: str
    """What failed, as ``--replay`` takes it."""
    violation: str | None
    """Kind of what went wrong, ``None`` of nothing."""
    detail: str
    """What was raised or found."""


def main(arguments: list[str]) -> int:
    """Let calls fail; return 1 when anything was lost, or not told as it should be.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks faults", description=__doc__)
    add_shared(parser)
    parser.add_argument("--trials", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first one (default: 0)")
    parser.add_argument(
        "--operations",
        type=chosen_from(NAMES),
        default=NAMES,
        help=f"comma-separated, of {', '.join(NAMES)} (default: all)",
    )
    parser.add_argument("--replay", help="one fault, as it was printed: 'OPERATION FAULT'")
    given = parser.parse_args(arguments)
    if shutil.which("cc") is None or sys.platform != "linux":
        print("faults needs Linux and a C compiler (cc)", file=sys.stderr)
        return 2
    n_trials = _N_SHORT if given.short else given.trials
    names = given.operations
    if given.replay is not None:
        name, _, fault = given.replay.partition(" ")
        names, n_trials = [name], 1
    else:
        fault = None
    trials = []
    with output_folder(given.data) as folder:
        for trial in run(folder, names, n_trials, given.seed, fault):
            trials.append(trial)
            if trial.violation is not None or fault is not None:
                print(
                    f"{trial.violation or 'as it should be'}: {trial.operation} {trial.fault} "
                    f"(seed {trial.seed}): {trial.detail}",
                    flush=True,
                )
    print("\n".join(table(trials)))
    counted = [trial for trial in trials if trial.violation is not None]
    print(
        f"{len(trials)} faults, seeds {given.seed} to {given.seed + n_trials - 1}, "
        f"{len(counted)} violations"
    )
    save(
        given.json,
        seeds=[given.seed, given.seed + n_trials - 1],
        trials=len(trials),
        violations=[asdict(trial) for trial in counted],
    )
    return 1 if counted else 0


def run(
    folder: Path, names: Sequence[str], n_trials: int, seed: int, fault: str | None = None
) -> Iterator[Trial]:
    """Run trials in children of one process, and yield those in which the fault happened.

    Parameters
    ----------
    folder : Path
        For what they write.
    names : sequence of str
        Of operations, each as likely as any other.
    n_trials : int
        How many are tried.
    seed : int
        Of the first; each has its own.
    fault : str, optional
        The fault of all of them; else each one's seed chooses it.
    """
    library = folder / "faults.so"
    subprocess.run(
        ["cc", "-O1", "-shared", "-fPIC", "-o", library, LIBRARY, "-ldl", "-pthread"], check=True
    )
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        # Threads would be left behind by a fork.
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    order = json.dumps(
        {"folder": str(folder), "names": list(names), "n": n_trials, "seed": seed, "fault": fault}
    )
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak.fault_server", order],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    if server.stdout is None:
        raise RuntimeError
    with server, server.stdout as lines:
        for line in lines:
            yield Trial(**json.loads(line))
    if server.returncode:
        msg = f"the server of trials ended with {server.returncode}"
        raise RuntimeError(msg)


def table(trials: Sequence[Trial]) -> list[str]:
    """Return lines: trials and violations by operation, then violations by kind and fault."""
    by_operation: Counter[str] = Counter(trial.operation for trial in trials)
    wrong = [trial for trial in trials if trial.violation is not None]
    wrong_in: Counter[str] = Counter(trial.operation for trial in wrong)
    lines = [
        f"{name:24}{n:6} faults{wrong_in[name]:5} violations" for name, n in by_operation.items()
    ]
    kinds: Counter[Any] = Counter((str(one.violation), one.fault.split()[0]) for one in wrong)
    lines += [f"{n:6} {what} ({call})" for (what, call), n in kinds.most_common()]
    return lines
