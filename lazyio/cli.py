"""The command line: its commands, what each prints, and its exit status."""

import argparse
import io
import json
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from lazyio.atomic.recovery import clean, leftovers, recover
from lazyio.cli_arguments import add_cut
from lazyio.cli_convert import add_convert, add_opening, cut_of, source_array
from lazyio.cli_repack import add_consolidate, add_repack
from lazyio.errors import (
    DamagedDataError,
    LazyioError,
    OptionError,
    TargetExistsError,
    UnknownFormatError,
)
from lazyio.info import info_of, links_of
from lazyio.planner import plan
from lazyio.sources.hdf5_links import GOOD
from lazyio.verification.report import DAMAGED, INCOMPLETE, MODIFIED, OK, UNVERIFIABLE
from lazyio.verification.verify import verify

DONE, FAILED, USAGE = 0, 1, 2
INTERRUPTED, TERMINATED = 130, 143
_OF_STATUS = {OK: DONE, DAMAGED: 3, INCOMPLETE: 4, UNVERIFIABLE: 5, MODIFIED: 6}
_MOST_SOURCES = 20
"""Of a virtual dataset, that are listed though they are good."""
_EXTENTS = ("--shape", "--chunks", "--access", "--shards")
"""Options whose values may begin with a minus."""


class _Terminated(BaseException):
    """SIGTERM came: unwind like Ctrl-C, so that work directories are removed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = _parser()
    arguments = parser.parse_args(_joined(sys.argv[1:] if argv is None else argv))
    if arguments.verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files and arrays may be no UTF-8; standard error is set to tell them.
        sys.stdout.reconfigure(errors="backslashreplace")
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        run: Callable[[argparse.Namespace], int | None] = arguments.run
        status = run(arguments)
    except KeyboardInterrupt:
        return _fail(f"interrupted; {_what_is_left(arguments)}", INTERRUPTED)
    except _Terminated:
        return _fail(f"terminated; {_what_is_left(arguments)}", TERMINATED)
    except BrokenPipeError:
        # The reader of our output has gone, as with `lazyio info x | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OptionError as error:
        return _fail(str(error), USAGE)
    except (LazyioError, OSError) as error:
        return _fail(f"{error}{_in_options(error, arguments)}", FAILED)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return DONE if status is None else status


def _in_options(error: Exception, arguments: argparse.Namespace) -> str:
    """Return what an error says of arguments of functions in options of the command."""
    if isinstance(error, TargetExistsError) and hasattr(arguments, "overwrite"):
        return "; on the command line that is --overwrite" + (
            ", or another --key" if hasattr(arguments, "key") else ""
        )
    if isinstance(error, UnknownFormatError) and hasattr(arguments, "shape"):
        return "; on the command line --shape and --dtype say that it is raw"
    return ""


def _what_is_left(arguments: argparse.Namespace) -> str:
    if getattr(arguments, "resume", False):
        return "what was written is kept, run the same command again to resume"
    return "nothing was left behind, run the same command again"


def _joined(argv: Sequence[str]) -> list[str]:
    """Join options to values that begin with a minus, which argparse takes for options."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in _EXTENTS and argument.startswith("-"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _fail(message: str, status: int) -> int:
    # One line, whatever a library put into its message.
    print(f"lazyio: {' '.join(message.split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lazyio", description="Arrays that do not fit in memory, to HDF5 and Zarr."
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="tell what is being done")
    parser.add_argument("--version", action="version", version=f"lazyio {version('lazyio')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("plan", help="show how a source would be cut, and read nothing")
    command.add_argument(
        "source",
        metavar="SRC",
        help="file or store, as path or path::key; or several as a quoted pattern or a folder",
    )
    add_opening(command)
    add_cut(command)
    command.add_argument("--format", choices=("hdf5", "zarr"), default="hdf5", help="target format")
    command.set_defaults(run=_plan)

    add_convert(commands.add_parser("convert", help="write arrays to HDF5 or Zarr"))
    add_repack(
        commands.add_parser("repack", help="copy an HDF5 file, datasets to other chunks and codecs")
    )
    add_consolidate(
        commands.add_parser("consolidate", help="copy an HDF5 file, with links resolved")
    )

    def add(name: str, run: Callable[..., int | None], text: str, path: str) -> Any:
        """Add a command that has one path."""
        command = commands.add_parser(name, help=text)
        command.add_argument("path", metavar="PATH", help=f"file or store{path}")
        command.set_defaults(run=run)
        return command

    command = add("info", _info, "list the arrays of a file or store", "")
    command.add_argument(
        "--untrusted",
        action="store_true",
        help="have a limited child process read it, which a file made to do harm may crash",
    )
    add("clean", _clean, "remove what killed runs have left of a target", " that was to be written")
    add("recover", _recover, "finish or undo an interrupted change", " that was being changed")
    command = add("verify", _verify, "check a file or store for damage", ", as path or path::key")
    command.add_argument("--quick", action="store_true", help="read no chunks")
    command.add_argument(
        "--renew",
        action="store_true",
        help="store digests of what is there now, after decoding all of it",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def _plan(arguments: argparse.Namespace) -> None:
    array = source_array(arguments.source, arguments).array
    print(plan(array, format=arguments.format, **cut_of(arguments)))


def _info(arguments: argparse.Namespace) -> None:
    left = leftovers(Path(os.path.realpath(arguments.path)))
    for one in left:
        print(one)
    if left and not os.path.exists(arguments.path):
        return
    for array in info_of(arguments.path, trusted=not arguments.untrusted):
        print(array)
    n_good: Counter[str] = Counter()
    for link in links_of(arguments.path, trusted=not arguments.untrusted):
        n_good[link.key] += link.state == GOOD
        if link.state != GOOD or n_good[link.key] <= _MOST_SOURCES:
            print(link)
    for key, number in n_good.items():
        if number > _MOST_SOURCES:
            print(f"{key}: and {number - _MOST_SOURCES} more that are good")


def _clean(arguments: argparse.Namespace) -> None:
    removed = clean(arguments.path)
    for path in removed:
        print(f"removed {path}")
    if not removed:
        print(f"{arguments.path}: nothing was left to remove")


def _recover(arguments: argparse.Namespace) -> None:
    told = recover(arguments.path)
    print("\n".join(told) or f"{arguments.path}: nothing was interrupted")


def _verify(arguments: argparse.Namespace) -> int:
    path, _, key = arguments.path.partition("::")
    if arguments.renew and arguments.quick:
        msg = "--renew decodes all of a file, and --quick nothing; leave one of them out"
        raise OptionError(msg)
    try:
        report = verify(path, key or None, deep=not arguments.quick, renew=arguments.renew)
    except DamagedDataError as error:
        return _fail(str(error), _OF_STATUS[DAMAGED])
    print(json.dumps(report.to_dict()) if arguments.json else report)
    return _OF_STATUS[report.status]
