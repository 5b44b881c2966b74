"""The command ``lazyio repack``: a whole file to other chunks and codecs."""

import argparse
from typing import Any

from lazyio.cli_arguments import (
    add_access,
    add_codec,
    add_running,
    extents_or_auto,
    hdf5_codec,
    running_of,
    windows_of,
)
from lazyio.errors import OptionError
from lazyio.repacking.consolidate import consolidate
from lazyio.repacking.repack import plan_repack, repack
from lazyio.writing.dataset_rules import rules_in


def add_repack(command: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    command.add_argument("source", metavar="SRC", help="HDF5, netCDF-4 or NWB file")
    command.add_argument("target", metavar="DST", nargs="?", help="file to write")
    command.add_argument(
        "--rules",
        metavar="FILE",
        help="YAML or JSON: patterns of paths, with chunks, access, compression, ... for each",
    )
    command.add_argument(
        "--plan", action="store_true", help="print what would become of each dataset, write nothing"
    )
    command.add_argument("--chunks", help="of datasets with as many axes, such as 1000,64")
    add_access(command)
    add_codec(command, "as it is")
    add_running(command, "a file that is there")
    command.set_defaults(run=_repack)


def add_consolidate(command: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    command.add_argument("source", metavar="SRC", help="HDF5 file")
    command.add_argument("target", metavar="DST", help="file to write")
    command.add_argument(
        "--allow-external",
        action="append",
        metavar="FOLDER",
        help="a folder outside that of SRC that links may lead to; may be given again",
    )
    command.add_argument("--memory-limit", help='for everything in flight, such as "512 MiB"')
    add_running(command, "a file that is there")
    command.set_defaults(run=_consolidate)


def _repack(arguments: argparse.Namespace) -> None:
    asked = _asked(arguments)
    if arguments.plan:
        limits = {"memory_limit": arguments.memory_limit, "workers": arguments.workers}
        print(plan_repack(arguments.source, **asked, **limits))
        return
    if arguments.target is None:
        msg = "repack needs DST; give the file to write, or --plan to write nothing"
        raise OptionError(msg)
    mode = "w" if arguments.overwrite else "w-"
    print(repack(arguments.source, arguments.target, mode=mode, **asked, **running_of(arguments)))


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what is said of datasets."""
    asked: dict[str, Any] = {"access": windows_of(arguments)}
    if arguments.rules is not None:
        asked["rules"] = rules_in(arguments.rules)
    if arguments.chunks is not None:
        asked["chunks"] = extents_or_auto(arguments.chunks, "--chunks")
    if arguments.compression is not None:
        asked |= hdf5_codec(arguments.compression, arguments) or {"compression": None}
    elif arguments.level is not None:
        hdf5_codec("none", arguments)
    return asked


def _consolidate(arguments: argparse.Namespace) -> None:
    mode = "w" if arguments.overwrite else "w-"
    report = consolidate(
        arguments.source,
        arguments.target,
        mode=mode,
        allow_external=arguments.allow_external,
        **running_of(arguments),
    )
    print(report)
