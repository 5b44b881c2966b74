"""Datasets to variables that exist: encoded as those are stored, or refused.

xarray's coders are asked for the stored units, calendar and dtype, and what they return is
decoded again and compared: they change units with a warning where a time does not fit, let
integers overflow, and take a date of one calendar for one of another.
"""

import contextlib
import errno
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.array.core import slices_from_chunks
from xarray import conventions
from xarray.core.variable import Variable

from lazyio.dtypes import is_same_value
from lazyio.errors import OptionError, TargetError
from lazyio.regions import rows_of
from lazyio.sources.adapters import VariableReader
from lazyio.xarray.contents import (
    GroupContents,
    encode_variable,
    in_blocks,
    is_read_when_used,
)
from lazyio.xarray.reading import hdf5_store

KEPT = (
    "units",
    "calendar",
    "dtype",
    "_FillValue",
    "missing_value",
    "scale_factor",
    "add_offset",
    "_Unsigned",
)
"""Of a variable's encoding: what its values mean."""
_STANDARD = ("standard", "gregorian", "proleptic_gregorian")


_COMPARED_NBYTES = 16 * 2**20
"""Of text that must be what is stored already, compared at a time."""


@dataclass(frozen=True, kw_only=True)
class StoredVariable:
    """A variable of a file, as it is stored."""

    name: str
    """Under which it lies there."""
    raw: Variable
    """Its elements and attributes as they are in the file."""
    decoded: Variable
    """As xarray decodes it, with the encoding by which that is stored."""

    @property
    def attrs(self) -> dict[str, Any]:
        """Its attributes; those that bounds have of the variable whose bounds they are, too."""
        own = self.decoded.encoding
        known = {name: own[name] for name in ("units", "calendar") if own.get(name) is not None}
        return {**known, **self.raw.attrs}

    @property
    def is_time(self) -> bool:
        """Whether its numbers are times or durations."""
        return self.decoded.dtype.kind in "mM" or (
            self.decoded.dtype.kind == "O" and self.raw.dtype.kind in "iuf"
        )


def stored_variables(raw: Mapping[str, Variable]) -> dict[str, StoredVariable]:
    """Return the variables of a group, decoded all at once: bounds have the units of others."""
    decoded, _, _ = conventions.decode_cf_variables(dict(raw), {}, decode_coords=False)
    return {
        name: StoredVariable(name=name, raw=variable, decoded=decoded[name])
        for name, variable in raw.items()
        if name in decoded
    }


def contents_to_append(
    dataset: xr.Dataset, path: Path, group: str, append_dim: str, memory_limit: Any
) -> GroupContents:
    """Return what is appended to a group of a file along a dimension.

    Everything that differs is one error.
    """
    with _stored(path, group) as stored:
        problems = problems_of_append(dataset, stored, append_dim, memory_limit)
        grown = {
            str(key): variable
            for key, variable in dataset.variables.items()
            if str(key) in stored and append_dim in variable.dims
            if append_dim in stored[str(key)].raw.dims
        }
        encoded, more = encoded_as_stored(grown, stored, {append_dim}, memory_limit)
        refuse([*problems, *more], f"append_dim={append_dim!r}", path)
        starts = {name: stored[name].raw.sizes[append_dim] for name in encoded}
    return GroupContents(
        path=group,
        variables=encoded,
        attrs={},
        regions={
            name: {append_dim: slice(start, start + encoded[name].sizes[append_dim])}
            for name, start in starts.items()
        },
    )


def problems_of_append(
    dataset: xr.Dataset,
    stored: Mapping[str, StoredVariable],
    append_dim: str,
    memory_limit: Any,
) -> list[str]:
    """Return in what a Dataset does not continue what is stored."""
    problems = [
        f"{name!r} has that dimension in the file, and is not in the Dataset"
        for name, one in stored.items()
        if append_dim in one.raw.dims and name not in dataset.variables
    ]
    for key, variable in dataset.variables.items():
        name = str(key)
        if name not in stored:
            problems.append(f"{name!r} is not in the file")
        elif append_dim not in variable.dims and append_dim in stored[name].raw.dims:
            problems.append(f"{name!r} has that dimension in the file, and not in the Dataset")
        elif append_dim in variable.dims and append_dim not in stored[name].raw.dims:
            problems.append(f"{name!r} has no such dimension in the file")
        elif append_dim not in variable.dims:
            problems += _differences(stored[name], variable, memory_limit)
    return problems


def region_of_group(region: Any, dataset: xr.Dataset) -> dict[str, Any]:
    """Return what a region says of the dimensions of one group."""
    if isinstance(region, str) and region == "auto":
        return dict.fromkeys(map(str, dataset.dims), "auto")
    if not isinstance(region, Mapping):
        msg = f'region={region!r}; give a slice for each dimension by its name, or "auto"'
        raise OptionError(msg)
    return {str(dim): part for dim, part in region.items() if dim in dataset.dims}


def contents_of_region(
    dataset: xr.Dataset, path: Path, group: str, region: Mapping[str, Any], memory_limit: Any
) -> GroupContents:
    """Return what is written to a part of a group of a file, given by dimension."""
    with _stored(path, group) as stored:
        found = {str(dim): _part(dataset, stored, str(dim), part) for dim, part in region.items()}
        by_value = [dim for dim, part in region.items() if isinstance(part, str)]
        # Coordinates by which the place was found are there already.
        dataset = dataset.drop_vars([dim for dim in by_value if dim in dataset.variables])
        problems = _problems_of_region(dataset, stored, found)
        written = {
            str(name): one
            for name, one in dataset.variables.items()
            if str(name) in stored and set(found) & set(one.dims)
        }
        encoded, more = encoded_as_stored(written, stored, set(found), memory_limit)
        refuse([*problems, *more], f"region={region!r}", path)
    return GroupContents(
        path=group,
        variables=encoded,
        attrs={},
        regions={
            name: {dim: part for dim, part in found.items() if dim in variable.dims}
            for name, variable in encoded.items()
        },
    )


def _problems_of_region(
    dataset: xr.Dataset, stored: Mapping[str, StoredVariable], found: Mapping[str, slice]
) -> list[str]:
    """Return in what a Dataset does not fit a region of what is stored."""
    problems = []
    others = [name for name, one in dataset.variables.items() if not set(found) & set(one.dims)]
    if others:
        problems.append(
            f"{others} have none of the dimensions {list(found)}; leave them out: "
            f".drop_vars({others})"
        )
    problems += [f"{name!r} is not in the file" for name in dataset.variables if name not in stored]
    for dim, part in found.items():
        n_given, n_asked = dataset.sizes.get(dim, 0), part.stop - part.start
        if dim in dataset.sizes and n_given != n_asked:
            problems.append(f"{dim!r} has {n_given} elements, and the region {n_asked}")
    return problems


def refuse(problems: Sequence[str], what: str, path: Path | str) -> None:
    """Raise everything that differs as one error."""
    if problems:
        msg = (
            f"{what}: the Dataset does not go to {path}, where nothing was written: "
            f"{'; '.join(problems)}"
        )
        raise OptionError(msg)


@contextlib.contextmanager
def _stored(path: Path, group: str) -> Iterator[dict[str, StoredVariable]]:
    """Yield the variables of a group of a file, which is open meanwhile."""
    try:
        store = hdf5_store(path, group or None)
        variables, _ = store.load()
    except OSError as error:
        if group and path.exists() and "group not found" in str(error):
            msg = f"{path} has no group {group!r}; write it with mode='a' first"
            raise TargetError(errno.ENOENT, msg) from error
        raise
    with store:
        yield stored_variables({str(name): raw for name, raw in variables.items()})


def _part(dataset: xr.Dataset, stored: Mapping[str, StoredVariable], dim: str, part: Any) -> slice:
    """Return where a part of a dimension lies, looked up by its coordinate for ``"auto"``."""
    extents = {one.raw.sizes[dim] for one in stored.values() if dim in one.raw.sizes}
    if dim not in dataset.dims or not extents:
        where = "the Dataset" if dim not in dataset.dims else "the file"
        msg = f"region names {dim!r}, which is no dimension of {where}"
        raise OptionError(msg)
    extent = max(extents)
    if isinstance(part, slice):
        if part.step not in (None, 1):
            msg = f"region has {part} for {dim!r}; give whole numbers and no step but 1"
            raise OptionError(msg)
        start = 0 if part.start is None else part.start
        stop = extent if part.stop is None else part.stop
        return slice(start + extent * (start < 0), stop + extent * (stop < 0))
    if part != "auto":
        msg = f'region has {part!r} for {dim!r}; give a slice, or "auto"'
        raise OptionError(msg)
    if dim not in dataset.variables or dim not in stored:
        check_is_whole(dim, dataset.sizes[dim], extent)
        return slice(0, extent)
    there = xr.Dataset({dim: stored[dim].decoded.load()}).indexes[dim]
    at = there.get_indexer(dataset.indexes[dim]) if there.is_unique else np.array([-1])
    if (at < 0).any() or (np.diff(at) != 1).any():
        msg = (
            f'region="auto": the values of {dim!r} are not a run of those that are stored; give '
            "a slice, or append them first"
        )
        raise OptionError(msg)
    return slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 0)


def check_is_whole(dim: Any, n_given: int, n_stored: int) -> None:
    """Refuse to guess where a part belongs of which no coordinate says so."""
    if n_given != n_stored:
        msg = (
            f'region="auto": {dim!r} has {n_given} elements here and {n_stored} there, and no '
            f"coordinate by which to find their place; give a slice, region={{{dim!r}: slice(...)}}"
        )
        raise OptionError(msg)


def encoded_as_stored(
    variables: Mapping[str, Variable],
    stored: Mapping[str, StoredVariable],
    free: set[str],
    memory_limit: Any,
) -> tuple[dict[str, Variable], list[str]]:
    """Return variables as the stored ones are encoded, and in what they cannot be."""
    found, problems = {}, []
    for name, variable in variables.items():
        one = stored[name]
        dims = one.decoded.dims
        if set(variable.dims) != set(dims):
            problems.append(f"{name!r} has the dimensions {variable.dims}, not {dims}")
            continue
        if is_read_when_used(variable):
            variable = in_blocks(variable, memory_limit)
        if (variable.dtype == bool) != (one.decoded.dtype == bool):
            problems.append(f"{name!r} holds {one.decoded.dtype} in the file, not {variable.dtype}")
            continue
        given = variable.transpose(*dims).to_base_variable()
        sizes = {dim: n for dim, n in given.sizes.items() if dim not in free}
        wanted = {dim: n for dim, n in one.decoded.sizes.items() if dim not in free}
        if sizes != wanted:
            problems.append(f"{name!r} has the sizes {sizes}, not {wanted}")
            continue
        try:
            found[name] = _as_stored(given, one)
        except (OptionError, ValueError, TypeError, OverflowError) as error:
            problems.append(f"{name!r}: {error}")
    return found, problems


def _as_stored(given: Variable, stored: StoredVariable) -> Variable:
    """Return a variable as a stored one is encoded, its values compared with what they become."""
    decoded = stored.decoded
    is_bytes = given.dtype.kind == "S" and stored.raw.dtype.kind == "S"
    if stored.raw.dtype == bool or (is_bytes and stored.raw.ndim == given.ndim):
        return given
    _check_meaning(given, stored)
    _check_calendar(given, decoded)
    asked = given.copy(deep=False)
    asked.attrs = {}
    asked.encoding = {name: decoded.encoding[name] for name in KEPT if name in decoded.encoding}
    with warnings.catch_warnings():
        # xarray says that it takes other units, which is an error here.
        warnings.simplefilter("ignore", UserWarning)
        encoded = encode_variable(asked, stored.name)
    was, now = stored.attrs.get("units"), encoded.attrs.get("units")
    if now is not None and was is not None and not _is_same_time(encoded.attrs, stored.attrs):
        msg = f"its units are {was!r} in the file, in which the values have no exact form"
        raise OptionError(msg)
    if encoded.dtype.kind not in "OTSU" and encoded.dtype != stored.raw.dtype:
        msg = f"its dtype is {stored.raw.dtype} in the file, and {encoded.dtype} holds the values"
        raise OptionError(msg)
    if not _changes_values(given, encoded):
        return encoded
    dtype = encoded.dtype
    check = _ComeBack(name=stored.name, dims=encoded.dims, attrs=stored.attrs, dtype=dtype)
    if encoded.chunks is None:
        return encoded.copy(data=check(np.asarray(encoded.data), given.values))
    same = given.chunk(encoded.chunksizes).data
    blocks = encoded.data.map_blocks(check, same, dtype=dtype)
    return encoded.copy(data=blocks)


def _check_meaning(given: Variable, stored: StoredVariable) -> None:
    """Refuse numbers that say of themselves that they mean something else than the stored ones."""
    if stored.is_time and given.dtype.kind in "iufb":
        msg = (
            "it holds times in the file, not numbers; decode them first, with xr.decode_cf(dataset)"
        )
        raise OptionError(msg)
    for name in ("units", "scale_factor", "add_offset"):
        own, there = given.attrs.get(name), stored.attrs.get(name)
        if own is not None and not is_same_value(own, there):
            msg = f"its attribute {name!r} is {there!r} in the file, not {own!r}"
            raise OptionError(msg)


def _check_calendar(given: Variable, decoded: Variable) -> None:
    """Refuse dates of another calendar than that of the file."""
    stored = decoded.encoding.get("calendar")
    if stored is None:
        return
    own = "standard"
    if given.dtype == object and given.size:
        own = getattr(np.asarray(given[(0,) * given.ndim].values).item(), "calendar", "standard")
    if own != stored and not (own in _STANDARD and stored in _STANDARD):
        msg = f"its calendar is {stored!r} in the file, and the dates are of {own!r}"
        raise OptionError(msg)


def _is_same_time(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether numbers of two units stand for the same times, however those are written."""
    numbers = np.array([0.0, 1.0])
    first, second = (
        conventions.decode_cf_variable("time", Variable(("x",), numbers, dict(attrs))).values
        for attrs in (one, other)
    )
    return first.dtype.kind == second.dtype.kind and bool(np.all(first == second))


def _changes_values(given: Variable, encoded: Variable) -> bool:
    """Return whether encoding is more than leaving elements as they are."""
    return encoded.dtype.kind not in "OTSU" and (
        given.dtype != encoded.dtype or bool({"scale_factor", "add_offset"} & set(encoded.attrs))
    )


@dataclass(frozen=True, kw_only=True)
class _ComeBack:
    """Whether encoded elements are decoded to what they were; called for every block."""

    name: str
    dims: tuple[Any, ...]
    attrs: Mapping[str, Any]
    dtype: np.dtype[Any]
    """As it is stored."""

    def __call__(self, encoded: Any, given: Any) -> Any:
        """Return encoded elements, or refuse them."""
        is_time = given.dtype.kind in "mMO"
        if encoded.dtype != self.dtype:
            is_right = np.zeros(given.shape, bool)
        elif not encoded.size:
            return encoded
        elif is_time:
            is_right = self._are_times(encoded, given)
        else:
            is_right = _is_close(self._decoded(encoded), given, encoded.dtype, self.attrs)
        if not np.all(is_right):
            wrong = np.asarray(given)[~np.asarray(is_right, bool)].ravel()[0]
            msg = (
                f"variable {self.name!r}: {wrong} has no form in the file, which stores "
                f"{self.dtype}{_described(self.attrs)}"
            )
            raise OverflowError(msg)
        return encoded

    def _decoded(self, elements: Any, *, is_of_cftime: bool = False) -> Any:
        coder = xr.coders.CFDatetimeCoder(use_cftime=True) if is_of_cftime else True
        variable = Variable(self.dims, elements, dict(self.attrs))
        return conventions.decode_cf_variable(self.name, variable, decode_times=coder).values

    def _are_times(self, encoded: Any, given: Any) -> Any:
        """Return which times come back: stored floats are known to their resolution."""
        decoded = partial(self._decoded, is_of_cftime=given.dtype == object)
        low, high = encoded, encoded
        if encoded.dtype.kind == "f":
            low, high = encoded - np.spacing(encoded), encoded + np.spacing(encoded)
        is_missing = _missing(given)
        is_right = np.array(is_missing & _missing(decoded(encoded)))
        there = ~is_missing
        with np.errstate(invalid="ignore"):
            is_right[there] = (decoded(low)[there] <= given[there]) & (
                given[there] <= decoded(high)[there]
            )
        return is_right


def _missing(elements: Any) -> Any:
    """Return which dates or durations are missing."""
    dims = [f"dim_{axis}" for axis in range(elements.ndim)]
    return Variable(dims, elements).isnull().values


def _is_close(decoded: Any, given: Any, dtype: np.dtype[Any], attrs: Mapping[str, Any]) -> Any:
    """Return whether numbers come back: packed ones to half a step, others as they were."""
    given = np.asarray(given)
    is_packed = "scale_factor" in attrs or "add_offset" in attrs
    if not is_packed and dtype.kind in "iub":
        return (decoded == given) | _both_missing(decoded, given)
    size = np.abs(np.asarray(given, float)) + abs(float(attrs.get("add_offset", 0)))
    bound = np.zeros(size.shape)
    if dtype.kind == "f":
        bound += size * np.finfo(dtype).eps * 2 + np.finfo(dtype).smallest_subnormal
    elif is_packed:
        bound += 0.5000001 * abs(float(attrs.get("scale_factor", 1)))
    if given.dtype.kind == "f":
        bound += 4 * np.finfo(given.dtype).eps * size
    with np.errstate(invalid="ignore"):
        is_near = np.abs(decoded - given) <= bound
    return is_near | (decoded == given) | _both_missing(decoded, given)


def _both_missing(one: Any, other: Any) -> Any:
    """Return where both are no numbers."""
    if one.dtype.kind not in "fc" or other.dtype.kind not in "fc":
        return np.zeros(other.shape, bool)
    return np.isnan(one) & np.isnan(other)


def _described(attrs: Mapping[str, Any]) -> str:
    said = {name: np.ravel(attrs[name]).tolist() for name in KEPT if name in attrs}
    listed = ", ".join(
        f"{name}={value[0] if len(value) == 1 else value!r}" for name, value in said.items()
    )
    return f" with {listed}" if said else ""


def _differences(stored: StoredVariable, variable: Variable, memory_limit: Any) -> list[str]:
    """Return in what a variable is not the stored one."""
    free: set[str] = set()
    encoded, problems = encoded_as_stored(
        {stored.name: variable}, {stored.name: stored}, free, memory_limit
    )
    if not problems and not _is_equal(encoded[stored.name], stored.raw, memory_limit):
        problems.append(f"{stored.name!r} has other values than the file")
    return problems


def _is_equal(one: Variable, other: Variable, memory_limit: Any) -> bool:
    """Return whether two variables hold the same, a part at a time."""
    readers = [VariableReader(variable) for variable in (one, other)]
    for part in _parts_of(other, memory_limit):
        left, right = (reader[part] for reader in readers)
        same = left == right
        if left.dtype.kind in "fc":
            same |= np.isnan(left) & np.isnan(right)
        if not np.all(same):
            return False
    return True


def _parts_of(stored: Variable, memory_limit: Any) -> Iterable[tuple[slice, ...]]:
    """Return parts of a variable that lies in a file: of whole chunks, or of text a few rows."""
    if not stored.ndim:
        return [()]
    if is_read_when_used(stored) and stored.dtype.kind != "O":
        found: Iterable[tuple[slice, ...]] = slices_from_chunks(
            in_blocks(stored, memory_limit).chunks
        )
        return found
    step = rows_of(stored.shape, max(1, stored.dtype.itemsize), _COMPARED_NBYTES)[0]
    return [(slice(start, start + step),) for start in range(0, stored.shape[0], step)]
