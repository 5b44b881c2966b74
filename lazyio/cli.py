"""The command line: plan, convert, info, verify, clean, recover."""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import h5py
import numpy as np

from lazyio.atomic.recovery import clean, leftovers, recover
from lazyio.dtypes import DTYPE_ATTRIBUTE
from lazyio.errors import LazyioError, OptionError, UnknownFormatError
from lazyio.execution.run import RESUMING
from lazyio.info import info_of
from lazyio.opening.open import open as open_lazily
from lazyio.planner import plan
from lazyio.sources.files import existing
from lazyio.sources.hdf5 import dataset_keys
from lazyio.sources.hdf5_layout import attributes_of
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.sources.lookup import SUFFIXES, format_of
from lazyio.sources.zarr_metadata import require_zarr
from lazyio.verification.report import DAMAGED, INCOMPLETE, MODIFIED, OK, UNVERIFIABLE
from lazyio.verification.verify import verify
from lazyio.writing.to_hdf5 import to_hdf5
from lazyio.writing.to_zarr import to_zarr

DONE, FAILED, USAGE = 0, 1, 2
INTERRUPTED, TERMINATED = 130, 143
_OF_STATUS = {OK: DONE, DAMAGED: 3, INCOMPLETE: 4, UNVERIFIABLE: 5, MODIFIED: 6}
_LEVELLED = ("gzip", "zstd", "blosc", "blosc2")
"""Codecs that have a level."""
_OF_THE_FILE = {
    "CLASS",
    "NAME",
    "DIMENSION_LIST",
    "REFERENCE_LIST",
    "_NCProperties",
    "_Netcdf4Coordinates",
    "_Netcdf4Dimid",
    "_nc3_strict",
}
"""Attributes by which netCDF ties a dataset to others of its file."""
_EXTENTS = ("--shape", "--chunks", "--access", "--shards")
"""Options whose values may begin with a minus."""
_TARGET_SUFFIXES = {suffix: name for suffix, name in SUFFIXES.items() if name != "npy"}


class _Terminated(BaseException):
    """SIGTERM came: unwind like Ctrl-C, so that work directories are removed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = _parser()
    arguments = parser.parse_args(_joined(sys.argv[1:] if argv is None else argv))
    if arguments.verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
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
        return _fail(str(error), FAILED)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return DONE if status is None else status


def _what_is_left(arguments: argparse.Namespace) -> str:
    if getattr(arguments, "resume", False):
        return "what was written is kept, run the same command again to go on"
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
    _add_source(command)
    _add_cut(command)
    command.add_argument("--format", choices=("hdf5", "zarr"), default="hdf5", help="target format")
    command.set_defaults(run=_plan)

    command = commands.add_parser("convert", help="write a source to HDF5 or Zarr")
    _add_source(command)
    command.add_argument("target", metavar="DST", help="file or store to write")
    _add_cut(command)
    command.add_argument(
        "--key",
        help="name of the target's array (default: HDF5 the source's, or data; Zarr the store)",
    )
    command.add_argument(
        "--format", choices=("hdf5", "zarr"), help="target format, where the suffix does not say it"
    )
    command.add_argument(
        "--compression",
        help="gzip, zstd, blosc, ... or none (default: gzip for HDF5, zarr's own for Zarr)",
    )
    command.add_argument("--level", type=int, help="level of the compression")
    command.add_argument("--no-shuffle", action="store_true", help="leave the byte shuffle out")
    command.add_argument("--workers", type=int, help="blocks in flight")
    command.add_argument(
        "--no-attributes", action="store_true", help="leave the attributes of the source out"
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace an array of that key (overwrite=True)"
    )
    command.add_argument(
        "--resume", action="store_true", help="keep a journal, and go on where a run was killed"
    )
    command.add_argument(
        "--trust",
        action="store_const",
        const="trust",
        dest="resume",
        help="as --resume, without computing a chunk again to compare it (resume='trust')",
    )
    command.set_defaults(run=_convert)

    command = commands.add_parser("info", help="list the arrays of a file or store")
    command.add_argument("path", metavar="PATH", help="file or store")
    command.add_argument(
        "--untrusted",
        action="store_true",
        help="have a limited child process read it, which a file made to do harm may crash",
    )
    command.set_defaults(run=_info)

    command = commands.add_parser("clean", help="remove what killed runs have left of a target")
    command.add_argument("path", metavar="PATH", help="file or store that was to be written")
    command.set_defaults(run=_clean)

    command = commands.add_parser("recover", help="finish or undo an interrupted change")
    command.add_argument("path", metavar="PATH", help="file or store that was being changed")
    command.set_defaults(run=_recover)

    command = commands.add_parser("verify", help="check a file or store for damage")
    command.add_argument("path", metavar="PATH", help="file or store, as path or path::key")
    command.add_argument("--quick", action="store_true", help="read no chunks")
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.set_defaults(run=_verify)
    return parser


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", metavar="SRC", help="file or store, as path or path::key")
    command.add_argument("--shape", help="of a raw file, such as -1,384")
    command.add_argument("--dtype", help="of a raw file, such as int16; else cast to this type")
    command.add_argument(
        "--offset", type=int, default=0, help="bytes before the data of a raw file"
    )


def _add_cut(command: argparse.ArgumentParser) -> None:
    command.add_argument("--chunks", help="such as 1000,64; -1 is a whole axis, auto is free")
    command.add_argument(
        "--access",
        action="append",
        metavar="WINDOW",
        help="a window that readers will ask for, such as 30000,1; may be given again",
    )
    command.add_argument("--shards", help="of a Zarr target, such as 8000,512, or auto")
    command.add_argument(
        "--memory-limit", help='for everything in flight, such as "512 MiB", or auto'
    )


def _open(arguments: argparse.Namespace) -> tuple[Any, str | None]:
    """Return the source as a lazy array, and its key."""
    path, _, key = arguments.source.partition("::")
    options: dict[str, Any] = {}
    if arguments.shape is None and arguments.offset:
        msg = "--offset is for raw files, which need --shape and --dtype too"
        raise OptionError(msg)
    if arguments.shape is not None:
        if arguments.dtype is None:
            msg = "--shape says that SRC is a raw file, which needs --dtype too"
            raise OptionError(msg)
        shape = _extents(arguments.shape, "--shape")
        options = {"format": "raw", "shape": shape, "dtype": arguments.dtype}
        options["offset"] = arguments.offset
    array = open_lazily(path, key or None, memory_limit=arguments.memory_limit, **options)
    return array, key or None


def _plan(arguments: argparse.Namespace) -> None:
    array, _ = _open(arguments)
    found = plan(
        array,
        dtype=arguments.dtype,
        chunks=_chunks(arguments.chunks),
        access=_windows(arguments.access),
        shards=_shards(arguments.shards),
        memory_limit=arguments.memory_limit,
        format=arguments.format,
    )
    print(found)


def _convert(arguments: argparse.Namespace) -> None:
    array, source_key = _open(arguments)
    if arguments.resume and not arguments.verbose:
        _tell_of_resuming()
    kind = arguments.format or _TARGET_SUFFIXES.get(Path(arguments.target).suffix.lower())
    if kind is None:
        msg = (
            f"{arguments.target} has none of the suffixes {', '.join(_TARGET_SUFFIXES)}; give "
            "--format hdf5 or --format zarr"
        )
        raise UnknownFormatError(msg)
    common = {
        "chunks": _chunks(arguments.chunks),
        "access": _windows(arguments.access),
        "dtype": arguments.dtype,
        "memory_limit": arguments.memory_limit,
        "workers": arguments.workers,
        "overwrite": arguments.overwrite,
        "resume": arguments.resume,
        "progress": sys.stderr.isatty(),
    }
    codec = arguments.compression or "gzip"
    attributes = None if arguments.no_attributes else _attributes(arguments)
    if kind == "hdf5" and arguments.shards is not None:
        msg = f"--shards {arguments.shards}: HDF5 has no shards; leave it out, or write Zarr"
        raise OptionError(msg)
    if kind == "hdf5":
        key = arguments.key or source_key or "/data"
        filters = _hdf5_codec(codec, arguments)
        report = to_hdf5(array, arguments.target, key, **common, **filters, attrs=attributes)
    else:
        name = arguments.key or None
        stored = np.dtype(arguments.dtype or array.dtype)
        compressors = _zarr_codec(arguments.compression, arguments, stored)
        shards = _shards(arguments.shards)
        report = to_zarr(
            array,
            arguments.target,
            name,
            **common,
            compressors=compressors,
            shards=shards,
            attributes=attributes,
        )
    print(report)


def _tell_of_resuming() -> None:
    """Have the one message printed that says how much an earlier run has done."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: record.getMessage().startswith(RESUMING))
    logger = logging.getLogger("lazyio")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _attributes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the source says of its array, but for what only its own file can mean."""
    path, _, key = arguments.source.partition("::")
    kind = None if arguments.shape is not None else format_of(existing(path))
    if kind == "zarr":
        require_zarr()
        from lazyio.sources.zarr import zarr_source

        found = dict(zarr_source(path, key or None).array.attrs)
    elif kind == "hdf5":
        with open_hdf5(path) as file:
            attrs, left_out = attributes_of(file[key or dataset_keys(file)[0]])
        for name in left_out:
            print(f"attribute {name!r} is left out: numpy has no such type", file=sys.stderr)
        found = {name: _plain(name, attrs[name]) for name in attrs if name not in _OF_THE_FILE}
    else:
        found = {}
    if DTYPE_ATTRIBUTE in found:
        # Times come back as times, of which the writer says anew how they lie there.
        for name in (DTYPE_ATTRIBUTE, "units", "calendar"):
            found.pop(name, None)
    return found


def _plain(name: str, value: Any) -> Any:
    """Return an attribute of HDF5 as one that either format takes."""
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, np.ndarray) and value.shape == (1,):
        # netCDF keeps single values as lists of one.
        value = value[0]
    if isinstance(value, str):
        # Of bytes that are no UTF-8 h5py makes a surrogate each.
        value = value.encode(errors="surrogateescape")
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        print(f"attribute {name!r} is no UTF-8: it is read as Latin-1", file=sys.stderr)
        return value.decode("latin-1")


def _info(arguments: argparse.Namespace) -> None:
    left = leftovers(Path(os.path.realpath(arguments.path)))
    for one in left:
        print(one)
    if left and not os.path.exists(arguments.path):
        return
    for array in info_of(arguments.path, trusted=not arguments.untrusted):
        print(array)


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
    report = verify(path, key or None, deep=not arguments.quick)
    print(json.dumps(report.to_dict()) if arguments.json else report)
    return _OF_STATUS[report.status]


def _hdf5_codec(codec: str, arguments: argparse.Namespace) -> dict[str, Any]:
    _check_codec_options(codec, arguments)
    if codec == "none":
        return {}
    level = arguments.level
    options: Any = level
    if codec in ("blosc", "blosc2"):
        level = 5 if level is None else level
        options = ("zstd", level, "no" if arguments.no_shuffle else "byte")
    shuffle = codec in ("gzip", "zstd", "lzf", "szip") and not arguments.no_shuffle
    return {"compression": codec, "compression_opts": options, "shuffle": shuffle}


def _check_codec_options(codec: str | None, arguments: argparse.Namespace) -> None:
    """Refuse a level for what has none, rather than leave it out in silence."""
    if arguments.level is not None and codec not in _LEVELLED:
        msg = f"--level {arguments.level} needs --compression gzip, zstd, blosc or blosc2"
        raise OptionError(msg)


def _zarr_codec(codec: str | None, arguments: argparse.Namespace, dtype: np.dtype[Any]) -> Any:
    require_zarr()
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

    level = arguments.level
    _check_codec_options(codec, arguments)
    if codec is None:
        return "auto"
    if codec == "none":
        return None
    if codec == "gzip":
        return GzipCodec(level=4 if level is None else level)
    if codec == "zstd":
        return ZstdCodec(level=3 if level is None else level)
    if codec == "blosc":
        return BloscCodec(
            cname="zstd",
            clevel=5 if level is None else level,
            shuffle="noshuffle" if arguments.no_shuffle else "shuffle",
            typesize=dtype.itemsize,
        )
    msg = f"--compression {codec}: Zarr targets take gzip, zstd, blosc or none"
    raise OptionError(msg)


def _chunks(text: str | None) -> Any:
    if text is None or text == "auto":
        return "auto"
    return _extents(text, "--chunks")


def _windows(texts: Sequence[str] | None) -> list[tuple[int | None, ...]] | None:
    return [_extents(text, "--access") for text in texts] if texts else None


def _shards(text: str | None) -> Any:
    return text if text in (None, "auto") else _extents(text, "--shards")


def _extents(text: str, name: str) -> tuple[int | None, ...]:
    parts = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
    try:
        return tuple(None if part in ("auto", "None") else int(part) for part in parts)
    except ValueError:
        msg = f"{name} {text}: give integers joined by commas, such as 1000,64"
        raise OptionError(msg) from None
