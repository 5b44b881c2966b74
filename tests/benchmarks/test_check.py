"""The check of a contender's file fails where the file is not what was asked for."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from benchmarks.cases import Array, Job
from benchmarks.check import read_back, size_of
from benchmarks.contenders import h5py as h5py_writer
from benchmarks.contenders import zarr as zarr_writer
from benchmarks.outputs import OUTPUTS
from benchmarks.rows import ROWS

HDF5_ROWS = [name for name in ROWS if name.startswith("hdf5:")]
ZARR_ROWS = [name for name in ROWS if name.startswith("zarr:")]


@pytest.fixture
def array(tmp_path: Path, recording: np.ndarray) -> Array:
    path = tmp_path / "source.raw"
    recording.tofile(path)
    return Array(name="x", path=str(path), shape=recording.shape, dtype="<i2", chunks=(130, 16))


def written(array: Array, row: str, folder: Path) -> Job:
    job = Job(
        contender="x",
        array=array,
        row=ROWS[row],
        output=str(folder / "out"),
        threads=2,
        is_checked=True,
    )
    stock = h5py_writer if job.row.format == "hdf5" else zarr_writer
    stock.prepare(job)()
    return job


@pytest.mark.parametrize("row", [*HDF5_ROWS, *ZARR_ROWS])
def test_what_stock_libraries_write_is_right(row: str, array: Array, tmp_path: Path) -> None:
    job = written(array, row, tmp_path)
    read_back(job)
    assert size_of(job.output) > 0


@pytest.mark.parametrize("row", ["hdf5:zstd-1", "zarr:zstd"])
def test_several_arrays_are_each_compared(row: str, array: Array, tmp_path: Path) -> None:
    job = written(replace(array, outputs=tuple(OUTPUTS)), row, tmp_path)
    read_back(job)
    if job.row.format == "hdf5":
        with h5py.File(job.output, "r+") as file:
            file["thinned"][5, 5] += 1
    else:
        zarr.open_group(job.output)["thinned"][5, 5] = 12345
    with pytest.raises(ValueError, match="thinned: rows 0 to 1000 are not those"):
        read_back(job)


@pytest.mark.parametrize("row", ["hdf5:none", "zarr:none", "zarr:v2-zstd"])
def test_changed_value_is_found(row: str, array: Array, tmp_path: Path) -> None:
    job = written(array, row, tmp_path)
    if job.row.format == "hdf5":
        with h5py.File(job.output, "r+") as file:
            file["data"][999, 63] += 1
    else:
        zarr.open_array(job.output)[999, 63] = 12345
    with pytest.raises(ValueError, match="are not those of the source"):
        read_back(job)


@pytest.mark.parametrize(
    ("wrote", "asked", "message"),
    [
        ("hdf5:gzip-1", "hdf5:gzip-4", "filters"),
        ("hdf5:zstd-1", "hdf5:zstd-5", "filters"),
        ("hdf5:blosc-zstd-1", "hdf5:blosc-lz4-5", "filters"),
        ("hdf5:lz4", "hdf5:lzf", "filters"),
        ("zarr:zstd", "zarr:none", "compressors"),
        ("zarr:none", "zarr:crc32c", "compressors"),
        ("zarr:zstd", "zarr:zstd-sharded", "shards"),
    ],
)
def test_another_codec_is_found(
    wrote: str, asked: str, message: str, array: Array, tmp_path: Path
) -> None:
    job = written(array, wrote, tmp_path)
    with pytest.raises(ValueError, match=f"^{message}: .* was written, .* was asked for"):
        read_back(replace(job, row=ROWS[asked]))


def test_other_chunks_are_found(array: Array, tmp_path: Path) -> None:
    job = written(array, "hdf5:none", tmp_path)
    with pytest.raises(ValueError, match="chunks: "):
        read_back(replace(job, array=replace(array, chunks=(100, 16))))
