"""Sound files of every kind, small, as names and bytes; and some that are made to do harm."""

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import zarr

import lazyio
from lazyio.errors import UnsafeFileError

CANARY = b"CANARY-7"
"""What stands outside the folder, and must not be seen by anyone."""
OUTSIDE = "outside"
_VALUES = np.arange(24 * 10, dtype="<i4").reshape(24, 10)
_TEXT = np.array([f"row {n}" for n in range(12)], np.dtypes.StringDType())


@dataclass(frozen=True)
class Sample:
    """One file or store, with what lies beside it."""

    name: str
    """Of what is opened, in the folder."""
    files: Mapping[str, bytes]
    """Content by path in the folder; a value that begins with ``->`` is a symbolic link."""
    keys: tuple[str | None, ...]
    """That it is opened with."""


def make(folder: Path, outside: Path) -> list[Sample]:
    """Return all samples, made in a folder that is to be removed; ``outside`` holds the canary."""
    outside.mkdir()
    canary = np.frombuffer(CANARY * 12, "<i4").reshape(24, 1)
    with h5py.File(outside / "secret.h5", "w") as file:
        file["x"] = canary
    np.save(outside / "secret.npy", canary)
    (outside / "secret.raw").write_bytes(CANARY * 200)
    (outside / "secret.json").write_text(json.dumps({"zarr_format": 2, "secret": CANARY.decode()}))
    samples = []
    for at, (name, write) in enumerate(_writers(outside).items()):
        place = folder / str(at)
        place.mkdir(parents=True)
        write(place / name)
        files = {
            str(path.relative_to(place)): _content(path)
            for path in sorted(place.rglob("*"))
            if path.is_symlink() or path.is_file()
        }
        samples.append(Sample(name=name, files=files, keys=tuple(_keys_of(place / name))))
    return samples


def _keys_of(path: Path) -> Iterator[str | None]:
    """Yield the keys that a sound file opens with, or is refused for what they lead to."""
    for key in (None, "x", "g/x", "t", *"sbolcemv"):
        try:
            lazyio.open(path, key)
        except UnsafeFileError:
            yield key
        except lazyio.LazyioError:
            continue
        else:
            yield key


def _content(path: Path) -> bytes:
    return b"->" + os.readlink(path).encode() if path.is_symlink() else path.read_bytes()


def _writers(outside: Path) -> dict[str, Callable[[Path], object]]:
    cut = {"chunks": (8, 5)}
    both = {"x": _VALUES, "g/x": _VALUES}
    checked = {**cut, "compression": "gzip", "shuffle": True, "fletcher32": True}
    return {
        "plain.h5": lambda path: lazyio.to_hdf5(both, path, **cut),
        "gzip.h5": lambda path: lazyio.to_hdf5(_VALUES, path, "x", **checked),
        "zstd.h5": lambda path: lazyio.to_hdf5(_VALUES, path, "x", compression="zstd", **cut),
        "rows.h5": lambda path: lazyio.to_hdf5(_VALUES, path, "x", chunks=None, attrs={"a": 1}),
        "text.h5": lambda path: lazyio.to_hdf5({"x": _TEXT, "t": _TEXT}, path),
        "filters.h5": _many_filters,
        "earliest.h5": lambda path: _tree(path, "earliest"),
        "latest.h5": lambda path: _tree(path, "v114"),
        "links.h5": lambda path: _links(path, outside),
        "virtual.h5": lambda path: _virtual(path, outside),
        "raw.h5": lambda path: _raw_storage(path, outside),
        "netcdf.nc": _netcdf,
        "three.zarr": lambda path: _zarr(path, 3),
        "two.zarr": lambda path: _zarr(path, 2),
        "shards.zarr": lambda path: lazyio.to_zarr(_VALUES, path, "x", shards=(8, 10), **cut),
        "links.zarr": lambda path: _linked_store(path, outside),
        "store.zip": lambda path: lazyio.to_zarr(both, path, **cut),
        "deflated.zip": _deflated,
        "x.npy": lambda path: np.save(path, _VALUES),
        "fortran.npy": lambda path: np.save(path, np.asfortranarray(_VALUES)),
    }


def _tree(path: Path, libver: str) -> None:
    """Write groups, attributes of every kind, links, types, dense and compact storage."""
    with h5py.File(path, "w", libver=(libver, "v114")) as file:
        x = file.create_dataset("x", data=_VALUES, chunks=(8, 5), maxshape=(None, 10))
        x.attrs.update({"unit": "volts", "sites": [1, 2, 3], "lazyio_dtype": "<M8[D]"})
        for at in range(12):
            file.create_group(f"g/{at}").attrs[f"a{at}"] = np.arange(at)
        file["g/x"] = h5py.SoftLink("/x")
        file["t"] = np.array(["a", "bb"], h5py.string_dtype())
        file["v"] = h5py.Empty("f4")
        file["c"] = np.array([(1, 2.5)], [("a", "<i2"), ("b", "<f8")])
        file["e"] = np.array([0, 1], h5py.enum_dtype({"no": 0, "yes": 1}))
        file["type"] = np.dtype("<i2")
        file["ref"] = np.array([x.ref], h5py.ref_dtype)
        file["more"] = _VALUES[:4]


def _many_filters(path: Path) -> None:
    options = {
        "x": {"compression": "lzf"},
        "g/x": {"compression": "szip"},
        "t": {"scaleoffset": 4},
        "s": {"shuffle": True, "compression": "gzip"},
    }
    with h5py.File(path, "w") as file:
        for key, option in options.items():
            file.create_dataset(key, data=_VALUES, chunks=(8, 5), **option)
    for key, name in {"b": "bitshuffle", "o": "blosc", "l": "lz4"}.items():
        lazyio.to_hdf5(_VALUES, path, key, chunks=(8, 5), compression=name)


def _links(path: Path, outside: Path) -> None:
    with h5py.File(path.with_name("beside.h5"), "w") as file:
        file["x"] = _VALUES
        file["out"] = h5py.ExternalLink(str(outside / "secret.h5"), "/x")
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink("beside.h5", "/x")
        file["g/x"] = h5py.ExternalLink("beside.h5", "/out")
        file["t"] = h5py.ExternalLink("secret.h5", "/x")


def _virtual(path: Path, outside: Path) -> None:
    with h5py.File(path.with_name("beside.h5"), "w") as file:
        file["x"] = _VALUES
    with h5py.File(path, "w") as file:
        for key, name in {
            "x": "beside.h5",
            "g/x": str(outside / "secret.h5"),
            "t": "secret.h5",
        }.items():
            layout = h5py.VirtualLayout((24, 1), "<i4")
            layout[:] = h5py.VirtualSource(name, "x", (24, 1))
            file.create_virtual_dataset(key, layout)


def _raw_storage(path: Path, outside: Path) -> None:
    path.with_name("beside.raw").write_bytes(_VALUES.tobytes())
    with h5py.File(path, "w") as file:
        names = {"x": "beside.raw", "g/x": str(outside / "secret.raw"), "t": "secret.raw"}
        for key, name in names.items():
            file.create_dataset(key, (24, 10), "<i4", external=[(name, 0, 960)])


def _netcdf(path: Path) -> None:
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", None)
        file.createDimension("site", 10)
        x = file.createVariable("x", "f4", ("time", "site"), zlib=True, fill_value=-1)
        x.units = "volts"
        x[:24] = _VALUES
        file.createGroup("g").createVariable("x", "i2", ("site",))[:] = range(10)


def _zarr(path: Path, version: int) -> None:
    lazyio.to_zarr(
        {"x": _VALUES, "g/x": _VALUES},
        path,
        chunks=(8, 5),
        zarr_format=version,
        attributes={"a": 1},
    )
    group = zarr.open_group(path, mode="a")
    group.create_array("t", data=_VALUES, chunks=(24, 5), compressors=None)
    zarr.consolidate_metadata(path)


def _linked_store(path: Path, outside: Path) -> None:
    lazyio.to_zarr({"x": _VALUES, "t": _VALUES}, path, chunks=(24, 10), compressors=None)
    chunk = path / "x/c/0/0"
    chunk.unlink()
    chunk.symlink_to(outside / "secret.raw")
    (path / "g").symlink_to(outside)


def _deflated(path: Path) -> None:
    """Write a store whose entries the zip file packs once more."""
    held = io.BytesIO()
    whole = path.with_name("whole.zip")
    lazyio.to_zarr({"x": _VALUES, "g/x": _VALUES}, whole, chunks=(8, 5))
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        for entry in source.infolist():
            file.writestr(entry.filename, source.read(entry))
    whole.unlink()
    path.write_bytes(held.getvalue())
