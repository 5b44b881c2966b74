"""What a Dataset is on its way to a file: variables as xarray encodes them, and dimensions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr
from xarray import conventions
from xarray.backends import H5NetCDFStore
from xarray.core.variable import Variable

from lazyio.dtypes import TEXT
from lazyio.errors import OptionError, PlanError
from lazyio.inputs import Input, recognise
from lazyio.opening.blocks import reading_block
from lazyio.options import limit_of

ENUMERATION = "lazyio_enumeration"
"""Among the encoding of a variable: metadata of an enumeration, which its dtype has not."""

_LOADED_NBYTES = 2**16
"""Up to which a variable that is read when it is used is loaded whole."""
_BLOCKS_IN_LIMIT = 16
"""Blocks of a variable that is read when it is used, in one limit: read, decoded, encoded."""


class _Netcdf4Format:
    """What xarray's netCDF-4 coder asks of a store."""

    format = "NETCDF4"


def in_declared_dtype(encoded: Variable, given: Variable, name: Any) -> Variable:
    """Return encoded times with every block of the dtype that the whole has.

    xarray's coder gives integers where they will do, whatever dtype was asked for.
    """
    is_time = given.dtype.kind in "mMO" and encoded.dtype.kind in "iuf"
    if not is_time or encoded.chunks is None:
        return encoded
    dtype = encoded.dtype
    return encoded.copy(data=encoded.data.map_blocks(_cast, dtype=dtype, to=dtype, named=name))


def _cast(block: Any, to: np.dtype[Any], named: Any) -> Any:
    if block.dtype == to:
        return block
    with np.errstate(invalid="ignore"):
        cast = block.astype(to)
    if not np.array_equal(cast, block):
        msg = f"variable {named!r}: a time has no form in the file, which stores {to}"
        raise OverflowError(msg)
    return cast


def as_netcdf4(variable: Variable, name: Any = None) -> Variable:
    """Return a variable whose values are CF-encoded as netCDF-4 has it: text and characters."""
    form: Any = _Netcdf4Format()
    encoded: Variable = H5NetCDFStore.encode_variable(form, variable, name=name)
    return encoded


def encode_variable(variable: Variable, name: str) -> Variable:
    """Return a variable by itself as it is stored."""
    encoded = as_netcdf4(conventions.encode_cf_variable(variable, name=name), name)
    return in_declared_dtype(encoded, variable, name)


def with_enumeration(encoded: Variable, given: Variable) -> Variable:
    """Return an encoded variable with the names of its values, which dask leaves out."""
    metadata = getattr(given.encoding.get("dtype"), "metadata", None)
    if metadata and "enum" in metadata and not encoded.dtype.metadata:
        encoded.encoding[ENUMERATION] = metadata
    return encoded


@dataclass(frozen=True, kw_only=True)
class GroupContents:
    """One group of a file, everything in it encoded as it will be stored."""

    path: str
    """From the root, without slashes at its ends."""
    variables: Mapping[str, Variable]
    """As xarray has encoded them; nothing is computed."""
    attrs: Mapping[str, Any]
    """Attributes of the group."""
    checked: Collection[str] = ()
    """Variables whose encoding the user has given: what is wrong in it is an error."""
    cut: Collection[str] = ()
    """Variables whose blocks lazyio has chosen to read them in: they say nothing of chunks."""
    unlimited_dims: Collection[str] = ()
    """Dimensions that may grow."""
    regions: Mapping[str, Mapping[str, slice]] = field(default_factory=dict)
    """Where variables go that exist already, by dimension; not named is all of it."""

    def only_lazy(self) -> "GroupContents":
        """Return the variables that dask has still to compute."""
        lazy = {name: one for name, one in self.variables.items() if one.chunks is not None}
        return replace(self, variables=lazy)

    def key_of(self, name: str) -> str:
        """Return the path of a variable in the file."""
        return f"{self.path}/{name}".strip("/")


@dataclass(frozen=True)
class _Facts:
    """What a plan needs to know of a variable that is read when it is used."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_shape: tuple[int, ...] | None


def is_read_when_used(variable: Variable) -> bool:
    """Return whether a variable lies in a file, in no array of dask, and is not small."""
    is_lazy = not variable._in_memory and variable.chunks is None
    return is_lazy and variable.nbytes > _LOADED_NBYTES


def in_blocks(variable: Variable, memory_limit: Any) -> Variable:
    """Return a variable that is read when it is used as blocks of dask.

    xarray's coders load all of any other.
    """
    stored = _stored_chunks(variable.encoding)
    extents = tuple(min(n, int(stored.get(dim, n))) for dim, n in variable.sizes.items())
    facts: Any = _Facts(variable.shape, variable.dtype, extents if stored else None)
    limit = max(1, limit_of(memory_limit) // _BLOCKS_IN_LIMIT)
    try:
        block = reading_block(facts, limit, ())
    except PlanError:
        block = extents  # One chunk of the file is larger.
    return variable.chunk(dict(zip(variable.dims, block, strict=True)))


def _stored_chunks(encoding: Mapping[Any, Any]) -> Mapping[Any, int]:
    """Return the extents of what has to be read whole, by dimension.

    Those of a variable that was transposed have the order of the file.
    """
    preferred = encoding.get("preferred_chunks") or {}
    for name in ("shards", "chunksizes", "chunks"):
        extents = encoding.get(name)
        if isinstance(extents, (tuple, list)) and len(extents) == len(preferred):
            return dict(zip(preferred, extents, strict=True))
    return preferred  # Of a reader's blocks, which may be larger than what is stored.


def input_of(variable: Variable) -> Input:
    """Return the elements of an encoded variable, to be computed block by block."""
    data = variable.data
    if data.dtype.kind in "TO" or variable.encoding.get("dtype") is str:
        data = _as_text(data)
    return recognise(data)


def _as_text(data: Any) -> Any:
    """Return text that stands in Python objects as numpy's own."""
    if isinstance(data, np.ndarray):
        return _block_as_text(data)
    return data.map_blocks(_block_as_text, dtype=TEXT)


def _block_as_text(block: Any) -> Any:
    if block.dtype.kind == "O":
        block = np.array([_decoded(one) for one in block.ravel()], TEXT).reshape(block.shape)
    elif block.dtype.kind == "S":
        block = np.strings.decode(block, "utf-8")
    return block.astype(TEXT)


def _decoded(element: Any) -> str:
    if isinstance(element, bytes):
        return element.decode("utf-8")
    if not isinstance(element, str):
        msg = f"{element!r} stands among text; fill what is missing, with .fillna('') for instance"
        raise TypeError(msg)
    return element


def datasets_of(given: Any, *, repeats_coords: bool = False) -> dict[str, xr.Dataset]:
    """Return the Datasets of an xarray object, by the path of their group.

    ``repeats_coords`` says whether groups of a tree have the coordinates of those above, too.
    """
    if isinstance(given, xr.DataTree):
        return {
            "" if node is given else path: node.to_dataset(inherit=repeats_coords or node is given)
            for path, node in given.subtree_with_keys
        }
    if isinstance(given, xr.DataArray):
        return {"": as_dataset(given)}
    if isinstance(given, xr.Dataset):
        return {"": given}
    msg = f"{type(given).__name__} is no Dataset, DataArray or DataTree of xarray"
    raise OptionError(msg)


def as_dataset(array: xr.DataArray) -> xr.Dataset:
    """Return a DataArray as xarray's ``to_netcdf`` makes a Dataset of it, its name kept."""
    from xarray.backends.api import DATAARRAY_NAME, DATAARRAY_VARIABLE

    if array.name is None:
        return array.to_dataset(name=DATAARRAY_VARIABLE)
    if array.name in array.coords or array.name in array.dims:
        dataset = array.to_dataset(name=DATAARRAY_VARIABLE)
        dataset.attrs[DATAARRAY_NAME] = array.name
        return dataset
    return array.to_dataset()
