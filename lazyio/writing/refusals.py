"""What is wrong with several arrays of one call, told in one error."""

import contextlib
from collections.abc import Iterator

from lazyio.errors import (
    LazyioError,
    OptionError,
    PlanError,
    SourceError,
    TargetError,
    TargetExistsError,
    UnknownFormatError,
    UnsupportedDtypeError,
)
from lazyio.planning.budget import limit_too_small

_REFUSED = (
    OptionError,
    PlanError,
    SourceError,
    TargetError,
    TargetExistsError,
    UnknownFormatError,
    UnsupportedDtypeError,
)
"""Errors in what was given; others, such as a lock, say nothing of one array."""


class Refusals:
    """Errors of the arrays of one call, kept until all of them have been looked at.

    Parameters
    ----------
    n_arrays : int
        Arrays of the call. The error of a single one is raised as it is.
    earlier : Refusals, optional
        What has been found before.

    Examples
    --------
    >>> refusals = Refusals(3)
    >>> for key in "abc":
    ...     with refusals.of(key):
    ...         if key != "b":
    ...             raise OptionError("it has no axis 'time'")
    >>> refusals.check()
    Traceback (most recent call last):
        ...
    lazyio.errors.OptionError: 2 of 3 arrays are refused:
      array 'a': it has no axis 'time'
      array 'c': it has no axis 'time'
    """

    def __init__(self, n_arrays: int, earlier: "Refusals | None" = None) -> None:
        self._n_arrays: int = n_arrays if earlier is None else earlier._n_arrays
        self._found: list[tuple[str, LazyioError]] = list(earlier._found) if earlier else []
        self._shortage: PlanError | None = None

    @contextlib.contextmanager
    def of(self, key: str | None) -> Iterator[None]:
        """Keep an error of an array; ``None`` stands for one that names the array itself."""
        try:
            yield
        except _REFUSED as error:
            if self._n_arrays < 2:
                raise
            said = str(error) if key is None else f"array {key!r}: {error}"
            if isinstance(error, PlanError) and error.shortage is not None:
                limit, why, least = error.shortage
                why = why if key is None else f"array {key!r}: {why}"
                self._shortage = self._shortage or limit_too_small(limit, why, least)
            else:
                self._found.append((said, error))

    def check(self) -> None:
        """Raise what has been found, if anything has: the memory limit only if nothing else."""
        if not self._found:
            if self._shortage is not None:
                raise self._shortage
            return
        said, first = self._found[0]
        if len(self._found) > 1:
            lines = "\n".join(f"  {one}" for one, _ in self._found)
            said = f"{len(self._found)} of {self._n_arrays} arrays are refused:\n{lines}"
        raise _with_text(first, said) from first


def _with_text(error: LazyioError, text: str) -> LazyioError:
    """Return an error of the same kind that says something else."""
    if isinstance(error, OSError):
        return type(error)(error.errno, text)
    return type(error)(text)
