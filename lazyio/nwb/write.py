"""Public: write an NWB file, its structure by PyNWB and its arrays by lazyio."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hdmf.backends.io import HDMFIO
from pynwb import NWBHDF5IO, NWBFile, get_manager

from lazyio.errors import OptionError
from lazyio.execution.report import WriteReport
from lazyio.nwb.contents import Contents, NwbFormat, NwbPlan, contents_of
from lazyio.nwb.hdf5_files import Hdf5Format, NewNwbFile, OpenNwbFile
from lazyio.nwb.structure import left_as_found, require_nwbfile
from lazyio.options import NONE, Default
from lazyio.sources.zarr_metadata import require_zarr
from lazyio.writing.hdf5_settings import Hdf5Settings
from lazyio.writing.request import Place, Request
from lazyio.writing.run_options import RunOptions
from lazyio.writing.target_checks import is_url, store_path, target_path


def plan(nwbfile: NWBFile, *, rules: Any = None, format: str = "hdf5", **options: Any) -> NwbPlan:
    """Return how each array of an NWB file would be stored; print it.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
        It is left as it was found.
    rules, **options : optional
        As in :func:`lazyio.nwb.write`.
    format : {"hdf5", "zarr"}
        Of the file.

    Returns
    -------
    NwbPlan
        A mapping from paths to plans, printed as a table; ``.rules()`` gives it as rules.

    Examples
    --------
    >>> import datetime, lazyio.nwb, numpy as np, pynwb
    >>> now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    >>> nwbfile = pynwb.NWBFile("a session", "s1", now)
    >>> data = lazyio.nwb.iterator(np.ones((30_000, 64), "int16"))
    >>> nwbfile.add_acquisition(pynwb.TimeSeries(name="es", data=data, unit="V", rate=30_000.0))
    >>> lazyio.nwb.plan(nwbfile, compression="gzip")["acquisition/es/data"].shape
    (30000, 64)
    """
    require_nwbfile(nwbfile)
    form: NwbFormat
    if format == "zarr":
        form = _zarr_format(options)
    elif format == "hdf5":
        form = Hdf5Format(options=Hdf5Settings(**options))
    else:
        msg = f'format={format!r}; give "hdf5" or "zarr"'
        raise OptionError(msg)
    with left_as_found(nwbfile):
        source = getattr(nwbfile, "container_source", None) or ""
        return NwbPlan(contents_of(nwbfile, get_manager(), source, form, rules, {}))


def write(
    nwbfile: NWBFile,
    path: Any,
    *,
    rules: Mapping[str, Mapping[str, Any]] | None = None,
    compression: Any = None,
    compression_opts: Any = None,
    shuffle: bool | None = None,
    compressors: Any = NONE,
    filters: Any = NONE,
    shards: Any = None,
    access: Any = None,
    mode: str = "w",
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: Any = False,
    digests: bool = True,
    progress: Any = False,
    scheduler: Any = None,
    **io_options: Any,
) -> WriteReport:
    """Write an NWB file: its structure by PyNWB, all arrays in one parallel pass.

    The file appears when all of it is complete. Arrays of dask and lazyio, HDMF's iterators,
    ``H5DataIO`` and numpy arrays from 64 KiB on are written by lazyio, the rest by PyNWB.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
        It is left as it was found, but for iterators that can be used once.
    path : path-like, pynwb.NWBHDF5IO or hdmf_zarr.NWBZarrIO
        The file, in Zarr where its name ends in ``.zarr``; or one that is open for writing, to
        which containers were added: what is new is written into it, and nothing is undone if that
        fails.
    rules : mapping, optional
        By paths of datasets, or patterns with ``*`` and ``?``: a mapping with any of ``chunks``,
        ``chunk_nbytes``, ``access``, ``compression``, ``compression_opts``, ``shuffle`` and
        ``fillvalue``; for HDF5 also ``fletcher32`` and ``maxshape``, for Zarr ``shards``,
        ``compressors`` and ``filters``. The last rule that names a dataset holds.
        :func:`lazyio.nwb.plan` gives the table.
    compression, compression_opts, shuffle, access : optional
        For all arrays that neither a rule nor an ``H5DataIO`` speaks of, as in
        :func:`lazyio.to_hdf5`. Of compression Zarr has ``"gzip"``, ``"zstd"``, ``"blosc"`` and
        ``"none"``.
    compressors, filters, shards : optional
        The same for Zarr, as in :func:`lazyio.to_zarr`.
    mode : {"w", "w-", "x"}
        ``"w"`` replaces a file that is there.
    memory_limit, workers, resume, digests, progress, scheduler : optional
        As in :func:`lazyio.to_hdf5`. A call that resumes may have containers with other ids.
    **io_options
        For ``NWBHDF5IO.write`` or ``NWBZarrIO.write``: ``cache_spec``, ``link_data``, ...

    Returns
    -------
    WriteReport
        What lazyio wrote, by paths.

    Raises
    ------
    OptionError, PlanError, TargetError, TargetExistsError, BlockError
        As in :func:`lazyio.to_hdf5`.

    Examples
    --------
    >>> import datetime, lazyio.nwb, numpy as np, pynwb
    >>> now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    >>> nwbfile = pynwb.NWBFile("a session", "s1", now)
    >>> data = lazyio.nwb.iterator(np.ones((30_000, 64), "int16"))
    >>> nwbfile.add_acquisition(pynwb.TimeSeries(name="es", data=data, unit="V", rate=30_000.0))
    >>> report = lazyio.nwb.write(nwbfile, "session.nwb", compression="gzip")
    >>> report.keys
    ('acquisition/es/data',)
    """
    require_nwbfile(nwbfile)
    running = RunOptions.of(
        resume=resume, digests=digests, progress=progress, compute=True, scheduler=scheduler
    )
    common = {
        "access": access,
        "memory_limit": memory_limit,
        "workers": workers,
        "scheduler": scheduler,
    } | _given(compression=compression, compression_opts=compression_opts, shuffle=shuffle)
    named = {"compressors": compressors, "filters": filters}
    of_zarr = {name: one for name, one in named.items() if not isinstance(one, Default)}
    of_zarr |= _given(shards=shards)
    form: NwbFormat
    if _is_zarr(path):
        form = _zarr_format(common | of_zarr)
    elif of_zarr:
        msg = f"{', '.join(of_zarr)}: HDF5 has none; leave it out, or give a path to a .zarr"
        raise OptionError(msg)
    else:
        form = Hdf5Format(options=Hdf5Settings(**common))
    if isinstance(path, HDMFIO):
        contents = contents_of(
            nwbfile, path.manager, path.source, form, rules, io_options, path.get_written
        )
        return _request(path.source, _open_place(path, contents), contents, running).write()
    if mode not in ("w", "w-", "x"):
        msg = f"mode={mode!r}: give 'w' for a new file; to add to one, open it with {form.reopened}"
        raise OptionError(msg)
    target = store_path(path) if _is_zarr(path) else target_path(path)
    manager = get_manager()
    with left_as_found(nwbfile):
        contents = contents_of(nwbfile, manager, str(target), form, rules, io_options, is_new=True)
        place = _new_place(target, mode, contents, manager)
        return _request(str(target), place, contents, running).write()


def _is_zarr(path: Any) -> bool:
    """Return whether a file is one in Zarr, by its name or by what has it open."""
    if isinstance(path, HDMFIO):
        return not isinstance(path, NWBHDF5IO)
    if not isinstance(path, (str, os.PathLike)):
        return False
    name = os.path.normpath(os.fspath(path)).lower()
    if name.endswith(".zarr") and is_url(path):
        msg = f"{path} is a URL, and NWB in Zarr is written to folders; write here, then copy it"
        raise OptionError(msg)
    if name.endswith(".zarr.zip"):
        msg = f"{path}: NWB in Zarr is written to folders; give a path that ends in .zarr"
        raise OptionError(msg)
    return name.endswith(".zarr")


def _zarr_format(options: Mapping[str, Any]) -> NwbFormat:
    """Return how arrays are stored in Zarr, once all that it needs is there."""
    require_zarr()
    from lazyio.nwb.zarr_stores import ZarrFormat, hdmf_zarr

    hdmf_zarr()
    of_run = ("memory_limit", "workers", "scheduler")
    may_be_none = ("compressors", "filters")
    own = {
        name: one
        for name, one in options.items()
        if name not in of_run and (one is not None or name in may_be_none)
    }
    unknown = sorted(own.keys() - set(ZarrFormat.known))
    if unknown:
        msg = f"{', '.join(unknown)}: give some of {', '.join((*ZarrFormat.known, *of_run))}"
        raise OptionError(msg)
    return ZarrFormat(options=own, common={name: options.get(name) for name in of_run})


def _open_place(io: HDMFIO, contents: Contents) -> Place[Any]:
    """Return a file that the caller has open as a place to write to."""
    if isinstance(io, NWBHDF5IO):
        return OpenNwbFile(io=io, contents=contents)
    from lazyio.nwb.zarr_stores import OpenNwbStore, require_open

    require_open(io)
    return OpenNwbStore(io=io, contents=contents)


def _new_place(target: Path, mode: str, contents: Contents, manager: Any) -> Place[Any]:
    """Return a file that is made anew as a place to write to."""
    if isinstance(contents.format, Hdf5Format):
        return NewNwbFile(
            path=target, mode=mode, overwrite=True, contents=contents, manager=manager
        )
    from lazyio.nwb.zarr_stores import NewNwbStore

    return NewNwbStore(root=target, mode=mode, overwrite=True, contents=contents, manager=manager)


def _request(name: str, place: Place[Any], contents: Contents, running: RunOptions) -> Request[Any]:
    running = replace(running, advice=contents.format.advice_on(contents.items))
    return Request(name=name, place=place, items=contents.items, running=running)


def _given(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that were given; the others leave room for what data say."""
    return {name: value for name, value in arguments.items() if value is not None}
