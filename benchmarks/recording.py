"""The arrays: a synthetic recording, a small stand-in for netCDF, the real netCDF file."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from benchmarks.cases import Array

CMIP6 = Path(__file__).parents[2] / "shared" / "data" / "cmip6_tas.nc"

_SEED = 20_26
_N_SOURCES = 8
_SLAB_ROWS = 32_768
# Chosen so that byte-shuffled zstd-1 gives a ratio of about 1.85.
_AMPLITUDE = 100.0
_NOISE = 20.0
_STEP = 0.01


class Recording:
    """Slabs of something like a multi-channel recording, always the same.

    Eight random walks, folded back into [-1, 1] so that nothing overflows
    int16 however long the recording, are mixed into the channels; gaussian
    noise is added.

    Parameters
    ----------
    n_channels : int
        Columns of a slab.
    """

    def __init__(self, n_channels: int) -> None:
        self._random = np.random.default_rng(_SEED)
        self._mixing = self._random.standard_normal((_N_SOURCES, n_channels), dtype="f4")
        self._walk = np.zeros(_N_SOURCES)

    def slab(self, n_rows: int) -> np.ndarray:
        """Return the next rows.

        Parameters
        ----------
        n_rows : int
            Rows to make.

        Returns
        -------
        ndarray of little-endian int16, shape (n_rows, n_channels)
        """
        steps = self._random.standard_normal((n_rows, _N_SOURCES)) * _STEP
        walk = self._walk + np.cumsum(steps, axis=0)
        self._walk = walk[-1]
        sources = (np.abs((walk + 1) % 4 - 2) - 1).astype("f4")
        signal = (_AMPLITUDE * sources) @ self._mixing
        signal += _NOISE * self._random.standard_normal(signal.shape, dtype="f4")
        return np.rint(signal, out=signal).astype("<i2")


def recording(
    folder: Path, *, shape: tuple[int, int], chunks: tuple[int, int], name: str = "recording"
) -> Array:
    """Return a recording, written to ``folder`` unless it is there already.

    Parameters
    ----------
    folder : Path
        Where the raw file is kept.
    shape, chunks : tuple of int
        Rows and channels: of all, and of a chunk.
    name : str
        Of the array in tables; recordings of one shape have one file.
    """

    def write(path: Path) -> None:
        source = Recording(shape[1])
        with path.open("wb") as file:
            for start in range(0, shape[0], _SLAB_ROWS):
                source.slab(min(_SLAB_ROWS, shape[0] - start)).tofile(file)

    path = kept(folder / f"recording-{shape[0]}x{shape[1]}.raw", write)
    return Array(name=name, path=str(path), shape=shape, dtype="<i2", chunks=chunks)


def kept(path: Path, write: Callable[[Path], None]) -> Path:
    """Return a file, made unless it is there; one that was not finished is not there.

    Parameters
    ----------
    path : Path
        The file.
    write : callable
        Makes it at the path that it is given.
    """
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        write(unfinished)
        unfinished.replace(path)
    return path


def repeated_recording(path: Path, nbytes: int, n_channels: int, dtype: str = "<i2") -> int:
    """Write a raw file cheaply, by repeating 64 MiB of recording.

    Parameters
    ----------
    path : Path
        The file.
    nbytes : int
        About how large it should be: it is cut to whole rows.
    n_channels : int
        Columns.
    dtype : str
        Type of an element.

    Returns
    -------
    int
        Rows written.
    """
    n_rows = nbytes // (n_channels * np.dtype(dtype).itemsize)
    slab_rows = min(n_rows, (64 << 20) // (n_channels * np.dtype(dtype).itemsize))
    slab = Recording(n_channels).slab(slab_rows).astype(dtype, copy=False)
    with path.open("wb") as file:
        for start in range(0, n_rows, slab_rows):
            slab[: n_rows - start].tofile(file)
    return n_rows


def cmip6() -> Array | None:
    """Return near-surface temperature of a CMIP6 run, or None without the file."""
    if not CMIP6.exists():
        return None
    with h5py.File(CMIP6) as file:
        dataset = file["tas"]
        return Array(
            name="cmip6",
            path=str(CMIP6),
            key="tas",
            shape=dataset.shape,
            dtype=dataset.dtype.str,
            chunks=(30, *dataset.shape[1:]),
        )


def small_netcdf(folder: Path, shape: tuple[int, int, int] = (100, 24, 32)) -> Array:
    """Return a small array stored as the real netCDF file is, written to ``folder``.

    Parameters
    ----------
    folder : Path
        Where the file goes.
    shape : tuple of int
        Extents; its 30-row chunks need not fit.
    """
    path = folder / f"small-{'x'.join(map(str, shape))}.nc"
    ramp = np.arange(math.prod(shape), dtype="<f4").reshape(shape)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "tas",
            data=250 + 30 * np.sin(ramp / 50),
            chunks=(1, *shape[1:]),
            compression="gzip",
            compression_opts=2,
            shuffle=True,
        )
    return Array(
        name="cmip6-like",
        path=str(path),
        key="tas",
        shape=shape,
        dtype="<f4",
        chunks=(30, *shape[1:]),
    )


def read_through(path: str) -> None:
    """Read files once, so that they are in the page cache before any clock starts.

    Parameters
    ----------
    path : str
        A file, or a folder all files of which are read.
    """
    buffer = bytearray(8 << 20)
    for one in [Path(path), *Path(path).rglob("*")]:
        if one.is_dir():
            continue
        file = os.open(one, os.O_RDONLY)
        try:
            while os.readv(file, [buffer]):
                pass
        finally:
            os.close(file)
