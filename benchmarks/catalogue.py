"""Every array by name, at its full size and at a small one, and the rows it is measured in."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.cases import Array
from benchmarks.generated import Slab, generated, images, noise, spikes, walks
from benchmarks.outputs import OUTPUTS
from benchmarks.recording import cmip6, recording, small_netcdf
from benchmarks.rows import ROWS

Make = Callable[[Path, bool], Array | None]
"""Folder of the arrays, and whether a small one will do; None where a file is missing."""

_CORE = (
    "hdf5:none",
    "hdf5:gzip-1",
    "hdf5:gzip-4",
    "hdf5:zstd-1",
    "hdf5:blosc-zstd-1",
    "zarr:none",
    "zarr:zstd",
    "zarr:blosc",
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An array that there may be, and its rows."""

    make: Make
    rows: tuple[str, ...]
    """With ``--all``, or where the array is asked for."""
    default_rows: tuple[str, ...] = ()
    """Where nothing is asked for."""


def _recording(
    folder: Path,
    is_short: bool,
    *,
    name: str = "recording",
    n_rows: int = 700_000,
    chunks: tuple[int, int] = (13_000, 96),
    short_chunks: tuple[int, int] = (1_300, 96),
) -> Array:
    if is_short:
        return recording(folder, shape=(7_000, 384), chunks=short_chunks, name=name)
    return recording(folder, shape=(n_rows, 384), chunks=chunks, name=name)


def _misaligned(folder: Path, is_short: bool) -> Array:
    blocks = (999, 250) if is_short else (9_999, 250)
    return replace(_recording(folder, is_short), name="misaligned", graph_blocks=blocks)


def _mapping(folder: Path, is_short: bool) -> Array:
    return replace(_recording(folder, is_short), name="mapping", outputs=tuple(OUTPUTS))


def _climate(folder: Path, is_short: bool) -> Array | None:
    return small_netcdf(folder) if is_short else cmip6()


def _generated(
    folder: Path,
    is_short: bool,
    *,
    name: str,
    make: Slab,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    short: tuple[tuple[int, ...], tuple[int, ...]],
) -> Array:
    if is_short:
        shape, chunks = short
    return generated(folder, name, make, shape=shape, chunks=chunks)


CATALOGUE = {
    "recording": Entry(
        make=_recording,
        rows=tuple(ROWS),
        default_rows=(
            "hdf5:none",
            "hdf5:gzip-4",
            "hdf5:zstd-1",
            "zarr:zstd",
            "zarr:zstd-sharded",
            "read-hdf5:gzip-4",
            "read-hdf5:zstd-1",
            "read-zarr:zstd",
        ),
    ),
    "cmip6": Entry(
        make=_climate,
        rows=_CORE,
        default_rows=("hdf5:zstd-1",),
    ),
    "noise": Entry(
        make=partial(
            _generated,
            name="noise",
            make=noise,
            shape=(60_000, 1024),
            chunks=(2048, 128),
            short=((1000, 256), (300, 64)),
        ),
        rows=("hdf5:none", "hdf5:gzip-4", "hdf5:zstd-1", "hdf5:lz4", "zarr:zstd"),
    ),
    "spikes": Entry(
        make=partial(
            _generated,
            name="spikes",
            make=spikes,
            shape=(400_000, 384),
            chunks=(13_000, 96),
            short=((4000, 384), (1300, 96)),
        ),
        rows=("hdf5:gzip-4", "hdf5:zstd-1", "hdf5:blosc-lz4-5", "zarr:zstd"),
    ),
    "tiny-chunks": Entry(
        make=partial(
            _recording,
            name="tiny-chunks",
            n_rows=70_000,
            chunks=(16, 128),
            short_chunks=(64, 128),
        ),
        rows=("hdf5:none", "hdf5:gzip-1", "hdf5:zstd-1", "zarr:zstd-sharded"),
    ),
    "huge-chunks": Entry(
        make=partial(
            _recording, name="huge-chunks", chunks=(262_144, 128), short_chunks=(5000, 256)
        ),
        rows=("hdf5:none", "hdf5:zstd-1", "zarr:zstd"),
    ),
    "images": Entry(
        make=partial(
            _generated,
            name="images",
            make=images,
            shape=(300, 600, 600),
            chunks=(1, 600, 600),
            short=((20, 60, 80), (1, 60, 80)),
        ),
        rows=(
            "hdf5:none",
            "hdf5:bitshuffle-lz4",
            "hdf5:zstd-1",
            "zarr:blosc",
            "zarr:zstd-sharded",
            "read-hdf5:zstd-1",
        ),
    ),
    "float64": Entry(
        make=partial(
            _generated,
            name="float64",
            make=walks,
            shape=(80_000, 320),
            chunks=(4096, 32),
            short=((2000, 64), (300, 32)),
        ),
        rows=(
            "hdf5:none",
            "hdf5:gzip-4",
            "hdf5:zstd-1",
            "hdf5:blosc-zstd-1",
            "zarr:zstd",
            "read-hdf5:zstd-1",
        ),
    ),
    "misaligned": Entry(
        make=_misaligned, rows=("hdf5:none", "hdf5:zstd-1", "zarr:zstd", "zarr:zstd-sharded")
    ),
    "channel-major": Entry(
        make=partial(_recording, name="channel-major", chunks=(175_000, 1), short_chunks=(3500, 1)),
        rows=("hdf5:none", "hdf5:zstd-1", "zarr:zstd"),
    ),
    "mapping": Entry(make=_mapping, rows=("hdf5:none", "hdf5:zstd-1", "zarr:zstd")),
}
"""By what ``--arrays`` calls them."""


def selection(
    arrays: list[str] | None, rows: list[str] | None, *, is_all: bool
) -> dict[str, tuple[str, ...]]:
    """Return the rows of each array that is measured.

    Parameters
    ----------
    arrays, rows : list of str, optional
        Those that are asked for. With both, every such row of every such
        array; rows alone are those of the arrays that are measured in them.
    is_all : bool
        Whether everything is, where those do not say otherwise.

    Returns
    -------
    dict
        Names of rows by the name of the array.

    Examples
    --------
    >>> selection(["images"], ["hdf5:gzip-9"], is_all=False)
    {'images': ('hdf5:gzip-9',)}
    >>> list(selection(None, None, is_all=False))
    ['recording', 'cmip6']
    """
    found = {}
    for name in arrays or CATALOGUE:
        entry = CATALOGUE[name]
        is_whole = is_all or arrays is not None or (rows is not None and entry.default_rows)
        known = entry.rows if is_whole else entry.default_rows
        if arrays is not None and rows is not None:
            known = tuple(rows)
        elif rows is not None:
            known = tuple(row for row in rows if row in known)
        if known:
            found[name] = known
    return found
