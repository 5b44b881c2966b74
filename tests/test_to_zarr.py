"""Writing Zarr: what zarr-python and tensorstore read is what was written."""

import os
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numcodecs import LZ4, Blosc, Delta, GZip, Zlib, Zstd
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

import lazyio
from lazyio.errors import OptionError, TargetError, TargetExistsError

V3 = {
    "none": None,
    "auto": "auto",
    "zstd": ZstdCodec(level=1),
    "zstd-checksum": ZstdCodec(level=1, checksum=True),
    "blosc": BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
    "blosc-lz4-bit": BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
    "gzip-1": GzipCodec(level=1),
    "gzip-5": GzipCodec(level=5),
    "crc32c": Crc32cCodec(),
    "zstd-crc32c": [ZstdCodec(level=1), Crc32cCodec()],
}


def read_tensorstore(path: Path, driver: str) -> np.ndarray:
    """Return a local array as tensorstore reads it."""
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}
    return tensorstore.open(spec).result().read().result()


@pytest.mark.parametrize("codec", V3, ids=list(V3))
@pytest.mark.parametrize("chunks", ["auto", (100, 64), (37, 5)], ids=["auto", "rows", "odd"])
def test_v3_reads_back(tmp_path, recording, codec, chunks) -> None:
    """Every codec of v3 that is encoded here, by two readers that are not ours."""
    out = tmp_path / "out.zarr"
    report = lazyio.to_zarr(recording, out, chunks=chunks, compressors=V3[codec])
    assert report.engine == "direct"
    assert (zarr.open_array(out, mode="r")[:] == recording).all()
    assert (read_tensorstore(out, "zarr3") == recording).all()
    assert zarr.open_array(out, mode="r").chunks == report.plan.chunk_shape


@pytest.mark.parametrize(
    "codec", ["auto", None, Zlib(1), GZip(2), Zstd(1), Blosc(), LZ4()], ids=str
)
def test_v2_reads_back(tmp_path, recording, codec) -> None:
    """v2 metadata with any numcodecs codec; tensorstore has all of these but lz4."""
    out = tmp_path / "out.zarr"
    report = lazyio.to_zarr(recording, out, chunks=(100, 30), compressors=codec, zarr_format=2)
    array = zarr.open_array(out, mode="r")
    assert report.engine == "direct"
    assert array.metadata.zarr_format == 2
    assert (array[:] == recording).all()
    if not isinstance(codec, LZ4):
        assert (read_tensorstore(out, "zarr") == recording).all()


def test_v2_filters(tmp_path, recording) -> None:
    """Filters of v2 come before its compressor."""
    out = tmp_path / "out.zarr"
    lazyio.to_zarr(
        recording, out, chunks=(100, 30), zarr_format=2, filters=[Delta("<i2")], compressors=LZ4()
    )
    assert (zarr.open_array(out, mode="r")[:] == recording).all()


def test_transposed_chunks(tmp_path, recording) -> None:
    """Axes in another order are encoded here, too."""
    out = tmp_path / "out.zarr"
    filters = [TransposeCodec(order=(1, 0))]
    report = lazyio.to_zarr(recording, out, chunks=(100, 30), filters=filters)
    assert report.engine == "direct"
    assert (zarr.open_array(out, mode="r")[:] == recording).all()


def test_codecs_that_are_not_ours_go_through_zarr(tmp_path, recording, monkeypatch) -> None:
    """A codec that is not known is zarr-python's work: correct, and the report says so."""
    monkeypatch.setattr("lazyio.storage.zarr.array.chain_of", lambda *_, **__: None)
    out = tmp_path / "out.zarr"
    report = lazyio.to_zarr(recording, out, chunks=(100, 30))
    assert report.engine == "zarr-python"
    assert (zarr.open_array(out, mode="r")[:] == recording).all()


@pytest.mark.parametrize("dtype", ["?", "i1", "<i2", ">i4", "u8", "f2", "<f4", ">f8", "c8", "c16"])
@pytest.mark.parametrize("version", [2, 3])
def test_dtypes(tmp_path, dtype, version) -> None:
    """Each dtype comes back with its values."""
    values = np.arange(-60, 60).astype("f8").astype(dtype).reshape(20, 6)
    lazyio.to_zarr(values, tmp_path / "out.zarr", chunks=(7, 4), zarr_format=version)
    found = zarr.open_array(tmp_path / "out.zarr", mode="r")[:]
    assert (found == values).all()
    assert found.dtype.kind == values.dtype.kind


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (1,), (997,), (2, 3, 2, 3, 2, 1, 2, 3)])
def test_shapes(tmp_path, shape) -> None:
    """No axis, no elements, one element, primes, eight axes."""
    values = np.arange(int(np.prod(shape)), dtype="int32").reshape(shape)
    for data in (values, da.from_array(values, chunks=2).map_blocks(lambda b: b)):
        lazyio.to_zarr(data, tmp_path / "out.zarr", overwrite=True)
        found = np.asarray(zarr.open_array(tmp_path / "out.zarr", mode="r")[()])
        assert found.shape == shape
        assert (found == values).all()


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(t) for t in ("u1", "<i2", "<f4", "f8")]),
        hnp.array_shapes(max_dims=3, max_side=12),
    ),
    st.data(),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_round_trip(tmp_path, values, data) -> None:
    """Any array, any blocks, any chunks, any codec: the same bytes come back."""
    chunks = tuple(data.draw(st.integers(1, extent)) for extent in values.shape)
    blocks = tuple(data.draw(st.integers(1, extent)) for extent in values.shape)
    codec = data.draw(st.sampled_from(list(V3)))
    source = values
    if data.draw(st.booleans()):
        source = da.from_array(values, chunks=blocks).map_blocks(lambda b: b)
    out = tmp_path / "round.zarr"
    lazyio.to_zarr(source, out, overwrite=True, chunks=chunks, compressors=V3[codec])
    assert zarr.open_array(out, mode="r")[:].tobytes() == values.tobytes()


def test_chunks_of_nothing_but_fill_are_not_stored(tmp_path) -> None:
    """As zarr does it; zeros of the other sign and NaN are told apart by their bits."""
    values = np.zeros((40, 40))
    values[:10, :10] = 1
    values[10:20, :10] = -0.0
    lazyio.to_zarr(values, tmp_path / "out.zarr", chunks=(10, 10))
    stored = sorted(
        file.name for file in (tmp_path / "out.zarr" / "c").rglob("*") if file.is_file()
    )
    assert len(stored) == 2
    found = zarr.open_array(tmp_path / "out.zarr", mode="r")[:]
    assert found.tobytes() == values.tobytes()


def test_settings_of_the_array(tmp_path, recording) -> None:
    """Fill value, dimension names, attributes and a cast land in the metadata."""
    lazyio.to_zarr(
        recording,
        tmp_path / "out.zarr",
        dtype="float32",
        fill_value=np.nan,
        dimension_names=("time", "channel"),
        attributes={"unit": "uV"},
    )
    array = zarr.open_array(tmp_path / "out.zarr", mode="r")
    assert array.dtype == "float32"
    assert np.isnan(array.fill_value)
    assert array.metadata.dimension_names == ("time", "channel")
    assert dict(array.attrs) == {"unit": "uV"}
    assert (array[:] == recording).all()


def test_arrays_in_a_store(tmp_path, recording) -> None:
    """Groups on the way are made; existing arrays stay; no warning while reading."""
    out = tmp_path / "store.zarr"
    lazyio.to_zarr(recording, out, "raw/left")
    lazyio.to_zarr(recording * 2, out, "raw/right")
    lazyio.to_zarr(recording * 3, out, "third")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(out, mode="r")
        assert sorted(path for path, _ in group.members(max_depth=None)) == [
            "raw",
            "raw/left",
            "raw/right",
            "third",
        ]
        assert (group["raw/right"][:] == recording * 2).all()
    assert os.listdir(tmp_path) == ["store.zarr"]


def test_an_array_is_replaced_only_when_asked(tmp_path, recording) -> None:
    """Without overwrite the array stays; with it the new one takes its place whole."""
    out = tmp_path / "out.zarr"
    lazyio.to_zarr(recording, out, chunks=(10, 64))
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        lazyio.to_zarr(recording[:5], out)
    lazyio.to_zarr(recording[:5], out, overwrite=True)
    assert (zarr.open_array(out, mode="r")[:] == recording[:5]).all()
    lazyio.to_zarr(recording[:7], out, mode="w")
    assert zarr.open_array(out, mode="r").shape == (7, 64)
    assert os.listdir(tmp_path) == ["out.zarr"]


def test_a_folder_of_other_things_is_never_replaced(tmp_path, recording) -> None:
    """Not even with overwrite: what is replaced would be removed."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("precious")
    for options in ({"overwrite": True}, {"mode": "w"}, {"path": "x"}):
        with pytest.raises(TargetError, match="folder of other things"):
            lazyio.to_zarr(recording, tmp_path / "thesis", **options)
    lazyio.to_zarr(recording, tmp_path / "store", "x")
    with pytest.raises(TargetExistsError, match="group of arrays"):
        lazyio.to_zarr(recording, tmp_path / "store", overwrite=True)
    assert (tmp_path / "thesis" / "chapter").read_text() == "precious"


def test_versions_are_not_mixed_in_a_store(tmp_path, recording) -> None:
    """A v2 store takes v2 arrays."""
    lazyio.to_zarr(recording, tmp_path / "store", "x", zarr_format=2)
    with pytest.raises(TargetError, match="v2 group, to which no v3"):
        lazyio.to_zarr(recording, tmp_path / "store", "y")
    lazyio.to_zarr(recording, tmp_path / "store", "y", zarr_format=2)


def test_an_empty_folder_may_become_a_store(tmp_path, recording) -> None:
    """As tempfile.mkdtemp gives one."""
    (tmp_path / "empty").mkdir()
    lazyio.to_zarr(recording, tmp_path / "empty")
    assert zarr.open_array(tmp_path / "empty", mode="r").shape == recording.shape


@pytest.mark.parametrize("path", ["../x", "a//b", "a/../b", "__x"])
def test_paths_stay_inside_the_store(tmp_path, recording, path) -> None:
    """No array is written outside its store."""
    with pytest.raises(OptionError, match="not a path inside"):
        lazyio.to_zarr(recording, tmp_path / "store", path)


def test_a_failed_run_leaves_the_old_array(tmp_path, recording) -> None:
    """Every chunk of the old array is as it was, and nothing is left beside it."""
    out = tmp_path / "out.zarr"
    lazyio.to_zarr(recording, out, chunks=(100, 64))

    def fail(block, block_id=None):
        if block_id == (3, 0):
            raise ValueError("bad block")
        return block

    x = da.from_array(recording, chunks=(100, 64)).map_blocks(fail, dtype="int16")
    with pytest.raises(lazyio.errors.BlockError, match=r"\[300:400, 0:64\]"):
        lazyio.to_zarr(x, out, overwrite=True)
    assert (zarr.open_array(out, mode="r")[:] == recording).all()
    assert os.listdir(tmp_path) == ["out.zarr"]


def test_from_hdf5_to_zarr_and_back(tmp_path, shared_data) -> None:
    """A real climate field through both formats: the same values, bit for bit."""
    tas = lazyio.open(shared_data / "cmip6_tas.nc", "tas")
    lazyio.to_zarr(tas, tmp_path / "tas.zarr", compressors=V3["blosc"])
    lazyio.to_hdf5(
        lazyio.open(tmp_path / "tas.zarr"), tmp_path / "tas.h5", "tas", compression="gzip"
    )
    import h5py

    with h5py.File(shared_data / "cmip6_tas.nc") as a, h5py.File(tmp_path / "tas.h5") as b:
        assert (a["tas"][:] == b["tas"][:]).all()
