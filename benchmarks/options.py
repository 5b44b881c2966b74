"""Arguments that several commands share, and where data and results go."""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.rows import subset
from benchmarks.versions import environment


def add_shared(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, ``--json`` and ``--short``.

    Parameters
    ----------
    parser : ArgumentParser
        Of one command.
    """
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(tempfile.gettempdir(), "lazyio-benchmarks"),
        help="folder for arrays, which are kept, and outputs, which are not (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, help="write the results there too")
    parser.add_argument("--short", action="store_true", help="small sizes: only whether it works")


def chosen_from(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a type of arguments: names that are separated by commas.

    Parameters
    ----------
    known : iterable of str
        Names there are.
    """

    def chosen(text: str) -> list[str]:
        try:
            return subset(text, known)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return chosen


@contextlib.contextmanager
def output_folder(data: Path) -> Iterator[Path]:
    """Make a folder for outputs beside the arrays; remove it in the end.

    Parameters
    ----------
    data : Path
        Folder of the arrays, made where it is missing.
    """
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="output-", dir=data.resolve()) as folder:
        yield Path(folder)


def save(path: Path | None, **results: Any) -> None:
    """Write results as JSON, with what they were measured with.

    Parameters
    ----------
    path : Path, optional
        The file; nothing is written without.
    **results
        What JSON takes, free of paths.
    """
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**environment(), **results}, indent=1) + "\n")
