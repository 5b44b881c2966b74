"""NIfTI, against nibabel, and parts of gzip files, against the whole."""

import gzip
import json
from io import FileIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_contract import (
    ReadsIntoContract,
    SourceContract,
    StoredContract,
    TravelsContract,
    assert_same,
)

import lazyio
from lazyio.cli import main
from lazyio.errors import DamagedDataError, OptionError, SourceError, TruncatedSourceError
from lazyio.sources import gzipped
from lazyio.sources.gzipped import GzippedSource, GzipReader, Places
from lazyio.sources.lookup import source_for
from lazyio.sources.nifti import ScaledSource
from lazyio.sources.raw import RawSource

nibabel = pytest.importorskip("nibabel")

VOLUMES = np.random.default_rng(0).integers(-900, 900, (7, 6, 5, 11)).astype("<i2")


def values(array):
    return array.compute(scheduler="synchronous")


def save(path, array, slope=None, version=1, **header):
    """Write an image, by nibabel's own header."""
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    image = kind(array, np.eye(4), **header)
    nibabel.save(image, path)
    if slope is not None:
        # nibabel chooses another one when it saves.
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rb") as file:
            content = bytearray(file.read())
        content[112:120] = np.array(slope, "<f4").tobytes()
        with opened(path, "wb") as file:
            file.write(content)
    return path


class ImageContract(SourceContract, TravelsContract, ReadsIntoContract, StoredContract):
    """Subclasses say how it is stored."""

    suffix, slope = ".nii", None

    @pytest.fixture
    def path(self, tmp_path):
        return save(tmp_path / f"x{self.suffix}", VOLUMES, self.slope)

    @pytest.fixture
    def expected(self, path):
        return np.ascontiguousarray(np.asanyarray(nibabel.load(path).dataobj))

    @pytest.fixture
    def source(self, path):
        found = source_for(path)
        assert isinstance(found, self.kind)
        return found


class TestPlain(ImageContract):
    """As it is."""

    kind = RawSource


class TestGzipped(ImageContract):
    """In a gzip file."""

    suffix, kind = ".nii.gz", GzippedSource


class TestScaled(ImageContract):
    """With slope and intercept."""

    kind, slope = ScaledSource, (0.25, 3)


class TestScaledAndGzipped(ImageContract):
    """Both."""

    suffix, kind, slope = ".nii.gz", ScaledSource, (2, -1)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII"])
def test_versions(tmp_path, version, suffix):
    path = save(tmp_path / f"x{suffix}", VOLUMES, version=version)
    np.testing.assert_array_equal(values(lazyio.open(path)), VOLUMES)
    np.testing.assert_array_equal(values(lazyio.open(path)[2, :, 1:4, 5]), VOLUMES[2, :, 1:4, 5])


def test_command_line(tmp_path, capsys, in_this_process):
    path = save(tmp_path / "x.nii.gz", VOLUMES)
    assert main(["convert", str(path), str(tmp_path / "x.zarr")]) == 0
    np.testing.assert_array_equal(values(lazyio.open(tmp_path / "x.zarr")), VOLUMES)
    assert lazyio.verify(path).status == "unverifiable"
    save(tmp_path / "x10.nii.gz", VOLUMES)
    assert lazyio.open(tmp_path / "x*.nii.gz", join="stack").shape == (2, *VOLUMES.shape)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_image(tmp_path_factory, data):
    """Any type, shape and scaling, as nibabel gives it."""
    draw = data.draw
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=4)))
    dtype = draw(st.sampled_from(["u1", "i2", "i4", "u2", "f4", "f8", "c8"]))
    suffix = draw(st.sampled_from([".nii", ".nii.gz"]))
    slope = draw(st.sampled_from([None, (1, 0), (1, 5), (0.5, 0), (3e30, -7), (0, 0)]))
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    path = save(tmp_path_factory.mktemp("x") / f"x{suffix}", array, slope)
    proxy = nibabel.load(path).dataobj
    source = source_for(path)
    assert source.shape == proxy.shape
    region = tuple(
        slice(*sorted((draw(st.integers(0, extent)), draw(st.integers(0, extent)))))
        for extent in proxy.shape
    )
    wanted = np.asanyarray(proxy)
    assert_same(source.read(region), np.ascontiguousarray(wanted[region]))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_that_was_cut_short(tmp_path, suffix):
    content = save(tmp_path / f"x{suffix}", VOLUMES).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for n_bytes in range(2, len(content) - 10, 401):
        cut.write_bytes(content[:n_bytes])
        with pytest.raises((SourceError, DamagedDataError), match="cut"):
            values(lazyio.open(cut))
    if suffix == ".nii":
        with pytest.raises(TruncatedSourceError, match="it was cut short"):
            lazyio.open(cut)


def test_a_damaged_gzip_file(tmp_path):
    path = save(tmp_path / "x.nii.gz", VOLUMES)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises((DamagedDataError, SourceError), match=r"x\.nii\.gz"):
        values(lazyio.open(path))
    assert lazyio.verify(path).status == "damaged"


def test_without_nibabel(tmp_path, monkeypatch):
    path = save(tmp_path / "x.nii", VOLUMES)
    monkeypatch.setattr("lazyio.codecs.libraries.optional", lambda _: None)
    with pytest.raises(OptionError, match=r'needs nibabel.*pip install "lazyio\[nifti\]"'):
        lazyio.open(path)


def test_other_suffixes(tmp_path):
    """By which nibabel knows other images."""
    path = save(tmp_path / "x.nii", VOLUMES).rename(tmp_path / "x.mgh")
    with pytest.raises(SourceError, match=r"does not end in \.nii or \.nii\.gz"):
        lazyio.open(path, format="nifti")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_part_of_a_gzip_file(tmp_path_factory, data):
    """Of one member or several, with zeros behind them, in any order of reads."""
    draw = data.draw
    path = tmp_path_factory.mktemp("x") / "x.gz"
    random = np.random.default_rng(draw(st.integers(0, 9)))
    members = [
        random.integers(0, draw(st.sampled_from([2, 256])), n).astype("u1").tobytes()
        for n in draw(st.lists(st.integers(0, 60_000), min_size=1, max_size=3))
    ]
    content = b"".join(map(gzip.compress, members)) + bytes(draw(st.integers(0, 9)))
    path.write_bytes(content)
    whole = b"".join(members)
    places = Places()
    places._spacing = draw(st.sampled_from([1, 5_000, 20_000]))
    with FileIO(path) as file:
        for _ in range(draw(st.integers(1, 8))):
            reader = GzipReader(file, places)
            for _ in range(draw(st.integers(1, 3))):
                start = draw(st.integers(0, len(whole) + 10))
                length = draw(st.integers(1, 20_000))
                reader.seek(start)
                got = bytearray()
                while len(got) < length:
                    view = memoryview(bytearray(length - len(got)))
                    count = reader.readinto(view)
                    if not count:
                        break
                    got += view[:count]
                assert bytes(got) == whole[start : start + length]
    assert len(places._places) <= gzipped._MOST_PLACES


def test_places_are_used(tmp_path, monkeypatch):
    """A later read does not begin at the start."""
    monkeypatch.setattr(gzipped, "_FIRST_SPACING", 10_000)
    values_of = np.random.default_rng(0).integers(0, 99, 2_000_000).astype("u1")
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(values_of.tobytes(), 1))
    places = Places()
    with FileIO(path) as file:
        reader = GzipReader(file, places)
        reader.seek(1_999_990)
        assert reader.readinto(memoryview(bytearray(10))) == 10
        assert 8 <= len(places._places) <= gzipped._MOST_PLACES
        other = GzipReader(file, places)
        other.seek(1_900_000)
        view = memoryview(bytearray(10))
        assert other.readinto(view) == 10
        assert bytes(view) == values_of[1_900_000:1_900_010].tobytes()
        assert places.before(1_900_000).at > 1_000_000


MEMORY = """
import json, sys
import numpy as np, nibabel
import lazyio

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

def make(path, n_volumes):
    array = np.zeros((64, 64, 30, n_volumes), "i2")
    array[:] = np.arange(n_volumes)
    image = nibabel.Nifti1Image(array, np.eye(4))
    nibabel.save(image, path)
    if path.endswith(".nii"):
        with open(path, "r+b") as file:
            file.seek(112)
            file.write(np.array([0.5, 3], "<f4").tobytes())

def write(path):
    x = lazyio.open(path, memory_limit="16 MiB")
    lazyio.to_hdf5(x, "y.h5", "y", mode="w", memory_limit="16 MiB", workers=2)

growth = {}
for suffix in (".nii", ".nii.gz"):
    make("small" + suffix, 10)
    write("small" + suffix)
    make("x" + suffix, 60)
    open("/proc/self/clear_refs", "w").write("5")
    before = resident()
    write("x" + suffix)
    growth[suffix] = resident() - before
print(json.dumps(growth))
"""


@pytest.mark.xdist_group("memory")
def test_memory(tmp_path, warm):
    """15 MB of volumes, scaled to 59 MB, within 16 MiB."""
    told = json.loads(warm.run(MEMORY, cwd=tmp_path).stdout)
    assert max(told.values()) <= 16 * 2**20, told
