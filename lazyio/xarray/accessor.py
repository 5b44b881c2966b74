"""Public: ``.lazyio`` of xarray's Dataset, DataArray and DataTree."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import xarray as xr

from lazyio.execution.report import WriteReport
from lazyio.planning import Plans
from lazyio.xarray import functions, writing

NAME = "lazyio"


class LazyioAccessor:
    """Write an xarray object to netCDF-4 or Zarr in parallel, whole or not at all."""

    def __init__(self, given: xr.Dataset | xr.DataArray | xr.DataTree) -> None:
        self._given = given

    def by_function(self, name: str, given: Mapping[str, Any]) -> Any:
        """Carry out ``lazyio.to_hdf5``, ``to_zarr`` or ``plan`` of an xarray object."""
        return functions.CALLS[name](self._given, given)

    def to_hdf5(
        self,
        path: Any,
        group: str | None = None,
        *,
        mode: str | None = None,
        encoding: Mapping[Any, Any] | None = None,
        unlimited_dims: Iterable[Any] | Mapping[str, Any] | None = None,
        append_dim: str | None = None,
        region: Mapping[str, Any] | Literal["auto"] | None = None,
        chunks: Mapping[str, int | None] | None = None,
        access: Any = None,
        write_inherited_coords: bool = False,
        memory_limit: int | str | None = None,
        workers: int | None = None,
        lock_timeout: float | None = None,
        resume: bool | Literal["trust"] = False,
        digests: bool = True,
        progress: Any = False,
        compute: bool = True,
        scheduler: Any = None,
    ) -> WriteReport:
        """Write to a netCDF-4 file, which xarray, h5netcdf and the netCDF library read.

        All variables are written in one pass over one graph, within one memory
        limit; the file appears, or changes, once all of them are complete.

        Parameters
        ----------
        path : path-like or io.BytesIO
            The file.
        group : str, optional
            Path of the group in it; by default the root.
        mode : {"w", "a", "w-", "r+"}, optional
            ``"w"`` makes the file anew, ``"a"`` adds to it; by default ``"w"``, as in xarray,
            and ``"r+"`` where ``append_dim`` or ``region`` is given.
        encoding : mapping, optional
            By variable, as ``to_netcdf`` takes it: ``zlib``, ``complevel``, ``chunksizes``,
            ``dtype``, ...; ``compression`` and ``compression_opts`` name lazyio's codecs too.
            Of a DataTree by group, then by variable.
        unlimited_dims : iterable of str, optional
            Dimensions that may grow. Of a DataTree by group.
        append_dim : str, optional
            Dimension along which every variable that has it grows. Times are encoded in
            the stored units, calendar and dtype; variables without it must be as they are stored.
        region : mapping or "auto", optional
            The part of existing variables to write, ``{"time": slice(0, 10)}``; ``"auto"``
            finds it by the coordinates. Dimensions without any must be written whole.
        chunks : mapping, optional
            Chunk extents by dimension, for variables whose encoding says nothing.
        access : optional
            Windows that readers will ask for, ``[{"lat": 1, "lon": 1}]``: chunks are chosen
            for them, whatever the blocks of dask.
        write_inherited_coords : bool
            Of a DataTree, whether each group gets the coordinates of those above it as well.
        memory_limit, workers, lock_timeout, resume, digests, progress, scheduler : optional
            As in :func:`lazyio.to_hdf5`.
        compute : bool
            ``False`` makes the file with everything but elements, and returns the
            ``dask.delayed.Delayed`` that fills it.

        Returns
        -------
        WriteReport
            What was written, by the paths of variables.

        Raises
        ------
        OptionError
            When something cannot be as asked; names the variable.
        PlanError, TargetError, TargetExistsError, TargetLockedError, BlockError
            As in :func:`lazyio.to_hdf5`.

        Examples
        --------
        >>> import lazyio, numpy as np, xarray as xr
        >>> ds = xr.Dataset({"t2m": (("time", "x"), np.ones((4, 3), "f4"))})
        >>> report = ds.lazyio.to_hdf5("t2m.nc", unlimited_dims=["time"])
        >>> report = ds.lazyio.to_hdf5("t2m.nc", append_dim="time")
        >>> xr.load_dataset("t2m.nc", engine="h5netcdf").sizes["time"]
        8
        """
        return writing.to_hdf5(
            self._given,
            path,
            group,
            mode=mode,
            encoding=encoding,
            unlimited_dims=unlimited_dims,
            append_dim=append_dim,
            region=region,
            chunks=chunks,
            access=access,
            write_inherited_coords=write_inherited_coords,
            memory_limit=memory_limit,
            workers=workers,
            lock_timeout=lock_timeout,
            resume=resume,
            digests=digests,
            progress=progress,
            compute=compute,
            scheduler=scheduler,
        )

    def to_zarr(
        self,
        store: Any,
        group: str | None = None,
        *,
        mode: str | None = None,
        encoding: Mapping[Any, Any] | None = None,
        append_dim: str | None = None,
        region: Mapping[str, Any] | Literal["auto"] | None = None,
        consolidated: bool | None = None,
        zarr_format: int | None = None,
        write_empty_chunks: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
        safe_chunks: bool = True,
        align_chunks: bool = False,
        chunks: Mapping[str, int | None] | None = None,
        access: Any = None,
        write_inherited_coords: bool = False,
        memory_limit: int | str | None = None,
        workers: int | None = None,
        lock_timeout: float | None = None,
        resume: bool | Literal["trust"] = False,
        digests: bool = True,
        progress: Any = False,
        compute: bool = True,
        scheduler: Any = None,
    ) -> WriteReport:
        """Write to a Zarr group, as ``to_zarr`` of xarray does.

        All variables are written in one pass over one graph, within one memory limit. In a
        local folder all of them become visible at once. Blocks of dask may cut across chunks
        and shards: parts of chunks are put together.

        Parameters
        ----------
        store : path-like, URL or zarr store
            Where to; ``.zip`` files are not written.
        group : str, optional
            Path of the group in it; by default the root.
        mode : {"w-", "w", "a", "a-", "r+"}, optional
            As in xarray.
        encoding : mapping, optional
            By variable, as ``to_zarr`` takes it: ``chunks``, ``shards``, ``compressors``,
            ``dtype``, ... Of a DataTree by group, then by variable.
        append_dim : str, optional
            Dimension along which the variables grow that have it. Times are encoded in the
            stored units, calendar and dtype, or refused.
        region : mapping or "auto", optional
            The part of existing variables to write.
        consolidated, zarr_format, write_empty_chunks, storage_options : optional
            As in xarray.
        safe_chunks, align_chunks : bool
            With ``safe_chunks=True``, as in xarray, chunks that you name and that cut across
            blocks of dask are refused. Nothing is unsafe about them here: ``safe_chunks=False``
            and ``align_chunks=True`` both let lazyio put the parts of chunks together.
            Blocks that are no regular chunks are never refused where you name none.
        chunks, access, write_inherited_coords : optional
            As in :meth:`to_hdf5`.
        memory_limit, workers, resume, digests, progress, compute, scheduler : optional
            As in :meth:`to_hdf5`.
        lock_timeout : float, optional
            As in :func:`lazyio.to_zarr`.

        Returns
        -------
        WriteReport
            What was written, by the paths of arrays.

        Examples
        --------
        >>> import lazyio, numpy as np, xarray as xr
        >>> ds = xr.Dataset({"t2m": (("time", "x"), np.ones((4, 3), "f4"))})
        >>> report = ds.lazyio.to_zarr("t2m.zarr")
        >>> report = ds.lazyio.to_zarr("t2m.zarr", append_dim="time")
        >>> xr.open_zarr("t2m.zarr").sizes["time"]
        8
        """
        return writing.to_zarr(
            self._given,
            store,
            group,
            mode=mode,
            encoding=encoding,
            append_dim=append_dim,
            region=region,
            consolidated=consolidated,
            zarr_format=zarr_format,
            write_empty_chunks=write_empty_chunks,
            storage_options=storage_options,
            safe_chunks=safe_chunks and not align_chunks,
            chunks=chunks,
            access=access,
            write_inherited_coords=write_inherited_coords,
            memory_limit=memory_limit,
            workers=workers,
            lock_timeout=lock_timeout,
            resume=resume,
            digests=digests,
            progress=progress,
            compute=compute,
            scheduler=scheduler,
        )

    def plan(
        self,
        *,
        format: str = "hdf5",
        encoding: Mapping[Any, Any] | None = None,
        unlimited_dims: Iterable[Any] | None = None,
        chunks: Mapping[str, int | None] | None = None,
        access: Any = None,
        memory_limit: int | str | None = None,
        workers: int | None = None,
    ) -> Plans:
        """Return how each variable would be cut into chunks and blocks; print it.

        Parameters
        ----------
        format : {"hdf5", "zarr"}
            Of the target.
        encoding, unlimited_dims, chunks, access, memory_limit, workers : optional
            As in :meth:`to_hdf5`.

        Returns
        -------
        lazyio.planning.Plans
            A mapping from the paths of variables to their plans.

        Examples
        --------
        >>> import lazyio, numpy as np, xarray as xr
        >>> ds = xr.Dataset({"t2m": (("time", "x"), np.ones((4, 3), "f4"))})
        >>> ds.lazyio.plan()["t2m"].chunk_shape
        (4, 3)
        """
        return writing.plan_datasets(
            self._given,
            format=format,
            encoding=encoding,
            unlimited_dims=unlimited_dims,
            chunks=chunks,
            access=access,
            memory_limit=memory_limit,
            workers=workers,
        )


def register() -> None:
    """Give xarray's classes the accessor, unless they have it."""
    for kind, add in (
        (xr.Dataset, xr.register_dataset_accessor),
        (xr.DataArray, xr.register_dataarray_accessor),
        (xr.DataTree, xr.register_datatree_accessor),
    ):
        if not hasattr(kind, NAME):
            add(NAME)(LazyioAccessor)
