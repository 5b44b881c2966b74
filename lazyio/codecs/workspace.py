"""Memory that one worker uses again for every chunk, and chunks of the fill value only."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.regions import Region

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

    def decode_part(
        self,
        part: npt.NDArray[Any],
        inside: Region,
        chunk_shape: tuple[int, ...],
        decode: Callable[[npt.NDArray[Any]], None],
    ) -> None:
        """Have a whole chunk decoded, and keep a part of it."""
        chunk = self.place_for(part, chunk_shape)
        decode(chunk)
        if chunk is not part:
            part[...] = chunk[inside]

    def place_for(self, part: npt.NDArray[Any], chunk_shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return where to decode a chunk: straight into place where it is wanted whole.

        Examples
        --------
        >>> part = np.zeros((2, 3))
        >>> Workspace().place_for(part, (2, 3)) is part
        True
        >>> Workspace().place_for(part[:, :2], (2, 3)).shape
        (2, 3)
        """
        if part.shape == chunk_shape and part.flags.c_contiguous:
            return part
        # By its shape: while a chunk is decoded, chunks inside it may need places, too.
        return self.array(f"chunk{chunk_shape}", chunk_shape, part.dtype)


class Kept:
    """Payloads that wait to be written, in one buffer that is used again.

    Parameters
    ----------
    workspace : Workspace
        Of whose buffers one is taken.
    nbytes : int
        Of the buffer; what it has no room for has memory of its own.

    Examples
    --------
    >>> kept = Kept(Workspace(), 4)
    >>> kept.keep([b"ab", b"c"]).tobytes(), kept.keep([b"de"]).tobytes()
    (b'abc', b'de')
    """

    def __init__(self, workspace: Workspace, nbytes: int) -> None:
        self._room = workspace.buffer("kept", nbytes)
        self._used = 0

    def keep(self, pieces: Iterable[bytes | bytearray | memoryview | Bytes]) -> Bytes:
        """Return the bytes of a payload, which stay until all are cleared.

        Each piece need only be good until the next is taken.
        """
        pieces = iter(pieces)
        first = next(pieces, b"")
        if _is_lasting(first):
            second = next(pieces, None)
            if second is None:
                return np.frombuffer(first, np.uint8)
            pieces = itertools.chain((first, second), pieces)
        else:
            pieces = itertools.chain((first,), pieces)
        end = self._used
        left: list[bytes] = []
        for piece in pieces:
            data = np.frombuffer(piece, np.uint8)
            if left or end + data.size > self._room.size:
                left.append(data.tobytes())
            else:
                self._room[end : end + data.size] = data
                end += data.size
        kept = self._room[self._used : end]
        if left:
            return np.frombuffer(b"".join([kept.tobytes(), *left]), np.uint8)
        self._used = end
        return kept

    def to_send(self, payload: Bytes) -> Bytes:
        """Return a payload that stays when the room is used again."""
        return np.array(payload) if np.may_share_memory(payload, self._room) else payload

    def clear(self) -> None:
        """Let the room be used again."""
        self._used = 0


def _is_lasting(piece: Any) -> bool:
    """Return whether bytes are an object of their own, which nobody writes over."""
    return isinstance(piece.base if isinstance(piece, np.ndarray) else piece, bytes)


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
