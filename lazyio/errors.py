"""Every exception that lazyio raises on purpose.

Each one inherits :class:`LazyioError` and the builtin that a caller would
have caught anyway::

    LazyioError
    ├── PlanError(ValueError)              shapes and limits that do not go together
    │   └── TooLargeError(MemoryError)     an array that does not fit in memory as a whole
    ├── OptionError(ValueError)            an argument that cannot be, or a missing extra
    │   ├── DatasetError(TypeError)        what xarray has no form for in the target
    │   └── OnePassError(TypeError)        the length of what comes once, or a part of it
    ├── SelectionError(IndexError)         an index outside an array, or none that it takes
    ├── UnknownFormatError(ValueError)     no adapter for this suffix, type or content
    ├── UnsupportedDtypeError(TypeError)   a dtype that has no place on disk
    ├── SourceError(OSError)               a source that is missing or cannot be read
    │   ├── TruncatedSourceError           fewer bytes than its header or shape says
    │   ├── SourceChangedError             not what it was when it was opened
    │   └── UnsafeFileError                leads outside its folder, or crashes its reader
    ├── BlockError(RuntimeError)           one block failed; names its region
    ├── TargetError(OSError)               a target that cannot be written
    ├── TargetExistsError(FileExistsError) there already, and not to be replaced
    ├── TargetLockedError(OSError)         another writer is at work on it
    ├── ResumeError(ValueError)            an interrupted job that does not match
    └── DamagedDataError(OSError)          stored bytes that do not decode

A message says what was given, which rule it broke and what to do.
"""


class LazyioError(Exception):
    """Base of everything that lazyio raises on purpose."""


class _WithErrno(LazyioError, OSError):
    """An error of the system: the message alone is shown, ``errno`` is kept."""

    @property
    def errno(self) -> int | None:
        """Number of the error, or of the one that is behind it."""
        own: int | None = super().errno
        return own if own is not None else getattr(self.__cause__, "errno", None)

    @errno.setter
    def errno(self, number: int | None) -> None:
        # As tblib does, with which dask pickles what is raised in other processes.
        vars(OSError)["errno"].__set__(self, number)

    def __str__(self) -> str:
        """Return the message, which says more than the number before it would."""
        return self.strerror if self.strerror is not None else super().__str__()


class PlanError(LazyioError, ValueError):
    """Shapes, chunks and memory limits that do not go together."""

    shortage: tuple[int, str, int] | None = None
    """Of a memory limit that is too small: it, why, and one that would do."""


class TooLargeError(PlanError, MemoryError):
    """An array that is asked for as a whole, and is larger than the machine's memory."""


class OptionError(LazyioError, ValueError):
    """An argument that cannot be, or one that needs an extra to be installed."""


class SelectionError(LazyioError, IndexError):
    """An index that lies outside an array, or is none that it can be read by."""


class UnknownNameError(OptionError, KeyError):
    """Something is said of a variable that the Dataset does not have."""

    __str__ = Exception.__str__  # A KeyError shows its text as Python writes text.


class DatasetError(OptionError, TypeError):
    """A name, attribute or element of a Dataset that xarray has no form for in the target."""


class OnePassError(OptionError, TypeError):
    """Something that comes once is asked for its length, or for a part of it."""


class UnknownFormatError(LazyioError, ValueError):
    """No adapter knows this suffix, type or content."""


class UnsupportedDtypeError(LazyioError, TypeError):
    """A dtype, or a kind of block, that has no place in the target."""


class SourceError(_WithErrno):
    """A source that is missing or cannot be read."""


class TruncatedSourceError(SourceError):
    """A source that holds fewer bytes than its header or shape says."""


class SourceChangedError(SourceError):
    """A source that is not what it was when it was opened; open it again."""


class UnsafeFileError(SourceError):
    """A file that leads outside its folder, or crashes, hangs or fills what reads it."""


class BlockError(LazyioError, RuntimeError):
    """One block failed; the message names its region, the cause is chained."""

    @property
    def errno(self) -> int | None:
        """Number of the error of the system that is behind it, if there is one."""
        number: int | None = getattr(self.__cause__, "errno", None)
        return number


class TargetError(_WithErrno):
    """A target that cannot be written; keeps ``errno`` where there is one."""


class TargetExistsError(_WithErrno, FileExistsError):
    """The target already exists and nothing said that it may be replaced."""


class TargetLockedError(_WithErrno):
    """Another writer is at work on the target."""


class ResumeError(LazyioError, ValueError):
    """An interrupted job that does not match the call that would resume it."""


class DamagedDataError(_WithErrno):
    """Stored bytes that do not decode, or do not match their checksum."""
