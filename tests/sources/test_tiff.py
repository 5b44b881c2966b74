"""TIFF: series and levels, against what tifffile reads."""

import json
import logging
import re

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from source_contract import (
    ReadsIntoContract,
    SourceContract,
    StoredContract,
    TravelsContract,
    assert_same,
    whole,
)

import lazyio
from lazyio.cli import main
from lazyio.errors import DamagedDataError, OptionError, SourceError, TruncatedSourceError
from lazyio.info import info_of
from lazyio.sources.lookup import source_for
from lazyio.sources.raw import RawSource
from lazyio.sources.tiff import TiffSource

tifffile = pytest.importorskip("tifffile")

STACK = np.random.default_rng(0).integers(0, 500, (6, 37, 50)).astype("u2")


def values(array):
    return array.compute(scheduler="synchronous")


class TiffContract(SourceContract, TravelsContract, ReadsIntoContract, StoredContract):
    """Subclasses say how the file is written."""

    options = {}
    array = STACK

    @pytest.fixture
    def path(self, tmp_path):
        tifffile.imwrite(tmp_path / "x.tif", self.array, **self.options)
        return tmp_path / "x.tif"

    @pytest.fixture
    def expected(self):
        return self.array

    @pytest.fixture
    def source(self, path):
        return source_for(path)


class TestContiguous(TiffContract):
    """One run of bytes."""

    options = {"photometric": "minisblack"}


class TestTiles(TiffContract):
    """Tiles, which do not fill the pages."""

    options = {"photometric": "minisblack", "tile": (16, 32), "compression": "zlib"}

    def test_blocks_are_of_tiles(self, source):
        assert isinstance(source, TiffSource)
        assert source.chunk_shape == (1, 16, 32)


class TestStrips(TiffContract):
    """Strips of some rows, in the other byte order."""

    options = {
        "photometric": "minisblack",
        "rowsperstrip": 5,
        "compression": "lzw",
        "predictor": True,
        "byteorder": ">",
        "bigtiff": True,
    }

    def test_blocks_are_of_pages(self, source):
        assert source.chunk_shape == (1, 5, 50)
        assert source.run_shape == (1, 37, 50)


class TestPlanes(TiffContract):
    """Samples in planes of their own, tiled, three images."""

    array = np.moveaxis(STACK.reshape(2, 3, 37, 50), 1, 1)
    options = {"photometric": "rgb", "planarconfig": "separate", "tile": (16, 16)}


class TestVolume(TiffContract):
    """One page of several planes."""

    options = {"photometric": "minisblack", "volumetric": True, "tile": (2, 16, 16)}


class TestPagesApart(TiffContract):
    """Plain pages with other things between them."""

    @pytest.fixture
    def path(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "x.tif") as file:
            for page in STACK:
                file.write(page, contiguous=False, photometric="minisblack", metadata=None)
        return tmp_path / "x.tif"

    def test_pages_are_runs(self, source):
        assert source.in_rows
        assert source.chunk_shape is None


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_written(tmp_path_factory, data):
    """Any shape, type, codec and tiling, read in any region, as tifffile reads it."""
    draw = data.draw
    path = tmp_path_factory.mktemp("x") / "x.tif"
    shape = (
        *draw(st.lists(st.integers(1, 3), max_size=3)),
        *draw(st.tuples(*[st.integers(2, 40)] * 2)),
    )
    options = {
        "compression": draw(st.sampled_from([None, "zlib", "lzw", "zstd", "packbits"])),
        "tile": draw(st.sampled_from([None, (16, 16), (16, 48)])),
        "byteorder": draw(st.sampled_from("<>")),
        "bigtiff": draw(st.booleans()),
        "ome": draw(st.booleans()),
        "photometric": "minisblack",
    }
    if draw(st.booleans()):
        shape = (*shape, 3)
        options["photometric"] = "rgb"
    dtype = draw(st.sampled_from(["u1", "i2", "u2", "f4", "f8"]))
    if options["photometric"] == "rgb":
        assume(dtype in ("u1", "u2"))
    if options["compression"] in ("zlib", "lzw") and draw(st.booleans()):
        options["predictor"] = True
    if options["tile"] is None:
        options["rowsperstrip"] = draw(st.integers(1, 40))
    array = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    tifffile.imwrite(path, array, **options)
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        wanted = series.asarray().reshape(series.shape)
    source = source_for(path)
    assert source.shape == wanted.shape
    region = tuple(
        slice(*sorted((draw(st.integers(0, extent)), draw(st.integers(0, extent)))))
        for extent in wanted.shape
    )
    for part in (whole(wanted.shape), region):
        found = source.read(part)
        np.testing.assert_array_equal(found, wanted[part])
        assert found.dtype.newbyteorder("=") == wanted.dtype.newbyteorder("=")


@pytest.fixture
def pyramid(tmp_path):
    """Two images, of which the first has smaller levels."""
    path = tmp_path / "pyramid.ome.tif"
    options = {"photometric": "minisblack", "tile": (16, 16), "compression": "zlib"}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(STACK, subifds=2, **options)
        file.write(STACK[:, ::2, ::2], subfiletype=1, **options)
        file.write(STACK[:, ::4, ::4], subfiletype=1, **options)
        file.write(STACK[:2] + 1, **options)
    return path


def test_series_and_levels_by_key(pyramid):
    for key, wanted in {
        "0": STACK,
        "0/1": STACK[:, ::2, ::2],
        "0/2": STACK[:, ::4, ::4],
        "1": STACK[:2] + 1,
    }.items():
        np.testing.assert_array_equal(values(lazyio.open(pyramid, key)), wanted)
    with pytest.raises(SourceError, match=r"holds 4 images; give the key .*'0', '0/1', '0/2', '1'"):
        lazyio.open(pyramid)
    with pytest.raises(SourceError, match="there is no '7'"):
        lazyio.open(pyramid, "7")


def test_what_is_told_of_them(pyramid, tmp_path, capsys, in_this_process):
    """By ``info`` and ``verify``, and a conversion by the command line."""
    told = {one.key: one for one in info_of(pyramid)}
    assert told["0/1"].shape == (6, 19, 25)
    assert "deflate" in told["0"].codecs
    assert 0 < told["0"].stored_nbytes < pyramid.stat().st_size
    assert lazyio.verify(pyramid).status == "unverifiable"
    assert lazyio.verify(pyramid).n_arrays == 4
    assert main(["convert", f"{pyramid}::0/1", str(tmp_path / "x.h5"), "--key", "x"]) == 0
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["x"], STACK[:, ::2, ::2])


def test_the_full_level_is_meant(tmp_path):
    """Of one image with levels, no key is needed."""
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(STACK, subifds=1, photometric="minisblack", tile=(16, 16))
        file.write(STACK[:, ::2, ::2], subfiletype=1, photometric="minisblack", tile=(16, 16))
    np.testing.assert_array_equal(values(lazyio.open(tmp_path / "x.tif")), STACK)


def test_images_are_stacked(tmp_path):
    """Files of one page side by side, those of several one after another."""
    for number, page in enumerate(STACK, start=8):
        tifffile.imwrite(tmp_path / f"img_{number}.tif", page, compression="zlib")
        tifffile.imwrite(tmp_path / f"rgb_{number}.tif", np.stack([page] * 3, -1).astype("u1"))
        tifffile.imwrite(tmp_path / f"two_{number}.tif", np.stack([page] * 2))
    np.testing.assert_array_equal(values(lazyio.open(tmp_path / "img*.tif")), STACK)
    assert lazyio.open(tmp_path / "rgb*.tif").shape == (6, 37, 50, 3)
    assert lazyio.open(tmp_path / "two*.tif").shape == (12, 37, 50)
    assert lazyio.open(tmp_path / "two*.tif", join="stack").shape == (6, 2, 37, 50)
    joined = lazyio.open(tmp_path / "img*.tif", join="concatenate")
    np.testing.assert_array_equal(values(joined), STACK.reshape(-1, 50))


def test_files_of_strangers(tmp_path):
    """Read by a child process, which cannot say here whether they are stacked."""
    for number, page in enumerate(STACK[:2]):
        options = {"tile": (16, 16), "compression": "zlib"}
        tifffile.imwrite(tmp_path / f"img_{number}.tif", page, **options)
    found = lazyio.open(tmp_path / "img_1.tif", trusted=False)
    np.testing.assert_array_equal(values(found), STACK[1])
    found = lazyio.open(tmp_path / "img*.tif", trusted=False, join="stack")
    np.testing.assert_array_equal(values(found), STACK[:2])
    with pytest.raises(OptionError, match="with trusted=False say which"):
        lazyio.open(tmp_path / "img*.tif", trusted=False)


@pytest.fixture
def several(tmp_path):
    """Write an OME-TIFF of which each plane lies in a file of its own."""
    names = [f"plane{number}.ome.tif" for number in range(3)]
    planes = "".join(
        f'<TiffData FirstZ="{at}" FirstC="0" FirstT="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{at:08d}-0000-0000-0000-000000000000</UUID></TiffData>'
        for at, name in enumerate(names)
    )
    for at, name in enumerate(names):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{at:08d}-0000-0000-0000-000000000000"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="50" SizeY="37" '
            f'SizeZ="3" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}'
            "</Pixels></Image></OME>"
        )
        tifffile.imwrite(
            tmp_path / name, STACK[at], description=xml, metadata=None, compression="zlib"
        )
    return tmp_path


def test_planes_in_several_files(several):
    """They are one image, and it changes when one of them does."""
    found = lazyio.open(several / "plane0.ome.tif")
    np.testing.assert_array_equal(values(found), STACK[:3])
    tifffile.imwrite(several / "plane2.ome.tif", STACK[0])
    with pytest.raises(SourceError, match=r"plane2\.ome\.tif"):
        values(found)


def test_a_missing_file_of_several(several):
    """It is not made up of zeros, as tifffile has it."""
    (several / "plane1.ome.tif").unlink()
    with pytest.raises(TruncatedSourceError, match=r"no page 1 of 3|zeroed"):
        lazyio.open(several / "plane0.ome.tif")


def test_a_plane_in_another_folder(several, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (several / "plane1.ome.tif").rename(other / "plane1.ome.tif")
    (several / "plane1.ome.tif").symlink_to(other / "plane1.ome.tif")
    with pytest.raises(lazyio.errors.UnsafeFileError, match="outside its folder"):
        lazyio.open(several / "plane0.ome.tif")


@pytest.mark.parametrize("kind", ["pages", "one", "zlib"])
def test_a_file_that_was_cut_short(tmp_path, kind):
    """At any place it is an error, and never fewer pages or other values."""
    path, cut = tmp_path / "x.tif", tmp_path / "cut.tif"
    with tifffile.TiffWriter(path) as file:
        if kind == "one":
            file.write(STACK, photometric="minisblack")
        else:
            for page in STACK:
                options = {"compression": "zlib"} if kind == "zlib" else {}
                file.write(
                    page, contiguous=False, photometric="minisblack", metadata=None, **options
                )
    content = path.read_bytes()
    assert len(content) > 2000
    for n_bytes in (*range(0, len(content) - 8, 487), len(content) - 8, len(content) - 100):
        cut.write_bytes(content[:n_bytes])
        with pytest.raises((SourceError, DamagedDataError)):  # noqa: PT012
            found = lazyio.open(cut, format="tiff")
            got = values(found)
            # What follows the last page may be nothing that is read.
            np.testing.assert_array_equal(got, STACK)
            raise SourceError


def test_a_damaged_tile(tmp_path):
    """It is named, and nothing else is lost."""
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        page = tif.series[0][2]
        offset, count = page.dataoffsets[1], page.databytecounts[1]
    content = bytearray(path.read_bytes())
    content[offset + 2 : offset + count // 2] = bytes(count // 2 - 2)
    path.write_bytes(content)
    found = lazyio.open(path)
    with pytest.raises(DamagedDataError, match=r"segment .*16:32.* of page 2 is damaged"):
        values(found)
    np.testing.assert_array_equal(values(found[:2]), STACK[:2])
    report = lazyio.verify(path)
    assert report.status == "damaged"


def test_tiles_that_are_not_stored(tmp_path):
    """They are zeros, which is what tifffile and GDAL say they are."""
    path = tmp_path / "x.tif"
    tiles = iter([STACK[0, :16, :16], None, None, STACK[1, :16, :16]])
    options = {"shape": (32, 32), "dtype": "u2", "tile": (16, 16), "compression": "zlib"}
    tifffile.imwrite(path, tiles, **options)
    wanted = tifffile.imread(path)
    assert wanted.any()
    assert not wanted[16:, :16].any()
    np.testing.assert_array_equal(values(lazyio.open(path)), wanted)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5)])
@pytest.mark.filterwarnings("ignore:.*zero-size array")
def test_empty_images(tmp_path, shape):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros(shape, "u1"))
    assert_same(values(lazyio.open(tmp_path / "x.tif")), np.zeros(shape, "u1"))


@pytest.mark.parametrize("codec", [None, "zlib"])
@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_hyperstacks(tmp_path, kind, codec):
    """All axes that ImageJ and OME-TIFF have."""
    array = np.arange(2 * 3 * 4 * 20 * 30, dtype="u2").reshape(2, 3, 4, 20, 30)
    options = {"metadata": {"axes": "TZCYX" if kind == "imagej" else "TCZYX"}, kind: True}
    tifffile.imwrite(tmp_path / "x.tif", array, compression=codec, **options)
    found = lazyio.open(tmp_path / "x.tif")
    np.testing.assert_array_equal(values(found), array)
    np.testing.assert_array_equal(values(found[1, :, 2, 3:9]), array[1, :, 2, 3:9])


def test_packed_bits(tmp_path):
    """Elements of fewer bits become bytes."""
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, STACK[0] > 250)
    found = lazyio.open(path)
    assert_same(values(found), tifffile.imread(path))


def test_stays_quiet(tmp_path, caplog):
    """What tifffile logs of a file is the error, and no line of its own from here."""
    path = tmp_path / "x.tif"
    path.write_bytes(b"II*\0" + bytes([200, 0, 0, 0]))
    with pytest.raises(SourceError, match=re.escape(str(path))):
        lazyio.open(path)
    assert not logging.getLogger("tifffile").handlers


def test_resumed(tmp_path):
    """The same file is the same data for a later call."""
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, STACK, tile=(16, 16), compression="zlib", photometric="minisblack")
    options = {"resume": True, "memory_limit": "64 kB", "workers": 1}
    first = lazyio.to_hdf5(lazyio.open(path), tmp_path / "y.h5", "y", **options)
    again = lazyio.to_hdf5(lazyio.open(path), tmp_path / "y.h5", "y", **options)
    assert (first.n_resumed, again.n_resumed) == (0, first.n_blocks)


def test_without_tifffile(tmp_path, monkeypatch):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, STACK)
    monkeypatch.setattr("lazyio.codecs.libraries.optional", lambda _: None)
    with pytest.raises(OptionError, match=r'needs tifffile.*pip install "lazyio\[tiff\]"'):
        lazyio.open(path)


def test_to_zarr_from_contiguous_pages(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", STACK, photometric="minisblack")
    assert isinstance(source_for(tmp_path / "x.tif"), RawSource)
    lazyio.to_zarr(lazyio.open(tmp_path / "x.tif"), tmp_path / "x.zarr")
    np.testing.assert_array_equal(values(lazyio.open(tmp_path / "x.zarr")), STACK)


MEMORY = """
import json, sys
import numpy as np, tifffile
import lazyio

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

def write(path):
    x = lazyio.open(path, memory_limit="16 MiB")
    lazyio.to_hdf5(x, "y.h5", "y", mode="w", memory_limit="16 MiB", workers=2)

random = np.random.default_rng(0)
page = random.integers(0, 200, (512, 512)).astype("u2")
options = dict(photometric="minisblack", tile=(128, 128), compression="zlib")
tifffile.imwrite("small.tif", np.stack([page] * 4), **options)
write("small.tif")
tiles = (page[128 * (n % 4) :][:128, 128 * (n // 4) :][:, :128] for n in range(16))
tiles = [np.ascontiguousarray(tile) for tile in tiles] * 150
tifffile.imwrite("x.tif", iter(tiles), shape=(150, 512, 512), dtype="u2", **options)
del tiles
open("/proc/self/clear_refs", "w").write("5")
before = resident()
write("x.tif")
print(json.dumps({"growth": resident() - before}))
"""


@pytest.mark.xdist_group("memory")
def test_memory(tmp_path, warm):
    """75 MiB of tiles within 16 MiB."""
    told = json.loads(warm.run(MEMORY, cwd=tmp_path).stdout)
    assert told["growth"] <= 16 * 2**20
