"""Items of an iterable, taken once; what goes wrong names the item."""

from collections.abc import Callable, Iterator
from typing import Any

from lazyio.errors import BlockError, LazyioError, OptionError

ENDED = object()
"""In place of an item, where there are no more."""


class Items:
    """What an iterable yields; the first item is looked at and not lost.

    Parameters
    ----------
    begin : callable
        Returns the iterator.
    name : str
        What errors call the whole.
    label : str
        What they call an item, with ``{}`` for its number.
    skips_none : bool
        Whether the first item is the first that is not ``None``.
    names_itself : bool
        Whether errors of the iterable say themselves what did not come.
    """

    def __init__(
        self,
        begin: Callable[[], Iterator[Any]],
        name: str,
        label: str,
        *,
        skips_none: bool = False,
        names_itself: bool = False,
    ) -> None:
        self._begin = begin
        self._name = name
        self._label = label
        self._skips_none = skips_none
        self._names_itself = names_itself
        self._iterator: Iterator[Any] | None = None
        self._head: list[Any] = []
        self._failure: BaseException | None = None
        self.n_skipped = 0
        """Items before the first."""
        self.is_taken = False
        """Whether they were used up."""

    def first(self) -> Any:
        """Return the first item, or the mark of the end."""
        if self._failure is not None:
            raise self._failure
        if self._iterator is None:
            try:
                self._look()
            except BaseException as error:
                # What has come until then is gone: another try would begin behind it.
                self._failure = error
                raise
        return self._head[0] if self._head else ENDED

    def _look(self) -> None:
        try:
            self._iterator = self._begin()
        except Exception as error:
            msg = f"{self._name} cannot be begun: {type(error).__name__}: {error}"
            raise BlockError(msg) from error
        while (item := self.next(self.n_skipped)) is None and self._skips_none:
            self.n_skipped += 1
        self._head = [item]

    def take(self) -> None:
        """Take note that they are used up from now on, which happens once."""
        self.first()
        if self.is_taken:
            msg = (
                f"{self._name} had been used up by an earlier call; make a new one, of a new "
                "iterable"
            )
            raise OptionError(msg)
        self.is_taken = True

    def next(self, number: int) -> Any:
        """Return the next item, or the mark of the end."""
        if self._head:
            return self._head.pop()
        try:
            return next(self._iterator or iter(()), ENDED)
        except Exception as error:
            if self._names_itself and isinstance(error, LazyioError):
                raise
            label = self._label.format(number)
            msg = f"{label} did not come: {type(error).__name__}: {error}"
            raise BlockError(msg) from error
