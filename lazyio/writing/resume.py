"""What a job is, so that a later call can resume it, or find that it is done."""

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from typing import Any, Protocol

import h5py
import numpy as np
from dask.base import tokenize

from lazyio.atomic.digests import NotedDigests, digest_of_value
from lazyio.atomic.journal import GRAPH, SOURCE, Facts, Journal, Record, ResumeState, last_of_each
from lazyio.atomic.workdir import WorkDirectory
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape
from lazyio.execution.threads import pull
from lazyio.execution.workers import Session
from lazyio.inputs import Input
from lazyio.options import default_workers
from lazyio.planning.plan import Advice
from lazyio.writing.array_plan import PlannedArray

logger = logging.getLogger("lazyio")

_LIBRARIES = {"hdf5": ("lazyio", "h5py"), "zarr": ("lazyio", "zarr")}
_SHORT = 200


class ResumableTarget(Protocol):
    """A target that can tell which of its chunks are there."""

    shape: Shape
    chunk_shape: Shape
    keeping: ResumeState | None

    def is_whole(self, record: Record) -> bool:
        """Return whether what a record speaks of is there as it was written."""


def facts_of_job(
    format: str,
    several: Iterable[tuple[PlannedArray, Any, Mapping[str, Any]]],
    **common: Any,
) -> dict[str, Any]:
    """Return what makes a job the same one."""
    facts: dict[str, Any] = {f"{name} version": _version(name) for name in _LIBRARIES[format]}
    if format == "hdf5":
        facts["HDF5 version"] = h5py.version.hdf5_version
    facts |= {name: _plain(value) for name, value in common.items()}
    for arranged, options, others in several:
        own = _facts_of_plan(arranged) | _data(arranged.given)
        if options is not None:
            own |= {field.name: _plain(getattr(options, field.name)) for field in fields(options)}
        own |= {name: _plain(value) for name, value in others.items()}
        facts |= {f"{arranged.key}: {name}": value for name, value in own.items()}
    return facts


@functools.cache
def _version(name: str) -> str:
    """Return the version of a library, which takes milliseconds to look up."""
    return version(name)


def in_head(facts: Facts) -> dict[str, str]:
    """Return what is stored with the result, by which the same job is known again."""
    certain = {name: value for name, value in facts.items() if not name.endswith(GRAPH)}
    graphs = {name: value for name, value in facts.items() if name.endswith(GRAPH)}
    return {"facts": digest_of_value(certain), "graphs": digest_of_value(graphs)}


def _facts_of_plan(arranged: PlannedArray) -> dict[str, Any]:
    plan = arranged.plan
    return {
        "shape": list(plan.shape),
        "dtype": _plain(plan.dtype),
        "chunks": list(plan.chunk_shape),
        "shards": _plain(plan.shard_shape),
        "blocks": _plain(plan.block_shape),
    }


def _data(given: Input) -> dict[str, Any]:
    """Return the lasting name of data, or what there is of one."""
    if given.source is None:
        name = None if given.array is None else given.array.name
        return {} if name is None else {GRAPH[2:]: name}
    where = sorted(map(list, given.locations))
    token, lasts = given.token
    return {SOURCE[2:]: [where, token]} if lasts else {GRAPH[2:]: token}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, or something by which it is known."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, np.dtype):
        return str(value.descr if value.fields is not None else value.str)
    if isinstance(value, Mapping) or len(str(value)) > _SHORT or isinstance(value, np.ndarray):
        return tokenize(value)
    return str(value)


def begin_keeping(
    work: WorkDirectory,
    targets: Sequence[tuple[ResumableTarget, Shape, NotedDigests | None]],
    replay: Callable[[Sequence[Record]], object] | None = None,
) -> tuple[Journal, Advice]:
    """Let targets go on where an interrupted run stopped, and note what they do."""
    Session.end_killed(work.path)
    journal = Journal(work.journal)
    keepings = [
        ResumeState(
            array=at,
            journal=journal,
            shape=target.shape,
            chunk_shape=target.chunk_shape,
            corner=corner,
        )
        for at, (target, corner, _) in enumerate(targets)
    ]
    if replay is not None:
        replay(journal.records)
    n_damaged = 0
    lock = threading.Lock()

    def look(record: Record, _: Workspace) -> None:
        nonlocal n_damaged
        is_whole = targets[record.array][0].is_whole(record)
        keeping = keepings[record.array]
        with lock:
            (keeping.kept if is_whole else keeping.reserved)[record.chunk] = record
            n_damaged += not is_whole

    records = list(last_of_each(journal.records).values())
    if records:
        pull(records, look, n_threads=default_workers(), on_done=_ignore)
    for keeping, (target, _, noted) in zip(keepings, targets, strict=True):
        target.keeping = keeping
        if noted is not None:
            for chunk, record in keeping.kept.items():
                noted.note(chunk, record.digest if record.nbytes else None)
    advice = []
    if journal.n_lost:
        what = f"{journal.n_lost} records of the journal were damaged; what they told of is redone"
        advice.append(("journal-damaged", what))
    # What was under way when the run was killed is no damage: one chunk for each worker.
    if n_damaged > default_workers():
        what = f"{n_damaged} chunks were not as they had been written; they are written again"
        advice.append(("chunks-damaged", what))
    for _, what in advice:
        logger.warning("%s: %s", work.path, what)
    n_kept = sum(len(keeping.kept) for keeping in keepings)
    if n_kept:
        logger.info("resuming %s: %d chunks are stored", work.path, n_kept)
    return journal, tuple(advice)


def _ignore(_: Record) -> None:
    """Do nothing: what was found has been noted."""
