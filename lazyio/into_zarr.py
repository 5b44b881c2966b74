"""Public: write arrays to a Zarr store, whole or not at all."""

import errno
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy.typing as npt

from lazyio.arrange import Cutting, arrange
from lazyio.errors import OptionError, TargetError
from lazyio.hdf5_order import Running
from lazyio.inputs import recognise
from lazyio.options import check_attributes, check_flags, plain_values, refuse_unready
from lazyio.places import array_path, check_mode, check_zarr_place, make_groups, store_path
from lazyio.report import Outcome, report_on
from lazyio.run.report import WriteReport
from lazyio.safety.workdir import WorkDirectory
from lazyio.targets.zarr import ZarrOptions, ZarrTarget


def to_zarr(
    data: Any,
    store: Any,
    path: str | None = None,
    *,
    mode: str = "a",
    overwrite: bool = False,
    chunks: Any = "auto",
    chunk_nbytes: int | str | tuple[int | str, int | str] | None = None,
    access: Any = None,
    dtype: npt.DTypeLike | None = None,
    shards: Any = None,
    compressors: Any = "auto",
    filters: Any = "auto",
    fill_value: Any = None,
    zarr_format: int = 3,
    dimension_names: Sequence[str | None] | None = None,
    attributes: Mapping[str, Any] | None = None,
    region: Any = None,
    append_dim: Any = None,
    write_empty_chunks: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    digests: bool = True,
    progress: Any = False,
    compute: bool = True,
    scheduler: Any = None,
) -> WriteReport:
    """Write an array to a Zarr array in a local directory.

    The array appears under its name only when it is complete: it is built in
    a hidden folder beside it, and a failed or killed run leaves what was there.

    Parameters
    ----------
    data : dask array, array-like or Source
        What to write, as in :func:`to_hdf5`.
    store : path-like
        Directory of the store.
    path : str, optional
        Path of the array inside it; by default the store is the array.
    mode : {"a", "w", "w-", "x", "r+"}
        Create or add; replace the named array; store must not, or must, exist.
    overwrite : bool
        Whether an array of that path may be replaced.
    chunks, chunk_nbytes : optional
        As in :func:`plan`.
    dtype : dtype-like, optional
        Cast to this type.
    compressors, filters : optional
        As in ``zarr.create_array``. zstd, blosc, gzip and crc32c, and any
        numcodecs codec of v2, are encoded here; others by zarr-python.
    fill_value : scalar, optional
        What a reader gets where nothing was written. Chunks that hold
        nothing else are not stored, as zarr does it.
    zarr_format : {3, 2}
        Version of the metadata.
    dimension_names : sequence of str, optional
        Names of the axes.
    attributes : mapping, optional
        Attributes of the array.
    memory_limit : int or str, optional
        Bytes for everything in flight; 1 GiB by default.
    workers : int, optional
        Blocks in flight; by default dask's number of workers.
    progress : bool or callable
        ``True`` draws a bar; a callable is given a step for every block.
    digests : bool
        Accepted; stores nothing yet.
    access, shards, region, append_dim, write_empty_chunks, storage_options
        Not yet: anything but the default raises :class:`OptionError`.
    resume, compute, scheduler
        Not yet: anything but the default raises :class:`OptionError`.

    Returns
    -------
    WriteReport
        What was written, how large it is and how long it took.

    Raises
    ------
    TargetExistsError
        When the array is there already.
    TargetLockedError
        When another writer is at work on it.
    TargetError
        When the store cannot be written.
    BlockError
        When a block raises or is not what it should be; names its region.
    PlanError, OptionError, UnsupportedDtypeError
        Before anything is computed.

    Examples
    --------
    >>> import dask.array as da, lazyio, zarr
    >>> report = lazyio.to_zarr(da.ones((1000, 64)), "ones.zarr", overwrite=True)
    >>> zarr.open_array("ones.zarr").shape
    (1000, 64)
    """
    began = time.perf_counter()
    refuse_unready(
        access=(access, None),
        shards=(shards, None),
        region=(region, None),
        append_dim=(append_dim, None),
        write_empty_chunks=(write_empty_chunks, None),
        storage_options=(storage_options, None),
        resume=(resume, False),
        compute=(compute, True),
        scheduler=(scheduler, None),
    )
    check_flags(overwrite=overwrite, digests=digests)
    check_mode(mode)
    if zarr_format not in (2, 3):
        msg = f"zarr_format={zarr_format!r}; give 3 or 2"
        raise OptionError(msg)
    given = recognise(data)
    check_attributes("attributes", attributes)
    root = store_path(store)
    name = array_path(path)
    cutting = Cutting(
        format="zarr",
        chunks=chunks,
        chunk_nbytes=chunk_nbytes,
        memory_limit=memory_limit,
        workers=workers,
    )
    arranged = arrange(name, given, cutting, dtype=dtype, fill_value=fill_value)
    plan = arranged.plan
    options = ZarrOptions(
        compressors=compressors,
        filters=filters,
        fill_value=arranged.fill_value,
        zarr_format=2 if zarr_format == 2 else 3,
        # v2 has no place for names, which matters only where they were asked for.
        dimension_names=dimension_names or (given.dims if zarr_format == 3 else ()) or None,
        attributes={**arranged.form.attrs, **plain_values(attributes or {})},
    )
    check = partial(
        check_zarr_place, given, root, name, mode, zarr_format, replace=overwrite or mode == "w"
    )
    is_kept = check()
    final = root / name if is_kept else root
    # A new store is built whole; an array for one that is there, inside its folder.
    with WorkDirectory(final, folder=root if is_kept else None) as work:
        if check() != is_kept:
            msg = f"{root} was made or removed by another program just now; run the call again"
            raise TargetError(errno.EBUSY, msg)
        target = ZarrTarget(
            work.built,
            "" if is_kept else name,
            shape=plan.shape,
            chunk_shape=plan.chunk_shape,
            dtype=plan.dtype,
            options=options,
        )
        running = Running(progress=progress, scheduler=scheduler)
        n_blocks = running.write([arranged.job(target)], work.scratch)
        outcome = Outcome(
            key=name,
            plan=plan,
            nbytes=plan.nbytes,
            stored_nbytes=target.finish(),
            engine=target.engine,
        )
        make_groups(root, name if is_kept else "", options.zarr_format)
        work.publish()
    return report_on(str(root), [outcome], n_blocks=n_blocks, began=began, advice=())
