"""``python -m benchmarks fuzz``: mutated files, opened by all that opens files of strangers.

Each trial is one file of some format, changed by a generator with the trial's
own seed. It is read with ``trusted=False``, listed as ``info --untrusted`` does,
or verified, and opened as a trusted file in a process that may crash. The caller
must neither crash nor hang, every error must be lazyio's own, and nothing of the
files outside the folder may be seen. Trials are numbered: runs of other seeds add up.
"""

import argparse
import json
import os
import random
import shutil
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import dask
import numpy as np

import lazyio
from benchmarks.fuzz.mutations import mutated
from benchmarks.fuzz.samples import CANARY, OUTSIDE, Sample, make
from benchmarks.fuzz.trusted import MOST_SECONDS, Trusted
from benchmarks.options import add_shared, output_folder, save
from lazyio.info import info_of
from lazyio.untrusted import helper

_VIOLATIONS = ("crash", "hang", "foreign", "leak")
_MOST_NBYTES = 4 * 2**20
_LIMIT = "64 MiB"
_CHILD_SECONDS = 10.0


class _HangError(Exception):
    """The caller waited longer than any child is given."""


def main(arguments: list[str]) -> int:
    """Try files; return 1 when one did harm.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks fuzz", description=__doc__)
    add_shared(parser)
    parser.add_argument("--trials", type=int, default=50_000, help="files (default: 50000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first trial (default: 0)")
    parser.add_argument("--keep", type=Path, help="folder for files that did harm")
    given = parser.parse_args(arguments)
    seeds = range(given.seed, given.seed + (200 if given.short else given.trials))
    began = time.monotonic()
    with output_folder(given.data) as folder:
        tally = _try_all(seeds, folder, given.keep)
    table = {name: dict(sorted(counts.items())) for name, counts in sorted(tally.items())}
    for name, counts in table.items():
        print(f"{name:10} {json.dumps(counts)}")
    n_wrong = sum(
        counts[what]
        for name, counts in tally.items()
        for what in _VIOLATIONS
        # What is trusted may crash its process, or keep it busy.
        if name != "trusted" or what not in ("crash", "hang")
    )
    seconds = time.monotonic() - began
    print(f"{len(seeds)} files, seeds {seeds.start} to {seeds.stop - 1}, {seconds:.0f} s")
    print(f"{n_wrong} violations")
    save(given.json, seeds=[seeds.start, seeds.stop], results=table, violations=n_wrong)
    return 1 if n_wrong else 0


def _try_all(seeds: range, folder: Path, keep: Path | None) -> dict[str, Counter[str]]:
    outside, inside = folder / OUTSIDE, folder / "inside"
    warnings.simplefilter("ignore")
    tally: dict[str, Counter[str]] = {name: Counter() for name in ("trusted", *_OPERATIONS)}
    patience, back = helper.SECONDS, Path.cwd()
    with dask.config.set(scheduler="synchronous"):
        samples = make(folder / "samples", outside)
        # Names are looked up there by libhdf5.
        os.chdir(outside)
        helper.SECONDS = _CHILD_SECONDS
        previous = signal.signal(signal.SIGALRM, _hang)
        trusted = Trusted(_as_trusted)
        try:
            for seed in seeds:
                path, sample, chance = _lay_out(seed, samples, inside)
                key = chance.choice(sample.keys)
                name = chance.choice(tuple(_OPERATIONS))
                line = json.dumps([str(path), key])
                for what, outcome in (
                    ("trusted", trusted.ask(line)),
                    (name, _attempt(lambda: _OPERATIONS[name](path, key))),  # noqa: B023
                ):
                    kind, _, detail = outcome.partition(" ")
                    tally[what][kind] += 1
                    if kind in _VIOLATIONS:
                        told = f"seed {seed} {sample.name} key {key}: {what}: {kind} {detail[:300]}"
                        print(told, flush=True)
                        if keep is not None:
                            shutil.copytree(inside, keep / str(seed), symlinks=True)
        finally:
            trusted.close()
            signal.signal(signal.SIGALRM, previous)
            helper.SECONDS = patience
            os.chdir(back)
    return tally


def _lay_out(seed: int, samples: list[Sample], inside: Path) -> tuple[Path, Sample, random.Random]:
    """Put the file of a trial into its folder."""
    chance = random.Random(seed)
    sample = chance.choice(samples)
    shutil.rmtree(inside, ignore_errors=True)
    for name, content in mutated(dict(sample.files), chance).items():
        place = inside / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith(b"->"):
            place.symlink_to(os.fsdecode(content[2:]))
        else:
            place.write_bytes(content)
    return inside / sample.name, sample, chance


def _attempt(do: Callable[[], str]) -> str:
    """Return what became of a file: read, refused, or what must not be."""
    signal.alarm(10 * MOST_SECONDS)
    try:
        found = f"read {do()}"
    except lazyio.LazyioError as error:
        found = f"refused {error}"
    except _HangError:
        return "hang"
    except Exception as error:  # noqa: BLE001 - that is what is looked for.
        return f"foreign {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return f"leak {found}" if CANARY.decode() in found else found


def _hang(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _HangError


def _as_trusted(line: str) -> str:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    path, key = json.loads(line)
    signal.alarm(MOST_SECONDS)

    def do() -> str:
        with suppress(lazyio.LazyioError):
            lazyio.plan(path, memory_limit=_LIMIT)
        return _read(lazyio.open(path, key, memory_limit=_LIMIT))

    try:
        found = f"read {do()}"
    except lazyio.LazyioError as error:
        found = f"refused {error}"
    except Exception as error:  # noqa: BLE001 - that is what is looked for.
        return f"foreign {type(error).__name__}: {error}"
    return f"leak {found}" if CANARY.decode() in found else found


def _read(array: Any) -> str:
    """Return what an array holds, or its first corner, as text in which a canary can be found."""
    if array.nbytes > _MOST_NBYTES:
        array = array[tuple(slice(0, 4) for _ in array.shape)]
    values = np.asarray(array.compute())
    plain = "".join(map(str, values.ravel().tolist())).encode() if values.dtype.hasobject else b""
    raw = plain or values.tobytes()
    return raw.decode("latin-1").replace("\n", " ") if CANARY in raw else "values"


def _open(path: Path, key: str | None) -> str:
    return _read(lazyio.open(path, key, trusted=False, memory_limit=_LIMIT))


def _info(path: Path, _: str | None) -> str:
    return "; ".join(map(str, info_of(path, trusted=False)))


def _verify(path: Path, _: str | None) -> str:
    return str(lazyio.verify(path))


_OPERATIONS: dict[str, Callable[[Path, str | None], str]] = {
    "open": _open,
    "info": _info,
    "verify": _verify,
}
