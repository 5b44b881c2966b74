"""Chunks that hold the fill value only, which need not be stored."""

from typing import Any

import numpy as np
import numpy.typing as npt


class Fill:
    """A fill value, and whether a chunk holds nothing else.

    Bits are compared, so that negative zeros and unusual NaNs are stored.

    Examples
    --------
    >>> fill = Fill(7, np.dtype("int16"))
    >>> fill.is_all_of(np.full((2, 3), 7, "int16")), fill.is_all_of(np.zeros(3, "int16"))
    (True, False)
    """

    def __init__(self, value: Any, dtype: np.dtype[Any]) -> None:
        self.value = np.zeros((), dtype)[()] if value is None else value
        whole = np.array(self.value, dtype).reshape(1)
        # Words are compared faster than the bytes that elements of odd sizes leave.
        self._word = whole.view(f"u{dtype.itemsize}" if dtype.itemsize in (2, 4, 8) else np.uint8)

    def is_all_of(self, chunk: npt.NDArray[Any]) -> bool:
        """Return whether every element has the fill value's bits; mostly known at once."""
        words = chunk.reshape(-1).view(self._word.dtype).reshape(-1, self._word.size)
        if not len(words) or (words[[0, -1]] != self._word).any():
            return False
        return bool((words == self._word).all())
