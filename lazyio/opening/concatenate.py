"""Public: several arrays as one, along an axis that they have or a new one."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import dask.array as da
import numpy as np

from lazyio.errors import OptionError
from lazyio.execution.dask_arrays import source_of
from lazyio.opening.blocks import array_in_blocks, as_planned_blocks, require_known_shape
from lazyio.opening.open import open_in_subprocess
from lazyio.options import check_flags
from lazyio.sources.adapters import unwrapped
from lazyio.sources.base import Source
from lazyio.sources.concatenated import common_axis, common_dtype, joined, stacked
from lazyio.sources.lookup import source_for

PathLike = str | os.PathLike[str]


def concatenate(
    items: Iterable[Any],
    axis: int = 0,
    *,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
    allow_external: Any = None,
    trusted: bool = True,
) -> da.Array:
    """Return arrays one after another, such as one file for each day.

    Parameters
    ----------
    items : iterable
        Each is anything that :func:`open` takes: a path, an open dataset, an
        array, a dask array, a :class:`Source`. To name an array inside a file,
        give ``lazyio.open(path, key)``.
    axis : int
        Along which they follow each other; elsewhere shapes must agree.
    chunks, memory_limit, access, allow_external, trusted : optional
        As in :func:`open`, for the whole.

    Returns
    -------
    dask.array.Array
        Blocks are planned for the whole; a block opens only the files that it
        touches. Where an item is computed by a graph of its own, the blocks
        are those of the items.

    Raises
    ------
    OptionError
        When shapes or dtypes do not go together; the item and its file are named.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> for day in range(3):
    ...     np.save(f"day{day}.npy", np.full((4, 2), day))
    >>> lazyio.concatenate([f"day{day}.npy" for day in range(3)]).shape
    (12, 2)
    """
    parts = _items(items, allow_external, trusted, memory_limit)
    if all(isinstance(part, Source) for part in parts):
        return as_planned_blocks(joined(parts, axis), chunks, memory_limit, access)
    along, dtype = common_axis(parts, axis), common_dtype(parts)
    whole = da.concatenate(_as_graphs(parts, dtype, memory_limit), axis=along)
    return array_in_blocks(whole, chunks, memory_limit, access)


def stack(
    items: Iterable[Any],
    axis: int = 0,
    *,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
    allow_external: Any = None,
    trusted: bool = True,
) -> da.Array:
    """Return arrays of one shape side by side, such as one file for each channel.

    Parameters
    ----------
    items : iterable
        As in :func:`concatenate`, all of one shape.
    axis : int
        Position of the new axis.
    chunks, memory_limit, access, allow_external, trusted : optional
        As in :func:`open`, for the whole.

    Returns
    -------
    dask.array.Array
        With one axis more than the items.

    Raises
    ------
    OptionError
        When shapes or dtypes differ; the item and its file are named.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> for channel in range(4):
    ...     np.save(f"channel{channel}.npy", np.arange(100))
    >>> lazyio.stack([f"channel{channel}.npy" for channel in range(4)], axis=1).shape
    (100, 4)
    """
    parts = _items(items, allow_external, trusted, memory_limit)
    if all(isinstance(part, Source) for part in parts):
        return as_planned_blocks(stacked(parts, axis), chunks, memory_limit, access)
    along, dtype = common_axis(parts, axis, is_new=True), common_dtype(parts)
    whole = da.stack(_as_graphs(parts, dtype, memory_limit), axis=along)
    return array_in_blocks(whole, chunks, memory_limit, access)


def _items(items: Any, allow_external: Any, trusted: Any, memory_limit: Any) -> list[Any]:
    """Return a source for each item, or a dask array where a graph computes it."""
    is_one = isinstance(items, (str, bytes, os.PathLike, Mapping)) or hasattr(items, "shape")
    given = [] if is_one or not isinstance(items, Iterable) else list(items)
    if not given:
        msg = f"items={items!r}; give a list of at least one path, array or source"
        raise OptionError(msg)
    check_flags(trusted=trusted)
    return [_item(item, allow_external, trusted, memory_limit) for item in given]


def _item(item: Any, allow_external: Any, trusted: bool, memory_limit: Any) -> Any:
    array, _ = unwrapped(item)
    if isinstance(array, np.ma.MaskedArray):
        array = array_in_blocks(array, "auto", None, None)
    if isinstance(array, da.Array):
        require_known_shape(array)
        return source_of(array) or array
    if not isinstance(array, (str, os.PathLike)):
        return source_for(array)
    if not trusted:
        return open_in_subprocess(array, None, {}, memory_limit, allow_external)
    return source_for(array, allow_external=allow_external)


def _as_graphs(parts: list[Any], dtype: np.dtype[Any], memory_limit: Any) -> list[da.Array]:
    arrays = (
        part if isinstance(part, da.Array) else as_planned_blocks(part, "auto", memory_limit, None)
        for part in parts
    )
    return [array.astype(dtype, copy=False) for array in arrays]
