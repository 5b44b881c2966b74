"""The limit's codecs give back what they were given; its chunks lie where stock readers say."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bare.placed import stored_chunks, tiles
from benchmarks.bare.shuffle import Shuffle, unshuffle
from benchmarks.cases import WRITE, Array, Job
from benchmarks.contenders import h5py as h5py_writer
from benchmarks.contenders import zarr as zarr_writer
from benchmarks.rows import ROWS

pytest.importorskip("deflate")
pytest.importorskip("imagecodecs")
pytest.importorskip("isal")

from benchmarks.bare.codecs import decoder, encoder
from benchmarks.contenders import limit as limit_writer
from benchmarks.readers import limit as limit_reader

CODECS = {(row.family, row.level, row.cname, row.is_checksummed): row for row in ROWS.values()}


@given(
    st.sampled_from(["<i2", "<f4", "<f8"]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.randoms(use_true_random=False),
)
def test_shuffle_is_the_bytes_by_their_weight(dtype, edge, missing, random) -> None:
    whole = tuple(n + more for n, more in zip(edge, missing, strict=True))
    chunk = np.frombuffer(random.randbytes(np.dtype(dtype).itemsize * edge[0] * edge[1]), dtype)
    chunk = chunk.reshape(edge)
    padded = np.zeros(whole, dtype)
    padded.view(f"u{padded.itemsize}")[: edge[0], : edge[1]] = chunk.view(f"u{padded.itemsize}")
    planes = Shuffle(np.dtype(dtype), whole)(chunk)
    expected = np.frombuffer(padded.tobytes(), "u1").reshape(-1, padded.itemsize).T
    assert planes.tobytes() == expected.tobytes()
    back = np.empty(whole, dtype)
    unshuffle(planes.tobytes(), back)
    assert back.tobytes() == padded.tobytes()


def test_limit_has_no_planes_for_odd_elements() -> None:
    with pytest.raises(ValueError, match="2, 4 or 8 bytes"):
        Shuffle(np.dtype("u1"), (4,))


@pytest.mark.parametrize("row", CODECS.values(), ids=lambda row: row.name)
@pytest.mark.parametrize("dtype", ["<i2", "<f4", "<f8"])
def test_codecs_give_back_what_they_were_given(row, dtype: str, recording: np.ndarray) -> None:
    chunk = (300, 40)
    encode = encoder(row, np.dtype(dtype), chunk)
    decode = decoder(row, np.dtype(dtype), chunk)
    noise = np.random.default_rng(0).integers(0, 256, 300 * 40 * 8, "u1").view(dtype)
    for data in (recording[:300, :40].astype(dtype), noise[: 300 * 40].reshape(300, 40)):
        assert decode(bytes(encode(data))).tobytes() == data.tobytes()


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 25)), min_size=1, max_size=3),
)
def test_tiles_cover_every_element_once(axes) -> None:
    shape, step = zip(*axes, strict=True)
    seen = np.zeros(shape, "i4")
    for region in tiles(tuple(slice(0, n) for n in shape), step):
        seen[region] += 1
        assert all(axis.stop - axis.start <= n for axis, n in zip(region, step, strict=True))
    assert (seen == 1).all()


def job(tmp_path: Path, data: np.ndarray, row: str) -> Job:
    path = tmp_path / "source.raw"
    data.tofile(path)
    array = Array(
        name="x", path=str(path), shape=data.shape, dtype=data.dtype.str, chunks=(130, 24)
    )
    return Job(
        contender="limit",
        array=array,
        row=ROWS[row],
        output=str(tmp_path / "out"),
        threads=2,
        is_checked=True,
    )


@pytest.mark.parametrize("row", [name for name in ROWS if name.startswith("read-")])
def test_limit_adds_up_what_stock_libraries_wrote(
    row: str, tmp_path: Path, recording: np.ndarray
) -> None:
    given = job(tmp_path, recording, row)
    stock = h5py_writer if given.row.format == "hdf5" else zarr_writer
    stock.prepare(given)()
    chunks = stored_chunks(given)
    assert len(chunks) == 8 * 3
    assert limit_reader.prepare(given)() == recording.sum(dtype="i8")


@pytest.mark.parametrize("row", ["hdf5:none", "hdf5:zstd-1", "zarr:zstd", "zarr:zstd-sharded"])
def test_limit_writes_every_chunk_once(row: str, tmp_path: Path, recording: np.ndarray) -> None:
    given = job(tmp_path, recording, row)
    placed = limit_writer.prepare(given)()
    limit_writer.check(given, placed)
    assert given.action == WRITE
    seen = np.zeros(recording.shape, "i4")
    for one in placed:
        seen[one.region] += 1
    assert (seen == 1).all()
    places = sorted((one.path, one.position, one.nbytes) for one in placed)
    for (path, start, nbytes), (other, following, _) in pairwise(places):
        assert path != other or start + nbytes == following


def test_limit_notices_a_chunk_that_is_not_its_data(tmp_path: Path, recording: np.ndarray) -> None:
    given = job(tmp_path, recording, "hdf5:none")
    placed = limit_writer.prepare(given)()
    with (tmp_path / "out").open("r+b") as file:
        file.write(bytes(130 * 24 * 2))
    with pytest.raises(ValueError, match="does not decode to its data"):
        limit_writer.check(given, placed)
