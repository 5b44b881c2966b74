"""What is appended, as elements of the array: converted where that loses nothing."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.elements import Stored, is_text
from lazyio.pieces.casting import as_elements, unmasked
from lazyio.spec import Shape


@dataclass(frozen=True, kw_only=True)
class Batches:
    """What fits an array.

    Examples
    --------
    >>> from lazyio.elements import stored
    >>> form = stored(np.dtype("i2"), "hdf5")
    >>> batches = Batches(form=form, stored=form.dtype, item_shape=(2,), axis=1, is_lenient=True)
    >>> batches.rows([[1, 3, 5], [2, 4, 6]]).tolist()
    [[1, 2], [3, 4], [5, 6]]
    """

    form: Stored
    """How elements are stored."""
    stored: np.dtype[Any]
    """Type of an element as the target has it."""
    item_shape: Shape
    """Extents of an element."""
    axis: int
    """Along which the array grows."""
    is_lenient: bool
    """Whether numbers are rounded to the dtype, because it was asked for."""

    @property
    def are_plain(self) -> bool:
        """Whether elements of that dtype are stored as they are."""
        return self.form.dtype == self.form.original == self.stored and not is_text(self.stored)

    def rows(self, batch: Any) -> npt.NDArray[Any]:
        """Return a batch as it is stored, with the axis of growth first."""
        dtype = self.form.original
        if type(batch) is np.ndarray and batch.dtype == dtype and self.are_plain:
            return self._in_rows(batch)
        found = unmasked(batch)
        is_lenient = self.is_lenient or not hasattr(batch, "dtype")
        cast = as_elements(found, dtype, is_lenient=is_lenient)
        if cast is None:
            msg = (
                f"its dtype is {found.dtype}, of which {dtype} cannot hold every value that is "
                "there, convert it with .astype"
            )
            raise ValueError(msg)
        return self.form.encode(self._in_rows(cast)).astype(self.stored, copy=False)

    def _in_rows(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        items = self.item_shape
        if batch.shape == items:
            return batch[np.newaxis]
        if batch.ndim == len(items) + 1:
            rows = np.moveaxis(batch, self.axis, 0)
            if rows.shape[1:] == items:
                return rows
        wanted = [str(extent) for extent in items]
        wanted.insert(self.axis, "n")
        msg = (
            f"its shape is {batch.shape}, give elements of shape {items}, or batches of shape "
            f"({', '.join(wanted)})"
        )
        raise ValueError(msg)
