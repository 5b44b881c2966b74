"""HDF5 and .npy files that are bytes in memory."""

import io
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from dask.base import tokenize

import lazyio
from lazyio.errors import (
    DamagedDataError,
    LazyioError,
    OptionError,
    SourceError,
    TruncatedSourceError,
    UnknownFormatError,
    UnsafeFileError,
    UnsupportedDtypeError,
)

VALUES = np.arange(1000 * 16, dtype="f4").reshape(1000, 16)


def file_of(**options: Any) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        file.create_dataset("g/coded", data=VALUES, chunks=(64, 16), compression="gzip")
        file["plain"] = VALUES
        file.create_dataset("checked", data=VALUES, chunks=(100, 16), fletcher32=True, shuffle=True)
        file.create_dataset("sparse", (1000, 16), "f4", chunks=(10, 16), fillvalue=7)
        file["sparse"][500:510] = 1
        file.create_dataset("scaled", data=VALUES.astype("i4"), chunks=(64, 16), scaleoffset=0)
        file["words"] = ["one", "two", "three"]
        file["one"] = 5
    return buffer.getvalue()


def npy_of(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def held() -> bytes:
    return file_of()


def readonly(data: bytes) -> memoryview:
    return memoryview(data)


KINDS = [bytes, bytearray, readonly, io.BytesIO]


@pytest.mark.parametrize("kind", KINDS)
def test_reads_every_dataset_of_an_hdf5_file(held: bytes, kind: Any) -> None:
    with h5py.File(io.BytesIO(held)) as file:
        for key in ("g/coded", "plain", "checked", "sparse", "scaled", "one"):
            found = lazyio.open(kind(held), key, chunks=-1)
            assert found.dtype == file[key].dtype
            assert np.array_equal(found.compute(), file[key][()])
        assert np.array_equal(
            lazyio.from_hdf5(kind(held), "g/coded")[100:300, 3].compute(), VALUES[100:300, 3]
        )
    assert lazyio.open(kind(held), "words").compute().tolist() == ["one", "two", "three"]
    with lazyio.window(kind(held), "g/coded") as view:
        assert np.array_equal(view[::-7], VALUES[::-7])


@pytest.mark.parametrize("kind", KINDS)
def test_reads_an_npy_file(kind: Any) -> None:
    for array in (VALUES, np.asfortranarray(VALUES), np.array(3), np.zeros((0, 4), ">i2")):
        found = lazyio.open(kind(npy_of(array)))
        assert found.dtype == array.dtype
        assert np.array_equal(found.compute(), array)
    assert np.array_equal(lazyio.from_npy(kind(npy_of(VALUES))).compute(), VALUES)


def test_reads_behind_a_user_block_and_the_sole_dataset() -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=1024) as file:
        file.create_dataset("only", data=VALUES, chunks=(64, 16))
    assert np.array_equal(lazyio.open(buffer).compute(), VALUES)
    with pytest.raises(SourceError, match="holds 7 datasets; give the key of one"):
        lazyio.open(file_of())


def test_what_is_written_into_a_buffer_later_does_not_show(held: bytes) -> None:
    buffer = io.BytesIO(held)
    found = lazyio.open(buffer, "plain")
    buffer.seek(0)
    buffer.write(bytes(len(held)))
    assert np.array_equal(found.compute(), VALUES)


def test_travels_with_the_graph_once(held: bytes) -> None:
    found = lazyio.open(held, "g/coded", chunks=(64, 16))
    sent = pickle.dumps(found)
    assert len(held) < len(sent) < 1.5 * len(held)
    assert np.array_equal(pickle.loads(sent).compute(), VALUES)
    assert tokenize(found) == tokenize(lazyio.open(bytearray(held), "g/coded", chunks=(64, 16)))
    assert tokenize(found) != tokenize(lazyio.open(held, "plain", chunks=(64, 16)))


def test_an_open_file_in_memory_is_read_through_its_handle(tmp_path: Path) -> None:
    path = tmp_path / "core.h5"
    with h5py.File(path, "w", driver="core", backing_store=False) as file:
        file.create_dataset("x", data=VALUES, chunks=(64, 16), compression="gzip")
        assert np.array_equal(lazyio.open(file, "x").compute(), VALUES)
        assert np.array_equal(lazyio.open(file["x"])[5:700:3].compute(), VALUES[5:700:3])
        with lazyio.window(file) as view:
            assert np.array_equal(view[[5, 999, 0]], VALUES[[5, 999, 0]])
    assert not path.exists()


def test_refuses_what_leads_out_of_memory(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = VALUES
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
        layout = h5py.VirtualLayout(VALUES.shape, "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", VALUES.shape)
        file.create_virtual_dataset("virtual", layout)
        raw = [(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("outside", (4,), "f4", external=raw)
    for key in ("link", "virtual", "outside"):
        with pytest.raises(UnsafeFileError, match=f"'{key}' leads to another file"):
            lazyio.open(buffer, key)


def test_a_damaged_chunk_is_told(held: bytes) -> None:
    with h5py.File(io.BytesIO(held)) as file:
        at = file["g/coded"].id.get_chunk_info(3).byte_offset
    damaged = bytearray(held)
    damaged[at : at + 20] = bytes(20)
    found = lazyio.open(damaged, "g/coded", chunks=(64, 16))
    with pytest.raises(DamagedDataError, match=r"HDF5 file in memory: the chunk \[192:256, 0:16\]"):
        found[200].compute()


def test_refuses_other_bytes(held: bytes) -> None:
    cases: list[tuple[Any, dict[str, Any], type[LazyioError], str]] = [
        (b"/data/scan.h5", {}, UnknownFormatError, "begins neither as HDF5 nor as .npy; give a"),
        (b"", {}, UnknownFormatError, "bytes of 0 bytes"),
        (held, {"key": "no"}, SourceError, "has no dataset 'no'"),
        (held, {"key": "g"}, SourceError, "'g' is a group"),
        (held, {"key": "plain", "format": "npy"}, OptionError, "format='npy': the bytes of .* is"),
        (held, {"key": "plain", "trusted": False}, OptionError, "trusted=False is for paths"),
        (held, {"key": "plain", "allow_external": ["/"]}, OptionError, "are for paths"),
        (held[:3000], {"key": "plain"}, SourceError, "cannot be opened: .* was it cut short"),
        (npy_of(VALUES), {"key": "x"}, OptionError, "one array and no keys"),
        (npy_of(VALUES)[:500], {}, TruncatedSourceError, "it was cut short"),
        (npy_of(VALUES)[:20], {}, SourceError, "has no readable header"),
        (npy_of(np.array([None])), {}, UnsupportedDtypeError, "pickled objects"),
        (memoryview(held)[::2], {}, OptionError, "with gaps is no file"),
    ]
    for given, options, error, said in cases:
        with pytest.raises(error, match=said):
            lazyio.open(given, **options)
    with pytest.raises(OptionError, match="format='npy': the bytes of"):
        lazyio.from_npy(held)
