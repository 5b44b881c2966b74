"""Write ragged rows: as a group of arrays, in the one pass and commit of the call."""

import errno
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from lazyio.dtypes import Shape, nbytes_of
from lazyio.errors import OptionError, TargetError, TargetExistsError
from lazyio.execution.dask_arrays import as_blocks
from lazyio.inputs import RECOMMENDED, Input, recognise
from lazyio.options import AUTO, NONE, limit_of, value_of
from lazyio.ragged.feed import Feed
from lazyio.ragged.parts import (
    OFFSETS,
    SHAPES,
    VALUES,
    CheckedShapes,
    PartStream,
    ShiftedOffsets,
)
from lazyio.ragged.ragged import Ragged
from lazyio.ragged.rows import BATCH_NBYTES, IndexedRows
from lazyio.sources.base import Source
from lazyio.writing.multi_array import holds_several, refuse_clashes

Look = Callable[[str], Source | None]
"""Returns an array of the target, ``None`` where there is none."""

_INDEX_CHUNK_NBYTES = {"hdf5": 2**17, "zarr": 2**18}
"""Of offsets and shapes: a chunk is decoded for the sake of a single row."""
_APPENDED = 40
"""Chunks for which there is to be memory, so that rows can be appended under the same limit."""
_LEAST_CHUNK_NBYTES = 2**13
"""Of what may become longer by appending."""
_ROW_CHUNK_NBYTES = 2**18
"""Of values in HDF5: of a chunk mostly a single row is wanted."""
_INDEX_SHARE = Fraction(1, 8)
"""Of the memory limit, for the offsets and for the shapes of rows that come once."""
_NO_SETTINGS = ("data", "path", "store", "storage_options")
"""Arguments that say nothing of single arrays."""
ABOUT = "row i is values[offsets[i]:offsets[i + 1]]"


def holds_ragged(data: Any) -> bool:
    """Return whether rows are to be written, alone or among other arrays."""
    if isinstance(data, Ragged):
        return True
    return holds_several(data) and any(isinstance(one, Ragged) for one in data.values())


@dataclass(frozen=True, kw_only=True)
class _Existing:
    """Rows that are in a target already."""

    name: str
    offsets: Source
    n_values: int
    n_axes: int

    @property
    def n_rows(self) -> int:
        return self.offsets.shape[0] - 1

    def end(self, number: int) -> int:
        """Return where a row begins, or where the last one ends."""
        return int(self.offsets.read((slice(number, number + 1),))[0])


def ragged_arguments(
    given: Mapping[str, Any], key: str, look: Look, format: str
) -> Iterator[dict[str, Any]]:
    """Yield the arguments of a call with the arrays of its rows in place of these.

    Those that come before the last hold if everything has been written by them already.
    """
    data = given["data"]
    if given["region"] is not None:
        msg = (
            f"region={given['region']!r}: rows have no place of a fixed size that could be "
            "written again; give append_dim=0, or write all rows anew with overwrite=True"
        )
        raise OptionError(msg)
    several = {key.strip("/"): data} if isinstance(data, Ragged) else dict(data)
    prefix = "" if isinstance(data, Ragged) else key.strip("/")
    rows = {name: one for name, one in several.items() if isinstance(one, Ragged)}
    appends = given["append_dim"] is not None
    existing: dict[str, _Existing] = {}
    shaped = {name for name, one in rows.items() if one.facts.n_axes > 1}
    is_new_file = given["mode"] == "w" and format == "hdf5"
    for name, one in rows.items():
        where = _joined(prefix, name)
        if appends:
            _check_axis(given["append_dim"], name)
            existing[name] = _existing(where, one, look)
        if not is_new_file and look(_joined(where, SHAPES)) is not None:
            # They would be left beside rows that they are not those of.
            _refuse_item_shape(where, one)
            shaped.add(name)
    choices = [{name: one.n_rows for name, one in existing.items()}]
    if appends and given["resume"] and all(_end_to_end(one) for one in rows.values()):
        # If they have been appended, they begin that many rows before the end.
        before = {name: existing[name].n_rows - len(rows[name]) for name in rows}
        if min(before.values()) >= 0:
            choices.insert(0, before)
    for choice in choices:
        bases = {name: existing[name].end(number) for name, number in choice.items()}
        yield _arguments(given, several, bases, shaped, format)


def _arguments(
    given: Mapping[str, Any],
    several: Mapping[str, Any],
    bases: Mapping[str, int],
    shaped: AbstractSet[str],
    format: str,
) -> dict[str, Any]:
    """Return arguments with every array under its own key; of some rows their shapes as well."""
    arrays: dict[str, Any] = {}
    names: dict[str, list[str]] = {}
    keys: list[str] = []
    for name, one in several.items():
        parts = {"": one}
        if isinstance(one, Ragged):
            inputs = _inputs(one, bases.get(name), given, format, has_shapes=name in shaped)
            parts = dict(inputs)
        own = [_joined(name, part) for part in parts]
        arrays |= dict(zip(own, parts.values(), strict=True))
        names[name.strip("/")] = own
        keys += own
    refuse_clashes(keys)
    found = {**given, "data": arrays}
    for argument, wanted in given.items():
        if argument in _NO_SETTINGS or not isinstance(wanted, Mapping):
            continue
        if not any(str(name).strip("/") in names for name in wanted):
            continue  # It says the same of all arrays.
        whole = argument == "append_dim"
        # Of what is said of rows all but the axis is said of their values.
        found[argument] = {
            key: value
            for name, value in wanted.items()
            for key in names.get(str(name).strip("/"), [name])[: None if whole else 1]
        }
    return found


def _inputs(
    rows: Ragged,
    base: int | None,
    given: Mapping[str, Any],
    format: str,
    *,
    has_shapes: bool,
) -> Iterator[tuple[str, Input]]:
    """Yield the arrays of some rows, offsets last: no reader sees one without its row."""
    reader = _end_to_end(rows)
    if reader is None:
        inputs = _of_feed(rows, base, has_shapes=has_shapes)
    else:
        inputs = _of_index(reader, rows.given, base, has_shapes=has_shapes)
    for name, one in inputs.items():
        is_index = name != VALUES
        settings = {**one.settings}
        if base is None:
            is_run = not is_index and given["chunks"] is None
            settings = {**({} if is_run else _to_grow(one, format)), **settings}
        fixed = _fixed(name, one.shape, base, given, format) if is_index else {}
        yield name, replace(one, settings=settings, fixed=fixed, is_bound=base is not None)


def _to_grow(one: Input, format: str) -> dict[str, Any]:
    """Return settings for what may be appended to: of a few rows no chunk of a few elements."""
    found: dict[str, Any] = {"maxshape": (None, *one.shape[1:])} if format == "hdf5" else {}
    length = one.shape[0] if one.stream is None else one.stream.expected_length
    row = max(1, nbytes_of(one.shape[1:], one.dtype))
    least, most = -(-_LEAST_CHUNK_NBYTES // row), max(1, _ROW_CHUNK_NBYTES // row)
    if 0 in one.shape[1:]:
        return found
    if length is not None and length < least:
        found[RECOMMENDED] = (least, *one.shape[1:])
    elif format == "hdf5" and (length is None or length > most):
        found[RECOMMENDED] = (most, *one.shape[1:])
    return found


def _of_index(
    rows: IndexedRows, given: Input | None, base: int | None, *, has_shapes: bool
) -> dict[str, Input]:
    """Return arrays that lie end to end already, without what no row has."""
    index = rows.index
    first, last = index.ends()
    values = given or Input(shape=rows.values.shape, dtype=rows.dtype, source=rows.values)
    if (first, last) != (0, index.n_values):
        array = values.array
        if array is None:
            array = as_blocks(rows.values, tuple(max(1, n) for n in _block(rows.values)))
        values = replace(recognise(array[first:last]), settings=values.settings)
    offsets = ShiftedOffsets(
        index=index, shift=(base or 0) - first, n_skipped=0 if base is None else 1
    )
    found = {VALUES: values}
    if has_shapes:
        found[SHAPES] = _of_source(CheckedShapes(index=index))
    return {**found, OFFSETS: _of_source(offsets)}


_PART_NBYTES = 16 * 2**20


def _block(values: Source) -> tuple[int, ...]:
    """Return blocks of some megabytes, of whole chunks along the first axis."""
    unit = values.chunk_shape[0] if values.chunk_shape else 1
    row = max(1, values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=object)))
    return max(1, _PART_NBYTES // (row * unit)) * unit, *values.shape[1:]


def _of_source(source: Source) -> Input:
    return Input(shape=source.shape, dtype=source.dtype, source=source)


def _of_feed(rows: Ragged, base: int | None, *, has_shapes: bool) -> dict[str, Input]:
    """Return streams that are fed by one iterator of rows."""
    facts = rows.facts
    feed = Feed(rows.by_parts(BATCH_NBYTES), facts, base, has_shapes=has_shapes)
    parts = feed.parts
    kinds = {
        VALUES: (facts.dtype, facts.item_shape),
        OFFSETS: (np.dtype(np.int64), ()),
        SHAPES: (np.dtype(np.int64), (facts.n_axes,)),
    }
    n_index = len(parts) - 1
    found = {}
    for name, part in parts.items():
        length = feed.expected(name, rows.expected_length)
        given = recognise(PartStream(part, *kinds[name], length))
        share = 1 - n_index * _INDEX_SHARE if name == VALUES else _INDEX_SHARE
        found[name] = replace(given, share=share)
    return found


def _fixed(
    name: str, shape: Shape, base: int | None, given: Mapping[str, Any], format: str
) -> dict[str, Any]:
    """Return settings of the offsets or shapes, of which the call says the codec only."""
    most = int(limit_of(given["memory_limit"]) * _INDEX_SHARE) // _APPENDED
    about: Any = NONE
    if base is None and name == OFFSETS:
        about = {"description": ABOUT}
    elif base is None:
        about = {"description": "row i is reshaped to shapes[i]"}
    if about is not NONE and format == "hdf5":
        # Of a fixed length: for any other text the file gets a heap of 4 KiB.
        about = {name: np.bytes_(text) for name, text in about.items()}
    return {
        "dtype": None,
        "chunks": AUTO,
        "chunk_nbytes": max(_LEAST_CHUNK_NBYTES, min(_INDEX_CHUNK_NBYTES[format], most)),
        "access": None,
        "shards": "auto" if value_of(given.get("shards")) == "auto" else None,
        "filters": "auto",
        "fillvalue": NONE,
        "attrs": about,
        "dims": NONE,
        "maxshape": NONE if base is not None else (None, *shape[1:]),
    }


def _end_to_end(rows: Ragged) -> IndexedRows | None:
    """Return the reader of rows that lie end to end in one array, ``None`` of others."""
    reader = rows.rows
    return reader if isinstance(reader, IndexedRows) and not reader.index.has_pairs else None


def _check_axis(append_dim: Any, name: str) -> None:
    axis = append_dim
    if isinstance(append_dim, Mapping):
        own = {str(key).strip("/"): value for key, value in append_dim.items()}
        axis = own.get(name.strip("/"), 0)
    if axis != 0 or isinstance(axis, bool):
        msg = f"append_dim={append_dim!r}: rows are appended at their end; give append_dim=0"
        raise OptionError(msg)


def _existing(where: str, rows: Ragged, look: Look) -> _Existing:
    """Return the rows that others go behind, seen to be whole and of the same kind."""
    offsets, values = look(_joined(where, OFFSETS)), look(_joined(where, VALUES))
    if offsets is None or values is None or len(offsets.shape) != 1 or not offsets.shape[0]:
        msg = (
            f"{where!r} is no group of ragged rows, with values and offsets, to append to; leave "
            "append_dim out to write one"
        )
        raise TargetError(errno.ENOENT, msg)
    shapes = look(_joined(where, SHAPES))
    n_axes = 1 if shapes is None else shapes.shape[1]
    found = _Existing(name=where, offsets=offsets, n_values=values.shape[0], n_axes=n_axes)
    if rows.facts.n_axes != n_axes:
        msg = f"rows of {rows.facts.n_axes} axes, and those of {where!r} have {n_axes}; write \
them to a group of their own"
        raise OptionError(msg)
    end = found.end(found.n_rows)
    if end != found.n_values:
        msg = (
            f"{where!r} has {found.n_values} values, and its last row ends at {end}: behind that "
            "no row can begin; write its rows anew, from lazyio.open_ragged to another key"
        )
        raise TargetError(errno.EINVAL, msg)
    return found


def _refuse_item_shape(where: str, rows: Ragged) -> None:
    """Refuse elements that are arrays where there are shapes, which are those of whole rows."""
    if rows.facts.item_shape:
        msg = (
            f"{where!r} has shapes of its rows, and the rows that are to replace them differ along "
            "their first axis only; leave item_shape out, delete that group first, or choose "
            "another key"
        )
        raise TargetExistsError(errno.EEXIST, msg)


def _joined(*parts: str) -> str:
    return "/".join(part.strip("/") for part in parts if part.strip("/"))
