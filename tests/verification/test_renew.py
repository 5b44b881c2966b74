"""Digests of what is there now: of files that others have changed, or have made."""

import json
import os
import shutil
from functools import partial

import h5py
import netCDF4
import numpy as np
import pynwb
import pytest
import tables
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from kills import killed

import lazyio
from lazyio.cli import main
from lazyio.errors import (
    DamagedDataError,
    OptionError,
    SourceError,
    TargetError,
    TargetLockedError,
    UnknownFormatError,
)
from lazyio.storage.hdf5 import file as hdf5_file

pytestmark = pytest.mark.usefixtures("in_this_process")

ROWS = np.arange(60 * 20, dtype="i4").reshape(60, 20) % 251
CHUNKS = (16, 7)


@pytest.fixture(params=["copy", "log"])
def way(request, monkeypatch):
    """Change small files in a copy, or in place as large ones are."""
    if request.param == "log":
        monkeypatch.setattr(hdf5_file, "COPIED_NBYTES", 0)
        monkeypatch.setattr(hdf5_file, "_cloned", lambda *_: False)
    return request.param


def ours(path):
    lazyio.to_hdf5({"x": ROWS, "g/y": ROWS}, path, chunks=CHUNKS, maxshape=(None, 20))
    with h5py.File(path, "a") as file:
        file["x"][3, 3] = 999
        file["x"].resize(70, axis=0)
        file["x"].attrs["gain"] = 2.0
        del file["g/y"]
        file["new"] = np.arange(5)


def h5pys(path):
    with h5py.File(path, "w") as file:
        arguments = {"chunks": CHUNKS, "maxshape": (60, None), "compression": "gzip"}
        file.create_dataset("x", data=ROWS, **arguments)
        file.create_dataset("text", data=["a", "bc"], dtype=h5py.string_dtype())
        file["records"] = np.zeros(3, [("a", "i2"), ("b", "S3")])
        file["scalar"], file["word"], file["nothing"] = 3.5, "hello", h5py.Empty("f4")
        rows = file.create_dataset("rows", (3,), h5py.vlen_dtype("i4"))
        rows[0], rows[1] = [1, 2], np.arange(2000)
        file["refs"] = np.array([file["x"].ref, file["text"].ref], h5py.ref_dtype)
        file["parts"] = np.array([file["x"].regionref[2:5]], h5py.regionref_dtype)
        file["soft"] = h5py.SoftLink("/x")
        file["compact/y"] = np.arange(3)


def netcdfs(path):
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", None)
        file.createDimension("channel", 20)
        variable = file.createVariable("x", "i4", ("time", "channel"), chunksizes=CHUNKS, zlib=True)
        variable[:] = ROWS


def pytables(path):
    with tables.open_file(path, "w") as file:
        file.create_earray("/", "x", obj=ROWS, chunkshape=CHUNKS)
        file.create_vlarray("/", "ragged", tables.Int32Atom()).append([1, 2, 3])
        file.create_table("/", "table", np.zeros(4, [("a", "i4")]))


MAKERS = [ours, h5pys, netcdfs, pytables]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("user_block", [0, 512])
def test_files_of_all_programs(tmp_path, way, make, user_block):
    path = tmp_path / "x.h5"
    make(path)
    if user_block:
        with h5py.File(path) as old, h5py.File(tmp_path / "y.h5", "w", userblock_size=512) as file:
            for key in old:
                if key != "_lazyio" and make is not netcdfs:
                    old.copy(key, file, without_attrs=make is h5pys)
            if make is netcdfs:
                file.create_dataset("x", data=ROWS, chunks=CHUNKS, maxshape=(None, 20))
        path = tmp_path / "y.h5"
    assert lazyio.verify(path).status in ("damaged", "unverifiable")
    with h5py.File(path) as file:
        before = file["x"][()]
    found = lazyio.verify(path, renew=True)
    assert found.status == "ok", str(found)
    assert found.n_arrays >= 1 + (make is not netcdfs)
    assert lazyio.verify(path).status == "ok"
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["x"][()], before)
    with h5py.File(path, "a") as file:
        file["x"][33, 8] += 1
    found = lazyio.verify(path)
    assert found.status == "damaged"
    assert [one[:2] for one in found.damaged] == [("/x", np.s_[32:48, 7:14])]
    assert lazyio.verify(path, renew=True).status == "ok"
    assert not (path.parent / f".{path.name}.lazyio").exists()


@pytest.mark.parametrize("name", ["x.h5", "x.zarr"])
def test_digests_that_are_right_are_not_stored_anew(tmp_path, name):
    """Also where arrays know of their neighbours."""
    to = lazyio.to_hdf5 if name.endswith("h5") else lazyio.to_zarr
    to({"a": ROWS, "b/c": ROWS + 1, "d": ROWS[0]}, tmp_path / name)
    assert "those of what is there already" in str(lazyio.verify(tmp_path / name, renew=True))


CHANGES = {
    "text": lambda file: file["text"].__setitem__(1, "bd"),
    "records": lambda file: file["records"].__setitem__(1, (1, b"x")),
    "scalar": lambda file: file["scalar"].__setitem__((), 3.75),
    "word": lambda file: file["word"].__setitem__((), "hellp"),
    "rows": lambda file: file["rows"].__setitem__(1, np.r_[:1000, 7, 1001:2000]),
    "refs": lambda file: file["refs"].__setitem__(1, file["compact"].ref),
    "parts": lambda file: file["parts"].__setitem__(0, file["x"].regionref[2:6]),
    "compact/y": lambda file: file["compact/y"].__setitem__(1, 5),
    "soft": lambda file: (
        file.__delitem__("soft"),
        file.__setitem__("soft", h5py.SoftLink("/word")),
    ),
}


def test_elements_of_every_kind_are_told(tmp_path):
    path = tmp_path / "x.h5"
    h5pys(path)
    assert lazyio.verify(path, renew=True).status == "ok"
    for key, change in CHANGES.items():
        with h5py.File(path, "a") as file:
            change(file)
        found = lazyio.verify(path)
        assert {one[0] for one in found.damaged} == {f"/{key}"}, str(found)
        assert lazyio.verify(path, key, renew=True).status == "ok"
    assert lazyio.verify(path).status == "ok"


def test_a_file_of_pynwb(nwb_file):
    path = nwb_file(ROWS, chunks=CHUNKS, compression="gzip")
    with pynwb.NWBHDF5IO(path, "a") as io:
        nwbfile = io.read()
        nwbfile.add_unit(spike_times=[0.1, 0.2, 0.5])
        nwbfile.add_unit(spike_times=[0.3])
        nwbfile.add_trial(start_time=0.0, stop_time=1.0)
        io.write(nwbfile)
    assert lazyio.verify(path, renew=True).status == "ok"
    assert lazyio.verify(path).status == "ok"
    assert not pynwb.validate(path=str(path))
    with pynwb.NWBHDF5IO(path, "r") as io:
        np.testing.assert_array_equal(io.read().acquisition["x"].data[:], ROWS)
    with h5py.File(path, "a") as file:
        file["acquisition/x/data"][5, 5] += 1
    found = lazyio.verify(path)
    assert [one[0] for one in found.damaged] == ["/acquisition/x/data"]


def test_a_netcdf_file_goes_on_being_one(tmp_path, way):
    path = tmp_path / "x.nc"
    netcdfs(path)
    lazyio.verify(path, renew=True)
    with netCDF4.Dataset(path, "a") as file:
        file["x"][60:70] = ROWS[:10]
    assert lazyio.verify(path, "x").status == "modified"
    assert lazyio.verify(path, renew=True).status == "ok"
    with netCDF4.Dataset(path) as file:
        np.testing.assert_array_equal(file["x"][60:], ROWS[:10])


@pytest.mark.parametrize("chunks", [None, (2,)])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("i4", 1),
        (h5py.string_dtype(), "a"),
        (h5py.vlen_dtype("i4"), [1]),
        (h5py.ref_dtype, None),
        ([("a", "i4"), ("s", h5py.string_dtype())], (1, "a")),
    ],
    ids=str,
)
def test_elements_that_were_not_there(tmp_path, dtype, value, chunks):
    """What was never written has no digest, and is told when others write it."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (3,), dtype, chunks=chunks, maxshape=(None,) if chunks else None)
    assert lazyio.verify(path, renew=True).status == "ok"
    with h5py.File(path, "r+") as file:
        file["x"].attrs["unit"] = "V"
    assert lazyio.verify(path).status == "modified"
    with h5py.File(path, "r+") as file:
        file["x"][0] = file.ref if value is None else value
    for deep in (True, False):
        found = lazyio.verify(path, deep=deep)
        assert found.status == "damaged"
        assert "not there when it was written" in found.damaged[0][2]


def test_twice_is_once(tmp_path, way):
    """What is known already is not written again, and what is changed takes little room."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(10_000), chunks=(10,), maxshape=(None,))
    lazyio.verify(path, renew=True)
    facts, content = path.stat(), path.read_bytes()
    assert lazyio.verify(path, renew=True).status == "ok"
    assert path.read_bytes() == content
    assert path.stat().st_mtime_ns == facts.st_mtime_ns
    for at in range(3):
        with h5py.File(path, "a") as file:
            file["x"][at] = -1
        lazyio.verify(path, renew=True)
    assert path.stat().st_size <= facts.st_size + 3 * 4096


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"maxshape": (None, 20)},
        {"maxshape": (None, None), "compression": "gzip"},
        {"chunks": None},
        {"zarr_format": 3, "shards": (32, 14)},
        {"zarr_format": 2},
    ],
)
def test_what_was_just_written_is_known(tmp_path, options):
    """The same digests come out, so that nothing is written."""
    options = {"chunks": CHUNKS, **options}
    path = tmp_path / ("x.zarr" if "zarr_format" in options else "x.h5")
    write = lazyio.to_zarr if "zarr_format" in options else lazyio.to_hdf5
    write({"x": ROWS, "g/y": ROWS}, path, **options)
    before = snapshot(tmp_path)
    assert lazyio.verify(path, renew=True).status == "ok"
    assert snapshot(tmp_path) == before


def test_one_key(tmp_path):
    path = tmp_path / "x.h5"
    lazyio.to_hdf5({"x": ROWS, "y": ROWS}, path)
    with h5py.File(path, "a") as file:
        file["x"][0, 0] = file["y"][0, 0] = 77
    assert lazyio.verify(path, "/x/", renew=True).status == "ok"
    assert [one[0] for one in lazyio.verify(path).damaged] == ["/y"]
    with pytest.raises(SourceError, match="has no dataset 'z'; its datasets are x, y"):
        lazyio.verify(path, "z", renew=True)


class TestLinks:
    """What leads out of a file, and what is read from others."""

    def test_virtual_datasets(self, tmp_path):
        """Of which all elements have digests from then on."""
        for at in range(2):
            lazyio.to_hdf5(ROWS + at, tmp_path / f"{at}.h5", "x")
        path = tmp_path / "v.h5"
        lazyio.virtual(path, "x", [tmp_path / "0.h5", tmp_path / "1.h5"])
        lazyio.link(path, "l", tmp_path / "0.h5", "x")
        assert lazyio.verify(path, renew=True).status == "ok"
        with h5py.File(tmp_path / "1.h5", "a") as file:
            file["x"][3, 3] = 999
        found = lazyio.verify(path)
        assert [one[0] for one in found.damaged] == ["/x"]
        lazyio.to_hdf5(ROWS.astype("f8"), tmp_path / "0.h5", "x", overwrite=True)
        assert {one[0] for one in lazyio.verify(path).damaged} == {"/x", "/l"}
        assert lazyio.verify(path, renew=True).status == "ok"
        (tmp_path / "1.h5").unlink()
        with pytest.raises(DamagedDataError, match=r"/x: .* '1\.h5', which is not there"):
            lazyio.verify(path, renew=True)

    def test_broken_links_stay_broken(self, tmp_path):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["x"], file["l"] = ROWS, h5py.SoftLink("/nowhere")
        assert lazyio.verify(tmp_path / "x.h5", renew=True).status == "damaged"
        assert lazyio.verify(tmp_path / "x.h5", "x").status == "ok"

    def test_what_lies_outside_gets_none(self, tmp_path):
        lazyio.to_hdf5(ROWS, tmp_path / "raw.h5", "x")
        (tmp_path / "sub").mkdir()
        path = tmp_path / "sub" / "v.h5"
        lazyio.virtual(path, "x", [tmp_path / "raw.h5"], digests=False)
        lazyio.to_hdf5(ROWS, path, "y", digests=False)
        found = lazyio.verify(path, renew=True)
        assert found.status == "unverifiable"
        assert [key for key, _ in found.unverifiable] == ["/x"]
        assert lazyio.verify(path, "y").status == "ok"

    def test_raw_files(self, tmp_path, monkeypatch):
        ROWS.tofile(tmp_path / "raw.bin")
        with h5py.File(tmp_path / "x.h5", "w") as file:
            where = [("raw.bin", 0, ROWS.nbytes)]
            file.create_dataset("x", ROWS.shape, "i4", external=where)
        assert lazyio.verify(tmp_path / "x.h5", renew=True).status == "ok"
        (ROWS + 1).tofile(tmp_path / "raw.bin")
        assert lazyio.verify(tmp_path / "x.h5").status == "damaged"


class TestRefusals:
    """What is left as it was."""

    @pytest.fixture
    def path(self, tmp_path):
        """Return a file of h5py's making."""
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            options = {"chunks": CHUNKS, "compression": "gzip", "fletcher32": True}
            file.create_dataset("x", data=ROWS, **options)
            file["y"] = ROWS
        return path

    def spoil(self, path):
        with h5py.File(path) as file:
            place = file["x"].id.get_chunk_info_by_coord((16, 7)).byte_offset
        with path.open("r+b") as file:
            file.seek(place + 8)
            file.write(b"\xff\xfe\xfd")

    def test_what_does_not_decode(self, path, capsys, way):
        self.spoil(path)
        before = path.read_bytes()
        with pytest.raises(DamagedDataError, match=r"x.h5 are not renewed.*/x: it does not dec"):
            lazyio.verify(path, renew=True)
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == ["x.h5"]
        assert main(["verify", str(path), "--renew"]) == 3
        assert "/x: it does not decode" in capsys.readouterr().err
        # What is sound can have some.
        assert lazyio.verify(path, "y", renew=True).status == "ok"

    def test_a_digest_that_is_damaged_itself(self, tmp_path):
        path = tmp_path / "x.h5"
        lazyio.to_hdf5(ROWS, path, "x")
        with h5py.File(path, "a") as file:
            file["_lazyio/%2Fx/head"][3] = 0
        assert lazyio.verify(path).status == "damaged"
        assert lazyio.verify(path, renew=True).status == "ok"

    def test_a_file_that_may_not_be_written(self, path, monkeypatch):
        """Which a copy in its folder could take the place of all the same."""
        before = path.read_bytes()
        monkeypatch.setattr("lazyio.storage.disk_errors.os.access", lambda *_, **__: False)
        with pytest.raises(TargetError, match="its permissions forbid it"):
            lazyio.verify(path, renew=True)
        assert path.read_bytes() == before

    def test_a_file_that_is_open_for_writing(self, path):
        with h5py.File(path, "a"), pytest.raises(TargetLockedError, match="is open for writing"):
            lazyio.verify(path, renew=True)

    def test_a_second_writer_waits_outside(self, path, monkeypatch):
        def interfere(*_):
            with pytest.raises(TargetLockedError, match="is being written by"):
                lazyio.to_hdf5(ROWS, path, "z")
            msg = "ours"
            raise ZeroDivisionError(msg)

        monkeypatch.setattr("lazyio.verification.renewal.refuse_undecoded", interfere)
        before = path.read_bytes()
        with pytest.raises(ZeroDivisionError, match="ours"):
            lazyio.verify(path, renew=True)
        assert path.read_bytes() == before

    def test_arguments(self, path, tmp_path, capsys):
        with pytest.raises(OptionError, match="renew=True decodes all"):
            lazyio.verify(path, renew=True, deep=False)
        with pytest.raises(OptionError, match="renew=1"):
            lazyio.verify(path, renew=1)
        assert main(["verify", str(path), "--renew", "--quick"]) == 2
        np.save(tmp_path / "x.npy", ROWS)
        lazyio.to_zarr(ROWS, tmp_path / "x.zip", "x")
        for name in ("x.npy", "x.zip"):
            with pytest.raises(UnknownFormatError, match="has no place for digests"):
                lazyio.verify(tmp_path / name, renew=True)
        with pytest.raises(SourceError, match="does not exist"):
            lazyio.verify(tmp_path / "none.h5", renew=True)

    def test_types_that_numpy_lacks_get_none(self, path):
        with h5py.File(path, "a") as file:
            kind = h5py.h5t.IEEE_F64LE.copy()
            kind.set_fields(63, 51, 12, 0, 51)
            h5py.h5d.create(file.id, b"odd", kind, h5py.h5s.create_simple((3,)))
        found = lazyio.verify(path, renew=True)
        assert [key for key, _ in found.unverifiable] in ([], ["/odd"])
        assert lazyio.verify(path, "x").status == "ok"


def test_the_command_line(tmp_path, capsys):
    path = tmp_path / "x.h5"
    ours(path)
    assert main(["verify", str(path)]) == 3
    assert main(["verify", str(path), "--renew"]) == 0
    assert ": ok (" in capsys.readouterr().out
    assert main(["verify", str(path)]) == 0
    with h5py.File(path, "a") as file:
        file["x"].attrs["gain"] = 3.0
    assert main(["verify", str(path)]) == 6
    assert main(["verify", f"{path}::x", "--renew", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["status"] == "ok"


def test_by_a_child_process(tmp_path, monkeypatch):
    """As it is done outside of these tests."""
    monkeypatch.undo()
    path = tmp_path / "x.h5"
    h5pys(path)
    assert lazyio.verify(path, renew=True).status == "ok"
    assert lazyio.verify(path).status == "ok"


def test_a_kill_at_any_step(tmp_path, way):
    """All of the old digests are there, or all of the new ones."""
    seen = set()
    lazyio.to_hdf5({"x": ROWS, "y": ROWS}, tmp_path / "made.h5", chunks=CHUNKS)
    with h5py.File(tmp_path / "made.h5", "a") as file:
        file["x"][0, 0] = file["y"][0, 0] = 77
    for last in range(0, 200, 3):
        path = tmp_path / f"{last}.h5"
        shutil.copyfile(tmp_path / "made.h5", path)
        is_killed = killed(last, partial(lazyio.verify, path, renew=True))
        lazyio.recover(path)
        found = lazyio.verify(path)
        assert {one[0] for one in found.damaged} in (set(), {"/x", "/y"}), str(found)
        with h5py.File(path) as file:
            assert file["x"][0, 0] == file["y"][0, 0] == 77
        seen.add(found.status)
        path.unlink()
        if not is_killed:
            break
    assert seen == {"ok", "damaged"}


MEASURE = """
import json, re, sys
from pathlib import Path
import h5py, numpy as np
import lazyio

def peak():
    return int(re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[0]) << 10

path = sys.argv[1]
lazyio.verify(path + "-warm", renew=True)
Path("/proc/self/clear_refs").write_text("5")
before = peak()
assert lazyio.verify(path, renew=True).status == "ok"
print(json.dumps(peak() - before))
"""


def test_memory_is_that_of_a_piece(tmp_path, warm):
    """Of 96 MB in chunks and in one run, beside 3000 small chunks."""
    path = tmp_path / "x.h5"
    values = np.random.default_rng(0).integers(0, 255, (48, 2**20), "u1")
    for name in (path, tmp_path / "x.h5-warm"):
        with h5py.File(name, "w") as file:
            file.create_dataset("chunked", data=values, chunks=(1, 2**20), maxshape=(None, 2**20))
            file["run"] = values
            file.create_dataset("small", data=np.arange(3000), chunks=(1,))
        values = values[:2]
    done = warm.run(MEASURE, path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    growth = json.loads(done.stdout.splitlines()[-1])
    assert growth <= 24 << 20, f"{growth / 2**20:.1f} MiB"


# --- Zarr ---


@pytest.fixture(params=[2, 3])
def store(tmp_path, request):
    """Return a store of zarr-python's making."""
    group = zarr.create_group(tmp_path / "x.zarr", zarr_format=request.param)
    for name in ("x", "g/y"):
        options = {"shards": (32, 14)} if request.param == 3 and name == "x" else {}
        array = group.create_array(name, shape=ROWS.shape, dtype="i4", chunks=CHUNKS, **options)
        array[...] = ROWS
    return tmp_path / "x.zarr"


def snapshot(store):
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file()
    }


class TestZarr:
    """Stores in folders."""

    def test_a_store_of_zarr_python(self, store):
        assert lazyio.verify(store).status == "unverifiable"
        assert lazyio.verify(store, renew=True).status == "ok"
        before = snapshot(store)
        found = lazyio.verify(store)
        assert (found.status, found.n_arrays) == ("ok", 2)
        assert lazyio.verify(store, renew=True).status == "ok"
        assert snapshot(store) == before
        zarr.open_group(store, mode="a")["g/y"][33, 8] = 999
        found = lazyio.verify(store)
        assert [one[:2] for one in found.damaged] == [("/g/y", np.s_[32:48, 7:14])]
        assert lazyio.verify(store, "g/y", renew=True).status == "ok"
        assert lazyio.verify(store).status == "ok"
        shutil.rmtree(store / "g/y")
        assert lazyio.verify(store).status == "damaged"
        assert lazyio.verify(store, renew=True).status == "ok"

    def test_what_others_have_appended(self, store):
        lazyio.verify(store, renew=True)
        array = zarr.open_group(store, mode="a")["x"]
        array.resize((70, 20))
        array[60:] = ROWS[:10]
        found = lazyio.verify(store)
        assert found.status == "modified", str(found)
        assert lazyio.verify(store, renew=True).status == "ok"
        array[59, 0] = 999
        assert lazyio.verify(store).status == "damaged"

    def test_an_array_that_was_moved(self, tmp_path):
        lazyio.to_zarr({"a": ROWS, "b": ROWS, "c": ROWS}, tmp_path / "x.zarr")
        os.rename(tmp_path / "x.zarr/a", tmp_path / "x.zarr/d")
        assert lazyio.verify(tmp_path / "x.zarr").status == "modified"
        assert lazyio.verify(tmp_path / "x.zarr", renew=True).status == "ok"
        assert lazyio.verify(tmp_path / "x.zarr").status == "ok"
        lazyio.to_zarr(ROWS, tmp_path / "x.zarr", "e")
        assert lazyio.verify(tmp_path / "x.zarr").status == "ok"
        shutil.rmtree(tmp_path / "x.zarr/d")
        assert lazyio.verify(tmp_path / "x.zarr").status == "damaged"

    def test_an_array_that_was_added(self, tmp_path):
        """By another program, to a store of ours; and told to one that is there."""
        root = tmp_path / "x.zarr"
        lazyio.to_zarr({"a": ROWS, "b": ROWS}, root)
        zarr.open_group(root, mode="a").create_array("new", data=ROWS)
        assert lazyio.verify(root).status == "unverifiable"
        assert lazyio.verify(root, "new", renew=True).status == "ok"
        assert lazyio.verify(root).status == "ok"
        shutil.rmtree(root / "new")
        assert lazyio.verify(root).status == "damaged"

    def test_a_store_that_is_one_array(self, tmp_path):
        array = zarr.create_array(tmp_path / "x.zarr", data=ROWS, chunks=CHUNKS)
        assert lazyio.verify(tmp_path / "x.zarr", renew=True).status == "ok"
        assert lazyio.verify(tmp_path / "x.zarr").status == "ok"
        array[0, 0] = 999
        assert lazyio.verify(tmp_path / "x.zarr").status == "damaged"

    def test_what_does_not_decode(self, store):
        chunk = next(path for path in (store / "g/y").rglob("*1") if path.is_file())
        chunk.write_bytes(chunk.read_bytes()[:-5])
        before = snapshot(store)
        with pytest.raises(DamagedDataError, match="/g/y: it does not decode"):
            lazyio.verify(store, renew=True)
        assert snapshot(store) == before
        assert lazyio.verify(store, "x", renew=True).status == "ok"

    def test_what_is_changed_meanwhile(self, store, monkeypatch):
        def meanwhile(*_):
            zarr.open_group(store, mode="a")["x"][0, 0] = 999
            return set()

        monkeypatch.setattr("lazyio.verification.zarr_renewal.refuse_undecoded", meanwhile)
        with pytest.raises(TargetError, match="was changed by another program while"):
            lazyio.verify(store, "x", renew=True)
        assert not (store / "x/lazyio.digests").exists()

    def test_a_kill_at_any_step(self, store):
        lazyio.verify(store, renew=True)
        group = zarr.open_group(store, mode="a")
        for name in ("x", "g/y"):
            group[name][0, 0] = 999
        seen = set()
        for last in range(0, 100, 3):
            copy = store.parent / f"{last}.zarr"
            shutil.copytree(store, copy)
            is_killed = killed(last, partial(lazyio.verify, copy, renew=True))
            lazyio.recover(copy)
            damaged = {one[0] for one in lazyio.verify(copy).damaged}
            assert damaged in (set(), {"/x"}, {"/x", "/g/y"}, {"/g/y"})
            seen.add(frozenset(damaged))
            assert lazyio.verify(copy, renew=True).status == "ok"
            shutil.rmtree(copy)
            if not is_killed:
                break
        assert {frozenset(), frozenset({"/x", "/g/y"})} <= seen


@settings(max_examples=20)
@given(data=st.data())
def test_random_edits_are_told(tmp_path_factory, data):
    """Of a file of h5py's, against a plain list of what was edited since the digests."""
    path = tmp_path_factory.mktemp("edits") / "x.h5"
    shape = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple))
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    unlimited = data.draw(st.integers(-1, len(shape) - 1))
    maxshape = tuple(None if at == unlimited else n for at, n in enumerate(shape))
    options = data.draw(st.sampled_from([{}, {"compression": "gzip"}, {"fletcher32": True}]))
    values = np.arange(np.prod(shape), dtype="i4").reshape(shape)
    with h5py.File(path, "w", libver=data.draw(st.sampled_from(["earliest", "v110"]))) as file:
        dataset = file.create_dataset(
            "x", shape, "i4", chunks=chunks, maxshape=maxshape, fillvalue=-1, **options
        )
        if data.draw(st.booleans()):
            dataset[...] = values
    assert lazyio.verify(path, renew=True).status == "ok"
    edited = set()
    for _ in range(data.draw(st.integers(0, 3))):
        index = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
        with h5py.File(path, "a") as file:
            file["x"][index] = 10**6 + len(edited)
        edited.add(tuple(at // step for at, step in zip(index, chunks, strict=True)))
    found = lazyio.verify(path)
    told = {
        tuple(part.start // step for part, step in zip(region, chunks, strict=True))
        for _, region, _ in found.damaged
    }
    assert told == edited
    assert lazyio.verify(path, renew=True).status == "ok"
