"""Memory that one worker uses again for every chunk."""

from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


class Workspace:
    """Named byte buffers of one thread, grown when needed and never shared.

    A fresh buffer of a megabyte or more comes from the kernel page by page;
    using one again is several times as fast as getting another.

    Examples
    --------
    >>> Workspace().buffer("planes", 4).shape
    (4,)
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Bytes] = {}

    def buffer(self, name: str, nbytes: int) -> Bytes:
        """Return ``nbytes`` bytes under a name; they hold whatever they held."""
        held = self._buffers.get(name)
        if held is None or held.size < nbytes:
            held = self._buffers[name] = np.empty(nbytes, np.uint8)
        return held[:nbytes]

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return a C-ordered array over the buffer of that name."""
        nbytes = dtype.itemsize
        for extent in shape:
            nbytes *= extent
        return self.buffer(name, nbytes).view(dtype).reshape(shape)
