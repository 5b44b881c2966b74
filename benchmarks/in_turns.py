"""Rows that several contenders do in turns, each time in a process of its own."""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.child import run_child
from benchmarks.memory_one import removed
from benchmarks.options import add_shared, chosen_from, output_folder, save

_OURS = "lazyio"


@dataclass(frozen=True, kw_only=True)
class InTurns:
    """A command whose rows are done in turns; the least of the seconds counts."""

    command: str
    """Its name, and with ``_one`` behind it that of the module that does one row once."""
    description: str | None
    """For ``--help``."""
    contenders: Mapping[str, Sequence[str]]
    """Who does each row; ours is the last."""
    prepared: Callable[..., dict[str, Any]]
    """Makes what a row reads in a folder, and returns its job; takes ``is_short``."""
    mebibytes: Mapping[str, str]
    """Titles of further columns, and what they show of that which the module prints: bytes."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Further arguments, which the job has by their names, and what is said of them."""
    is_there: Callable[[str], bool] = lambda _: True
    """Whether a contender can take part here."""

    def main(self, arguments: list[str]) -> int:
        """Time each row; print seconds, memory and ratios.

        Parameters
        ----------
        arguments : list of str
            Of the command line.
        """
        given = self._given(arguments)
        results = []
        titles = "".join(f"{title:>{len(title) + 2}}" for title in self.mebibytes)
        print(f"{'row':11} {'who':14} seconds (least){titles}")
        with output_folder(given.data) as folder:
            for row in given.rows:
                job = self.prepared(row, folder, is_short=given.short)
                job |= {name: getattr(given, name) for name in self.flags}
                outcomes: dict[str, list[dict[str, Any]]] = {
                    who: [] for who in self.contenders[row] if self.is_there(who)
                }
                for _ in range(1 if given.short else given.repeats):
                    for who, runs in outcomes.items():
                        once = json.dumps(job | {"who": who})
                        runs.append(run_child(f"{self.command}_one", once))
                        removed(Path(job["output"]))
                for who, runs in outcomes.items():
                    results.append({"row": row, "who": who, "runs": runs})
                for line in self._lines(row, outcomes):
                    print(line, flush=True)
                for path in folder.iterdir():
                    removed(path)
        save(given.json, results=results)
        return 0

    def _given(self, arguments: list[str]) -> argparse.Namespace:
        name = f"python -m benchmarks {self.command}"
        parser = argparse.ArgumentParser(prog=name, description=self.description)
        add_shared(parser)
        rows = list(self.contenders)
        parser.add_argument("--rows", type=chosen_from(rows), default=rows)
        parser.add_argument("--repeats", type=int, default=3)
        for flag, what in self.flags.items():
            parser.add_argument(f"--{flag}", action="store_true", help=what)
        return parser.parse_args(arguments)

    def _lines(self, row: str, outcomes: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
        least = {who: min(one["seconds"] for one in runs) for who, runs in outcomes.items()}
        for who, runs in outcomes.items():
            further = ""
            for title, name in self.mebibytes.items():
                middle = statistics.median(one[name] for one in runs) / 2**20
                further += f"{middle:{len(title) + 2}.1f}"
            yield f"{row:11} {who:14} {least[who]:15.3f}{further}"
        for who, seconds in least.items():
            if who != _OURS:
                yield f"{row:11} {'ratio':14} {seconds / least[_OURS]:15.2f} to {who}"
