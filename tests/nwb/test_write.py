"""NWB files that lazyio writes: PyNWB's structure, and every array right."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import hdmf
import numpy as np
import pynwb
import pytest
import yaml
from hdmf.backends.hdf5 import H5DataIO
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sessions import N_CHANNELS, empty, samples, series, session

import lazyio
import lazyio.nwb
from lazyio.nwb import zarr_stores

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:hdmf", "ignore::UserWarning:pynwb")

ARRAYS = (
    "acquisition/es/data",
    "acquisition/plain/data",
    "acquisition/plain/timestamps",
    "acquisition/rows/data",
    "acquisition/slices/data",
    "acquisition/wrapped/data",
    "units/spike_times",
)


def is_valid(path: Path) -> bool:
    """Return whether PyNWB's validator finds nothing."""
    return pynwb.validate(path=path) in ([], ([], 0))


def test_every_array_in_one_pass(tmp_path: Path) -> None:
    raw, path = samples(), tmp_path / "a.nwb"
    report = lazyio.nwb.write(session(raw), path, compression="gzip", compression_opts=4)
    assert tuple(sorted(report.keys)) == ARRAYS
    with pynwb.NWBHDF5IO(path, "r") as io:
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
        assert found.acquisition["es"].data.compression_opts == 4
        assert found.acquisition["wrapped"].data.compression_opts == 2
        assert found.acquisition["wrapped"].data.chunks == (1000, N_CHANNELS)
        # Columns can grow where PyNWB makes them so: with HDMF 5 and later.
        grows = int(hdmf.__version__.partition(".")[0]) >= 5
        column = found.units["spike_times"].target.data
        assert column.maxshape == ((None,) if grows else column.shape)
    assert is_valid(path)
    assert lazyio.verify(path).status == "ok"


def test_the_file_is_that_of_pynwb_but_for_chunks_and_filters(tmp_path: Path) -> None:
    raw = samples()
    nwbfile = session(raw)
    lazyio.nwb.write(nwbfile, tmp_path / "ours.nwb")
    rows = nwbfile.acquisition["rows"]  # Its iterator is used up.
    rows.fields["data"] = raw[:500]
    with pynwb.NWBHDF5IO(tmp_path / "theirs.nwb", "w") as io:
        io.write(nwbfile)
    for path in ("/acquisition", "/units", "/general", "/session_description", "/specifications"):
        command = ["h5diff", "-c", tmp_path / "ours.nwb", tmp_path / "theirs.nwb", path]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr


def test_the_containers_are_left_as_they_were_found(tmp_path: Path) -> None:
    nwbfile = session(samples())
    rows = lazyio.nwb.plan(nwbfile)
    assert "acquisition/es/data" in rows
    lazyio.nwb.write(nwbfile, tmp_path / "a.nwb")
    assert nwbfile.container_source is None
    assert nwbfile.acquisition["es"].data.array.chunks[0][0] == 7000
    nwbfile.acquisition.pop("rows")
    lazyio.nwb.write(nwbfile, tmp_path / "b.nwb")
    with h5py.File(tmp_path / "a.nwb") as a, h5py.File(tmp_path / "b.nwb") as b:
        assert a.attrs["object_id"] == b.attrs["object_id"] == nwbfile.object_id
        assert (a["acquisition/es/data"][:] == b["acquisition/es/data"][:]).all()


def test_containers_are_added_to_a_file_that_is_open(tmp_path: Path) -> None:
    raw, path = samples(), tmp_path / "a.nwb"
    lazyio.nwb.write(session(raw), path)
    with pynwb.NWBHDF5IO(path, "r+") as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(series("more", lazyio.nwb.iterator(raw * 2)))
        module = nwbfile.create_processing_module("ecephys", "filtered")
        module.add(series("low", lazyio.nwb.iterator(da.from_array(raw, chunks=999))))
        assert set(lazyio.nwb.plan(nwbfile)) == {
            "acquisition/more/data",
            "processing/ecephys/low/data",
        }
        report = lazyio.nwb.write(nwbfile, io, compression="gzip")
        assert len(report.keys) == 2
        assert "open-handle" in dict(report.advice)
    with pynwb.NWBHDF5IO(path, "r") as io:
        found = io.read()
        np.testing.assert_array_equal(found.acquisition["more"].data[:], raw * 2)
        np.testing.assert_array_equal(found.processing["ecephys"]["low"].data[:], raw)
        np.testing.assert_array_equal(found.acquisition["es"].data[:], raw)
    assert is_valid(path)


def test_hdmf_writes_the_same_iterator_block_by_block(tmp_path: Path) -> None:
    raw, nwbfile = samples(), empty()
    graph = da.from_array(raw, chunks=(3001, 3))
    data = lazyio.nwb.iterator(graph, memory_limit="1 MiB", chunks=(500, 4))
    nwbfile.add_acquisition(series("x", H5DataIO(data, compression="gzip")))
    with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwbfile)
    with h5py.File(tmp_path / "a.nwb") as file:
        dataset = file["acquisition/x/data"]
        assert dataset.chunks == (500, 4)
        assert dataset.compression == "gzip"
        np.testing.assert_array_equal(dataset[:], raw)


@pytest.mark.parametrize("shape", [(0, 4), (0,), (3, 0)])
def test_hdmf_writes_an_iterator_of_nothing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nwbfile = empty()
    nwbfile.add_acquisition(series("x", lazyio.nwb.iterator(da.zeros(shape, dtype="i2"))))
    lazyio.nwb.write(nwbfile, tmp_path / "b.nwb")
    with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwbfile)
    for name in ("a.nwb", "b.nwb"):
        with h5py.File(tmp_path / name) as file:
            assert file["acquisition/x/data"].shape == shape
        assert is_valid(tmp_path / name)


def test_hdmf_cannot_write_one_iterator_twice(tmp_path: Path) -> None:
    """The second dataset would stay empty; lazyio writes both."""
    nwbfile, data = empty(), lazyio.nwb.iterator(samples(), chunks=(500, 4), memory_limit="1 MiB")
    for name in "xy":
        nwbfile.add_acquisition(series(name, data))
    lazyio.nwb.write(nwbfile, tmp_path / "a.nwb")
    for name in "xy":
        found = lazyio.open(tmp_path / "a.nwb", f"acquisition/{name}").compute()
        np.testing.assert_array_equal(found, samples())
    with (
        pytest.raises(lazyio.errors.OptionError, match="written to its end"),
        pynwb.NWBHDF5IO(tmp_path / "b.nwb", "w") as io,
    ):
        io.write(nwbfile)


@pytest.mark.parametrize("call", [lazyio.nwb.write, lambda given, _: lazyio.nwb.plan(given)])
def test_only_an_nwb_file_is_written(tmp_path: Path, call: Any) -> None:
    with pytest.raises(lazyio.errors.OptionError, match=r"ndarray is no NWBFile.*to_hdf5"):
        call(samples(), tmp_path / "a.nwb")


def test_the_last_rule_holds_then_the_wrapper_then_what_is_for_all(tmp_path: Path) -> None:
    raw, path = samples(), tmp_path / "a.nwb"
    rules = {
        "acquisition/*/data": {"fletcher32": True},
        "acquisition/wrapped/data": {"chunks": [2000, 2]},
        "/units/spike_times": {"compression": None},
        "general/extracellular_ephys/electrodes/x": {"compression": "gzip"},
    }
    nwbfile = session(raw)
    table = lazyio.nwb.plan(nwbfile, rules=rules, compression="zstd")
    assert len(table) == len(ARRAYS) + 1
    assert str(table).split()[:4] == ["array", "type", "filters", "shape"]
    lazyio.nwb.write(nwbfile, path, rules=rules, compression="zstd")
    with h5py.File(path) as file:
        assert file["acquisition/wrapped/data"].chunks == (2000, 2)
        assert file["acquisition/wrapped/data"].compression_opts == 2
        assert file["acquisition/wrapped/data"].fletcher32
        assert file["acquisition/es/data"]._filters.keys() == {"fletcher32", "32015"}
        assert not file["units/spike_times"]._filters
        assert "32015" in file["acquisition/plain/timestamps"]._filters
        assert file["general/extracellular_ephys/electrodes/x"].compression == "gzip"
    np.testing.assert_array_equal(lazyio.open(path, "acquisition/es").compute(), raw)


def test_the_table_is_edited_as_yaml(tmp_path: Path) -> None:
    nwbfile = session(samples())
    text = yaml.safe_dump(lazyio.nwb.plan(nwbfile, compression="gzip").rules())
    rules = yaml.safe_load(text)
    rules["acquisition/es/data"]["chunks"] = [100, N_CHANNELS]
    table = lazyio.nwb.plan(nwbfile, rules=rules)
    assert table["acquisition/es/data"].chunk_shape == (100, N_CHANNELS)
    lazyio.nwb.write(nwbfile, tmp_path / "a.nwb", rules=rules)
    with h5py.File(tmp_path / "a.nwb") as file:
        assert file["acquisition/plain/data"].compression == "gzip"
    assert json.loads(json.dumps(rules)) == rules


def test_links_to_data_elsewhere_stay_links(tmp_path: Path) -> None:
    raw = samples()
    lazyio.to_hdf5(raw, tmp_path / "raw.h5", "raw", attrs={"unit": "V"})
    nwbfile = empty()
    with h5py.File(tmp_path / "raw.h5", "r") as file:
        nwbfile.add_acquisition(series("far", file["raw"]))
        nwbfile.add_acquisition(series("near", lazyio.nwb.iterator(raw)))
        lazyio.nwb.write(nwbfile, tmp_path / "a.nwb")
    with h5py.File(tmp_path / "a.nwb") as file:
        link = file["acquisition/far"].get("data", getlink=True)
        assert (link.filename, link.path) == ("raw.h5", "/raw")
    np.testing.assert_array_equal(lazyio.open(tmp_path / "a.nwb", "acquisition/far").compute(), raw)
    assert is_valid(tmp_path / "a.nwb")


@pytest.mark.parametrize("resume", [False, True])
def test_what_pynwb_wrote_has_digests_as_well(tmp_path: Path, resume: bool) -> None:
    path = tmp_path / "a.nwb"
    lazyio.nwb.write(session(samples()), path, resume=resume)
    assert lazyio.verify(path).status == "ok"
    with h5py.File(path, "r+") as file:
        file["general/extracellular_ephys/electrodes/x"][2] = 17.0
    found = lazyio.verify(path)
    assert found.status == "damaged"
    assert "electrodes/x" in str(found)


def test_attributes_that_a_type_needs_survive_a_replaced_dataset(tmp_path: Path) -> None:
    raw, path = samples(), tmp_path / "a.nwb"
    lazyio.nwb.write(session(raw), path)
    more = {"conversion": 0.5}
    lazyio.to_hdf5(raw * 2, path, "acquisition/es/data", overwrite=True, attrs=more)
    times = np.arange(60_000.0)
    lazyio.to_hdf5(times, path, "units/spike_times", overwrite=True, maxshape=(None,))
    with pynwb.NWBHDF5IO(path, "r") as io:
        found = io.read()
        es = found.acquisition["es"]
        assert (es.unit, es.conversion) == ("volts", 0.5)
        np.testing.assert_array_equal(es.data[:], raw * 2)
        np.testing.assert_array_equal(found.units["spike_times"][1], times[3000:6000])
    assert is_valid(path)
    assert lazyio.verify(path).status == "ok"


def test_the_inspector_of_nwb_finds_nothing(tmp_path: Path) -> None:
    inspector = pytest.importorskip("nwbinspector")
    raw, nwbfile = samples(n_samples=40_000), session(samples(n_samples=40_000))
    lazyio.nwb.write(nwbfile, tmp_path / "ours.nwb", compression="gzip")
    del nwbfile.acquisition["rows"].fields["data"]
    nwbfile.acquisition["rows"].fields["data"] = raw[:500]
    with pynwb.NWBHDF5IO(tmp_path / "theirs.nwb", "w") as io:
        io.write(nwbfile)

    def findings(name: str) -> set[tuple[str, str]]:
        found = inspector.inspect_nwbfile(nwbfile_path=str(tmp_path / name))
        return {(one.check_function_name, one.location) for one in found}

    ours, theirs = findings("ours.nwb"), findings("theirs.nwb")
    assert ours <= theirs
    assert not {name for name, _ in ours} & {"check_large_dataset_compression"}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_arrays_in_any_form_come_back(tmp_path: Path, data: st.DataObject) -> None:
    path, nwbfile, expected = tmp_path / "p.nwb", empty(), {}
    for at in range(data.draw(st.integers(1, 4))):
        shape = tuple(data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=3)))
        dtype = data.draw(st.sampled_from(["int16", "float32", "float64", "uint8", "int64"]))
        array = np.random.default_rng(at).integers(0, 100, shape).astype(dtype)
        form = data.draw(st.sampled_from(["numpy", "lazy", "graph", "wrapped", "lazy wrapped"]))
        given: Any = array
        if form.startswith("lazy"):
            given = lazyio.nwb.iterator(array)
        if form == "graph":
            given = lazyio.nwb.iterator(da.from_array(array, chunks=7))
        if form.endswith("wrapped"):
            given = H5DataIO(given, compression="gzip", chunks=tuple(min(5, n) for n in shape))
        name = f"x{at}"
        nwbfile.add_acquisition(series(name, given))
        expected[name] = array
    is_named = data.draw(st.booleans())
    rules: dict[str, Any] = {f"acquisition/{name}/data": {} for name in expected if is_named}
    lazyio.nwb.write(nwbfile, path, rules=rules, memory_limit="8 MiB")
    with pynwb.NWBHDF5IO(path, "r") as io:
        found = io.read()
        for name, array in expected.items():
            one = found.acquisition[name].data
            assert one.dtype == array.dtype
            np.testing.assert_array_equal(one[:], array)


class TestRefused:
    """One error for what cannot be."""

    def test_a_rule_for_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(lazyio.errors.UnknownNameError, match=r"names no array.*acquisition/es"):
            lazyio.nwb.write(session(samples()), tmp_path / "a.nwb", rules={"nope/*": {}})
        assert not list(tmp_path.iterdir())

    def test_a_rule_that_says_what_rules_cannot(self, tmp_path: Path) -> None:
        rules = {"*": {"chunk": 3}}
        with pytest.raises(lazyio.errors.OptionError, match=r"says \['chunk'\]; give some of"):
            lazyio.nwb.write(session(samples()), tmp_path / "a.nwb", rules=rules)

    def test_what_is_no_nwbfile(self, tmp_path: Path) -> None:
        with pytest.raises(lazyio.errors.OptionError, match="TimeSeries is no NWBFile"):
            lazyio.nwb.write(series("x", samples()), tmp_path / "a.nwb")

    def test_a_mode_that_adds(self, tmp_path: Path) -> None:
        with pytest.raises(lazyio.errors.OptionError, match="open it with NWBHDF5IO"):
            lazyio.nwb.write(empty(), tmp_path / "a.nwb", mode="a")

    def test_a_file_that_exists(self, tmp_path: Path) -> None:
        path = tmp_path / "a.nwb"
        lazyio.nwb.write(empty(), path)
        with pytest.raises(lazyio.errors.TargetExistsError, match=r"a\.nwb"):
            lazyio.nwb.write(empty(), path, mode="x")

    def test_zarr_where_there_is_no_hdmf_zarr(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(zarr_stores, "optional", lambda _: None)
        remedy = r"lazyio\[nwb-zarr\]" if sys.version_info >= (3, 12) else "Python 3.12"
        with pytest.raises(lazyio.errors.OptionError, match=rf"hdmf-zarr 0\.14.*{remedy}"):
            lazyio.nwb.write(empty(), tmp_path / "a.nwb.zarr")
        assert not list(tmp_path.iterdir())

    def test_containers_that_were_read_from_another_file(self, tmp_path: Path) -> None:
        lazyio.nwb.write(session(samples()), tmp_path / "a.nwb")
        refused = pytest.raises(lazyio.errors.OptionError, match=r"was read from .*a\.nwb")
        with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "r") as io, refused:
            lazyio.nwb.write(io.read(), tmp_path / "b.nwb")

    def test_an_iterator_that_is_used_up(self, tmp_path: Path) -> None:
        nwbfile = session(samples())
        lazyio.nwb.write(nwbfile, tmp_path / "a.nwb")
        with pytest.raises((lazyio.errors.BlockError, ValueError), match=r"used up|has been|rows"):
            lazyio.nwb.write(nwbfile, tmp_path / "b.nwb")
        assert not (tmp_path / "b.nwb").exists()

    def test_a_block_that_fails_leaves_the_old_file(self, tmp_path: Path) -> None:
        path, raw = tmp_path / "a.nwb", samples()
        lazyio.nwb.write(session(raw), path)
        before = path.read_bytes()

        def fail(block: Any) -> Any:
            raise ZeroDivisionError

        nwbfile = empty()
        bad = da.from_array(raw, chunks=7000).map_blocks(fail, dtype=raw.dtype)
        nwbfile.add_acquisition(series("x", lazyio.nwb.iterator(bad)))
        with pytest.raises(
            lazyio.errors.BlockError, match=r"computing block \[0:7000|computing block"
        ):
            lazyio.nwb.write(nwbfile, path)
        assert path.read_bytes() == before
        assert [one.name for one in tmp_path.iterdir()] == ["a.nwb"]


def test_lists_keep_their_values(tmp_path: Path) -> None:
    """PyNWB takes the first for the type of all."""
    for bad in (float("nan"), 2**63):
        nwbfile = empty()
        nwbfile.add_acquisition(series("x", [1, *[bad] * 9000]))
        with pytest.raises((ValueError, OverflowError)):
            lazyio.nwb.write(nwbfile, tmp_path / "a.nwb")
    nwbfile = empty()
    for name, values in (("i", [1, 2**40]), ("f", [1.5, 2]), ("b", [True, False])):
        nwbfile.add_acquisition(series(name, values * 9000))
    lazyio.nwb.write(nwbfile, tmp_path / "a.nwb")
    for name, values in (("i", [1, 2**40]), ("f", [1.5, 2]), ("b", [True, False])):
        found = lazyio.open(tmp_path / "a.nwb", f"acquisition/{name}")[:2].compute()
        assert found.tolist() == values


@pytest.mark.parametrize("how", ["series", "its data", "dataset"])
def test_a_file_that_is_linked_to_is_not_replaced(tmp_path: Path, how: str) -> None:
    raw, path, nwbfile = samples(), tmp_path / "a.nwb", empty()
    nwbfile.add_acquisition(series("es", raw))
    lazyio.nwb.write(nwbfile, path)
    with pynwb.NWBHDF5IO(path, "r") as io:
        es, again = io.read().acquisition["es"], empty()
        if how == "series":
            again.add_acquisition(es)
        else:
            again.add_acquisition(series("x", es if how == "its data" else es.data))
        with pytest.raises(lazyio.errors.TargetError, match="would be replaced"):
            lazyio.nwb.write(again, path)
    np.testing.assert_array_equal(lazyio.open(path, "acquisition/es").compute(), raw)


def test_a_call_that_resumes_looks_at_what_pynwb_wrote(tmp_path: Path) -> None:
    path, nwbfile = tmp_path / "a.nwb", session(samples())
    nwbfile.acquisition.pop("rows")
    lazyio.nwb.write(nwbfile, path, resume=True)
    again = lazyio.nwb.write(nwbfile, path, resume=True)
    assert again.n_resumed == again.n_blocks
    assert lazyio.nwb.write(nwbfile, path, resume=True, cache_spec=False).n_resumed == 0
    with h5py.File(path, "r+") as file:
        file["general/extracellular_ephys/electrodes/x"][2] = 17.0
    assert lazyio.nwb.write(nwbfile, path, resume=True, cache_spec=False).n_resumed == 0
    assert lazyio.verify(path).status == "ok"


def test_h5dump_reads_it(tmp_path: Path) -> None:
    if shutil.which("h5dump") is None:
        pytest.skip("h5dump is not installed")
    lazyio.nwb.write(session(samples()), tmp_path / "a.nwb", compression="gzip")
    found = subprocess.run(
        ["h5dump", "-H", tmp_path / "a.nwb"], capture_output=True, text=True, check=True
    )
    assert "neurodata_type" in found.stdout
