"""What a call says of a Dataset, DataArray or DataTree, and the request that it comes to."""

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

from pandas.errors import InvalidIndexError

from lazyio.errors import DatasetError, LazyioError, OptionError, UnknownNameError
from lazyio.execution.report import WriteReport
from lazyio.planning import Plans
from lazyio.sources.zarr_metadata import require_zarr
from lazyio.writing.hdf5_in_memory import NAME as IN_MEMORY
from lazyio.writing.hdf5_in_memory import FileBuffer
from lazyio.writing.run_options import RunOptions
from lazyio.writing.target_checks import (
    check_key_is_free,
    check_mode,
    file_to_replace,
    target_path,
)
from lazyio.xarray.appending import contents_of_region, contents_to_append, region_of_group
from lazyio.xarray.by_name import check_names
from lazyio.xarray.contents import GroupContents, datasets_of
from lazyio.xarray.engine import EngineStore, FileJob
from lazyio.xarray.netcdf import StorageOptions, netcdf_request, region_request
from lazyio.xarray.private import check_dataset, check_names_of, unlimited_dims_of

P = ParamSpec("P")
Result = TypeVar("Result")


def xarray_errors(function: Callable[P, Result]) -> Callable[P, Result]:
    """Decorate what has xarray encode: what that refuses is a LazyioError, in xarray's words."""

    @functools.wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except LazyioError:
            raise
        except KeyError as error:
            raise UnknownNameError(*error.args) from error
        except (ValueError, InvalidIndexError) as error:
            raise OptionError(str(error)) from error
        except TypeError as error:
            raise DatasetError(str(error)) from error

    return told


@xarray_errors
def to_hdf5(
    given: Any,
    path: Any,
    group: str | None,
    *,
    mode: str | None,
    encoding: Any,
    unlimited_dims: Any,
    append_dim: str | None,
    region: Any,
    resume: Any,
    digests: bool,
    progress: Any,
    compute: bool,
    scheduler: Any,
    lock_timeout: Any,
    replaces: bool = True,
    write_inherited_coords: bool = False,
    **storage: Any,
) -> WriteReport:
    """Write an xarray object to a netCDF-4 file; see the accessor.

    ``replaces`` says whether variables that exist may get other values.
    """
    if append_dim is not None and region is not None:
        msg = "region and append_dim both say where the data goes; give one of them"
        raise OptionError(msg)
    is_new = append_dim is None and region is None
    if mode is None:
        mode = "w" if is_new else "r+"
    check_mode(mode)
    running = RunOptions.of(
        resume=resume,
        digests=digests,
        progress=progress,
        compute=compute,
        scheduler=scheduler,
        lock_timeout=lock_timeout,
    ).waiting(is_region=region is not None)
    options = StorageOptions(scheduler=scheduler, **storage)
    below = (group or "").strip("/")
    datasets = datasets_of(given, repeats_coords=write_inherited_coords)
    with _file_at(path, mode, running, can_wait=compute and not resume) as target:
        if is_new:
            job = FileJob(target=target, mode=mode, options=options, running=running)
            _collect(given, datasets, job, below, encoding=encoding, unlimited_dims=unlimited_dims)
            if not replaces:
                _refuse_existing(job)
            report = _write_new(job, compute=compute)
        else:
            if mode not in ("a", "r+") or encoding or unlimited_dims:
                _refuse_for_part(mode, encoding)
            contents = _parts(datasets, target, below, append_dim, region, options)
            request = region_request(
                target, contents, options, running, append_dim=append_dim, is_delayed=not compute
            )
            report = request.run(compute=compute)
    return replace(report, path=IN_MEMORY) if isinstance(path, io.BytesIO) else report


@contextlib.contextmanager
def _file_at(path: Any, mode: str, running: RunOptions, *, can_wait: bool) -> Iterator[Path]:
    """Yield the path of a file to write; of one in memory that of its copy."""
    if not isinstance(path, io.BytesIO):
        yield running.patience.retry(lambda: target_path(path))
        return
    if not can_wait:
        msg = "resume= and compute=False need a file that stays; give a path, not a BytesIO"
        raise OptionError(msg)
    with FileBuffer(content=path, mode=mode).as_path() as target:
        yield target


def _write_new(job: FileJob, *, compute: bool) -> WriteReport:
    """Write new variables, or make the file for them and return what fills it."""
    if compute:
        return job.request(job.target).write()
    job.request(job.target, fills=False).write()
    job.is_made = True
    later: WriteReport = job.request(job.target).run(compute=False)
    return later


def _refuse_for_part(mode: str, encoding: Any) -> NoReturn:
    what = f"mode={mode!r}"
    if mode in ("a", "r+"):
        what = "encoding" if encoding else "unlimited_dims"
    msg = f"{what} is for new variables, and these are stored already; leave it out"
    raise OptionError(msg)


def _parts(
    datasets: Mapping[str, Any],
    target: Path,
    below: str,
    append_dim: str | None,
    region: Any,
    options: StorageOptions,
) -> list[GroupContents]:
    """Return what is appended to, or placed in, each group of a file."""
    dims = _all_dims(datasets)
    check_names("access", options.access, dims)
    _check_place(append_dim, region, dims)
    contents = []
    for name, dataset in datasets.items():
        if not dataset.variables:
            continue
        inside, limit = f"{below}/{name}".strip("/"), options.memory_limit
        if region is None:
            contents.append(contents_to_append(dataset, target, inside, str(append_dim), limit))
        elif part := region_of_group(region, dataset):
            contents.append(contents_of_region(dataset, target, inside, part, limit))
    if region is None and not any(one.variables for one in contents):
        msg = f"append_dim={append_dim!r} is no dimension of any variable in {target}"
        raise OptionError(msg)
    return contents


def _check_place(append_dim: Any, region: Any, dims: Sequence[Any]) -> None:
    """Refuse a place that no group has."""
    named = list(region) if isinstance(region, Mapping) else []
    if append_dim is not None:
        named = [append_dim]
    unknown = [dim for dim in named if dim not in dims]
    if unknown:
        what = f"region names {unknown}" if append_dim is None else f"append_dim={append_dim!r}"
        msg = f"{what}: no dimension of the Dataset, which has {list(dims)}"
        raise OptionError(msg)


def _refuse_existing(job: FileJob) -> None:
    """Refuse to write variables that the file has."""
    for group in job.groups:
        for name in group.variables:
            key = group.key_of(name)
            if job.mode in ("a", "r+") and job.target.is_file():
                with file_to_replace(job.target) as file:
                    check_key_is_free(file, key, replace=False)


def _collect(
    given: Any,
    datasets: Mapping[str, Any],
    job: FileJob,
    below: str,
    *,
    encoding: Any,
    unlimited_dims: Any,
) -> None:
    """Have xarray encode what is given, group by group."""
    dims = _all_dims(datasets)
    check_names("access", job.options.access, dims)
    check_names("chunks", job.options.chunks, dims)
    encodings = _of_each("encoding", given, encoding or {}, datasets)
    unlimited = _unlimited_of_each(given, unlimited_dims, datasets)
    for name, dataset in datasets.items():
        check_dataset(dataset)
        own = encodings[name] or {}
        _refuse_unknown(own, dataset)
        store = EngineStore(job, f"{below}/{name}".strip("/"))
        grows = unlimited_dims_of(dataset, unlimited[name])
        dataset.dump_to_store(store, encoding=own, unlimited_dims=grows)


def _refuse_unknown(encoding: Mapping[Any, Any], dataset: Any) -> None:
    unknown = [key for key in encoding if key not in dataset.variables]
    if unknown:
        msg = f"encoding names {unknown}; the variables are {list(dataset.variables)}"
        raise UnknownNameError(msg)


def _all_dims(datasets: Mapping[str, Any]) -> list[Any]:
    return list({dim: None for dataset in datasets.values() for dim in dataset.dims})


def _of_each(what: str, given: Any, said: Any, datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of each group; of those of a tree it is said by their paths."""
    if not hasattr(given, "subtree"):
        return dict.fromkeys(datasets, said)
    by_path = {str(path).strip("/"): own for path, own in said.items()}
    if unknown := by_path.keys() - datasets.keys():
        paths = [f"/{name}" for name in datasets]
        msg = f"unexpected {what} group: {sorted(unknown)}; the tree has {paths}"
        raise UnknownNameError(msg)
    return {name: by_path.get(name) for name in datasets}


def _unlimited_of_each(
    given: Any, unlimited_dims: Any, datasets: Mapping[str, Any]
) -> dict[str, Any]:
    """Return which dimensions of each group may grow: by its path, or those that it has."""
    if unlimited_dims is None or isinstance(unlimited_dims, Mapping):
        return _of_each("unlimited_dims", given, unlimited_dims or {}, datasets)
    if not hasattr(given, "subtree"):
        return dict.fromkeys(datasets, unlimited_dims)
    named = [unlimited_dims] if isinstance(unlimited_dims, str) else list(unlimited_dims)
    check_names("unlimited_dims", dict.fromkeys(named), _all_dims(datasets))
    return {
        name: [dim for dim in named if dim in dataset.dims] for name, dataset in datasets.items()
    }


@xarray_errors
def to_zarr(
    given: Any,
    store: Any,
    group: str | None,
    *,
    mode: str | None,
    encoding: Any,
    append_dim: str | None,
    region: Any,
    consolidated: bool | None,
    zarr_format: int | None,
    write_empty_chunks: bool | None,
    storage_options: Any,
    safe_chunks: bool,
    resume: Any,
    digests: bool,
    progress: Any,
    compute: bool,
    scheduler: Any,
    lock_timeout: Any,
    replaces: bool = True,
    write_inherited_coords: bool = False,
    **storage: Any,
) -> WriteReport:
    """Write an xarray object to a Zarr group; see the accessor.

    ``replaces`` says whether arrays that exist may get other values.
    """
    require_zarr()
    from lazyio.xarray.zarr import (
        Staged,
        Target,
        fill_request,
        look_again,
        stage,
        zarr_request,
    )

    running = RunOptions.of(
        resume=resume,
        digests=digests,
        progress=progress,
        compute=compute,
        scheduler=scheduler,
        lock_timeout=lock_timeout,
    ).waiting(is_region=region is not None)
    options = StorageOptions(scheduler=scheduler, **storage)
    datasets = datasets_of(given, repeats_coords=write_inherited_coords)
    encodings = _zarr_encodings(given, datasets, encoding, options)

    settings = {
        "mode": mode,
        "group": group,
        "consolidated": consolidated,
        "append_dim": append_dim,
        "region": region,
        "zarr_format": zarr_format,
        "write_empty_chunks": write_empty_chunks,
    }
    target = running.patience.retry(lambda: Target.of(store, storage_options))

    def staged_now() -> Staged:
        def look() -> Staged:
            return stage(datasets, target, encodings, options, safe_chunks=safe_chunks, **settings)

        staged = look_again(look) if running.lock_timeout else look()
        if not replaces and append_dim is None and region is None and mode != "w":
            staged.refuse_existing()
        return staged

    def write() -> WriteReport:
        return zarr_request(staged_now(), options, running).write()

    if compute:
        # What is appended goes behind the end that others have left while it waited for them.
        return write() if append_dim is None else running.patience.follow(write)
    staged = staged_now()
    zarr_request(staged, options, running, fills=False).write()
    report: WriteReport = fill_request(staged, options, running).run(compute=False)
    return report


def _zarr_encodings(
    given: Any, datasets: Mapping[str, Any], encoding: Any, options: StorageOptions
) -> dict[str, Any]:
    """Return the encoding of each group, once all names are known to be right."""
    dims = _all_dims(datasets)
    check_names("access", options.access, dims)
    check_names("chunks", options.chunks, dims)
    encodings = _of_each("encoding", given, encoding or {}, datasets)
    for name, dataset in datasets.items():
        encodings[name] = encodings[name] or {}
        check_names_of(dataset)
        _refuse_unknown(encodings[name], dataset)
    return encodings


@xarray_errors
def plan_datasets(
    given: Any, *, format: str, encoding: Any, unlimited_dims: Any, **storage: Any
) -> Plans:
    """Return the plan of each variable; see the accessor."""
    if format not in ("hdf5", "zarr"):
        msg = f'format={format!r} is not a target format; give "hdf5" or "zarr"'
        raise OptionError(msg)
    options = StorageOptions(**storage)
    if format == "zarr":
        require_zarr()
        from lazyio.xarray.zarr import Target, plan_arrays, stage

        datasets = datasets_of(given)
        encodings = _zarr_encodings(given, datasets, encoding, options)
        staged = stage(
            datasets, Target.of({}, None), encodings, options, safe_chunks=False, mode="w"
        )
        return Plans(plan_arrays(staged, options))
    job = FileJob(target=None, mode="w", options=options)
    datasets = datasets_of(given)
    _collect(given, datasets, job, "", encoding=encoding, unlimited_dims=unlimited_dims)
    request = netcdf_request(Path(), job.groups, "w", job.options, job.running)
    return Plans({item.arranged.key: item.arranged.plan for item in request.items})
