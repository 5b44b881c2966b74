"""Verifying: what is whole is ok, what is not is named, and nothing is taken for the other."""

import json
import os
import random
import shutil
import signal
import warnings
import zipfile
import zlib
from dataclasses import replace

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec, ZstdCodec

import lazyio
from lazyio.atomic import hdf5_digests
from lazyio.cli import main
from lazyio.errors import OptionError, SourceError, UnknownFormatError, UnsafeFileError
from lazyio.info import info_of
from lazyio.verification.report import VerifyReport
from lazyio.verification.verify import verify_here

RNG = np.random.default_rng(0)
VALUES = RNG.integers(0, 9, (60, 20), "i4")
TEXT = np.array([f"row {n}" for n in range(30)], np.dtypes.StringDType())
RECORDS = np.zeros(40, [("a", "i2"), ("b", "f8")])

HDF5 = {
    "plain": (VALUES, {"chunks": (16, 7)}),
    "gzip": (VALUES, {"chunks": (16, 7), "compression": "gzip", "shuffle": True}),
    "checksum": (VALUES, {"chunks": (16, 7), "fletcher32": True}),
    "szip": (VALUES, {"chunks": (16, 7), "compression": "szip"}),
    "lossy": (VALUES / 3, {"chunks": (16, 7), "compression": "scaleoffset", "compression_opts": 1}),
    "contiguous": (VALUES, {"chunks": None}),
    "scalar": (np.float64(3), {}),
    "empty": (np.empty((0, 3)), {}),
    "text": (TEXT, {"chunks": (7,)}),
    "fixed-text": (np.array([b"ab", b"c"]), {}),
    "records": (RECORDS, {"chunks": (7,)}),
    "times": (np.array(["2026-01-01", "NaT"], "M8[s]"), {}),
    "bool": (VALUES > 3, {"chunks": (16, 7)}),
    "attributes": (VALUES, {"attrs": {"gain": 2.5, "names": ["a", "b"], "probe": {"x": (1, 2)}}}),
    "dims": (VALUES, {"dims": ("time", "channel")}),
    "fill": (VALUES, {"fillvalue": 7, "maxshape": (None, 20), "chunks": (16, 7)}),
}
ZARR = {
    "plain": (VALUES, {"chunks": (16, 7)}),
    "v2": (VALUES, {"chunks": (16, 7), "zarr_format": 2}),
    "shards": (VALUES, {"chunks": (8, 5), "shards": (16, 10)}),
    "empty-chunks": (np.zeros((60, 20)), {"chunks": (16, 7)}),
    "empty": (np.empty((0, 3)), {}),
    "scalar": (np.float64(3), {}),
    "text": (TEXT, {"chunks": (7,)}),
    "crc": (VALUES, {"chunks": (16, 7), "compressors": [ZstdCodec(level=1), Crc32cCodec()]}),
    "attributes": (VALUES, {"attributes": {"gain": 2.5}, "dimension_names": ("t", "c")}),
}


@pytest.mark.parametrize("name", HDF5)
def test_hdf5_that_is_whole(tmp_path, name):
    data, options = HDF5[name]
    report = lazyio.to_hdf5(data, tmp_path / "x.h5", "deep/x", **options)
    found = lazyio.verify(tmp_path / "x.h5")
    assert (found.status, found.damaged, found.unverifiable) == ("ok", (), ())
    assert found.n_chunks == report.n_chunks
    quick = lazyio.verify(tmp_path / "x.h5", "/deep/x", deep=False)
    assert (quick.status, quick.n_chunks) == ("ok", 0)
    lazyio.to_hdf5(data, tmp_path / "none.h5", digests=False, **options)
    has_checksum = "fletcher32" in options
    expected = "ok" if has_checksum else "unverifiable"
    assert lazyio.verify(tmp_path / "none.h5").status == expected


@pytest.mark.parametrize("name", ZARR)
def test_zarr_that_is_whole(tmp_path, name):
    data, options = ZARR[name]
    for path in (None, "deep/x"):
        store = tmp_path / f"{path is None}.zarr"
        lazyio.to_zarr(data, store, path, **options)
        found = lazyio.verify(store)
        assert (found.status, found.damaged, found.unverifiable) == ("ok", (), ())
        assert lazyio.verify(store, deep=False).status == "ok"
        np.testing.assert_array_equal(
            np.asarray(lazyio.open(store, path).compute()), np.asarray(data)
        )
    lazyio.to_zarr(data, tmp_path / "none.zarr", digests=False, **options)
    expected = "ok" if name == "crc" else "unverifiable"
    assert lazyio.verify(tmp_path / "none.zarr").status == expected


class TestDamagedHdf5:
    """Every kind of damage is named, with its place."""

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "x.h5"
        lazyio.to_hdf5(VALUES, path, "x", chunks=(16, 7), compression="gzip", attrs={"gain": 2.5})
        return path

    def test_a_chunk(self, path):
        with h5py.File(path) as file:
            info = file["x"].id.get_chunk_info_by_coord((16, 7))
        with path.open("r+b") as file:
            file.seek(info.byte_offset + info.size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 4]))
        found = lazyio.verify(path)
        assert found.status == "damaged"
        ((key, region, what),) = found.damaged
        assert (key, region) == ("/x", np.s_[16:32, 7:14])
        assert what == "it is damaged, or was modified since"
        assert "/x[[16:32, 7:14]]" in str(found) or "/x[16:32, 7:14]" in str(found)
        assert lazyio.verify(path, deep=False).status == "ok"

    def test_values_that_another_program_wrote(self, path):
        with h5py.File(path, "a") as file:
            file["x"][20, 8] = 100
        assert lazyio.verify(path).damaged[0][:2] == ("/x", np.s_[16:32, 7:14])

    def test_attributes(self, path):
        with h5py.File(path, "a") as file:
            file["x"].attrs["gain"] = 2.6
            file["x"].attrs["more"] = 1
        found = lazyio.verify(path, deep=False)
        assert (found.status, found.damaged) == ("modified", ())
        assert found.modified == (
            ("/x", None, "its attribute 'gain' was modified since, or is damaged"),
            ("/x", None, "its attribute 'more' was not there when it was written"),
        )
        with h5py.File(path, "a") as file:
            del file["x"].attrs["gain"]
        assert ("/x", None, "its attribute 'gain' is gone") in lazyio.verify(path).modified

    def test_shape(self, tmp_path):
        path = tmp_path / "y.h5"
        lazyio.to_hdf5(VALUES, path, "x", chunks=(16, 7), maxshape=(None, 20))
        with h5py.File(path, "a") as file:
            file["x"].resize(50, axis=0)
        assert lazyio.verify(path).damaged == (
            ("/x", None, "its shape is damaged, or was modified since"),
        )

    def test_a_dataset_that_is_gone(self, path):
        with h5py.File(path, "a") as file:
            del file["x"]
        assert lazyio.verify(path).damaged[0][0] == "/x"
        with h5py.File(path, "a") as file:
            file.create_group("x")
        assert "is none now" in lazyio.verify(path).damaged[0][2]

    def test_a_lost_chunk(self, tmp_path):
        """It is told from one that was never written, which has the fill value by right."""
        path = tmp_path / "y.h5"
        lazyio.allocate(path, "x", shape=(64, 14), dtype="i4", chunks=(16, 7))
        assert lazyio.verify(path).status == "ok"
        lazyio.to_hdf5(VALUES[:16, :7], path, "x", region=np.s_[:16, :7])
        assert lazyio.verify(path).status == "ok"
        with h5py.File(path, "a") as file:
            file["x"][40, 10] = 1
        assert lazyio.verify(path).damaged == (
            ("/x", np.s_[32:48, 7:14], "it was not there when it was written"),
        )

    def test_the_file_is_cut(self, path):
        os.truncate(path, path.stat().st_size - 100)
        found = lazyio.verify(path)
        assert found.status == "damaged"
        assert "cannot be opened as HDF5" in found.damaged[0][2]

    def test_the_digests_themselves(self, path):
        with h5py.File(path, "a") as file:
            file["_lazyio/%2Fx/rows"][0, 1] ^= np.uint64(1)
        assert lazyio.verify(path).damaged == (("/x", None, "its digests are damaged themselves"),)
        with h5py.File(path, "a") as file:
            del file["_lazyio/%2Fx/rows"]
        assert "its digests cannot be read" in lazyio.verify(path).damaged[0][2]

    def test_the_head_of_the_digests(self, path):
        """It is compressed, and was not before; damaged or cut it is told as such."""
        with h5py.File(path, "a") as file:
            stored = file["_lazyio/%2Fx/head"][...].tobytes()
        plain = zlib.decompress(stored)
        assert json.loads(plain)["format"] == 2
        damaged = stored[:40] + bytes([stored[40] ^ 255]) + stored[41:]
        for head, is_good in ((plain, True), (damaged, False), (stored[:-9], False), (b"", False)):
            with h5py.File(path, "a") as file:
                del file["_lazyio/%2Fx/head"]
                file["_lazyio/%2Fx/head"] = np.frombuffer(head, np.uint8)
            found = lazyio.verify(path)
            assert (found.status == "ok") == is_good
            assert is_good or "digests" in found.damaged[0][2]

    def test_digests_are_small(self, path):
        """Those of a small dataset lie in headers, and bring no heap with them."""
        with h5py.File(path) as file:
            for name in ("head", "rows"):
                properties = file["_lazyio/%2Fx"][name].id.get_create_plist()
                assert properties.get_layout() == h5py.h5d.COMPACT
            assert file["_lazyio"].attrs["about"].dtype.kind == "S"

    def test_damage_beside_what_is_written_is_not_hidden(self, path):
        """Digests are renewed for what is written, and for nothing else."""
        with h5py.File(path, "a") as file:
            file["x"][20, 8] = 100
            file["x"].attrs["gain"] = 3.0
        lazyio.to_hdf5(VALUES[:5, :5], path, "x", region=np.s_[:5, :5])
        places = [damage[:2] for damage in lazyio.verify(path).damaged]
        assert places == [("/x", np.s_[16:32, 7:14])]
        lazyio.to_hdf5(VALUES[:, 7:14], path, "x", region=np.s_[:, 7:14])
        found = lazyio.verify(path)
        assert (found.status, found.damaged) == ("modified", ())
        assert found.modified == (
            ("/x", None, "its attribute 'gain' was modified since, or is damaged"),
        )

    def test_all_keys_of_a_file(self, path):
        lazyio.to_hdf5({"a%2Fb": VALUES, "c/d": VALUES}, path)
        assert lazyio.verify(path).n_arrays == 3
        lazyio.to_hdf5(VALUES + 1, path, "c/d", overwrite=True)
        assert lazyio.verify(path, "c/d").status == "ok"
        lazyio.to_hdf5(VALUES + 1, path, "c/d", overwrite=True, digests=False)
        found = lazyio.verify(path)
        assert found.status == "unverifiable"
        assert [key for key, _ in found.unverifiable] == ["/c/d"]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["plain", "gzip", "attributes", "text", "contiguous", "dims"]), st.data())
def test_a_flipped_bit_is_never_missed(tmp_path_factory, name, data):
    """Either a reader gets what was written, or verify says that something is wrong."""
    folder = tmp_path_factory.mktemp("flip")
    values, options = HDF5[name]
    path = folder / "x.h5"
    lazyio.to_hdf5(values, path, "x", **options)
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[at // 8] ^= 1 << at % 8
    path.write_bytes(raw)
    try:
        is_found = lazyio.verify(path).status != "ok"
    except UnsafeFileError:  # libhdf5 crashed on it, or would not come back.
        is_found = True
    if is_found:
        shutil.rmtree(folder)
        return
    pid = os.fork()
    if not pid:  # It may do so for a reader alone.
        signal.alarm(20)
        outcome = 1
        try:
            outcome = 1 if _missed(path, values, options) else 9
        finally:
            os._exit(outcome)
    _, status = os.waitpid(pid, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 9
    shutil.rmtree(folder)


def _missed(path, values, options):
    """Return whether a reader gets something else, where verify says that all is well."""
    try:
        with h5py.File(path) as file:
            found = file["x"]
            attrs = dict(found.attrs)
            elements = found.asstr()[...] if found.dtype.hasobject else found[...]
    except (OSError, KeyError, RuntimeError):
        return True
    same = elements.dtype.kind == "O" or elements.dtype == np.asarray(values).dtype
    same = same and (np.asarray(elements) == np.asarray(values)).all()
    return not same or ("attrs" in options and attrs["gain"] != 2.5)


class TestDamagedZarr:
    """Every kind of damage is named, with its place."""

    @pytest.fixture
    def root(self, tmp_path):
        root = tmp_path / "x.zarr"
        lazyio.to_zarr({"a": VALUES, "b/c": VALUES}, root, chunks=(16, 7), attributes={"gain": 2.5})
        return root

    def test_an_object(self, root):
        path = root / "a/c/1/1"
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
        found = lazyio.verify(root)
        assert found.damaged == (
            ("/a", np.s_[16:32, 7:14], "it is damaged, or was modified since"),
        )
        assert lazyio.verify(root, "b/c").status == "ok"

    def test_an_object_that_is_lost(self, root):
        """It would be read as fill value, without a word."""
        (root / "a/c/1/1").unlink()
        for deep in (True, False):
            assert lazyio.verify(root, deep=deep).damaged == (
                ("/a", np.s_[16:32, 7:14], "it is lost: its object is not there"),
            )

    def test_an_object_that_was_not_there(self, root):
        (root / "a/c/9").mkdir()
        (root / "a/c/9/9").write_bytes(b"x")
        assert "c/9/9 was not there" in lazyio.verify(root).damaged[0][2]

    def test_metadata(self, root):
        path = root / "a/zarr.json"
        described = json.loads(path.read_text())
        described["fill_value"] = 5
        described["attributes"] = {}
        path.write_text(json.dumps(described))
        found = lazyio.verify(root)
        assert [what for _, _, what in found.damaged] == [
            "its fill_value is damaged, or was modified since",
        ]
        assert [what for _, _, what in found.modified] == ["its attribute 'gain' is gone"]
        path.write_text("{")
        assert "/a" in [key for key, _, _ in lazyio.verify(root).damaged]
        path.unlink()
        assert "/a" in [key for key, _, _ in lazyio.verify(root).damaged]

    def test_an_array_that_was_renamed(self, root):
        """Nothing of it is lost."""
        (root / "a").rename(root / "x")
        found = lazyio.verify(root)
        assert (found.status, found.damaged) == ("modified", ())
        assert found.modified == (("/x", None, "it was written as /a, and moved since"),)

    def test_consolidated_metadata(self, tmp_path):
        root = tmp_path / "x.zarr"
        lazyio.to_zarr({"a": VALUES}, root, zarr_format=2)
        assert lazyio.verify(root).status == "ok"
        path = root / ".zmetadata"
        path.write_text(path.read_text().replace('"order": "C"', '"order": "F"'))
        assert ".zmetadata differs from a/.zarray" in lazyio.verify(root).damaged[0][2]
        path.write_text("{")
        assert lazyio.verify(root).status == "damaged"

    def test_consolidated_metadata_of_v3(self, tmp_path):
        """What groups are opened by, and arrays themselves do not know."""
        root = tmp_path / "x.zarr"
        options = {"attributes": {"gain": 2.5}, "chunks": (16, 7)}
        arrays = {"a": VALUES * 2.0, "b/c": VALUES * 0.5}
        lazyio.to_zarr(arrays, root, fill_value=float("nan"), **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(root)
        assert lazyio.verify(root).status == "ok"
        path = root / "zarr.json"
        whole = json.loads(path.read_text())
        held = whole["consolidated_metadata"]["metadata"]
        held["b/c"]["data_type"] = "float32"
        path.write_text(json.dumps(whole))
        assert lazyio.verify(root).damaged == (
            ("/b/c", None, "zarr.json differs from b/c/zarr.json"),
        )
        held["b/c"]["data_type"] = "float64"
        # What may be left out.
        del held["a"]["storage_transformers"], held["b"]["attributes"]
        path.write_text(json.dumps(whole))
        assert lazyio.verify(root).status == "ok"
        del held["a"], whole["consolidated_metadata"]["metadata"]
        path.write_text(json.dumps(whole))
        assert lazyio.verify(root).status == "damaged"

    def test_the_digests_themselves(self, root):
        path = root / "a/lazyio.digests"
        raw = path.read_bytes()
        for at in (0, 20, len(raw) - 1):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
            assert "its digests" in lazyio.verify(root).damaged[0][2]
        path.write_bytes(raw[:-1])
        assert "its digests" in lazyio.verify(root).damaged[0][2]

    def test_parts_and_growth(self, root):
        lazyio.to_zarr(VALUES[:5, :5], root, "a", region=np.s_[3:8, 3:8])
        lazyio.to_zarr(VALUES, root, "a", append_dim=1)
        assert lazyio.verify(root).status == "ok"
        lazyio.to_zarr(np.zeros((60, 40), "i4"), root, "a", region=...)
        assert lazyio.verify(root).status == "ok"
        np.testing.assert_array_equal(zarr.open_array(root / "a")[...], np.zeros((60, 40)))

    def test_it_is_written_through_an_open_array(self, root):
        """Its digests go, since they would no longer be true."""
        lazyio.to_zarr(VALUES + 1, zarr.open_array(root / "a"), region=...)
        found = lazyio.verify(root)
        assert found.status == "unverifiable"
        assert [key for key, _ in found.unverifiable] == ["/a"]


class TestDamagedZip:
    """Each entry of a zip file has a checksum."""

    @pytest.fixture(params=[2, 3])
    def path(self, tmp_path, request):
        path = tmp_path / "x.zip"
        arrays = {"a": VALUES, "b/c": VALUES * 2}
        lazyio.to_zarr(arrays, path, chunks=(16, 7), zarr_format=request.param)
        return path

    def test_it_is_whole(self, path):
        found = lazyio.verify(path)
        assert (found.status, found.n_arrays) == ("ok", 2)
        assert lazyio.verify(path, "b/c", deep=False).status == "ok"
        with pytest.raises(SourceError, match="no array 'x'"):
            lazyio.verify(path, "x")

    def test_of_other_programs(self, tmp_path):
        """With entries for folders, and arrays without axes."""
        lazyio.to_zarr(VALUES, tmp_path / "x.zarr", chunks=(3, 5), shards=(6, 10))
        shutil.make_archive(str(tmp_path / "y"), "zip", tmp_path / "x.zarr")
        assert lazyio.verify(tmp_path / "y.zip").status == "ok"
        with zarr.storage.ZipStore(tmp_path / "z.zip", mode="w") as store:
            zarr.create_array(store, name="s", data=np.array(3.0), zarr_format=2)
        assert lazyio.verify(tmp_path / "z.zip").status == "ok"
        assert [one.nbytes for one in info_of(tmp_path / "z.zip")] == [8]

    def test_a_chunk(self, path):
        with zipfile.ZipFile(path) as file:
            (name,) = [name for name in file.namelist() if name.endswith(("a/c/1/1", "a/1.1"))]
            at = file.getinfo(name).header_offset
        raw = bytearray(path.read_bytes())
        raw[at + 30 + len(name) + 5] ^= 1
        path.write_bytes(raw)
        (damage,) = lazyio.verify(path).damaged
        assert damage[:2] == ("/a", np.s_[16:32, 7:14])
        assert f"{name} is damaged" in damage[2]

    def test_any_bit(self, path):
        """Reported, or what a reader gets is the same."""
        whole = path.read_bytes()
        rng = random.Random(0)
        n_found = 0
        for _ in range(300):
            raw = bytearray(whole)
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            path.write_bytes(raw)
            try:
                is_found = verify_here(str(path), None, deep=True).status != "ok"
            except UnknownFormatError:  # The name of the metadata is another.
                is_found = True
            if is_found:
                n_found += 1
                continue
            for key, values in (("a", VALUES), ("b/c", VALUES * 2)):
                np.testing.assert_array_equal(lazyio.open(path, key).compute(), values)
        assert n_found > 100


class TestOthers:
    """Files of other programs: whether they decode, and checksums where there are any."""

    def test_hdf5(self, tmp_path):
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=VALUES, chunks=(16, 7), compression="gzip")
            file.create_dataset("vlen", (3,), h5py.vlen_dtype("i4"))
            file["scalar"] = 3
        found = lazyio.verify(path)
        assert found.status == "unverifiable"
        assert dict(found.unverifiable)["/x"] == "it decodes, and has neither digests nor checksums"
        assert "cannot be decoded here" in dict(found.unverifiable)["/vlen"]
        with h5py.File(path) as file:
            info = file["x"].id.get_chunk_info_by_coord((16, 7))
        with path.open("r+b") as file:
            file.seek(info.byte_offset)
            file.write(b"\0\0\0\0")
        found = lazyio.verify(path)
        assert found.status == "damaged"
        assert found.damaged[0][:2] == ("/x", np.s_[16:32, 7:14])
        assert lazyio.verify(path, deep=False).status == "unverifiable"

    def test_checksums(self, tmp_path):
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=VALUES, chunks=(16, 7), fletcher32=True)
        assert lazyio.verify(path).status == "ok"
        with h5py.File(path) as file:
            info = file["x"].id.get_chunk_info_by_coord((16, 7))
        with path.open("r+b") as file:
            file.seek(info.byte_offset)
            file.write(b"\1\2\3\4")
        assert lazyio.verify(path).status == "damaged"

    def test_zarr(self, tmp_path):
        root = tmp_path / "x.zarr"
        zarr.create_array(root, data=VALUES, chunks=(16, 7))
        assert lazyio.verify(root).status == "unverifiable"
        (root / "c/1/1").write_bytes(b"no zstd")
        assert lazyio.verify(root).damaged[0][:2] == ("/", np.s_[16:32, 7:14])

    def test_what_is_mostly_empty(self, tmp_path):
        """Only what is there is looked at."""
        shape = (2**50, 2**20)
        zarr.create_array(tmp_path / "x.zarr", shape=shape, chunks=(10, 10), dtype="i1")
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.create_dataset("x", (2**40,), "i1", chunks=(10,), maxshape=(None,))[5:15] = 1
        for name in ("x.zarr", "x.h5"):
            assert lazyio.verify(tmp_path / name).status == "unverifiable"
        assert info_of(tmp_path / "x.zarr")[0].nbytes == 2**70

    def test_npy(self, tmp_path):
        np.save(tmp_path / "x.npy", VALUES)
        assert lazyio.verify(tmp_path / "x.npy").status == "unverifiable"

    def test_no_such_thing(self, tmp_path):
        with pytest.raises(SourceError, match="does not exist"):
            lazyio.verify(tmp_path / "x.h5")
        (tmp_path / "x.txt").write_text("text")
        with pytest.raises(UnknownFormatError, match="those are verified"):
            lazyio.verify(tmp_path / "x.txt")
        with pytest.raises(OptionError, match="no local path"):
            lazyio.verify("s3://bucket/x.zarr")
        with pytest.raises(OptionError, match="no path inside"):
            lazyio.verify(tmp_path / "x.txt", 3)
        lazyio.to_hdf5(VALUES, tmp_path / "x.h5")
        with pytest.raises(SourceError, match=r"no dataset 'y'; its datasets are data"):
            lazyio.verify(tmp_path / "x.h5", "y")


def test_the_report(tmp_path):
    damaged = tuple(("/x", np.s_[at : at + 1,], "it is lost") for at in range(30))
    report = VerifyReport(path="x.h5", status="damaged", damaged=damaged, note="a note")
    assert "and 10 more" in str(report)
    assert "a note" in str(report)
    assert report.to_dict()["damaged"][3] == {"key": "/x", "region": [[3, 4]], "what": "it is lost"}
    described = replace(report, modified=(("/y", None, "it has grown"),))
    there = VerifyReport.from_dict(json.loads(json.dumps(described.to_dict())), "x.h5")
    assert there == described
    assert "/y: it has grown" in str(there)


@pytest.mark.parametrize(
    ("how", "status"),
    [("whole", 0), ("damaged", 3), ("unfinished", 4), ("unknown", 5), ("described", 6)],
)
def test_the_command_line(tmp_path, capsys, how, status):
    path = tmp_path / "x.h5"
    if how == "unfinished":
        (tmp_path / ".x.h5.lazyio").mkdir()
    else:
        lazyio.to_hdf5(VALUES, path, digests=how != "unknown")
    if how == "damaged":
        with h5py.File(path, "a") as file:
            file["data"][0, 0] = 99
    if how == "described":
        with h5py.File(path, "a") as file:
            file["data"].attrs["unit"] = "uV"
    assert main(["verify", str(path)]) == status
    assert main(["verify", str(path), "--json"]) == status
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    named = {0: "ok", 3: "damaged", 4: "incomplete", 5: "unverifiable", 6: "modified"}
    assert found["status"] == named[status]
    assert main(["verify", f"{path}::nothing"]) == (4 if how == "unfinished" else 1)


def test_digests_are_no_datasets_of_the_file(tmp_path):
    """Who opens the file by its only dataset still can."""
    lazyio.to_hdf5(VALUES, tmp_path / "x.h5")
    assert lazyio.open(tmp_path / "x.h5").shape == VALUES.shape
    with h5py.File(tmp_path / "x.h5") as file:
        assert hdf5_digests.keys_with_digests(file) == ["data"]
