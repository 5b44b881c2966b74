"""NWB files in Zarr that lazyio writes: hdmf-zarr's structure, and every array right."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pynwb
import pytest
import yaml
import zarr
from hdmf.backends.hdf5 import H5DataIO
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kills import killed
from sessions import N_CHANNELS, empty, samples, series, session

import lazyio
import lazyio.nwb

hdmf_zarr = pytest.importorskip("hdmf_zarr", exc_type=ImportError)
pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 12), reason="hdmf-zarr 0.14 needs Python 3.12"),
    pytest.mark.filterwarnings("ignore::UserWarning:hdmf", "ignore::UserWarning:pynwb"),
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
]

ARRAYS = {
    "acquisition/es/data",
    "acquisition/plain/data",
    "acquisition/plain/timestamps",
    "acquisition/rows/data",
    "acquisition/slices/data",
    "acquisition/wrapped/data",
    "units/spike_times",
}


def reading(path: Path) -> Any:
    """Return hdmf-zarr's reader."""
    return hdmf_zarr.NWBZarrIO(str(path), mode="r")


def is_valid(path: Path) -> bool:
    """Return whether PyNWB's validator finds nothing."""
    with reading(path) as io:
        return not pynwb.validate(io=io)


def codecs(path: Path, key: str) -> dict[str, Any]:
    """Return the names of an array's compressors and their options."""
    return {one["name"]: one["configuration"] for one in map(_as_dict, _array(path, key))}


def _array(path: Path, key: str) -> Any:
    return zarr.open_array(path, path=key, mode="r").compressors


def _as_dict(codec: Any) -> Any:
    return codec.to_dict()


def nodes(path: Path) -> dict[str, Any]:
    """Return the attributes of all groups and arrays, and what arrays are."""
    root = zarr.open_group(path, mode="r", use_consolidated=False)
    found: dict[str, Any] = {"": dict(root.attrs)}
    for name, node in root.members(max_depth=None):
        own = (node.shape, node.dtype) if isinstance(node, zarr.Array) else ()
        attributes = dict(node.attrs)
        if str(attributes.get("_DTYPE")).startswith(("<", "|")):
            # As hdmf-zarr says it of iterators, and of arrays by name.
            attributes["_DTYPE"] = np.dtype(attributes["_DTYPE"]).name
        found[name] = (attributes, own)
    return found


def test_every_array_in_one_pass(tmp_path: Path) -> None:
    raw, path = samples(), tmp_path / "a.nwb.zarr"
    report = lazyio.nwb.write(session(raw), path, compression="gzip", compression_opts=4)
    assert set(report.keys) == ARRAYS
    with reading(path) as io:
        found = io.read()
        for name in ("es", "plain", "wrapped", "slices", "linked"):
            np.testing.assert_array_equal(found.acquisition[name].data[:], raw)
        np.testing.assert_array_equal(found.acquisition["rows"].data[:], raw[:500])
        assert len(found.acquisition["plain"].timestamps) == len(raw)
        assert found.acquisition["es"].electrodes.table is found.electrodes
        assert found.electrodes["group"][3].name == "g"
        for seed in range(20):
            times = np.sort(np.random.default_rng(seed).random(3000))
            np.testing.assert_array_equal(found.units["spike_times"][seed], times)
    assert codecs(path, "acquisition/es/data") == {"gzip": {"level": 4}}
    assert codecs(path, "acquisition/wrapped/data") == {"gzip": {"level": 2}}
    wrapped = zarr.open_array(path, path="acquisition/wrapped/data")
    assert wrapped.chunks == (1000, N_CHANNELS)
    assert is_valid(path)
    assert lazyio.verify(path).status == "ok"
    np.testing.assert_array_equal(lazyio.open(path, "acquisition/es").compute(), raw)
    assert [one.name for one in tmp_path.iterdir()] == ["a.nwb.zarr"]


def test_the_store_is_that_of_hdmf_zarr_but_for_chunks_and_codecs(tmp_path: Path) -> None:
    raw = samples()
    nwbfile = session(raw)
    nwbfile.acquisition.pop("rows")  # Its iterator can be used once.
    ours, theirs = tmp_path / "ours.nwb.zarr", tmp_path / "theirs.nwb.zarr"
    lazyio.nwb.write(nwbfile, ours)
    with hdmf_zarr.NWBZarrIO(str(theirs), mode="w") as io:
        io.write(nwbfile)
    assert nodes(ours) == nodes(theirs)
    root, other = zarr.open_group(ours, mode="r"), zarr.open_group(theirs, mode="r")
    assert root.metadata.consolidated_metadata is not None
    for name, node in other.members(max_depth=None):
        if isinstance(node, zarr.Array):
            np.testing.assert_array_equal(root[name][...], node[...])


def test_the_containers_are_left_as_they_were_found(tmp_path: Path) -> None:
    raw, nwbfile = samples(), session(samples())
    lazyio.nwb.write(nwbfile, tmp_path / "a.nwb.zarr")
    assert nwbfile.container_source is None
    nwbfile.acquisition.pop("rows")
    lazyio.nwb.write(nwbfile, tmp_path / "b.nwb")
    lazyio.nwb.write(nwbfile, tmp_path / "a.nwb.zarr")
    with reading(tmp_path / "a.nwb.zarr") as io:
        assert io.read().object_id == nwbfile.object_id
    for name in ("a.nwb.zarr", "b.nwb"):
        found = lazyio.open(tmp_path / name, "acquisition/es").compute()
        np.testing.assert_array_equal(found, raw)


def test_containers_are_added_to_a_store_that_is_open(tmp_path: Path) -> None:
    raw, path = samples(), tmp_path / "a.nwb.zarr"
    lazyio.nwb.write(session(raw), path)
    with hdmf_zarr.NWBZarrIO(str(path), mode="r+") as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(series("more", lazyio.nwb.iterator(raw * 2)))
        module = nwbfile.create_processing_module("ecephys", "filtered")
        module.add(series("low", lazyio.nwb.iterator(da.from_array(raw, chunks=999))))
        report = lazyio.nwb.write(nwbfile, io, compression="zstd")
        assert set(report.keys) == {"acquisition/more/data", "processing/ecephys/low/data"}
        assert "open-handle" in dict(report.advice)
    with reading(path) as io:
        found = io.read()
        np.testing.assert_array_equal(found.acquisition["more"].data[:], raw * 2)
        np.testing.assert_array_equal(found.processing["ecephys"]["low"].data[:], raw)
        np.testing.assert_array_equal(found.acquisition["es"].data[:], raw)
    assert codecs(path, "acquisition/more/data").keys() == {"zstd"}
    assert is_valid(path)


def test_containers_are_added_where_there_are_some(tmp_path: Path) -> None:
    """Groups below the root keep consolidated metadata of their own, which must not be believed."""
    raw, path, nwbfile = samples(), tmp_path / "a.nwb.zarr", empty()
    nwbfile.create_processing_module("m", "a module").add(series("old", raw))
    nwbfile.add_trial(start_time=0.0, stop_time=1.0)
    lazyio.nwb.write(nwbfile, path)
    for name in ("first", "second"):
        with hdmf_zarr.NWBZarrIO(str(path), mode="r+") as io:
            found = io.read()
            found.processing["m"].add(series(name, lazyio.nwb.iterator(raw * 2)))
            found.add_trial(start_time=1.0, stop_time=2.0)
            lazyio.nwb.write(found, io)
    with reading(path) as io:
        found = io.read()
        assert set(found.processing["m"].data_interfaces) == {"old", "first", "second"}
        np.testing.assert_array_equal(found.processing["m"]["second"].data[:], raw * 2)
        assert len(found.trials) == len(found.trials["stop_time"].data) == 3
    assert lazyio.verify(path, renew=True).status == "ok"
    assert is_valid(path)


def test_series_are_read_as_dask_arrays(tmp_path: Path) -> None:
    raw, path = samples(), tmp_path / "a.nwb.zarr"
    lazyio.nwb.write(session(raw), path)
    with reading(path) as io:
        found = lazyio.nwb.lazy(io.read())
        assert isinstance(found.acquisition["es"].data, da.Array)
        np.testing.assert_array_equal(found.acquisition["es"].data.compute(), raw)


@pytest.mark.parametrize("none", [{"compressors": None}, {"compression": "none"}])
def test_no_compression(tmp_path: Path, none: Any) -> None:
    raw, path, nwbfile = samples(), tmp_path / "a.nwb.zarr", empty()
    nwbfile.add_acquisition(series("x", raw))
    assert "none" in str(lazyio.nwb.plan(nwbfile, format="zarr", **none))
    lazyio.nwb.write(nwbfile, path, **none)
    assert codecs(path, "acquisition/x/data") == {}


def test_what_lazyio_has_not_is_left_to_hdmf_zarr(tmp_path: Path) -> None:
    """Text, whose type is hdmf-zarr's own, and codecs from elements to bytes."""
    raw, path, nwbfile = samples(), tmp_path / "a.nwb.zarr", empty()
    big = zarr.codecs.BytesCodec(endian="big")
    words = ["a", "bc"] * 50
    nwbfile.add_acquisition(series("odd", hdmf_zarr.ZarrDataIO(raw, serializer=big)))
    nwbfile.add_acquisition(series("text", lazyio.nwb.iterator(np.array(words))))
    nwbfile.add_acquisition(series("masked", np.ma.masked_array(raw, raw > 50)))
    report = lazyio.nwb.write(nwbfile, path)
    assert report.keys == ("acquisition/masked/data",)
    root = zarr.open_group(path, mode="r")
    assert root["acquisition/odd/data"].metadata.codecs[0].to_dict() == big.to_dict()
    np.testing.assert_array_equal(root["acquisition/odd/data"][:], raw)
    np.testing.assert_array_equal(root["acquisition/masked/data"][:], raw)
    assert root["acquisition/text/data"][:].tolist() == words


def test_a_rule_then_the_wrapper_then_what_is_for_all(tmp_path: Path) -> None:
    raw, path = samples(), tmp_path / "a.nwb.zarr"
    blosc = zarr.codecs.BloscCodec(cname="lz4", clevel=1)
    nwbfile = session(raw)
    own = hdmf_zarr.ZarrDataIO(raw, chunks=(500, 4), shards=(2000, 8), compressors=[blosc])
    nwbfile.add_acquisition(series("own", own))
    nwbfile.add_acquisition(series("raw", hdmf_zarr.ZarrDataIO(raw, compressors=False)))
    odd = H5DataIO(raw, compression="gzip", shuffle=True, fletcher32=True, chunks=(100, 8))
    nwbfile.add_acquisition(series("odd", odd))
    rules = {
        "acquisition/wrapped/data": {"chunks": [2000, 2]},
        "acquisition/es/data": {"chunks": [500, 8], "shards": [4000, 8]},
        "/units/spike_times": {"compression": "none"},
        "acquisition/plain/*": {"compressors": [blosc.to_dict()]},
        "acquisition/slices/data": {"access": [(1000, 1)]},
    }
    options: dict[str, Any] = {"rules": rules, "compression": "zstd", "compression_opts": 5}
    table = lazyio.nwb.plan(nwbfile, format="zarr", **options)
    assert "blosc(" in str(table)
    report = lazyio.nwb.write(nwbfile, path, **options)
    array = zarr.open_group(path, mode="r")
    assert array["acquisition/wrapped/data"].chunks == (2000, 2)
    assert codecs(path, "acquisition/wrapped/data") == {"gzip": {"level": 2}}
    assert array["acquisition/es/data"].shards == (4000, 8)
    assert codecs(path, "acquisition/es/data")["zstd"]["level"] == 5
    assert codecs(path, "units/spike_times") == {}
    assert codecs(path, "acquisition/plain/data")["blosc"]["cname"] == "lz4"
    assert array["acquisition/own/data"].shards == (2000, 8)
    assert codecs(path, "acquisition/own/data")["blosc"]["clevel"] == 1
    assert codecs(path, "acquisition/raw/data") == {}
    assert codecs(path, "acquisition/odd/data") == {"gzip": {"level": 4}}
    assert "shuffle, fletcher32 of the H5DataIO" in dict(report.advice)["hdf5-settings"]
    for name in ("own", "raw", "odd", "es", "wrapped", "slices"):
        np.testing.assert_array_equal(array[f"acquisition/{name}/data"][:], raw)
    assert lazyio.verify(path).status == "ok"


def test_the_table_is_edited_as_yaml(tmp_path: Path) -> None:
    nwbfile, path = session(samples()), tmp_path / "a.nwb.zarr"
    table = lazyio.nwb.plan(nwbfile, format="zarr", compression="gzip", shards="auto")
    rules = yaml.safe_load(yaml.safe_dump(table.rules()))
    assert json.loads(json.dumps(rules)) == rules
    del rules["acquisition/es/data"]["shards"]
    rules["acquisition/es/data"]["chunks"] = [100, N_CHANNELS]
    lazyio.nwb.write(nwbfile, path, rules=rules)
    root = zarr.open_group(path, mode="r")
    assert root["acquisition/es/data"].chunks == (100, N_CHANNELS)
    assert root["acquisition/plain/data"].shards == table["acquisition/plain/data"].shard_shape
    assert codecs(path, "acquisition/plain/data") == {"gzip": {"level": 4}}


@pytest.mark.parametrize("is_replaced", [False, True])
def test_data_of_other_files_are_copied_or_linked(tmp_path: Path, is_replaced: bool) -> None:
    raw, path = samples(), tmp_path / "to" / "a.nwb.zarr"
    path.parent.mkdir()
    lazyio.to_hdf5(raw, tmp_path / "raw.h5", "raw")
    other = empty()
    other.add_acquisition(series("first", raw))
    lazyio.nwb.write(other, tmp_path / "other.nwb.zarr")
    if is_replaced:
        lazyio.nwb.write(empty(), path)
    nwbfile = empty()
    with h5py.File(tmp_path / "raw.h5", "r") as file, reading(tmp_path / "other.nwb.zarr") as io:
        nwbfile.add_acquisition(series("copied", file["raw"]))
        nwbfile.add_acquisition(series("linked", io.read().acquisition["first"].data))
        nwbfile.add_acquisition(series("again", nwbfile.acquisition["copied"]))
        memory = zarr.create_array({}, data=raw)  # To which no link can lead.
        nwbfile.add_acquisition(series("memory", memory))
        report = lazyio.nwb.write(nwbfile, path)
    assert set(report.keys) == {"acquisition/copied/data", "acquisition/memory/data"}
    (link,) = zarr.open_group(path, path="acquisition/linked").attrs["_LINKS"]
    assert link == {
        "source": "../../other.nwb.zarr",
        "path": "/acquisition/first/data",
        "name": "data",
    }
    (near,) = zarr.open_group(path, path="acquisition/again").attrs["_LINKS"]
    assert near["source"] == "."
    with reading(path) as io:
        found = io.read()
        for name in ("copied", "linked", "again", "memory"):
            np.testing.assert_array_equal(found.acquisition[name].data[:], raw)
    assert is_valid(path)


@pytest.mark.parametrize("resume", [False, True])
def test_what_hdmf_zarr_wrote_has_digests_as_well(tmp_path: Path, resume: bool) -> None:
    path = tmp_path / "a.nwb.zarr"
    lazyio.nwb.write(session(samples()), path, resume=resume)
    assert lazyio.verify(path).status == "ok"
    zarr.open_array(path, path="general/extracellular_ephys/electrodes/x")[2] = 17.0
    found = lazyio.verify(path)
    assert found.status == "damaged"
    assert "electrodes/x" in str(found)
    assert lazyio.verify(path, renew=True).status == "ok"
    shutil.rmtree(path / "acquisition/plain")
    found = lazyio.verify(path)
    assert found.status != "ok"
    assert "acquisition/plain" in str(found)


def test_a_file_without_large_arrays(tmp_path: Path) -> None:
    path, nwbfile = tmp_path / "a.nwb.zarr", empty()
    nwbfile.add_acquisition(series("short", [1.0, 2.0]))
    report = lazyio.nwb.write(nwbfile, path)
    assert report.keys == ()
    assert lazyio.verify(path).status == "ok"
    with reading(path) as io:
        assert io.read().acquisition["short"].data[:].tolist() == [1.0, 2.0]


class Counted:
    """A source that counts what is read of it, and stops the program at one of its reads."""

    raw = samples(n_samples=200_000)
    shape, dtype, chunk_shape = raw.shape, raw.dtype, None

    def __init__(self, n_reads: int | None = None) -> None:
        self.left, self.n_read = n_reads, 0

    def __dask_tokenize__(self) -> str:
        return "samples of a test"

    def read(self, region: Any) -> Any:
        """Return a part of what is always the same."""
        self.n_read += 1
        if self.left is not None and self.n_read > self.left:
            raise KeyboardInterrupt
        return self.raw[region]


def write(source: Counted, path: Path, *names: str, resume: Any = True) -> Any:
    """Write new containers, with other object ids, in several blocks."""
    nwbfile = empty()
    nwbfile.add_acquisition(series("a", lazyio.nwb.iterator(source)))
    nwbfile.add_acquisition(series("b", np.arange(60_000.0)))
    for name in names:
        nwbfile.add_acquisition(series(name, [1.0, 2.0]))
    return lazyio.nwb.write(
        nwbfile,
        path,
        rules={"*/a/data": {"chunks": (10_000, N_CHANNELS)}},
        compression="gzip",
        memory_limit="2 MiB",
        resume=resume,
        workers=1,
    )


def test_other_object_ids_are_no_difference_to_resume(tmp_path: Path) -> None:
    path = tmp_path / "a.nwb.zarr"
    with pytest.raises(KeyboardInterrupt):
        write(Counted(3), path)
    assert not path.exists()
    second = Counted()
    report = write(second, path)
    assert 0 < report.n_resumed < report.n_blocks
    assert second.n_read < report.n_blocks
    assert is_valid(path)
    assert lazyio.verify(path).status == "ok"
    np.testing.assert_array_equal(lazyio.open(path, "acquisition/a").compute(), Counted.raw)
    again = write(Counted(), path)
    assert again.n_resumed == again.n_blocks
    with pytest.raises(KeyboardInterrupt):
        write(Counted(3), path, "more")
    with pytest.raises(lazyio.errors.ResumeError, match="structure was"):
        write(Counted(), path, "more", "still more")
    assert write(Counted(), path, "more").n_resumed > 0
    with reading(path) as io:
        assert "more" in io.read().acquisition


@pytest.mark.parametrize("resume", [False, True])
def test_the_store_is_old_or_new_whenever_it_is_killed(tmp_path: Path, resume: bool) -> None:
    path, seen = tmp_path / "a.nwb.zarr", set()
    last = 0
    while True:
        lazyio.clean(path)
        write(Counted(), path, resume=False)
        is_killed = killed(last, lambda: write(Counted(), path, "new", resume=resume))
        with reading(path) as io:
            found = io.read()
            np.testing.assert_array_equal(found.acquisition["a"].data[:], Counted.raw)
            seen.add("new" in found.acquisition)
        assert lazyio.verify(path).status in ("ok", "incomplete")
        if resume and is_killed:
            assert write(Counted(), path, "new").n_blocks
            assert lazyio.verify(path).status == "ok"
        if not is_killed:
            break
        last += 3 if last < 6 else 97
    assert seen == {False, True}


MEASURE = """
import datetime, json, re, sys, warnings
from pathlib import Path
import dask, dask.array as da, numpy as np, pynwb
import lazyio.nwb
dask.config.set(num_workers=2)
out, limit = sys.argv[1], int(sys.argv[2])
warnings.simplefilter("ignore")

def session(n):
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    nwbfile = pynwb.NWBFile("a", "b", when)
    for name in ("x", "y"):
        graph = da.random.default_rng(0).integers(0, 99, (n, 64), "int16", chunks=(30_000, 64))
        data = lazyio.nwb.iterator(graph)
        nwbfile.add_acquisition(pynwb.TimeSeries(name=name, data=data, unit="V", rate=1.0))
    return nwbfile

def peak():
    return int(re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[0]) << 10

options = {"compression": "gzip", "memory_limit": limit}
lazyio.nwb.write(session(60_000), out + "-warm.nwb.zarr", **options)
Path("/proc/self/clear_refs").write_text("5")
before = peak()
report = lazyio.nwb.write(session(600_000), out + ".nwb.zarr", **options)
print(json.dumps(peak() - before))
"""


def test_all_arrays_stay_within_one_limit(tmp_path: Path, warm: Any) -> None:
    limit = 64 << 20
    done = warm.run(MEASURE, tmp_path / "x", limit, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    growth = json.loads(done.stdout.splitlines()[-1])
    assert growth <= limit, f"{growth / 2**20:.1f} MiB"


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_arrays_in_any_form_come_back(tmp_path: Path, data: st.DataObject) -> None:
    path, nwbfile, expected = tmp_path / "P.NWB.ZARR", empty(), {}
    for at in range(data.draw(st.integers(1, 4))):
        shape = tuple(data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=3)))
        dtype = data.draw(st.sampled_from(["int16", "float32", "float64", "uint8", "int64"]))
        array = np.random.default_rng(at).integers(0, 100, shape).astype(dtype)
        form = data.draw(st.sampled_from(["numpy", "lazy", "graph", "wrapped", "lazy zarr"]))
        asked: Any = array
        if form.startswith("lazy"):
            asked = lazyio.nwb.iterator(array)
        if form == "graph":
            asked = lazyio.nwb.iterator(da.from_array(array, chunks=7))
        if form == "wrapped":
            asked = H5DataIO(asked, compression="gzip", chunks=tuple(min(5, n) for n in shape))
        if form.endswith("zarr"):
            asked = hdmf_zarr.ZarrDataIO(asked, chunks=tuple(min(5, n) for n in shape))
        name = f"x{at}"
        nwbfile.add_acquisition(series(name, asked))
        expected[name] = array
    is_named = data.draw(st.booleans())
    rules: dict[str, Any] = {f"acquisition/{name}/data": {} for name in expected if is_named}
    lazyio.nwb.write(nwbfile, path, rules=rules, memory_limit="8 MiB")
    with reading(path) as io:
        found = io.read()
        for name, array in expected.items():
            one = found.acquisition[name].data
            assert one.dtype == array.dtype
            np.testing.assert_array_equal(one[:], array)


def test_a_call_that_resumes_looks_at_all_of_the_store(tmp_path: Path) -> None:
    """Also at what hdmf-zarr writes: small data of other files, options, what is there by now."""
    raw, path = samples(), tmp_path / "a.nwb.zarr"

    def written(value: int, **options: Any) -> Any:
        lazyio.to_hdf5(np.full(100, value), tmp_path / "s.h5", "d", overwrite=True)
        nwbfile = empty()
        with h5py.File(tmp_path / "s.h5") as file:
            nwbfile.add_acquisition(series("big", raw))
            nwbfile.add_acquisition(series("small", file["d"]))
            return lazyio.nwb.write(nwbfile, path, resume=True, **options)

    written(1)
    assert written(1).n_resumed == 1
    assert written(2).n_resumed == 0
    assert zarr.open_array(path, path="acquisition/small/data")[0] == 2
    assert written(2, cache_spec=False).n_resumed == 0
    assert "specifications" not in zarr.open_group(path)
    zarr.open_array(path, path="acquisition/small/data")[0] = 7
    assert written(2, cache_spec=False).n_resumed == 0
    assert zarr.open_array(path, path="acquisition/small/data")[0] == 2
    shutil.rmtree(path / "acquisition/small")
    assert written(2, cache_spec=False).n_resumed == 0
    assert lazyio.verify(path).status == "ok"


class TestRefused:
    """One error for what cannot be."""

    @pytest.mark.parametrize("how", ["series", "its data", "array"])
    def test_to_replace_what_is_linked_to(self, tmp_path: Path, how: str) -> None:
        raw, path, nwbfile = samples(), tmp_path / "a.nwb.zarr", empty()
        nwbfile.add_acquisition(series("es", raw))
        lazyio.nwb.write(nwbfile, path)
        with reading(path) as io:
            es, again = io.read().acquisition["es"], empty()
            if how == "series":
                again.add_acquisition(es)
            else:
                again.add_acquisition(series("x", es if how == "its data" else es.data))
            with pytest.raises(lazyio.errors.TargetError, match="would be replaced"):
                lazyio.nwb.write(again, path)
        np.testing.assert_array_equal(lazyio.open(path, "acquisition/es").compute(), raw)
        assert [one.name for one in tmp_path.iterdir()] == ["a.nwb.zarr"]

    def test_links_that_lead_nowhere(self, tmp_path: Path) -> None:
        raw, nwbfile = samples(), empty()
        nwbfile.add_acquisition(series("es", raw))
        lazyio.nwb.write(nwbfile, tmp_path / "a.nwb")
        with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
            again = empty()
            again.add_acquisition(series("x", io.read().acquisition["es"]))
            with pytest.raises(lazyio.errors.OptionError, match=r"would be a link to .*itself"):
                lazyio.nwb.write(again, tmp_path / "b.nwb.zarr")
        assert [one.name for one in tmp_path.iterdir()] == ["a.nwb"]

    def test_an_io_that_cannot_write(self, tmp_path: Path) -> None:
        path = tmp_path / "a.nwb.zarr"
        lazyio.nwb.write(empty(), path)
        with reading(path) as io:
            found = io.read()
            with pytest.raises(lazyio.errors.TargetError, match=r"in mode 'r'; open it with"):
                lazyio.nwb.write(found, io)
        with pytest.raises(lazyio.errors.TargetError, match=r"is closed; open it with"):
            lazyio.nwb.write(found, io)

    @pytest.mark.parametrize("name", ["s3://b/a.nwb.zarr", "a.nwb.zarr.zip"])
    def test_what_is_no_folder(self, name: str) -> None:
        with pytest.raises(lazyio.errors.OptionError, match="is written to folders"):
            lazyio.nwb.write(empty(), name)

    @pytest.mark.parametrize("asked", [True, 5, "lzf"])
    def test_a_codec_that_is_none(self, asked: Any) -> None:
        nwbfile = empty()
        nwbfile.add_acquisition(series("x", samples()))
        with pytest.raises(lazyio.errors.OptionError, match="is none that Zarr has"):
            lazyio.nwb.plan(nwbfile, format="zarr", compression=asked)
        with pytest.raises(lazyio.errors.OptionError, match="compression_opts=100"):
            lazyio.nwb.plan(nwbfile, format="zarr", compression="gzip", compression_opts=100)
        with pytest.raises(lazyio.errors.OptionError, match="compression_opts goes with"):
            lazyio.nwb.plan(nwbfile, format="zarr", compression="none", compression_opts=4)

    def test_a_store_that_exists(self, tmp_path: Path) -> None:
        path = tmp_path / "a.nwb.zarr"
        lazyio.nwb.write(empty(), path)
        with pytest.raises(lazyio.errors.TargetExistsError, match=r"a\.nwb"):
            lazyio.nwb.write(empty(), path, mode="x")

    def test_a_folder_of_other_things(self, tmp_path: Path) -> None:
        path = tmp_path / "a.nwb.zarr"
        path.mkdir()
        (path / "thesis.tex").write_text("ten years of work")
        with pytest.raises(lazyio.errors.TargetError, match="folder of other things"):
            lazyio.nwb.write(session(samples()), path)
        assert (path / "thesis.tex").read_text() == "ten years of work"

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.nwb.zarr").write_text("text")
        with pytest.raises(lazyio.errors.TargetError, match="is a file"):
            lazyio.nwb.write(empty(), tmp_path / "a.nwb.zarr")

    def test_what_the_other_format_has(self, tmp_path: Path) -> None:
        with pytest.raises(lazyio.errors.OptionError, match=r"shards: HDF5 has none"):
            lazyio.nwb.write(empty(), tmp_path / "a.nwb", shards="auto")
        rules = {"*": {"fletcher32": True}}
        with pytest.raises(lazyio.errors.OptionError, match=r"says \['fletcher32'\]; give some of"):
            lazyio.nwb.write(session(samples()), tmp_path / "a.nwb.zarr", rules=rules)
        with pytest.raises(lazyio.errors.OptionError, match="fletcher32: give some of chunks"):
            lazyio.nwb.plan(empty(), format="zarr", fletcher32=True)
        with pytest.raises(lazyio.errors.OptionError, match=r"'lzf' is none that Zarr has"):
            lazyio.nwb.write(session(samples()), tmp_path / "a.nwb.zarr", compression="lzf")
        assert not list(tmp_path.iterdir())

    def test_a_format_that_is_none(self) -> None:
        with pytest.raises(lazyio.errors.OptionError, match='give "hdf5" or "zarr"'):
            lazyio.nwb.plan(empty(), format="netcdf")

    def test_data_of_the_store_that_is_replaced(self, tmp_path: Path) -> None:
        path, nwbfile = tmp_path / "a.nwb.zarr", empty()
        lazyio.nwb.write(session(samples()), path)
        again = lazyio.nwb.iterator(lazyio.open(path, "acquisition/es"))
        nwbfile.add_acquisition(series("x", again))
        with pytest.raises(lazyio.errors.TargetError, match="is the source of this array"):
            lazyio.nwb.write(nwbfile, path)
        assert lazyio.verify(path).status == "ok"

    def test_a_block_that_fails_leaves_the_old_store(self, tmp_path: Path) -> None:
        path, raw = tmp_path / "a.nwb.zarr", samples()
        lazyio.nwb.write(session(raw), path)

        def fail(block: Any) -> Any:
            raise ZeroDivisionError

        nwbfile = empty()
        bad = da.from_array(raw, chunks=7000).map_blocks(fail, dtype=raw.dtype)
        nwbfile.add_acquisition(series("x", lazyio.nwb.iterator(bad)))
        with pytest.raises(lazyio.errors.BlockError, match="computing block"):
            lazyio.nwb.write(nwbfile, path)
        np.testing.assert_array_equal(lazyio.open(path, "acquisition/es").compute(), raw)
        assert [one.name for one in tmp_path.iterdir()] == ["a.nwb.zarr"]
