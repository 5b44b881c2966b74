"""Public: write an NWB file, its structure by PyNWB and its arrays by lazyio."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from hdmf.build import GroupBuilder
from pynwb import NWBHDF5IO, NWBFile, get_manager

from lazyio.atomic.hdf5_digests import ObjectNames, load, store
from lazyio.errors import OptionError
from lazyio.execution.report import WriteReport
from lazyio.nwb.datasets import NwbDataset, datasets_in
from lazyio.nwb.structure import (
    LentFileIO,
    built,
    digest_of_structure,
    left_as_found,
    require_nwbfile,
    write_structure,
)
from lazyio.planning import Plans
from lazyio.sources.hdf5 import dataset_keys
from lazyio.storage.hdf5.dataset import creation_arguments
from lazyio.storage.hdf5.digesting import digest_dataset
from lazyio.storage.hdf5.file import OpenMode
from lazyio.writing.dataset_rules import OF_NEW_DATASETS, rule_of, rules_by_key
from lazyio.writing.hdf5_backend import NewDatasets, writer_of_all
from lazyio.writing.hdf5_settings import Hdf5Item, Hdf5Settings, dataset_item, described
from lazyio.writing.multi_array import planned
from lazyio.writing.request import Build, Heads, Place, Request
from lazyio.writing.run_options import RunOptions, scratch_beside
from lazyio.writing.target_checks import check_file, refuse_own_source, target_path


class NwbPlan(Plans):
    """How each array of an NWB file would be stored, by its path; print it."""

    def __init__(self, datasets: Mapping[str, NwbDataset], items: Sequence[Hdf5Item]) -> None:
        self._items = {item.arranged.key: item for item in items}
        columns = {
            "type": {key: datasets[key].kind for key in self._items},
            "filters": {key: described(item.options.filters) for key, item in self._items.items()},
        }
        super().__init__({key: one.arranged.plan for key, one in self._items.items()}, columns)

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return the table as rules, to be changed and given back, or kept as YAML.

        Examples
        --------
        >>> rules = plan.rules()  # doctest: +SKIP
        >>> rules["acquisition/es/data"]["compression"] = "zstd"  # doctest: +SKIP
        """
        return {key: rule_of(item) for key, item in self._items.items()}


@dataclass(frozen=True, kw_only=True)
class _Contents:
    """What an NWB file is to hold."""

    nwbfile: NWBFile
    root: GroupBuilder
    """As PyNWB would write it."""
    datasets: Mapping[str, NwbDataset]
    """Those that lazyio writes."""
    items: tuple[Hdf5Item, ...]
    """Their plans."""
    io_options: Mapping[str, Any]
    """For PyNWB."""

    def write_structure(self, io: NWBHDF5IO, folder: Path) -> None:
        """Have PyNWB write everything but the elements."""
        arguments = {
            item.arranged.key: creation_arguments(
                item.arranged.first_shape,
                item.arranged.plan.chunk_shape,
                item.arranged.plan.dtype,
                item.options,
            )
            for item in self.items
        }
        write_structure(
            io,
            self.nwbfile,
            self.root,
            arguments,
            self.datasets,
            folder=folder,
            **self.io_options,
        )


@dataclass(frozen=True, kw_only=True)
class NewNwbFile(NewDatasets):
    """An NWB file that is made anew."""

    contents: _Contents
    manager: Any
    """PyNWB's, with what it has built."""

    makes_groups: ClassVar[bool] = True

    @property
    def common(self) -> dict[str, Any]:
        """What else makes a job the same one."""
        contents = self.contents
        structure = digest_of_structure(contents.root, contents.datasets.values())
        return super().common | {"structure": structure}

    def check(self, items: Sequence[Hdf5Item]) -> bool:
        """Refuse a file that may not be written."""
        check_file(self.path, self.mode, is_file=True, is_whole=True)
        for item in items:
            refuse_own_source(item.arranged.given, self.path, None)
        return False

    def _made(self, built: OpenMode, items: Sequence[Hdf5Item], running: RunOptions) -> Any:
        io = LentFileIO(file=built.file, mode="w", manager=self.manager)
        self.contents.write_structure(io, self.path.parent)
        return [
            writer_of_all(built.file[item.arranged.key], item, self.path, running) for item in items
        ]

    def _complete(self, file: Any, running: RunOptions) -> None:
        """Store digests of what PyNWB has written, too."""
        if running.digests:
            names = ObjectNames(file, many=True)
            for key in dataset_keys(file):
                if load(file, key) is None:
                    store(file, key, digest_dataset(file[key], names=names))


@dataclass(frozen=True, kw_only=True)
class OpenNwbFile(Place[Hdf5Item]):
    """An NWB file that the caller has open, to which containers were added."""

    io: NWBHDF5IO
    contents: _Contents

    is_open: ClassVar[bool] = True
    makes_groups: ClassVar[bool] = True
    format: ClassVar[str] = "hdf5"

    def check(self, items: Sequence[Hdf5Item]) -> None:
        """Refuse arrays that are read from the file itself."""
        for item in items:
            refuse_own_source(item.arranged.given, Path(self.io.source), item.arranged.key)

    @contextlib.contextmanager
    def build(self, items: Sequence[Hdf5Item], running: RunOptions, _: Heads) -> Iterator[Build]:
        """Have the new datasets made, and fill them."""
        self.check(items)
        path = Path(self.io.source)
        self.contents.write_structure(self.io, path.parent)
        file = self.io._file
        with scratch_beside(path) as scratch:
            made = [writer_of_all(file[item.arranged.key], item, path, running) for item in items]
            yield Build(made=made, scratch=scratch)


def _contents_of(
    nwbfile: NWBFile,
    manager: Any,
    source: str,
    is_written: Any,
    options: Hdf5Settings,
    rules: Mapping[str, Mapping[str, Any]] | None,
    io_options: Mapping[str, Any],
) -> _Contents:
    """Return what is to be written, with a plan for every array."""
    if not isinstance(nwbfile, NWBFile):
        msg = f"{type(nwbfile).__name__} is no NWBFile of PyNWB"
        raise OptionError(msg)
    if nwbfile.container_source not in (None, source):
        msg = (
            f"the NWBFile was read from {nwbfile.container_source}, and PyNWB does not write it "
            f"to {source}; to add to it give the NWBHDF5IO that has read it in mode 'r+', and for "
            "a copy with other chunks call lazyio.repack"
        )
        raise OptionError(msg)
    root = built(nwbfile, manager, source)
    found = {one.key: one for one in datasets_in(root, manager, is_written)}
    small = [key for key, one in found.items() if one.is_small]
    named = rules_by_key(rules, list(found), OF_NEW_DATASETS, only_by_name=small)
    taken = {key: one for key, one in found.items() if not one.is_small or key in named}
    settings = [_settings_of(one, options, named.get(key, {})) for key, one in taken.items()]
    given = [(key, one.given) for key, one in taken.items()]
    items = planned(dataset_item, given, settings)
    return _Contents(nwbfile=nwbfile, root=root, datasets=taken, items=items, io_options=io_options)


def _settings_of(one: NwbDataset, options: Hdf5Settings, rule: Mapping[str, Any]) -> Hdf5Settings:
    """Return how a dataset is stored: by its rule, its wrapper, or what holds for all."""
    own = one.given.settings
    fresh = Hdf5Settings()
    common = {name: getattr(options, name) for name in OF_NEW_DATASETS}
    if "compression" in own:
        # The wrapper names a codec, of which the options of another say nothing.
        common |= {name: getattr(fresh, name) for name in ("compression", "compression_opts")}
    common |= {name: getattr(fresh, name) for name in OF_NEW_DATASETS if name in own}
    if one.maxshape is not None and "maxshape" not in own:
        common["maxshape"] = one.maxshape
    return replace(options, **common | dict(rule), dtype=one.dtype)


def plan(nwbfile: NWBFile, *, rules: Any = None, **options: Any) -> NwbPlan:
    """Return how each array of an NWB file would be stored; print it.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
        It is left as it was found.
    rules, **options : optional
        As in :func:`lazyio.nwb.write`.

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
    settings = Hdf5Settings(**options)
    manager = get_manager()
    with left_as_found(nwbfile):
        source = getattr(nwbfile, "container_source", None) or ""
        contents = _contents_of(nwbfile, manager, source, _nothing_written, settings, rules, {})
    return NwbPlan(contents.datasets, contents.items)


def write(
    nwbfile: NWBFile,
    path: Any,
    *,
    rules: Mapping[str, Mapping[str, Any]] | None = None,
    compression: Any = None,
    compression_opts: Any = None,
    shuffle: bool | None = None,
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
    path : path-like or pynwb.NWBHDF5IO
        The file; or one that is open for writing, to which containers were added: what is new
        is written into it, and nothing is undone if that fails.
    rules : mapping, optional
        By paths of datasets, or patterns with ``*`` and ``?``: a mapping with any of ``chunks``,
        ``chunk_nbytes``, ``access``, ``compression``, ``compression_opts``, ``shuffle``,
        ``fletcher32``, ``maxshape`` and ``fillvalue``. The last rule that names a dataset holds.
        :func:`lazyio.nwb.plan` gives the table.
    compression, compression_opts, shuffle, access : optional
        For all arrays that neither a rule nor an ``H5DataIO`` speaks of, as in
        :func:`lazyio.to_hdf5`.
    mode : {"w", "w-", "x"}
        ``"w"`` replaces a file that is there.
    memory_limit, workers, resume, digests, progress, scheduler : optional
        As in :func:`lazyio.to_hdf5`. A call that resumes may have containers with other ids.
    **io_options
        For ``NWBHDF5IO.write``: ``cache_spec``, ``link_data``, ...

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
    settings = Hdf5Settings(
        **_given(compression=compression, compression_opts=compression_opts, shuffle=shuffle),
        access=access,
        memory_limit=memory_limit,
        workers=workers,
        scheduler=scheduler,
    )
    running = RunOptions.of(
        resume=resume, digests=digests, progress=progress, compute=True, scheduler=scheduler
    )
    place: Place[Hdf5Item]
    if isinstance(path, NWBHDF5IO):
        contents = _contents_of(
            nwbfile, path.manager, path.source, path.get_written, settings, rules, io_options
        )
        place = OpenNwbFile(io=path, contents=contents)
        request = Request(name=path.source, place=place, items=contents.items, running=running)
        return request.write()
    if mode not in ("w", "w-", "x"):
        msg = f"mode={mode!r}: give 'w' for a new file; to add to one, open it with NWBHDF5IO"
        raise OptionError(msg)
    target = target_path(path)
    if target.suffix == ".zarr":
        msg = (
            f"{target}: NWB in Zarr is not written as a whole; give a path that ends in .nwb for "
            "HDF5, or give hdmf-zarr 0.14 the iterators of lazyio.nwb.iterator"
        )
        raise OptionError(msg)
    manager = get_manager()
    with left_as_found(nwbfile):
        contents = _contents_of(
            nwbfile, manager, str(target), _nothing_written, settings, rules, io_options
        )
        place = NewNwbFile(
            path=target, mode=mode, overwrite=True, contents=contents, manager=manager
        )
        request = Request(name=str(target), place=place, items=contents.items, running=running)
        return request.write()


def _nothing_written(_: Any) -> bool:
    return False


def _given(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that were given; the others leave room for what data say."""
    return {name: value for name, value in arguments.items() if value is not None}
