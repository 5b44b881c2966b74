"""Public: copy an HDF5 file together with what its links and virtual datasets lead to."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
from h5py import h5g, h5o

from lazyio.codecs.hdf5_filters import Filter, as_given
from lazyio.errors import TargetError, UnsupportedDtypeError
from lazyio.execution.report import WriteReport
from lazyio.libhdf5_calls import name_of
from lazyio.os_errors import system_errors
from lazyio.repacking.datasets import RepackedDataset, Wanted, facts_of, passed, stored_as
from lazyio.repacking.elements import lies_elsewhere
from lazyio.repacking.properties import makes_filters, stored_anew
from lazyio.repacking.repack import check_new_mode, contents_of, copy_path, key_of, write_copy
from lazyio.repacking.virtual import form_of_first, joined_chunks, mapped_in
from lazyio.repacking.walk import Entry
from lazyio.sources.files import existing
from lazyio.sources.hdf5 import Hdf5Source, describe_dataset
from lazyio.sources.identity import SeenFile
from lazyio.sources.libhdf5 import identity_in
from lazyio.sources.path_policy import allowed_folders, files_behind
from lazyio.sources.stored_chunks import JoinedChunks
from lazyio.writing.hdf5_settings import Hdf5Settings
from lazyio.writing.run_options import RunOptions


@dataclass(kw_only=True)
class Resolver:
    """What follows the links of a file, as far as they may lead."""

    folders: tuple[Path, ...]
    """Where they may lead to."""
    seen: dict[str, SeenFile] = field(default_factory=dict)
    """The files that they lead to."""
    broken: dict[str, str] = field(default_factory=dict)
    """Links that lead to nothing, and where they would."""

    def __call__(self, group: h5g.GroupID, link: Entry) -> Any:
        """Return what a link leads to, open; ``None`` where that is nothing."""
        self.look(link.source, _text(link.path), may_be_broken=True)
        try:
            return h5o.open(group, link.name)
        except (KeyError, ValueError, RuntimeError, OSError):
            value = link.value if isinstance(link.value, tuple) else (link.value,)
            self.broken[key_of(link.copied)] = " ".join(map(_text, value))
            return None

    def look(
        self, file: h5py.File, key: str, *, may_be_broken: bool = False
    ) -> tuple[SeenFile, ...]:
        """Return the files that a key leads to, none of which lies outside."""
        files = files_behind(file, key, self.folders, may_be_broken=may_be_broken)
        for one in files:
            if one.is_file:
                self.seen.setdefault(one.path, replace(one, box=None))
        return files

    def dataset(
        self, dataset: h5py.Dataset, key: str, settings: Hdf5Settings, *, is_own: bool
    ) -> RepackedDataset | None:
        """Return a dataset whose elements lie in other files; ``None`` if they lie in its own."""
        if not lies_elsewhere(dataset.id.get_create_plist()):
            return None
        if is_own and dataset.is_virtual and all(one.path == "." for one in mapped_in(dataset)):
            return None
        facts = facts_of(dataset, key)
        files = self.look(dataset.file, name_of(dataset))
        if not dataset.shape:
            return replace(facts, why="it has no axes")
        joined = joined_chunks(dataset) if dataset.is_virtual else None
        if joined is not None and (found := _passed(dataset, facts, *joined, settings)):
            return found
        path = os.fsdecode(dataset.file.filename)
        try:
            source = replace(
                describe_dataset(dataset, path),
                identity=identity_in(dataset.file),
                folders=self.folders,
                others=files,
            )
            return _stored(dataset, facts, source, settings)
        except UnsupportedDtypeError as error:
            return replace(facts, why=str(error))


def _passed(
    dataset: h5py.Dataset,
    facts: RepackedDataset,
    joined: JoinedChunks,
    filters: tuple[Filter, ...],
    settings: Hdf5Settings,
) -> RepackedDataset | None:
    """Return a virtual dataset whose chunks are those of its sources, ``None`` if it cannot be."""
    properties = stored_anew(dataset, joined.chunk_shape, tuple(map(as_given, filters)))
    if not makes_filters(dataset, properties, filters):
        return None
    return replace(
        facts,
        chunk_shape=joined.chunk_shape,
        filters=filters,
        final_filters=filters,
        item=passed(facts, joined, settings),
        properties=properties,
    )


def _stored(
    dataset: h5py.Dataset, facts: RepackedDataset, source: Hdf5Source, settings: Hdf5Settings
) -> RepackedDataset:
    """Return a dataset that is read from elsewhere, and stored as its first source is."""
    chunk_shape, filters = form_of_first(dataset) if dataset.is_virtual else (None, ())
    rule: dict[str, Any] = {}
    if chunk_shape is None:
        rule["chunks"] = None if dataset.maxshape == dataset.shape else "auto"
    like = replace(facts, chunk_shape=chunk_shape, filters=filters)
    found = stored_as(dataset, like, source, settings, rule)
    return replace(found, chunk_shape=facts.chunk_shape, filters=facts.filters)


def _text(name: Any) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)


@system_errors(TargetError)
def consolidate(
    src: Any,
    dst: Any,
    *,
    mode: str = "w-",
    allow_external: Any = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: Any = False,
    digests: bool = True,
    progress: Any = False,
) -> WriteReport:
    """Copy an HDF5 file together with what its links and virtual datasets lead to.

    External links become what they lead to, with everything below it; virtual datasets and those
    with external storage become datasets of their own. Chunks are copied as they are stored where
    those of a virtual dataset are whole chunks of its sources; otherwise they are stored as in the
    first source. Everything else is copied as :func:`lazyio.repack` does. A link that leads to
    nothing stays a link.

    Parameters
    ----------
    src : path-like
        The file.
    dst : path-like
        The copy.
    mode : {"w-", "x", "w"}
        ``"w"`` replaces a file that is there.
    allow_external : sequence of path-like, optional
        Folders that links may lead to, beside that of ``src``.
    memory_limit, workers, resume, digests, progress : optional
        As in :func:`lazyio.repack`.

    Returns
    -------
    WriteReport
        All datasets of the copy, by paths.

    Raises
    ------
    UnsafeFileError
        When a link leads to a folder that is not allowed.
    SourceError
        When a source of a virtual dataset is missing, or a file cannot be read or changes.
    TargetExistsError, TargetError
        As in :func:`lazyio.repack`.

    Examples
    --------
    >>> import h5py, lazyio, numpy as np
    >>> _ = lazyio.to_hdf5(np.arange(6), "day1.h5", "x")
    >>> with h5py.File("all.h5", "w") as file:
    ...     file["first"] = h5py.ExternalLink("day1.h5", "x")
    >>> report = lazyio.consolidate("all.h5", "whole.h5")
    >>> with h5py.File("whole.h5") as file:
    ...     file["first"][2:4].tolist(), file.get("first", getlink=True)
    ([2, 3], <h5py._hl.group.HardLink object at ...>)
    """
    running = RunOptions.of(
        resume=resume, digests=digests, progress=progress, compute=True, scheduler=None
    )
    check_new_mode(mode)
    settings = Hdf5Settings(memory_limit=memory_limit, workers=workers)
    resolver = Resolver(folders=allowed_folders(str(existing(src)), allow_external))
    target = copy_path(dst)
    contents = contents_of(src, Wanted(settings=settings, common={}, rules=None), resolver)
    advice = tuple(
        ("links-broken", f"{key!r} leads to {where}, which is not there; it stays a link")
        for key, where in resolver.broken.items()
    )
    return write_copy(contents, target, mode, replace(running, advice=advice))
