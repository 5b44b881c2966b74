"""Public: copy an HDF5 file, datasets to other chunks and codecs, everything else as it is."""

import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import h5py
from h5py import h5d, h5g

from lazyio.atomic.digests import digest_of_value
from lazyio.atomic.hdf5_digests import ObjectNames, load, note_copy, noted_copy, store
from lazyio.atomic.recovery import refuse_half_applied
from lazyio.errors import OptionError, TargetError
from lazyio.execution.report import WriteReport
from lazyio.execution.run import Ran
from lazyio.libhdf5_calls import named
from lazyio.options import NONE, Default
from lazyio.os_errors import system_errors
from lazyio.planning import Plan
from lazyio.planning.layout import Layout
from lazyio.repacking.datasets import RepackedDataset, RepackPlan, Wanted, dataset_for
from lazyio.repacking.elements import lies_elsewhere
from lazyio.repacking.tree import TreeCopy
from lazyio.repacking.walk import Entry, Walk
from lazyio.sources.files import describing, existing
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.identity import Identity, SeenFile
from lazyio.sources.libhdf5 import held_open, identity_in
from lazyio.storage.hdf5.digesting import digest_dataset
from lazyio.storage.hdf5.file import OpenMode
from lazyio.storage.hdf5.file_form import FileForm
from lazyio.writing.dataset_rules import OF_ANY_DATASET, Rules, rules_by_key
from lazyio.writing.hdf5_backend import DatasetWriter, NewDatasets, writer_of_all
from lazyio.writing.hdf5_settings import Hdf5Settings
from lazyio.writing.request import Request
from lazyio.writing.run_options import Outcome, RunOptions, report_on
from lazyio.writing.target_checks import check_file, target_path


class Links(Protocol):
    """What follows links that leave a file, and knows of datasets that lie in several files."""

    seen: dict[str, SeenFile]
    """The files that they lead to."""

    def __call__(self, group: h5g.GroupID, link: Entry) -> Any:
        """Return what a link leads to, open; ``None`` where that is nothing."""

    def dataset(
        self, dataset: h5py.Dataset, key: str, settings: Hdf5Settings, *, is_own: bool
    ) -> RepackedDataset | None:
        """Return a dataset whose elements lie in other files; ``None`` if they lie in its own."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a copy is to hold."""

    path: str
    """The file that is copied."""
    identity: Identity
    """The state of it."""
    form: FileForm
    """How it was made."""
    datasets: Mapping[str, RepackedDataset]
    """What becomes of each dataset, by its path in the copy."""
    links: "Links | None" = None
    """What follows links that leave the file."""

    def plan(self) -> RepackPlan:
        """Return it as a table."""
        return RepackPlan(tuple(self.datasets.values()))

    def copy_tree(self, target: h5py.File, folder: str) -> list[tuple[str, str]]:
        """Copy all but the elements that come later, and return advice.

        ``folder`` is where the copy will lie.
        """

        def properties(copied: bytes) -> Any:
            return self.datasets[key_of(copied)].properties

        with held_open(self.path, self.identity) as source:
            tree = TreeCopy(target=target, walk=Walk(resolve=self.links), properties=properties)
            tree.copy(source)
        if tree.relative and os.path.dirname(os.path.realpath(self.path)) != folder:
            named = ", ".join(one.decode(errors="replace") for one in tree.relative[:3])
            what = (
                f"{len(tree.relative)} links or datasets name files by where they lie from "
                f"{self.path}, such as {named}; in {folder} they lead to nothing unless those lie "
                "there, too (lazyio.consolidate brings them into the copy)"
            )
            tree.advice.append(("links-moved", what))
        return tree.advice

    @property
    def files(self) -> tuple[SeenFile, ...]:
        """The file, and those that its links lead to."""
        own = SeenFile(path=self.path, identity=self.identity)
        return (own, *(() if self.links is None else self.links.seen.values()))

    def check(self) -> None:
        """Raise where one of the files is not as it was."""
        for file in self.files:
            file.check()


def key_of(copied: bytes) -> str:
    """Return what a path in a copy is called in reports and rules."""
    return copied.decode("utf-8", "surrogateescape").strip("/")


def _path_of(key: str) -> bytes:
    return b"/" + key.encode("utf-8", "surrogateescape")


_MOST_LOOKED_UP = 20_000
"""Chunks of a dataset that was copied along, of which each is to be digested."""


@dataclass(frozen=True, kw_only=True)
class CopiedFile(NewDatasets):
    """A file that is made as a copy of another."""

    contents: Contents
    told: list[tuple[str, str]] = field(default_factory=list)
    """Advice on what could not be copied as it was."""

    makes_groups: ClassVar[bool] = True

    @property
    def common(self) -> dict[str, Any]:
        """What else makes a job the same one."""
        files = sorted(self.contents.files, key=lambda one: one.path)
        return {f"file {one.path}": str(one.identity) for one in files}

    def check(self, _: Sequence[Any]) -> bool:
        """Refuse a file that may not be written, or that is copied itself."""
        check_file(self.path, self.mode, is_file=True, is_whole=True)
        self.contents.check()
        if self.path.exists():
            for source in self.contents.files:
                if os.path.samefile(source.path, self.path):
                    msg = f"{self.path} is copied itself; write to another path, then replace it"
                    raise TargetError(errno.EINVAL, msg)
        return False

    def _made(
        self, built: OpenMode, items: Sequence[Any], running: RunOptions
    ) -> Sequence[DatasetWriter | Outcome]:
        advice = self.contents.copy_tree(built.file, str(self.path.parent))
        if self.form is not None:
            self.form.write_user_block(os.fsdecode(built.file.filename))
        made: list[DatasetWriter | Outcome] = []
        for item in items:
            dataset = h5py.Dataset(h5d.open(built.file.id, _path_of(item.arranged.key)))
            made.append(writer_of_all(dataset, item, self.path, running))
        others = (one for one in self.contents.datasets.values() if one.item is None)
        made += [outcome for one in others if (outcome := _copied(one)) is not None]
        self.told[:] = advice
        return made

    def _complete(self, file: h5py.File, running: RunOptions) -> None:
        """Store digests of what was copied along, too; a file that has changed is not published."""
        names = ObjectNames(file, many=True)
        if running.digests:
            for one in self.contents.datasets.values():
                if one.item is None and _has_digests(file, one):
                    store(file, one.key, digest_dataset(file[named(one.key)], names=names))
        if running.resume:
            note_copy(file, self._job)
        self.contents.check()

    @property
    def _job(self) -> str:
        """A digest of what is copied, for copies of which no dataset is written by a job."""
        kept = {key: str(one.dtype) for key, one in self.contents.datasets.items()}
        is_whole = self.contents.links is not None
        return digest_of_value([self.common, kept, is_whole])

    @property
    def is_finished(self) -> bool:
        """Whether the same call has made the file that is there."""
        try:
            with h5py.File(self.path, "r") as file:
                return noted_copy(file) == self._job
        except OSError:
            return False


def _has_digests(file: h5py.File, one: RepackedDataset) -> bool:
    """Return whether a dataset that was copied along has elements of its own to be digested."""
    if one.dtype is None:
        return False
    dataset = file[named(one.key)]
    if lies_elsewhere(dataset.id.get_create_plist()) or load(file, one.key) is not None:
        return False
    # libhdf5 goes through all chunks to find each.
    return dataset.chunks is None or dataset.id.get_num_chunks() <= _MOST_LOOKED_UP


def _copied(one: RepackedDataset) -> Outcome | None:
    """Return what became of a dataset that was copied along with what describes it."""
    if one.shape is None or one.dtype is None:
        return None
    shape = one.chunk_shape or tuple(max(1, extent) for extent in one.shape)
    layout = Layout(shape=one.shape, chunk_shape=shape, block_shape=shape)
    plan = Plan(layout=layout, dtype=one.dtype, workers=1, memory_limit=0, peak_nbytes=0)
    return Outcome(
        key=one.key,
        plan=plan,
        nbytes=plan.nbytes,
        stored_nbytes=one.nbytes,
        n_chunks=plan.n_chunks,
        engine="copied",
    )


def contents_of(src: Any, wanted: Wanted, links: Links | None = None) -> Contents:
    """Return what a file holds, and what is to become of its datasets."""
    path = str(existing(src))
    refuse_half_applied(Path(os.path.realpath(path)))
    with describing(path) as (_, identity), held_open(path, identity) as file:
        # Twice, for open datasets take memory: their names come first.
        keys = [key for key, _ in _datasets(file, links)]
        named = rules_by_key(wanted.rules, keys, OF_ANY_DATASET)
        datasets: dict[str, RepackedDataset] = {}
        for key, entry in _datasets(file, links):
            dataset, is_own = h5py.Dataset(entry.item), entry.source is file
            where = (path, identity) if is_own else _where(entry.source)
            with foreign_errors(f"{where[0]}: dataset {key!r}"):
                found = None
                if links is not None:
                    found = links.dataset(dataset, key, wanted.settings, is_own=is_own)
                if found is None:
                    found = dataset_for(dataset, key, *where, wanted, named.get(key, {}))
            datasets[key] = found
        form = FileForm.of(file)
    return Contents(path=path, identity=identity, form=form, datasets=datasets, links=links)


def _datasets(file: h5py.File, links: Links | None) -> Iterator[tuple[str, Entry]]:
    """Yield the datasets of a file as they come, each with its path in the copy."""
    with foreign_errors(str(file.filename)):
        for entry in Walk(resolve=links).entries(file):
            if entry.kind == "dataset":
                yield key_of(entry.copied), entry


def _where(file: h5py.File) -> tuple[str, Identity]:
    """Return path and state of a file that a link has led to."""
    return os.path.realpath(os.fsdecode(file.filename)), identity_in(file)


def plan_repack(
    src: Any,
    *,
    rules: Rules | None = None,
    access: Any = None,
    compression: Any = NONE,
    compression_opts: Any = None,
    shuffle: bool | None = NONE,
    chunks: Any = NONE,
    memory_limit: int | str | None = None,
    workers: int | None = None,
) -> RepackPlan:
    """Return what :func:`lazyio.repack` would make of each dataset of a file; print it.

    Parameters
    ----------
    src : path-like
        The file.
    rules, access, compression, compression_opts, shuffle, chunks, memory_limit, workers : optional
        As in :func:`lazyio.repack`.

    Returns
    -------
    RepackPlan
        A mapping from paths to plans, printed as a table. ``.rules()`` gives what changes as rules.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> from lazyio.repacking import plan_repack
    >>> _ = lazyio.to_hdf5(np.ones((1000, 64)), "ones.h5", "x", chunks=(100, 64))
    >>> print(plan_repack("ones.h5", compression="gzip"))
    dataset  shape       dtype    chunks     filters          stored   what becomes of it
    x        (1000, 64)  float64  (100, 64)  none -> gzip[4]  500 KiB  stored anew
    """
    settings = Hdf5Settings(memory_limit=memory_limit, workers=workers)
    common = _common(
        access=access,
        compression=compression,
        compression_opts=compression_opts,
        shuffle=shuffle,
        chunks=chunks,
    )
    return contents_of(src, Wanted(settings=settings, common=common, rules=rules)).plan()


def _common(**given: Any) -> dict[str, Any]:
    """Return what was said of all datasets."""
    names_nothing = ("access", "compression_opts")
    return {
        name: value
        for name, value in given.items()
        if not isinstance(value, Default) and not (value is None and name in names_nothing)
    }


@system_errors(TargetError)
def repack(
    src: Any,
    dst: Any,
    *,
    rules: Rules | None = None,
    access: Any = None,
    compression: Any = NONE,
    compression_opts: Any = None,
    shuffle: bool | None = NONE,
    chunks: Any = NONE,
    mode: str = "w-",
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: Any = False,
    digests: bool = True,
    progress: Any = False,
) -> WriteReport:
    """Copy an HDF5, netCDF-4 or NWB file, datasets to other chunks and codecs.

    What nothing is said of stays as it is: chunks are copied as they are stored, without decoding
    them, and groups, attributes, links, references, dimension scales, fill values, named types,
    creation order and user block as they are. Digests are made anew. The copy appears when all of
    it is complete; the source is only read.

    Parameters
    ----------
    src : path-like
        The file.
    dst : path-like
        The copy.
    rules : mapping, optional
        By paths of datasets, with ``*`` and ``?``: a mapping with any of ``chunks``,
        ``chunk_nbytes``, ``access``, ``compression``, ``compression_opts``, ``shuffle`` and
        ``fletcher32``. The last rule that names a dataset holds; what it does not mention stays as
        it is. :func:`lazyio.repacking.plan_repack` gives the table.
    access, compression, compression_opts, shuffle, chunks : optional
        What holds for all datasets of which no rule says otherwise, as in :func:`lazyio.to_hdf5`.
        Windows and chunks are for datasets with as many axes; arrays in one piece of less than
        1 KiB are left as they are. ``compression=None`` stores without one.
    mode : {"w-", "x", "w"}
        ``"w"`` replaces a file that is there.
    memory_limit : int or str, optional
        Bytes for everything in flight; 1 GiB by default.
    workers : int, optional
        Blocks in flight; by default dask's number of workers.
    resume : bool or "trust"
        Whether to keep a journal, with which the same call resumes after a kill.
    digests : bool
        Whether to store digests, by which :func:`lazyio.verify` finds damage.
    progress : bool or callable
        ``True`` draws a bar; a callable is given a step for every block.

    Returns
    -------
    WriteReport
        All datasets of the copy, by paths.

    Raises
    ------
    TargetExistsError
        When ``dst`` exists and ``mode`` does not replace it.
    TargetError
        When ``dst`` is ``src``, or cannot be written.
    SourceError
        When ``src`` cannot be read, or changes meanwhile.
    OptionError, PlanError
        Before anything is written: a rule that names no dataset, or one that cannot be followed.

    Examples
    --------
    >>> import h5py, lazyio, numpy as np
    >>> with h5py.File("old.h5", "w") as file:
    ...     file["x"] = np.zeros((1000, 64))
    ...     file["x"].attrs["unit"] = "V"
    >>> report = lazyio.repack("old.h5", "new.h5", compression="gzip", shuffle=True)
    >>> with h5py.File("new.h5") as file:
    ...     file["x"].compression, file["x"].attrs["unit"]
    ('gzip', 'V')
    """
    running = RunOptions.of(
        resume=resume, digests=digests, progress=progress, compute=True, scheduler=None
    )
    settings = Hdf5Settings(memory_limit=memory_limit, workers=workers)
    common = _common(
        access=access,
        compression=compression,
        compression_opts=compression_opts,
        shuffle=shuffle,
        chunks=chunks,
    )
    check_new_mode(mode)
    target = copy_path(dst)
    wanted = Wanted(settings=settings, common=common, rules=rules)
    return write_copy(contents_of(src, wanted), target, mode, running)


def copy_path(path: Any) -> Path:
    """Return the absolute path of a copy, unless its name is that of a Zarr store."""
    target = target_path(path)
    if target.suffix == ".zarr":
        msg = (
            f"{target}: a copy is an HDF5 file; all arrays of a file go to Zarr with the command "
            f"lazyio convert SRC {target.name} --all"
        )
        raise OptionError(msg)
    return target


def check_new_mode(mode: str) -> None:
    """Refuse a mode that does not make a file."""
    if mode not in ("w", "w-", "x"):
        msg = f"mode={mode!r}: a copy is a new file; give 'w-', or 'w' to replace one"
        raise OptionError(msg)


def write_copy(contents: Contents, target: Path, mode: str, running: RunOptions) -> WriteReport:
    """Write the copy of a file, whole or not at all."""
    place = CopiedFile(
        path=target, mode=mode, overwrite=True, form=contents.form, contents=contents
    )
    items = tuple(one.item for one in contents.datasets.values() if one.item is not None)
    kept = [one for one in contents.datasets.values() if one.why]
    advice = tuple(("kept-as-it-is", f"{one.key!r} is kept as it is: {one.why}") for one in kept)
    running = replace(running, advice=(*running.advice, *advice))
    request: Request[Any] = Request(name=str(target), place=place, items=items, running=running)
    if running.resume and not items and place.is_finished:
        outcomes = [found for one in contents.datasets.values() if (found := _copied(one))]
        began = time.perf_counter()
        return report_on(str(target), outcomes, ran=Ran(n_blocks=0), began=began, advice=advice)
    request.check()
    report = request.write()
    return replace(report, advice=(*report.advice, *place.told))
