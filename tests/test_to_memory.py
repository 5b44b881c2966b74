"""HDF5 files that are written to memory: into a BytesIO, and into open files of the core driver."""

import io
import pickle
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazyio
from lazyio.errors import (
    BlockError,
    LazyioError,
    OptionError,
    TargetError,
    TargetExistsError,
)

VALUES = np.arange(1000 * 16, dtype="f4").reshape(1000, 16)


def read(buffer: io.BytesIO, key: str) -> Any:
    with h5py.File(io.BytesIO(buffer.getvalue()), "r") as file:
        return file[key][()]


def test_writes_a_complete_file_and_adds_to_it() -> None:
    buffer = io.BytesIO()
    report = lazyio.to_hdf5(
        da.from_array(VALUES, chunks=(100, 16)), buffer, "g/x", compression="gzip"
    )
    assert "the HDF5 file in memory g/x" in str(report)
    assert buffer.tell() == 0
    lazyio.to_hdf5({"y": VALUES + 1, "z": VALUES[:3]}, buffer)
    lazyio.to_hdf5(VALUES * 2, buffer, "y", overwrite=True)
    assert np.array_equal(read(buffer, "g/x"), VALUES)
    assert np.array_equal(read(buffer, "y"), VALUES * 2)
    assert np.array_equal(lazyio.open(buffer, "z").compute(), VALUES[:3])
    lazyio.to_hdf5(VALUES[:2], buffer, "only", mode="w")
    with h5py.File(buffer, "r") as file:
        assert "only" in file
        assert "y" not in file


@given(
    shape=st.tuples(st.integers(0, 40), st.integers(1, 9)),
    chunk=st.integers(1, 16),
    compression=st.sampled_from([None, "gzip", "lzf"]),
)
def test_gives_back_what_was_written(
    shape: tuple[int, int], chunk: int, compression: str | None
) -> None:
    array = np.arange(shape[0] * shape[1], dtype="i4").reshape(shape)
    buffer = io.BytesIO()
    options: dict[str, Any] = {"compression": compression} if array.size else {}
    lazyio.to_hdf5(array, buffer, "x", chunks=(chunk, shape[1]), **options)
    assert np.array_equal(lazyio.open(buffer, "x").compute(), array)
    assert np.array_equal(read(buffer, "x"), array)


def test_a_buffer_is_as_it_was_when_writing_fails() -> None:
    def fail(block: Any, block_info: Any = None) -> Any:
        if block_info and block_info[0]["chunk-location"][0] == 3:
            msg = "the lamp is off"
            raise RuntimeError(msg)
        return block

    bad = da.from_array(VALUES, chunks=(100, 16)).map_blocks(fail, dtype="f4")
    for before in (b"", b"something else"):
        buffer = io.BytesIO(before)
        with pytest.raises(BlockError, match="the lamp is off"):
            lazyio.to_hdf5(bad, buffer, "x", mode="w")
        assert buffer.getvalue() == before
    buffer = io.BytesIO()
    lazyio.to_hdf5(VALUES, buffer, "x")
    before = buffer.getvalue()
    with buffer.getbuffer(), pytest.raises(TargetError, match=r"it is as it was\. Release"):
        lazyio.to_hdf5(VALUES[:2], buffer, "x", mode="w")
    assert buffer.getvalue() == before


def test_is_filled_when_it_is_computed() -> None:
    buffer = io.BytesIO()
    later = lazyio.to_hdf5(VALUES, buffer, "x", compute=False)
    assert buffer.getvalue() == b""
    with pytest.raises(TargetError, match="cannot be filled by another process"):
        pickle.dumps(later)
    later.compute()
    assert np.array_equal(read(buffer, "x"), VALUES)


def test_may_be_made_of_what_it_holds() -> None:
    buffer = io.BytesIO()
    lazyio.to_hdf5(VALUES, buffer, "x")
    lazyio.to_hdf5(lazyio.open(buffer, "x") + 1, buffer, "x", mode="w")
    assert np.array_equal(read(buffer, "x"), VALUES + 1)


def test_refuses_what_a_buffer_cannot_be() -> None:
    full, closed = io.BytesIO(), io.BytesIO()
    lazyio.to_hdf5(VALUES, full, "x")
    closed.close()
    before = full.getvalue()
    cases: list[tuple[io.BytesIO, dict[str, Any], type[LazyioError], str]] = [
        (full, {}, TargetExistsError, "'x' already; pass overwrite=True"),
        (full, {"mode": "x"}, TargetExistsError, "makes only new files"),
        (io.BytesIO(), {"mode": "r+"}, TargetError, "the BytesIO is empty"),
        (io.BytesIO(b"no file"), {}, TargetError, "7 bytes that are no HDF5 file"),
        (io.BytesIO(), {"resume": True}, OptionError, "there is no journal to resume from"),
        (full, {"region": (slice(0, 5),)}, OptionError, r"h5py\.File\(buffer, 'r\+'\)"),
        (full, {"append_dim": 0}, OptionError, "by way of h5py"),
        (closed, {}, TargetError, "has been closed"),
    ]
    for buffer, options, error, said in cases:
        with pytest.raises(error, match=said):
            lazyio.to_hdf5(VALUES, buffer, "x", **options)
    assert full.getvalue() == before
    with pytest.raises(OptionError, match="is not a path; give the name of a file"):
        lazyio.to_hdf5(VALUES, b"bytes are not written to", "x")


def test_fills_open_files_of_the_core_driver(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "core.h5", "w", driver="core", backing_store=False) as file:
        lazyio.to_hdf5(VALUES, file, "g/x", compression="gzip", chunks=(64, 16))
        made = file.create_dataset("y", (1000, 16), "f4", chunks=(64, 16), maxshape=(None, 16))
        lazyio.to_hdf5(VALUES, made)
        lazyio.to_hdf5(VALUES[:10] * 2, made, region=(slice(60, 70),))
        lazyio.to_hdf5(VALUES[:5], made, append_dim=0)
        assert np.array_equal(file["g/x"][()], VALUES)
        assert np.array_equal(made[60:70], VALUES[:10] * 2)
        assert np.array_equal(made[1000:], VALUES[:5])
        file.flush()
        image = file.id.get_file_image()
    assert not (tmp_path / "core.h5").exists()
    assert np.array_equal(lazyio.open(image, "g/x").compute(), VALUES)


def test_fills_open_files_over_a_buffer() -> None:
    buffer = io.BytesIO()
    lazyio.to_hdf5(VALUES, buffer, "x", maxshape=(None, 16), chunks=(64, 16))
    with h5py.File(buffer, "r+") as file:
        lazyio.to_hdf5(VALUES[:10] * 2, file["x"], region=(slice(60, 70),))
        lazyio.to_hdf5(VALUES[:5], file["x"], append_dim=0)
    assert read(buffer, "x").shape == (1005, 16)
    assert np.array_equal(read(buffer, "x")[60:70], VALUES[:10] * 2)
