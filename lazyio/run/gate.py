"""Who may still write: nobody, once a run has ended, however it has."""

import threading
from types import TracebackType
from typing import Self

from lazyio.errors import BlockError


class Gate:
    """Lets threads in as long as it is open; a context manager of each.

    A thread whose block hangs cannot be ended. When it comes back after the
    run was given up, what it would write to may have another owner.

    Examples
    --------
    >>> gate = Gate()
    >>> with gate:
    ...     pass
    >>> gate.shut()
    >>> with gate:
    ...     pass
    Traceback (most recent call last):
    ...
    lazyio.errors.BlockError: the run was stopped before this block
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._n_inside = 0
        self._is_shut = False

    def __enter__(self) -> Self:
        """Go in, and return itself."""
        with self._condition:
            if self._is_shut:
                msg = "the run was stopped before this block"
                raise BlockError(msg)
            self._n_inside += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave."""
        with self._condition:
            self._n_inside -= 1
            self._condition.notify_all()

    def shut(self) -> None:
        """Let nobody in any more, and wait for those inside; that is not interrupted.

        They are writing, which comes to an end.
        """
        interrupted: KeyboardInterrupt | None = None
        while True:
            try:
                with self._condition:
                    self._is_shut = True
                    while self._n_inside:
                        self._condition.wait()
                break
            except KeyboardInterrupt as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted
