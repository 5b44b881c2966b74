"""Arguments that several public functions share, checked in one place."""

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import dask
import numpy as np
from dask.system import CPU_COUNT

from lazyio.dtypes import Shape, as_shape, is_integer
from lazyio.errors import OptionError
from lazyio.execution.schedulers import scheduler_for
from lazyio.memory import auto_limit
from lazyio.planning import Plan, PlanRequest
from lazyio.planning.budget import DEFAULT_LIMIT
from lazyio.units import parse_size


@dataclass(frozen=True)
class Default:
    """What an argument is when nobody gives it, and the data do not say otherwise.

    Examples
    --------
    >>> Default("auto"), value_of(Default("auto")), value_of("auto")
    ('auto', 'auto', 'auto')
    """

    value: Any
    """What holds then."""

    def __repr__(self) -> str:
        """Return what a signature is to show."""
        return repr(self.value)


AUTO: Any = Default("auto")
NONE: Any = Default(None)
FALSE: Any = Default(False)
COPY: Any = Default("copy")


def value_of(given: Any) -> Any:
    """Return an argument, or what holds where it was not given."""
    return given.value if isinstance(given, Default) else given


def plan_request(
    *,
    format: str = "hdf5",
    memory_limit: Any = None,
    workers: Any = None,
    scheduler: Any = None,
    chunks: Any = "auto",
    chunk_nbytes: Any = None,
    block_shape: Any = None,
    shards: Any = None,
    access: Any = None,
    reads_whole_chunks: bool = True,
    codec: str | None = None,
    strategy: str = "auto",
) -> PlanRequest:
    """Return what the user asked for, each part checked.

    Extents are checked where the array's shape is known, when the plan is made.
    """
    refuse_no_target(format, shards)
    if strategy not in ("auto", "hdmf"):
        msg = f'strategy={strategy!r} is not a strategy; give "auto" or "hdmf"'
        raise OptionError(msg)
    target: Literal["hdf5", "zarr"] = "hdf5" if format == "hdf5" else "zarr"
    rules: Literal["auto", "hdmf"] = "auto" if strategy == "auto" else "hdmf"
    if not isinstance(chunks, (tuple, list, int, str, Mapping, Plan)) and chunks is not None:
        chunks = as_shape(chunks, "chunks")
    if isinstance(chunks, str) and chunks != "auto":
        msg = f'chunks={chunks!r}; the only word it takes is "auto"'
        raise OptionError(msg)
    return PlanRequest(
        memory_limit=_limit(memory_limit),
        limit_is_auto=_is_auto(memory_limit),
        workers=default_workers(scheduler) if workers is None else _positive(workers, "workers"),
        workers_fixed=workers is not None,
        chunks=chunks,
        chunk_nbytes=_bounds(chunk_nbytes),
        block_shape=None if block_shape is None else _block(block_shape),
        shards=shards,
        access=access,
        reads_whole_chunks=reads_whole_chunks,
        codec=codec,
        format=target,
        strategy=rules,
    )


def refuse_no_chunks(format: str) -> None:
    """Raise for a format in which everything is chunked."""
    if format == "zarr":
        msg = "chunks=None: a Zarr array always has chunks; give -1 for a single one"
        raise OptionError(msg)


def refuse_no_target(format: str, shards: Any = None) -> None:
    """Raise for a format that nothing is written in, or that has no shards."""
    if format not in ("hdf5", "zarr"):
        msg = f'format={format!r} is not a target format; give "hdf5" or "zarr"'
        raise OptionError(msg)
    if shards is not None and format == "hdf5":
        msg = f'shards={shards!r}: HDF5 has no shards; give format="zarr", or larger chunks'
        raise OptionError(msg)


def default_workers(scheduler: Any = None) -> int:
    """Return how many workers a scheduler has, by default dask's own, without starting any."""
    found = scheduler_for(scheduler)
    if found.kind == "cluster":
        # The memory limit is that of a process.
        threads: list[int] = list(found.client.nthreads().values())
        return max(threads, default=1)
    if found.kind == "synchronous":
        return 1
    if found.pool is not None:
        return max(1, getattr(found.pool, "_max_workers", 1))
    return int(dask.config.get("num_workers", None) or CPU_COUNT)


def check_flags(**flags: Any) -> None:
    """Raise for an argument that is neither ``True`` nor ``False``."""
    for name, given in flags.items():
        if not isinstance(given, (bool, np.bool_)):
            msg = f"{name}={given!r}; give True or False"
            raise OptionError(msg)


def is_untrusted(given: Any, trusted: Any) -> bool:
    """Return whether a child process is to read it; only files can be."""
    check_flags(trusted=trusted)
    if trusted:
        return False
    if not isinstance(given, (str, os.PathLike)):
        msg = f"trusted=False is for paths; {type(given).__name__} has been opened already"
        raise OptionError(msg)
    return True


def check_resume(resume: Any) -> None:
    """Raise for a ``resume`` that is neither a truth value nor ``"trust"``."""
    if not isinstance(resume, (bool, np.bool_)) and not is_trust(resume):
        msg = f'resume={resume!r}; give True, False or "trust"'
        raise OptionError(msg)


def is_trust(resume: Any) -> bool:
    """Return whether a job is to be resumed that nothing is compared of."""
    return isinstance(resume, str) and resume == "trust"


def check_lock_timeout(lock_timeout: Any) -> None:
    """Raise for a time to wait for a lock that is no number of seconds."""
    is_number = isinstance(lock_timeout, (int, float, np.integer, np.floating))
    if lock_timeout is None or (
        is_number and not isinstance(lock_timeout, bool) and lock_timeout >= 0
    ):
        return
    msg = f"lock_timeout={lock_timeout!r}; give seconds, 0 or more, or None for what is usual"
    raise OptionError(msg)


def check_attributes(name: str, attributes: Any) -> None:
    """Raise for attributes that are no mapping from names to values."""
    if attributes is None:
        return
    if not isinstance(attributes, Mapping):
        msg = f"{name}={attributes!r}; give a dict from names to values"
        raise OptionError(msg)
    for key in attributes:
        if not isinstance(key, str) or not key or "\0" in key:
            msg = f"{name} has the name {key!r}; an attribute is named by text that is not empty"
            raise OptionError(msg)


def as_fill_value(name: str, given: Any, dtype: np.dtype[Any]) -> Any:
    """Return a fill value as an element of a dtype; one that would change is refused."""
    if given is None:
        return None
    try:
        with np.errstate(all="raise"), warnings.catch_warnings():
            warnings.simplefilter("error")
            # A record is given as a tuple, which is no list of values here.
            is_record = dtype.fields is not None and isinstance(given, tuple)
            value = np.array(given, dtype) if is_record else np.asarray(given).astype(dtype)
            is_same = value.shape == () and (
                # Not a number is not equal to itself, and a record not to a tuple.
                dtype.fields is not None or bool(value == given) or bool(value != value)  # noqa: PLR0124
            )
    except (ValueError, TypeError, ArithmeticError, Warning):
        is_same = False
    if not is_same:
        msg = f"{name}={given!r} is no value of dtype {dtype}; give one that is"
        raise OptionError(msg)
    return value[()]


def source_chunks_of(source_chunks: Any, shape: Shape) -> Shape | None:
    """Return the chunks of a source as a user gave them, checked against its shape."""
    if source_chunks is None:
        return None
    chunk_shape = as_shape(source_chunks, "source_chunks")
    if len(chunk_shape) != len(shape) or 0 in chunk_shape:
        msg = f"source_chunks={chunk_shape} does not fit shape {shape}; give one extent of at \
least 1 per axis"
        raise OptionError(msg)
    return chunk_shape


def limit_of(memory_limit: Any) -> int:
    """Return the bytes that a user allows, by default those of a plan.

    Examples
    --------
    >>> limit_of(None), limit_of("64 MiB")
    (1073741824, 67108864)
    """
    return _limit(memory_limit) or DEFAULT_LIMIT


def _is_auto(memory_limit: Any) -> bool:
    return isinstance(memory_limit, str) and memory_limit == "auto"


def _limit(memory_limit: Any) -> int | None:
    if memory_limit is None:
        return None
    return auto_limit() if _is_auto(memory_limit) else parse_size(memory_limit, "memory_limit")


def _positive(value: Any, name: str) -> int:
    number = int(value) if is_integer(value) else 0
    if number < 1:
        msg = f"{name}={value!r}; give an integer of at least 1"
        raise OptionError(msg)
    return number


def _bounds(chunk_nbytes: Any) -> tuple[int | None, int] | None:
    if chunk_nbytes is None:
        return None
    if not isinstance(chunk_nbytes, (tuple, list)):
        return None, parse_size(chunk_nbytes, "chunk_nbytes")
    if len(chunk_nbytes) != 2:
        msg = f"chunk_nbytes={chunk_nbytes!r}; give an upper bound, or (lower, upper)"
        raise OptionError(msg)
    lower, upper = (parse_size(bound, "chunk_nbytes") for bound in chunk_nbytes)
    if lower > upper:
        msg = f"chunk_nbytes={chunk_nbytes!r}: the lower bound is above the upper"
        raise OptionError(msg)
    return lower, upper


def _block(block_shape: Any) -> Shape:
    block = as_shape(block_shape, "block_shape")
    if math.prod(block) == 0:
        msg = f"block_shape={block} has an extent of 0; every extent is at least 1"
        raise OptionError(msg)
    return block
