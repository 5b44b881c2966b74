"""Blocks that a dask graph computes: each goes to its consumer inside its own task.

Locally the task that computes a block also hands it on, so that no result
waits in the scheduler. Where a graph runs in other processes, blocks come
back a few at a time and are handed on here.
"""

import itertools
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask.array as da
import dask.config
import dask.local
import dask.threaded
import numpy as np
import numpy.typing as npt
from dask.base import compute, optimize
from dask.callbacks import Callback
from dask.core import flatten

from lazyio.codecs.workspace import Workspace
from lazyio.errors import BlockError, LazyioError
from lazyio.grid import Region, cuts, format_region
from lazyio.run.pull import pull

Consume = Callable[[Region, npt.NDArray[Any], Workspace], None]
Done = Callable[[Region], object]

_LOCAL = {"threads", "threading"}
IN_ORDER = {"sync", "synchronous", "single-threaded"}


def run_graph(array: da.Array, consume: Consume, *, n_workers: int, on_done: Done) -> None:
    """Compute every block once and hand it to a consumer.

    Parameters
    ----------
    array : dask.array.Array
        With known block sizes.
    consume : callable
        Given a region, its block and a thread's own workspace.
    n_workers : int
        Blocks in flight at once.
    on_done : callable
        Given each region after it was consumed.

    Raises
    ------
    BlockError
        When a block raises, or is not of the shape and dtype it should be;
        names its region, the cause is chained.
    """
    if not array.ndim:
        consume((), _checked(_computed(array), (), array), Workspace())
        on_done(())
    elif active_client() is not None or dask.config.get("scheduler", "threads") not in (
        _LOCAL | IN_ORDER
    ):
        _run_elsewhere(array, consume, n_workers=n_workers, on_done=on_done)
    else:
        _run_here(array, consume, n_workers=n_workers, on_done=on_done)


def _computed(array: da.Array) -> Any:
    """Return the one element of an array without axes."""
    try:
        return array.compute()
    except LazyioError:
        raise
    except Exception as error:
        msg = f"computing the array failed: {type(error).__name__}: {error}"
        raise BlockError(msg) from error


def active_client() -> Any:
    """Return the distributed client that dask would use, without importing one."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_client()
    except ValueError:
        return None


def _run_here(array: da.Array, consume: Consume, *, n_workers: int, on_done: Done) -> None:
    """Fuse the consumer into each block's task, and run dask's own threads."""
    regions = _regions(array)
    states = threading.local()
    running = _Running()

    def deliver(block: npt.NDArray[Any], block_id: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        region = regions[block_id]
        if not hasattr(states, "workspace"):
            states.workspace = Workspace()
        with running:
            consume(region, _checked(block, region, array), states.workspace)
        return np.ones((1,) * array.ndim, bool)

    def note(key: Any, *_: Any) -> None:
        if isinstance(key, tuple) and key[0] == delivered.name:
            try:
                on_done(regions[key[1:]])
            except Exception as error:
                raise _CallbackFailed from error

    delivered = da.map_blocks(
        deliver,
        array,
        dtype=bool,
        chunks=tuple((1,) * n for n in array.numblocks),
        meta=np.empty((0,) * array.ndim, bool),
        name=f"lazyio-write-{id(running)}",
    )
    (optimized,) = optimize(delivered)
    keys = list(flatten(optimized.__dask_keys__()))
    in_order = dask.config.get("scheduler", "threads") in IN_ORDER
    # dask calls back on the thread that waits for the run, as `on_done` may expect;
    # the callback is for this run alone, other runs of this process have their own.
    callbacks = [*Callback.active, (None, None, None, note, None)]
    graph = optimized.__dask_graph__()
    try:
        # Functions, not their names: dask imports distributed to look a name up.
        if in_order:
            dask.local.get_sync(graph, keys, callbacks=callbacks)
        else:
            # A pool of our own: one that the user configured may be larger than planned.
            with ThreadPoolExecutor(n_workers) as pool:
                dask.threaded.get(graph, keys, pool=pool, callbacks=callbacks)
    except BaseException as error:
        running.stop()
        if isinstance(error, _CallbackFailed) and error.__cause__ is not None:
            raise error.__cause__ from None
        if isinstance(error, LazyioError) or not isinstance(error, Exception):
            raise
        raise _block_error(error, regions, delivered.name) from error


def _run_elsewhere(array: da.Array, consume: Consume, *, n_workers: int, on_done: Done) -> None:
    """Compute a few blocks at a time wherever dask does, and consume them here."""
    regions = _regions(array)
    tasks = array.to_delayed().ravel()
    for batch in _batches(zip(regions.values(), tasks, strict=True), n_workers):
        try:
            blocks = compute(*(task for _, task in batch))
        except LazyioError:
            raise
        except Exception as error:
            names = " or ".join(format_region(region) for region, _ in batch)
            msg = f"computing block {names} failed: {type(error).__name__}: {error}"
            raise BlockError(msg) from error
        pairs = [(region, block) for (region, _), block in zip(batch, blocks, strict=True)]

        def work(pair: tuple[Region, Any], workspace: Workspace) -> None:
            consume(pair[0], _checked(pair[1], pair[0], array), workspace)

        pull(pairs, work, n_threads=n_workers, on_done=lambda pair: on_done(pair[0]))


def _batches(items: Iterator[Any], size: int) -> Iterator[tuple[Any, ...]]:
    while batch := tuple(itertools.islice(items, size)):
        yield batch


def _regions(array: da.Array) -> dict[tuple[int, ...], Region]:
    return dict(zip(np.ndindex(*array.numblocks), cuts(array.chunks), strict=True))


class _CallbackFailed(Exception):
    """Tells an error of the caller's own callback from one of a block."""


class _Running:
    """Blocks that are being handed on; after a stop there are none, and come none."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._n_inside = 0
        self._stopped = False

    def __enter__(self) -> None:
        with self._condition:
            if self._stopped:
                msg = "the run was stopped before this block"
                raise BlockError(msg)
            self._n_inside += 1

    def __exit__(self, *details: object) -> None:
        with self._condition:
            self._n_inside -= 1
            self._condition.notify_all()

    def stop(self) -> None:
        """Let no block in any more, and wait for those inside."""
        with self._condition:
            self._stopped = True
            while self._n_inside:
                self._condition.wait()


def _checked(block: Any, region: Region, array: da.Array) -> npt.NDArray[Any]:
    """Return a block that is what the array promised, so that nothing is broadcast."""
    wanted = tuple(part.stop - part.start for part in region)
    if isinstance(block, np.generic):
        block = np.asarray(block)
    is_plain = isinstance(block, np.ndarray) and not isinstance(block, np.ma.MaskedArray)
    if is_plain and block.shape == wanted and block.dtype == array.dtype:
        return np.asarray(block)
    got = f"{block.shape} {block.dtype}" if is_plain else f"a {type(block).__name__}"
    msg = (
        f"block {format_region(region)} is {got}, the array says {wanted} {array.dtype}; "
        "let the function return that, or give map_blocks the right dtype= and chunks="
    )
    raise BlockError(msg)


def _block_error(
    error: BaseException, regions: dict[tuple[int, ...], Region], name: str
) -> BlockError:
    """Return an error that names the region whose task raised.

    dask does not say which task failed, but every task runs in a frame of
    ``dask.local.execute_task`` that has its key.
    """
    index: tuple[int, ...] = (-1,)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "execute_task":
            key = frame.f_locals.get("key")
            # A task that was fused has a name of its own, with the last one's token.
            token = name.rpartition("-")[2]
            if isinstance(key, tuple) and str(key[0]).endswith(token):
                index = key[1:]
    where = format_region(regions[index]) if index in regions else "(its place is not known)"
    msg = f"computing block {where} failed: {type(error).__name__}: {error}"
    return BlockError(msg)
