"""Public: rows of differing length or shape, in memory, in a file, or as they come."""

import contextlib
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, overload

import dask.array as da
import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from lazyio.dtypes import Shape, as_shape, is_integer
from lazyio.errors import OnePassError, OptionError, SelectionError, SourceError
from lazyio.execution.dask_arrays import as_blocks
from lazyio.inputs import Input, recognise
from lazyio.os_errors import system_errors
from lazyio.ragged.feed import RowFacts, RowStream
from lazyio.ragged.graph import GraphSource
from lazyio.ragged.index import Index
from lazyio.ragged.rows import BATCH_NBYTES, IndexedRows, ListedRows, RowReader
from lazyio.ragged.runs import Integers
from lazyio.sources.base import Array, Source
from lazyio.sources.function import ArraySource

_ITERATED_NBYTES = 8 * BATCH_NBYTES
_BLOCK_NBYTES = 16 * 2**20
"""Of a block of the dask arrays that it is made of."""


class Ragged:
    """Rows of differing length, or of differing n-d shape.

    Row ``i`` is ``values[offsets[i]:offsets[i + 1]]``, in the shape ``shapes[i]`` where there are
    shapes. :func:`to_hdf5` and :func:`to_zarr` write it as a group of these arrays, and
    :func:`open_ragged` opens it again, as it does VLArrays, HDF5's variable-length datasets and
    the indexed columns of NWB.

    Parameters
    ----------
    values : array-like, dask array, path or Source
        Elements of all rows, end to end along the first axis.
    offsets : array-like of int
        One more than there are rows, rising. The first need not be 0, nor the last the length
        of the values: part of the offsets is part of the rows.
    shapes : array-like of int, optional
        Extents of each row, of shape ``(n, axes)``; their products are the lengths of the rows.

    Raises
    ------
    OptionError
        When they do not fit together.

    Examples
    --------
    >>> import lazyio
    >>> rows = lazyio.Ragged([1, 2, 3, 4, 5, 6], [0, 2, 2, 6])
    >>> len(rows), rows[0], rows[-1]
    (3, array([1, 2]), array([3, 4, 5, 6]))
    >>> rows[[2, 1]]
    [array([3, 4, 5, 6]), array([], dtype=int64)]
    >>> lazyio.Ragged([1, 2, 3, 4, 5, 6], [0, 2, 6], shapes=[(1, 2), (2, 2)])[1]
    array([[3, 4],
           [5, 6]])
    """

    lazyio_why_no_array: ClassVar[str] = (
        "rows of differing length are no array, with one shape that could be planned or opened; "
        "write them by to_hdf5 or to_zarr, or give their elements alone, rows.values"
    )
    """What an error says where an array was expected."""

    def __init__(self, values: Any, offsets: Any, shapes: Any = None) -> None:
        given = recognise(values)
        source = _readable(given, "values")
        if not source.shape:
            msg = "values are a single element; give an array, of which rows are parts"
            raise OptionError(msg)
        if shapes is not None and len(source.shape) > 1:
            msg = (
                f"values have shape {source.shape}, and rows have shapes; give the elements of all "
                "rows along one axis, values.reshape(-1)"
            )
            raise OptionError(msg)
        index = Index(
            offsets=_readable(recognise(offsets), "offsets"),
            shapes=None if shapes is None else _readable(recognise(shapes), "shapes"),
            n_values=source.shape[0],
        )
        # What is in memory is looked at as a whole, all else as it is read.
        (index.check_all if isinstance(index.offsets, ArraySource) else index.check)()
        self.rows: RowReader | RowStream = IndexedRows(values=source, index=index)
        self.given: Input | None = given
        self.expected_length: int | None = index.n_rows

    @classmethod
    def of_reader(cls, rows: RowReader | RowStream) -> "Ragged":
        """Return rows that are read by something else than values and offsets given here."""
        made = cls.__new__(cls)
        made.rows, made.given = rows, None
        made.expected_length = None if isinstance(rows, RowStream) else rows.n_rows
        return made

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[ArrayLike],
        *,
        dtype: npt.DTypeLike | None = None,
        item_shape: int | Sequence[int] | None = None,
        expected_length: int | None = None,
    ) -> "Ragged":
        """Return rows of a list, or rows as a generator yields them, to be written.

        Parameters
        ----------
        rows : iterable of array-like
            One array for each row, all of one dtype and number of axes. What is no list, tuple or
            array of rows is taken once, as it is written, a few rows at a time.
        dtype : dtype-like, optional
            Type of an element, where the first row is not to say it.
        item_shape : tuple of int, optional
            Extents behind the first axis, where rows differ in that alone: values then keep
            these axes, and there are no shapes.
        expected_length : int, optional
            How many rows there will be, about: chunks are made for that many.

        Returns
        -------
        Ragged
            Of a generator one without a length, which can only be written.

        Raises
        ------
        OptionError
            When there is no row to take a dtype from, or a row is a single element.
        BlockError
            When a row is of another dtype or number of axes; named by its number.

        Examples
        --------
        >>> import lazyio, numpy as np
        >>> rows = (np.full((n, 2), n) for n in range(4))
        >>> report = lazyio.to_hdf5(lazyio.Ragged.from_rows(rows), "rows.h5", "r", mode="w")
        >>> lazyio.open_ragged("rows.h5", "r")[3].shape
        (3, 2)
        """
        if isinstance(rows, (str, bytes)) or not hasattr(rows, "__iter__"):
            msg = f"rows={type(rows).__name__} is no iterable of rows; give a list or a generator"
            raise OptionError(msg)
        items = None if item_shape is None else as_shape(item_shape, "item_shape")
        stream = RowStream(rows, dtype=dtype, item_shape=items)
        if not isinstance(rows, (list, tuple, np.ndarray)):
            made = cls.of_reader(stream)
            made.expected_length = _checked_length(expected_length)
            return made
        facts = stream.facts
        return cls.of_reader(
            ListedRows(
                rows=tuple(stream.take()),
                dtype=facts.dtype,
                item_shape=facts.item_shape,
                n_axes=facts.n_axes,
            )
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self.facts.dtype

    @property
    def ndim(self) -> int:
        """Number of axes of a row."""
        return self.facts.n_axes + len(self.facts.item_shape)

    @property
    def item_shape(self) -> Shape:
        """Extents behind the first axis, where they are the same in all rows."""
        return self.facts.item_shape

    @property
    def facts(self) -> RowFacts:
        """What all rows have in common."""
        rows = self.rows
        if isinstance(rows, RowStream):
            return rows.facts
        return RowFacts(dtype=rows.dtype, item_shape=rows.item_shape, n_axes=rows.n_axes)

    @property
    def _reader(self) -> RowReader:
        if isinstance(self.rows, RowStream):
            msg = (
                "rows of a generator come once, as they are written, and have neither length nor "
                "numbers; write them first, and open what was written with lazyio.open_ragged"
            )
            raise OnePassError(msg)
        return self.rows

    @property
    def _indexed(self) -> IndexedRows:
        rows = self._reader
        if not isinstance(rows, IndexedRows) or rows.index.has_pairs:
            msg = (
                "these rows do not lie end to end in one array; write them with lazyio.to_hdf5 or "
                "lazyio.to_zarr, where they do"
            )
            raise OptionError(msg)
        return rows

    @property
    def values(self) -> da.Array:
        """Elements of all rows, as a dask array."""
        return _lazy(self._indexed.values)

    @property
    def offsets(self) -> da.Array:
        """Where rows begin, and where the last one ends, as a dask array."""
        return _lazy(self._indexed.index.offsets)

    @property
    def shapes(self) -> da.Array | None:
        """Extents of each row as a dask array, ``None`` where rows differ along one axis only."""
        shapes = self._indexed.index.shapes
        return None if shapes is None else _lazy(shapes)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self._reader.n_rows

    @overload
    def __getitem__(self, key: int) -> Array: ...
    @overload
    def __getitem__(self, key: Any) -> Any: ...
    @system_errors(SourceError)
    def __getitem__(self, key: Any) -> Any:
        """Return a row, or a list of rows.

        The index is read first, and then the values of all rows in as few reads as
        do not fetch much that is not wanted.

        Parameters
        ----------
        key : int, slice, list of int or mask
            Numbers below 0 count from the end; a mask has one truth value for each row.

        Returns
        -------
        ndarray or list of ndarray
            Rows that can be written to, which changes nothing else.

        Raises
        ------
        SelectionError
            When there is no such row.
        DamagedDataError
            When the index of a file does not fit its values.
        """
        reader = self._reader
        if is_integer(key):
            return reader.one(_within(operator.index(key), reader.n_rows))
        numbers, is_one = _numbers(key, reader.n_rows)
        rows = reader.read(numbers)
        return rows[0] if is_one else rows

    def __iter__(self) -> Iterator[Array]:
        """Yield all rows, of which some megabytes are read at once."""
        return self.by_parts(_ITERATED_NBYTES)

    def by_parts(self, nbytes: int) -> Iterator[Array]:
        """Yield all rows, of which about so many bytes are read at once."""
        if isinstance(self.rows, RowStream):
            yield from self.rows.take()
            return
        for start, stop in self.rows.spans(nbytes):
            yield from self.rows.read(np.arange(start, stop))

    @system_errors(SourceError)
    def lengths(self) -> Integers:
        """Return how many elements each row has, without reading any where there is an index.

        Returns
        -------
        ndarray of int64
            Of 8 bytes for each row.

        Examples
        --------
        >>> import lazyio
        >>> lazyio.Ragged([1, 2, 3], [0, 2, 2, 3]).lengths()
        array([2, 0, 1])
        """
        rows = self._reader
        if isinstance(rows, IndexedRows):
            found = [rows.index.read(*part).lengths for part in _parts(rows.n_rows)]
            return np.concatenate([np.empty(0, np.int64), *found])
        n_each = max(1, int(np.prod(rows.item_shape)))
        return np.fromiter((row.size // n_each for row in self), np.int64, rows.n_rows)

    @classmethod
    def from_awkward(cls, array: Any) -> "Ragged":
        """Return the rows of an awkward array, without a copy where its layout allows.

        Parameters
        ----------
        array : awkward.Array
            Lists of numbers or text; or lists of lists that are rectangular, which become rows
            of more than one axis.

        Returns
        -------
        Ragged
            Its rows, in memory.

        Raises
        ------
        OptionError
            When awkward is not installed, or the array holds something else: records, missing
            values, lists that are not rectangular.

        Examples
        --------
        >>> import awkward, lazyio
        >>> lazyio.Ragged.from_awkward(awkward.Array([[1, 2], [], [3]]))[0]
        array([1, 2])
        """
        from lazyio.ragged.awkward import parts_of_awkward

        return cls(*parts_of_awkward(array))

    def to_awkward(self) -> Any:
        """Return all rows as an awkward array, in memory.

        Returns
        -------
        awkward.Array
            Lists, nested as rows have axes.

        Examples
        --------
        >>> import lazyio
        >>> lazyio.Ragged([1, 2, 3], [0, 2, 2, 3]).to_awkward().tolist()
        [[1, 2], [], [3]]
        """
        from lazyio.ragged.awkward import as_awkward

        return as_awkward(self)

    def __repr__(self) -> str:
        """Return what it is, in one line."""
        if isinstance(self.rows, RowStream):
            return "<lazyio.Ragged: rows of a generator, to be written>"
        inner = ", ".join(["n"] * self.rows.n_axes + list(map(str, self.item_shape)))
        comma = "," if self.ndim == 1 else ""
        return f"<lazyio.Ragged: {len(self)} rows of shape ({inner}{comma}), {self.dtype}>"


def _checked_length(given: Any) -> int | None:
    if given is None or (is_integer(given) and given >= 0):
        return None if given is None else int(given)
    msg = f"expected_length={given!r} is no number of rows"
    raise OptionError(msg)


def _parts(n_rows: int) -> list[tuple[int, int]]:
    step = 2**20
    return [(start, min(n_rows, start + step)) for start in range(0, n_rows, step)]


def _readable(given: Input, name: str) -> Source:
    """Return what reads any part of an array; what comes once cannot be read so."""
    if given.comes_once:
        msg = (
            f"{name} come once, and rows are read in any order; lazyio.Ragged.from_rows takes rows"
        )
        raise OptionError(msg)
    if given.source is not None:
        return given.source
    if given.array is None or given.mask_fill is not None:
        msg = f"{name} have masked elements or none at all; give plain elements, .filled(value)"
        raise OptionError(msg)
    return GraphSource(array=given.array)


def _lazy(source: Source) -> da.Array:
    if isinstance(source, GraphSource):
        return source.array
    return as_blocks(source, _block_of(source))


def _block_of(source: Source) -> Shape:
    """Return blocks of whole chunks of a source, along its first axis."""
    shape = source.shape
    unit = source.chunk_shape[0] if source.chunk_shape else 1
    row = max(1, source.dtype.itemsize * int(np.prod(shape[1:], dtype=object)))
    length = max(1, _BLOCK_NBYTES // (row * unit)) * unit
    return (max(1, min(shape[0], length)), *(max(1, extent) for extent in shape[1:]))


def _numbers(key: Any, n_rows: int) -> tuple[Integers, bool]:
    """Return the numbers of rows, and whether one row is meant and no list."""
    if isinstance(key, slice):
        return np.arange(*_indices(key, n_rows), dtype=np.int64), False
    found = None
    if isinstance(key, (list, range)) or hasattr(key, "__array__"):
        # A list of lists that differ in length is no array.
        with contextlib.suppress(ValueError, TypeError):
            found = None if np.ma.is_masked(key) else np.asarray(key)
    if found is not None and found.ndim == 0 and found.dtype.kind in "iu":
        return np.array([_within(int(found), n_rows)], np.int64), True
    if found is not None and found.ndim == 1 and not found.size and found.dtype.kind != "b":
        return np.empty(0, np.int64), False
    if found is None or found.ndim != 1 or found.dtype.kind not in "iub":
        msg = (
            f"rows[{key!r}]: rows are taken by a number, a slice, a list of numbers, or a mask; "
            "what is inside of a row is taken of the row, rows[i][j]"
        )
        raise OptionError(msg)
    if found.dtype.kind == "b":
        if len(found) != n_rows:
            msg = (
                f"a mask of {len(found)} truth values, and there are {n_rows} rows; give one for "
                "each row"
            )
            raise SelectionError(msg)
        return np.flatnonzero(found).astype(np.int64), False
    is_out = (found >= n_rows) | (found < -n_rows)
    if is_out.any():
        _within(int(found[is_out.argmax()]), n_rows)
    numbers = found.astype(np.int64)
    return np.where(numbers < 0, numbers + n_rows, numbers), False


def _indices(key: slice, n_rows: int) -> tuple[int, int, int]:
    try:
        return key.indices(n_rows)
    except (TypeError, ValueError) as error:
        msg = f"rows[{key!r}]: {error}; give whole numbers, and a step that is not 0"
        raise OptionError(msg) from error


def _within(number: int, n_rows: int) -> int:
    if not -n_rows <= number < n_rows:
        msg = f"there is no row {number}; there are {n_rows} rows"
        raise SelectionError(msg)
    return number % n_rows
