"""Datasets to a netCDF-4 file: xarray encodes, h5netcdf makes the structure, lazyio fills it.

All variables are written in one pass over one graph, and the file appears, or changes, when
all of them are complete.
"""

import contextlib
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
from xarray.backends import BackendArray, H5NetCDFStore
from xarray.core.variable import Variable

from lazyio.atomic.hdf5_digests import Known
from lazyio.codecs.base import DEFLATE, FLETCHER32, SHUFFLE, SZIP
from lazyio.codecs.hdf5_chunks import load_plugins
from lazyio.codecs.hdf5_filters import Filter
from lazyio.codecs.libraries import required
from lazyio.dtypes import Shape, is_same_value
from lazyio.errors import OptionError, PlanError
from lazyio.inputs import Input
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.storage.hdf5.dimension_scales import datasets_along, has_no_values
from lazyio.storage.hdf5.file import OpenMode
from lazyio.writing.hdf5_backend import DatasetWriter, FileRegions, writer_of_all
from lazyio.writing.hdf5_settings import ExistingDataset, Hdf5Item, Hdf5Settings, dataset_item
from lazyio.writing.multi_array import planned
from lazyio.writing.region_plan import plan_part
from lazyio.writing.request import RegionItem, Request, WriteItem
from lazyio.writing.run_options import RunOptions
from lazyio.writing.target_checks import check_file, file_to_replace, refuse_own_source
from lazyio.xarray.by_name import extents_of, windows_of
from lazyio.xarray.contents import ENUMERATION, GroupContents, input_of
from lazyio.xarray.private import extract_netcdf4_encoding, indexing
from lazyio.xarray.reading import hdf5_store

_FLAGS = ("zlib", "szip", "bzip2", "blosc", "zstd")
"""Codecs that netCDF4-python names by a keyword each."""
_BZIP2 = 307
_BLOSC_SHUFFLES = ("no", "byte", "bit")
_NOT_HERE = ("least_significant_digit", "significant_digits", "quantize_mode")
"""What netCDF-C does to values before it stores them."""
_NO_COORDINATE = "_nc4_non_coord_"
"""In front of a variable in a file that has the name of a dimension, and is not its coordinate."""


@dataclass(frozen=True, kw_only=True)
class StorageOptions:
    """What a call says of all variables at once."""

    access: Any = None
    """Windows by dimension, for which chunks are chosen."""
    chunks: Any = None
    """Chunk extents by dimension."""
    memory_limit: Any = None
    """Bytes for everything in flight."""
    workers: Any = None
    """Blocks in flight."""
    scheduler: Any = None
    """What computes graphs."""

    @property
    def common(self) -> dict[str, Any]:
        """What is the same for every variable."""
        names = ("memory_limit", "workers", "scheduler")
        return {name: getattr(self, name) for name in names}

    def chunks_of(
        self, variable: Variable, encoded: Sequence[int] | None, is_named: bool
    ) -> Sequence[int | None] | None:
        """Return the chunk extents that are asked for, ``None`` where nothing is.

        What the user's ``encoding`` says of one variable comes before ``chunks``, which speaks
        of all of them, that before ``access``, and that before how a variable was stored.
        """
        if encoded is not None and is_named:
            return encoded
        if self.chunks is not None:
            by_name = extents_of("chunks", self.chunks, variable.dims, left_out=None)
            if by_name is not None:
                named: Sequence[int | None] = by_name
                return named
        is_for_access = windows_of(self.access, variable.dims) is not None
        return None if is_for_access else encoded


def settings_of(
    name: str, encoding: Mapping[str, Any], group: GroupContents, options: StorageOptions
) -> Hdf5Settings:
    """Return how a variable is stored: as the call says, as it was, in dask's blocks, or solved."""
    variable, unlimited_dims = group.variables[name], group.unlimited_dims
    compression, opts = _codec_in(encoding)
    maxshape = tuple(
        None if dim in unlimited_dims else extent
        for dim, extent in zip(variable.dims, variable.shape, strict=True)
    )
    access = windows_of(options.access, variable.dims)
    chunks: Any = "auto"
    if asked := options.chunks_of(variable, encoding.get("chunksizes"), name in group.checked):
        chunks = tuple(asked)
    elif variable.chunks is not None and name not in group.cut and access is None:
        chunks = True
    return Hdf5Settings(
        **options.common,
        access=access,
        chunks=chunks,
        compression=compression,
        compression_opts=opts,
        shuffle=bool(encoding.get("shuffle")),
        fletcher32=bool(encoding.get("fletcher32")),
        maxshape=maxshape if None in maxshape else None,
    )


def new_item(key: str, given: Input, settings: Hdf5Settings) -> Hdf5Item:
    """Return a variable that is to be made, with its plan."""
    if settings.access is not None and settings.chunks == "auto" and given.shape:
        # Chunks for the windows, whatever the blocks of dask are: they are put together.
        whole = replace(given, array=None, source=None)
        chunks = dataset_item(key, whole, settings).arranged.plan.chunk_shape
        return dataset_item(key, given, replace(settings, chunks=chunks))
    if settings.chunks is True:
        # The blocks of dask yield to the limit, as all that nobody has asked for.
        with contextlib.suppress(PlanError):
            return dataset_item(key, given, settings)
        settings = replace(settings, chunks="auto")
    return dataset_item(key, given, settings)


def _codec_in(encoding: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the codec of an encoding and its options, however it is spelled."""
    flags = [flag for flag in _FLAGS if encoding.get(flag)]
    compression, opts = encoding.get("compression"), encoding.get("compression_opts")
    level = encoding.get("complevel") or None
    if flags and compression is None:
        compression = flags[-1]
    elif "zlib" in flags and compression not in ("zlib", "gzip"):
        msg = f"'zlib' and 'compression' encodings mismatch: {compression!r}; give one of them"
        raise OptionError(msg)
    if level is not None and opts not in (None, level):
        msg = f"'complevel' and 'compression_opts' encodings mismatch: {level} and {opts}"
        raise OptionError(msg)
    if compression in ("zlib", "gzip"):
        return "gzip", level if opts is None else opts
    if isinstance(compression, str) and compression.startswith("blosc_") and opts is None:
        shuffle = _BLOSC_SHUFFLES[int(encoding.get("blosc_shuffle", 1))]
        name = compression.removeprefix("blosc_")
        return "blosc", ("blosclz" if name == "lz" else name, level or 4, shuffle)
    if compression == "bzip2":
        return _BZIP2, (level or 9,)
    if compression == "szip" and opts is None and "szip_coding" in encoding:
        return "szip", (encoding["szip_coding"], encoding.get("szip_pixels_per_block", 8))
    if compression == "zstd" and opts is None:
        opts = level
    return compression, opts


def _as_h5py(filters: Sequence[Filter]) -> dict[str, Any]:
    """Return filters as arguments of h5py's ``create_dataset``."""
    found: dict[str, Any] = {}
    for step in filters:
        if step.filter_id == SHUFFLE:
            found["shuffle"] = True
        elif step.filter_id == FLETCHER32:
            found["fletcher32"] = True
        elif step.filter_id == DEFLATE:
            found |= {"compression": "gzip", "compression_opts": step.options[0]}
        elif step.filter_id == SZIP:
            method = {4: "ec", 32: "nn"}[step.options[0]]
            found |= {"compression": "szip", "compression_opts": (method, step.options[1])}
        else:
            load_plugins(step.filter_id)
            found |= {"compression": step.filter_id, "compression_opts": step.options}
    return found


class _NoElements(BackendArray):
    """Shape and dtype of a variable that is made empty."""

    def __init__(self, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype

    def get_duck_array(self, dtype: Any = None) -> Any:  # noqa: ARG002 - xarray's signature.
        """Return elements that take no memory."""
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)

    def __getitem__(self, key: Any) -> Any:
        """Return elements that take no memory."""
        return self.get_duck_array()


@dataclass(frozen=True, kw_only=True)
class NewVariable:
    """A variable that is to be made in a group."""

    variable: Variable
    """As xarray has encoded it."""
    encoding: Mapping[str, Any]
    """How it is to be stored, checked by xarray."""
    item: Hdf5Item
    """Its plan and filters; the key is the path in the file."""

    def as_empty(self) -> Variable:
        """Return the variable without elements, its storage as h5py takes it."""
        variable, encoding, item = self.variable, self.encoding, self.item
        dtype = variable.dtype
        if encoding.get("endian", "native") != "native":
            dtype = dtype.newbyteorder(encoding["endian"])
        if (metadata := variable.encoding.get(ENUMERATION)) is not None:
            dtype = np.dtype(dtype, metadata=dict(metadata))
        kept = {"dtype": encoding["dtype"]} if "dtype" in encoding else {}
        if variable.ndim:
            kept |= _as_h5py(item.options.filters)
            if not self._is_one_run:
                kept["chunksizes"] = item.arranged.plan.chunk_shape
        empty = indexing.LazilyIndexedArray(_NoElements(variable.shape, dtype))
        attrs = {name: value for name, value in variable.attrs.items() if not _is_no_text(value)}
        return Variable(variable.dims, empty, attrs, kept)

    @property
    def _is_one_run(self) -> bool:
        item = self.item
        return bool(self.encoding.get("contiguous")) or (
            item.arranged.plan.n_chunks <= 1
            and not item.options.filters
            and item.options.maxshape is None
            and self.encoding.get("chunksizes") is None
        )


def _is_no_text(value: Any) -> bool:
    """Return whether an attribute is bytes with a null in them, or no UTF-8."""
    if not isinstance(value, bytes):
        return False
    try:
        return "\0" in value.decode()
    except UnicodeDecodeError:
        return True


class StructureStore(H5NetCDFStore):
    """A file in which groups, dimensions, attributes and empty variables are made."""

    __slots__ = ()

    def add(self, contents: GroupContents, new: Mapping[str, NewVariable]) -> None:
        """Make what a group holds; of variables those that are not there yet."""
        self.set_attributes(contents.attrs)
        self.set_dimensions(contents.variables, unlimited_dims=contents.unlimited_dims)
        for name in contents.variables:
            one = new.get(contents.key_of(name))
            if one is not None:
                with warnings.catch_warnings():
                    # Of an enumeration that names 0: so it is with the netCDF library, too.
                    warnings.filterwarnings("ignore", "Creating variable with default fill_value")
                    self.prepare_variable(name, one.as_empty(), True, contents.unlimited_dims)
            made = self.ds.variables[name]
            for key, value in contents.variables[name].attrs.items():
                if _is_no_text(value):
                    # h5netcdf refuses it, and netCDF stores it.
                    stored = np.array(value, f"S{max(1, len(value))}")
                    made._h5ds.attrs.create(key, stored)
                elif one is None and key != "_FillValue":
                    made.attrs[key] = value


@dataclass(frozen=True, kw_only=True)
class NetcdfFile(FileRegions):
    """A file that gets groups of variables, and values for those that it has."""

    makes_groups: ClassVar[bool] = True
    mode: str
    """h5py's file mode."""
    groups: tuple[GroupContents, ...]
    """What goes into it."""
    new: Mapping[str, NewVariable]
    """Variables that are to be made, by their keys."""

    @property
    def is_one(self) -> bool:
        """Whether variables that are done are all done: they are published as one."""
        return True

    @property
    def common(self) -> dict[str, Any]:
        """What else makes a job the same one: dimensions and everything that attributes say."""
        return {
            "groups": [
                (
                    group.path,
                    dict(group.attrs),
                    sorted(group.unlimited_dims),
                    {name: (one.dims, one.attrs) for name, one in group.variables.items()},
                )
                for group in self.groups
            ]
        }

    def check(self, items: Sequence[WriteItem]) -> bool:
        """Refuse a file that may not be written, and return whether it is added to."""
        check_file(self.path, self.mode, is_file=True)
        is_kept = self.mode in ("a", "r+") and self.path.exists()
        for item in items:
            key = item.arranged.key if is_kept else None
            refuse_own_source(item.arranged.given, self.path, key)
        if is_kept:
            with file_to_replace(self.path):
                pass
        return is_kept

    def _made(
        self, built: OpenMode, items: Sequence[RegionItem | Hdf5Item], running: RunOptions
    ) -> Sequence[DatasetWriter]:
        import h5netcdf

        mode = "a" if self.mode in ("a", "r+") and self.path.exists() else "w"
        parts = [item.arranged.key for item in items if isinstance(item, RegionItem)]
        # Before they are described anew.
        known = {key: Known.of(built.file[key]) for key in parts}
        with h5netcdf.File(built.file, mode, decode_vlen_strings=True) as structure:
            for group in self.groups:
                StructureStore(structure, group=group.path or None, mode="a").add(group, self.new)
        return [
            replace(self._part(built, item, running), known=known[item.arranged.key])
            if isinstance(item, RegionItem)
            else writer_of_all(dataset_at(built.file, item.arranged.key), item, self.path, running)
            for item in items
        ]


def dataset_at(file: h5py.File, key: str) -> h5py.Dataset:
    """Return the dataset of a variable."""
    above, _, name = key.rpartition("/")
    # Where there is one, the other name is that of the dimension.
    return file[found if (found := f"{above}/{_NO_COORDINATE}{name}") in file else key]


def netcdf_request(
    path: Path,
    groups: Sequence[GroupContents],
    mode: str,
    options: StorageOptions,
    running: RunOptions,
    *,
    fills: bool = True,
) -> Request[Any]:
    """Return the request for groups of variables of one file.

    Where nothing is to be filled yet, elements of variables in memory are
    written all the same, as xarray does it.
    """
    required("h5netcdf", what="a netCDF-4 file", extra="netcdf")
    inputs: dict[str, Input] = {}
    settings: dict[str, Hdf5Settings] = {}
    encodings: dict[str, Mapping[str, Any]] = {}
    variables: dict[str, Variable] = {}
    for group in groups:
        for name, variable in group.variables.items():
            key = group.key_of(name)
            encodings[key] = _checked_encoding(
                name, variable, group.unlimited_dims, is_checked=name in group.checked
            )
            inputs[key], variables[key] = input_of(variable), variable
            settings[key] = settings_of(name, encodings[key], group, options)
    _refuse_other_lengths(path, mode, groups)
    with _existing(path, mode, inputs) as there:

        def make(key: str, given: Input, own: Hdf5Settings) -> WriteItem:
            if key in there:
                _refuse_other_mark(key, variables[key], there[key])
                return _region_item(there[key], given, Hdf5Settings(**options.common), None)
            return new_item(key, given, own)

        items = planned(make, list(inputs.items()), list(settings.values()))
    new = {
        key: NewVariable(variable=variables[key], encoding=encodings[key], item=item)
        for key, item in zip(inputs, items, strict=True)
        if isinstance(item, Hdf5Item)
    }
    filled = [
        item if fills or variables[key].chunks is None else item.as_empty()
        for key, item in zip(inputs, items, strict=True)
    ]
    place = NetcdfFile(path=path, mode=mode, groups=tuple(groups), new=new)
    return Request(name=str(path), place=place, items=tuple(filled), running=running)


def _refuse_other_mark(key: str, variable: Variable, there: h5py.Dataset) -> None:
    """Refuse values that would be taken for missing ones, or missing ones that would not.

    No file can change which value of a variable stands for a missing one.
    """
    given: Any = variable.attrs.get("_FillValue")
    stored: Any = there.attrs.get("_FillValue")
    is_nan = isinstance(given, (float, np.floating)) and np.isnan(given)
    if is_nan or is_same_value(np.ravel(given), np.ravel(stored)):
        return
    asked = None if stored is None else np.ravel(stored)[0].item()
    msg = (
        f"variable {key!r}: _FillValue={given} was asked for, and the file has {asked}, which "
        f"stays; give encoding={{{key!r}: {{'_FillValue': {asked!r}}}}}, or mode='w'"
    )
    raise OptionError(msg)


def _refuse_other_lengths(path: Path, mode: str, groups: Sequence[GroupContents]) -> None:
    """Refuse dimensions of other lengths than they have in the file."""
    if mode not in ("a", "r+") or not path.is_file():
        return
    for group in groups:
        with contextlib.suppress(OSError), hdf5_store(str(path), group.path or None) as store:
            there = store.get_dimensions()
            for variable in group.variables.values():
                for dim, length in variable.sizes.items():
                    if there.get(dim, length) != length:
                        msg = (
                            f"Unable to update size for existing dimension {dim!r} ({length} != "
                            f"{there[dim]}); append_dim= makes it longer, mode='w' a new file"
                        )
                        raise OptionError(msg)


def region_request(
    path: Path,
    groups: Sequence[GroupContents],
    options: StorageOptions,
    running: RunOptions,
    *,
    append_dim: str | None = None,
    is_delayed: bool = False,
) -> Request[RegionItem]:
    """Return the request for variables, or parts of them, that are in a file."""
    inputs = {
        group.key_of(name): input_of(variable)
        for group in groups
        for name, variable in group.variables.items()
    }
    regions = {
        group.key_of(name): tuple(
            part.get(str(dim), slice(None)) for dim in group.variables[name].dims
        )
        for group in groups
        for name, part in group.regions.items()
    }
    axes = {
        group.key_of(name): variable.dims.index(append_dim)
        for group in groups
        for name, variable in group.variables.items()
        if append_dim is not None
    }
    settings = Hdf5Settings(**options.common)

    def items_in(file: h5py.File) -> tuple[RegionItem, ...]:
        def make(key: str, given: Input, own: Hdf5Settings) -> RegionItem:
            dataset = dataset_at(file, key)
            region = regions.get(key)
            if region is not None and key in axes:
                region = _at_end(region, axes[key], dataset)
            item = _region_item(dataset, given, own, region)
            refuse_own_source(given, path, key)
            return item

        if append_dim is not None:
            _refuse_fixed(file, groups, append_dim)
        items = planned(make, list(inputs.items()), [settings] * len(inputs))
        if append_dim is not None:
            _refuse_left_behind(file, groups, append_dim)
        return items

    with open_hdf5(str(path)) as file:
        items = items_in(file)
    place = FileRegions(path=path, again=None if is_delayed else items_in)
    return Request(name=str(path), place=place, items=items, running=running)


def _at_end(region: tuple[slice, ...], axis: int, dataset: h5py.Dataset) -> tuple[slice, ...]:
    """Return where what is appended goes, behind the end that a dataset has now."""
    end, length = dataset.shape[axis], region[axis].stop - region[axis].start
    return (*region[:axis], slice(end, end + length), *region[axis + 1 :])


def _refuse_fixed(file: h5py.File, groups: Sequence[GroupContents], append_dim: str) -> None:
    """Refuse to make a dimension longer that was not made to grow."""
    names = []
    for group in groups:
        for name, variable in group.variables.items():
            most = dataset_at(file, group.key_of(name)).maxshape[variable.dims.index(append_dim)]
            if most is not None and group.regions[name][append_dim].stop > most:
                names.append(group.key_of(name))
    if names:
        msg = (
            f"append_dim={append_dim!r}: {names} cannot grow along it in {file.filename}, where "
            f"the dimension is not unlimited; write them anew with unlimited_dims=[{append_dim!r}]"
        )
        raise OptionError(msg)


def _refuse_left_behind(file: h5py.File, groups: Sequence[GroupContents], append_dim: str) -> None:
    """Refuse to make a dimension longer of which variables in other groups stay as long."""
    given = {
        dataset_at(file, group.key_of(name)): variable.dims.index(append_dim)
        for group in groups
        for name, variable in group.variables.items()
    }
    along = {other for one, axis in given.items() for other in datasets_along(one, axis)}
    names = sorted(one.name for one in along - set(given))
    if names:
        msg = (
            f"append_dim={append_dim!r}: {names} have that dimension, too, and would not become "
            "longer with it; append to all groups at once, with a DataTree"
        )
        raise OptionError(msg)


def _region_item(
    dataset: h5py.Dataset, given: Input, settings: Hdf5Settings, region: Any
) -> RegionItem:
    key = dataset.name.strip("/")
    array = ExistingDataset(handle=dataset)
    arranged, window = plan_part(array, key, given, settings, region=region, append_dim=None)
    seen = array.room.shape
    return RegionItem(
        arranged=arranged,
        window=window,
        seen=seen,
        unit=array.unit,
        kind=array.kind,
        # Elsewhere by the time that the same call is made again.
        appends=any(part.start >= n for part, n in zip(window.region, seen, strict=True) if n),
    )


@contextlib.contextmanager
def _existing(path: Path, mode: str, keys: Collection[str]) -> Iterator[dict[str, h5py.Dataset]]:
    """Yield the datasets that a file has already, of those that are to be written."""
    if mode not in ("a", "r+") or not path.is_file():
        yield {}
        return
    with open_hdf5(str(path)) as file:
        found = {}
        for key in keys:
            with contextlib.suppress(KeyError):
                found[key] = dataset_at(file, key)
        # A dimension without values is none of the variables.
        yield {key: one for key, one in found.items() if not has_no_values(one)}


def _checked_encoding(
    name: str, variable: Variable, unlimited_dims: Collection[str], *, is_checked: bool
) -> dict[str, Any]:
    """Return a variable's encoding as xarray's netCDF-4 engines take it."""
    own = variable.copy(deep=False)
    # Not every version of xarray knows each flag.
    flags = {flag: own.encoding[flag] for flag in _FLAGS if flag in own.encoding}
    here = {ENUMERATION, *flags}
    own.encoding = {key: value for key, value in own.encoding.items() if key not in here}
    try:
        encoding: dict[str, Any] = flags | extract_netcdf4_encoding(
            own,
            raise_on_invalid=is_checked,
            lsd_okay=True,
            h5py_okay=True,
            backend="lazyio",
            unlimited_dims=unlimited_dims,
        )
    except ValueError as error:
        msg = f"variable {name!r}: {error}"
        raise OptionError(msg) from error
    rounding = [one for one in _NOT_HERE if encoding.get(one) is not None]
    if rounding and is_checked:
        msg = (
            f"variable {name!r}: encoding {rounding} rounds values, which lazyio leaves as they "
            "are; round them yourself, with dataset.round() for instance, or leave it out"
        )
        raise OptionError(msg)
    if not is_checked:
        encoding.pop("contiguous", None)
    return encoding
