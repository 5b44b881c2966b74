"""Arguments that several commands have: how they are declared, and what they mean."""

import argparse
import logging
import sys
from typing import Any

import numpy as np

from lazyio.errors import OptionError
from lazyio.execution.progress import ProgressLines
from lazyio.execution.run import RESUMING
from lazyio.sources.zarr_metadata import require_zarr

LINES_PAUSE = 10.0
"""Seconds between lines, where there is no terminal to draw a bar on."""
_LEVELLED = ("gzip", "zstd", "blosc", "blosc2")
"""Codecs that have a level."""
_SHUFFLED = ("gzip", "zstd", "lzf", "szip")
"""Codecs before which elements are shuffled."""


def add_cut(command: argparse.ArgumentParser) -> None:
    """Declare how arrays are cut."""
    command.add_argument(
        "--chunks", default="auto", help="such as 1000,64; -1 is a whole axis, auto is free"
    )
    add_access(command)
    command.add_argument("--shards", help="of a Zarr target, such as 8000,512, or auto")


def add_access(command: argparse.ArgumentParser) -> None:
    """Declare windows, and the memory limit."""
    command.add_argument(
        "--access",
        action="append",
        metavar="WINDOW",
        help="a window that readers will ask for, such as 30000,1; may be given again",
    )
    command.add_argument(
        "--memory-limit", help='for everything in flight, such as "512 MiB", or auto'
    )


def add_codec(command: argparse.ArgumentParser, default: str) -> None:
    """Declare codecs."""
    text = f"gzip, zstd, blosc, ... or none (default: {default})"
    command.add_argument("--compression", help=text)
    command.add_argument("--level", type=int, help="level of the compression")
    command.add_argument("--no-shuffle", action="store_true", help="leave the byte shuffle out")


def add_running(command: argparse.ArgumentParser, replaced: str) -> None:
    """Declare how a command runs."""
    command.add_argument("--workers", type=int, help="blocks in flight")
    command.add_argument("--overwrite", action="store_true", help=f"replace {replaced}")
    command.add_argument(
        "--resume", action="store_true", help="keep a journal, and resume a killed run"
    )
    command.add_argument(
        "--trust",
        action="store_const",
        const="trust",
        dest="resume",
        help="as --resume, without computing a chunk again to compare it (resume='trust')",
    )


def running_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how a command runs: a bar on a terminal, else a line every few seconds."""
    if arguments.resume and not arguments.verbose:
        _tell_of_resuming()
    return {
        "workers": arguments.workers,
        "resume": arguments.resume,
        "progress": sys.stderr.isatty() or ProgressLines(sys.stderr, pause=LINES_PAUSE),
        "memory_limit": arguments.memory_limit,
    }


def _tell_of_resuming() -> None:
    """Have the one message printed that says how much an earlier run has done."""
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name(RESUMING)
    handler.addFilter(lambda record: record.getMessage().startswith(RESUMING))
    logger = logging.getLogger("lazyio")
    # One for all that a command writes.
    for old in [one for one in logger.handlers if one.get_name() == RESUMING]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def windows_of(arguments: argparse.Namespace) -> list[Any] | None:
    """Return the windows that readers will ask for."""
    return [extents(text, "--access") for text in arguments.access or ()] or None


def hdf5_codec(codec: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return a codec as HDF5 has it."""
    _check_codec_options(codec, arguments)
    if codec == "none":
        return {}
    level = arguments.level
    options: Any = level
    if codec in ("blosc", "blosc2"):
        level = 5 if level is None else level
        options = ("zstd", level, "no" if arguments.no_shuffle else "byte")
    shuffle = codec in _SHUFFLED and not arguments.no_shuffle
    return {"compression": codec, "compression_opts": options, "shuffle": shuffle}


def _check_codec_options(codec: str | None, arguments: argparse.Namespace) -> None:
    """Refuse a level for what has none, rather than leave it out in silence."""
    if arguments.level is not None and codec not in _LEVELLED:
        msg = f"--level {arguments.level} needs --compression gzip, zstd, blosc or blosc2"
        raise OptionError(msg)


def zarr_codec(codec: str | None, arguments: argparse.Namespace, dtype: np.dtype[Any]) -> Any:
    """Return a codec as Zarr has it."""
    require_zarr()
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

    level = arguments.level
    _check_codec_options(codec, arguments)
    if codec is None:
        return "auto"
    if codec == "none":
        return None
    if codec in ("gzip", "zstd"):
        make, default = (GzipCodec, 4) if codec == "gzip" else (ZstdCodec, 3)
        return make(level=default if level is None else level)
    if codec == "blosc":
        return BloscCodec(
            cname="zstd",
            clevel=5 if level is None else level,
            shuffle="noshuffle" if arguments.no_shuffle else "shuffle",
            typesize=dtype.itemsize,
        )
    msg = f"--compression {codec}: Zarr targets take gzip, zstd, blosc or none"
    raise OptionError(msg)


def extents_or_auto(text: str | None, name: str) -> Any:
    """Return extents, or the word that leaves them open."""
    return text if text in (None, "auto") else extents(text, name)


def extents(text: str, name: str) -> tuple[int | None, ...]:
    """Return extents that are joined by commas."""
    parts = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
    try:
        return tuple(None if part in ("auto", "None") else int(part) for part in parts)
    except ValueError:
        msg = f"{name} {text}: give integers joined by commas, such as 1000,64"
        raise OptionError(msg) from None
