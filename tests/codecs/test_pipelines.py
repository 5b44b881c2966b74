"""Every filter that h5py and hdf5plugin have gives the file that they would make.

What needs facts of the dataset, such as scaleoffset or zfp, gets them from
libhdf5 when the dataset is created; the file must say the same either way.
"""

import os
import subprocess
import sys
from functools import partial

import h5py
import hdf5plugin
import numpy as np
import pytest

import lazyio

SHAPE, CHUNKS = (40, 24), (16, 24)

# What h5py is given and what lazyio is given, the dtype, and how far values may be off.
FILTERS = {
    "szip": ({"compression": "szip"}, None, "i2", 0),
    "szip-ec": ({"compression": "szip", "compression_opts": ("ec", 16)}, None, "i4", 0),
    "lzf": ({"compression": "lzf"}, None, "i2", 0),
    "scaleoffset": (
        {"scaleoffset": 0},
        {"compression": "scaleoffset"},
        "i4",
        0,
    ),
    "scaleoffset-shuffle": (
        {"scaleoffset": 12, "shuffle": True},
        {"compression": "scaleoffset", "compression_opts": 12, "shuffle": True},
        "u2",
        0,
    ),
    "scaleoffset-float": (
        {"scaleoffset": 3},
        {"compression": "scaleoffset", "compression_opts": 3},
        "f4",
        1e-3,
    ),
    "bitshuffle": (hdf5plugin.Bitshuffle(), None, "i2", 0),
    "bitshuffle-blocks": (hdf5plugin.Bitshuffle(nelems=64, cname="none"), None, "i2", 0),
    "bitshuffle-zstd": (hdf5plugin.Bitshuffle(cname="zstd", clevel=5), None, "f8", 0),
    "blosc": (hdf5plugin.Blosc(cname="zstd", clevel=2, shuffle=2), None, "f4", 0),
    "blosc2": (hdf5plugin.Blosc2(cname="lz4", clevel=3, filters=2), None, "f4", 0),
    "bzip2": (hdf5plugin.BZip2(blocksize=3), None, "i2", 0),
    "fcidecomp": (hdf5plugin.FciDecomp(), None, "u2", 0),
    "lz4": (hdf5plugin.LZ4(nbytes=512), None, "i2", 0),
    "sperr": (hdf5plugin.Sperr(absolute=1e-3), None, "f4", 1e-3),
    "sz": (hdf5plugin.SZ(absolute=1e-3), None, "f4", 1e-3),
    "sz3": (hdf5plugin.SZ3(absolute=1e-3), None, "f4", 1e-3),
    "zfp": (hdf5plugin.Zfp(reversible=True), None, "f8", 0),
    "zfp-lossy": (hdf5plugin.Zfp(accuracy=1e-3), None, "f8", 1e-3),
    "zstd": (hdf5plugin.Zstd(clevel=7), None, "i2", 0),
    "by-number": ({"compression": 307, "compression_opts": (4,)}, None, "i2", 0),
}

# Since version 7.
if hasattr(hdf5plugin, "Htj2k"):
    FILTERS["htj2k"] = (hdf5plugin.Htj2k(), None, "u2", 0)


def values_of(dtype):
    """Return smooth values."""
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (100 * np.sin(rows / 9) * np.cos(columns / 7) + 200).astype(dtype)


def pipeline(path, key):
    """Return what a file says of a dataset's filters, flags and all."""
    with h5py.File(path) as file:
        settings = file[key].id.get_create_plist()
        return [settings.get_filter(at) for at in range(settings.get_nfilters())]


def both(folder, name):
    """Write the same values with h5py and with lazyio; return paths and values."""
    stock, ours, dtype, _ = FILTERS[name]
    values = values_of(dtype)
    with h5py.File(folder / "stock.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=CHUNKS, **stock)
    lazyio.to_hdf5(values, folder / "ours.h5", "/x", chunks=CHUNKS, **(ours or {**stock}))
    return folder / "stock.h5", folder / "ours.h5", values


@pytest.mark.parametrize("name", FILTERS)
def test_file_is_that_of_h5py(tmp_path, name):
    """The pipeline is the same to the last number, and the values are those that went in."""
    stock, ours, values = both(tmp_path, name)
    assert pipeline(ours, "x") == pipeline(stock, "x")
    tolerance = FILTERS[name][3]
    with h5py.File(ours) as file:
        np.testing.assert_allclose(file["x"][...], values, rtol=0, atol=tolerance)
    found = lazyio.from_hdf5(ours, "x").compute(scheduler="sync")
    np.testing.assert_allclose(found, values, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["scaleoffset-float", "sz3", "zfp-lossy", "blosc2"])
def test_lossy_values_are_those_of_h5py(tmp_path, name):
    """What is lost is lost in the same way."""
    stock, ours, _ = both(tmp_path, name)
    with h5py.File(ours) as mine, h5py.File(stock) as theirs:
        np.testing.assert_array_equal(mine["x"][...], theirs["x"][...])


def test_every_filter_of_hdf5plugin_is_tested():
    """A new release may bring new ones."""
    ids = {stock.filter_id for stock, *_ in FILTERS.values() if hasattr(stock, "filter_id")}
    known = {found.filter_id for found in hdf5plugin.get_filters()}
    assert known - ids == set()


def test_nbit(tmp_path):
    """N-bit needs facts of the dtype, which libhdf5 puts into the file."""
    values = values_of("i2")
    lazyio.to_hdf5(values, tmp_path / "ours.h5", "/x", chunks=CHUNKS, compression="nbit")
    (found,) = pipeline(tmp_path / "ours.h5", "x")
    assert found[0] == 5
    assert len(found[2]) > 3
    with h5py.File(tmp_path / "ours.h5") as file:
        np.testing.assert_array_equal(file["x"][...], values)


def test_h5dump_says_the_same(tmp_path, h5dump):
    """Another program describes the two files with the same words."""
    for name in ("scaleoffset-float", "lzf", "bitshuffle"):
        stock, ours, _ = both(tmp_path, name)
        said = [
            subprocess.check_output(
                [h5dump, "-p", "-H", "-d", "/x", str(path)], stderr=subprocess.DEVNULL, text=True
            ).partition("FILTERS")[2]
            for path in (stock, ours)
        ]
        assert said[0] == said[1] != ""
        stock.unlink()
        ours.unlink()


READ = """
import sys
import netCDF4, numpy, tables

for path in sys.argv[1:]:
    with netCDF4.Dataset(path) as file:
        numpy.save(path + ".netCDF4.npy", file["x"][...].filled())
    with tables.open_file(path) as file:
        numpy.save(path + ".tables.npy", file.root.x[...])
"""


def test_payloads_are_read_by_others(tmp_path, h5dump):
    """h5dump, netCDF4 and PyTables read what lazyio encodes, given the plugins.

    Of LZF no program but h5py has the filter.
    """
    written = {}
    for name in ("lz4", "bitshuffle", "bitshuffle-blocks", "bitshuffle-zstd"):
        random = np.random.default_rng(0).integers(-(2**15), 2**15, SHAPE)
        for content in (values_of("i2"), random.astype("i2")):
            path = tmp_path / f"{len(written)}.h5"
            report = lazyio.to_hdf5(content, path, "/x", chunks=CHUNKS, **FILTERS[name][0])
            assert report.engine == "direct"
            written[str(path)] = content
    environment = os.environ | {"HDF5_PLUGIN_PATH": hdf5plugin.PLUGIN_PATH}
    run = partial(subprocess.run, env=environment, check=True, capture_output=True)
    run([sys.executable, "-c", READ, *written])
    for path, content in written.items():
        run([h5dump, "-d", "/x", "-b", "LE", "-o", f"{path}.bin", path])
        dumped = np.fromfile(f"{path}.bin", "<i2").reshape(SHAPE)
        for found in (dumped, np.load(f"{path}.netCDF4.npy"), np.load(f"{path}.tables.npy")):
            np.testing.assert_array_equal(found, content)
