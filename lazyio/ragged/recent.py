"""What was read last, so that rows taken one by one do not read the same again."""

import threading
from collections import OrderedDict
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by numbers, of which those used last are kept, up to some bytes.

    Another process, to which it is sent, begins without any.

    Parameters
    ----------
    most_nbytes : int
        Bytes of all values together.

    Examples
    --------
    >>> recent = Recent(10)
    >>> for number in range(3):
    ...     recent.put(number, "text", nbytes=4)
    >>> recent.get(0), recent.get(2)
    (None, 'text')
    """

    def __init__(self, most_nbytes: int) -> None:
        self._most_nbytes = most_nbytes
        self._held: OrderedDict[int, tuple[Value, int]] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    def get(self, number: int) -> Value | None:
        """Return a value, ``None`` where it is not kept."""
        with self._lock:
            found = self._held.get(number)
            if found is None:
                return None
            self._held.move_to_end(number)
            return found[0]

    def put(self, number: int, value: Value, *, nbytes: int) -> None:
        """Keep a value, and let go of those that were used the longest time ago."""
        with self._lock:
            if number in self._held:
                return
            self._held[number] = value, nbytes
            self._nbytes += nbytes
            while self._nbytes > self._most_nbytes:
                _, (_, freed) = self._held.popitem(last=False)
                self._nbytes -= freed

    def __reduce__(self) -> Any:
        return Recent, (self._most_nbytes,)
