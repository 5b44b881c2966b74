"""What lazyio does to a file or store, and what that makes of a state."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import lazyio
from benchmarks.company import model
from benchmarks.company.model import Array, Step
from benchmarks.company.programs import N_COLUMNS, ROWS_A_CHUNK, TARGET, Act, Scene, Tell
from lazyio import info
from lazyio.atomic import recovery as leftovers
from lazyio.atomic import workdir
from lazyio.storage.hdf5 import file as building

_FEW = {"memory_limit": "64 MiB", "workers": 2}
_CHUNKS = (ROWS_A_CHUNK, N_COLUMNS)


@dataclass(frozen=True)
class Operation:
    """Something that lazyio does."""

    name: str
    kinds: tuple[str, ...]
    act: Callable[[Scene], Act]
    is_large: bool = False
    """Whether the file counts as a large one, which is changed in place."""
    writes: bool = True


@contextlib.contextmanager
def as_if_large() -> Iterator[None]:
    """Have files of any size changed in place, as large ones are."""
    with (
        mock.patch.object(workdir, "COPIED_NBYTES", 0),
        mock.patch.object(building, "COPIED_NBYTES", 0),
    ):
        yield


def _write(scene: Scene, data: Array, key: str, **options: Any) -> Any:
    to = lazyio.to_hdf5 if scene.kind == "hdf5" else lazyio.to_zarr
    return to(data, scene.path(), key, **options, **_FEW)


def _once(what: str, step: Step | None, run: Callable[[], Any], **options: Any) -> Act:
    def act(tell: Tell) -> None:
        tell("begin", 0)
        found = run()
        tell("read" if step is None else "done", 0, found if step is None else None)

    return Act(what, [step], act, **options)


def _reads(scene: Scene) -> Act:
    return _once(
        "reading",
        None,
        lambda: lazyio.open(scene.path(), "x").compute(scheduler="sync"),
        is_reading=True,
    )


def _adds(scene: Scene, **options: Any) -> Act:
    rows = scene.rows(scene.rng.randint(1, 120))
    key = f"n{scene.who}"
    is_resumed = "resume" in options
    step = model.add(TARGET, key, rows, makes=True, is_same_again=is_resumed)
    return _once("new array", step, lambda: _write(scene, rows, key, chunks=_CHUNKS, **options))


def _resumes(scene: Scene) -> Act:
    return _adds(scene, resume=True)


def _replaces(scene: Scene) -> Act:
    rows = scene.rows(scene.rng.randint(1, 120))
    options: dict[str, Any] = {"chunks": _CHUNKS, "overwrite": True}
    if scene.kind == "hdf5":
        options["maxshape"] = (None, N_COLUMNS)

    def run() -> None:
        _write(scene, rows, "x", **options)

    step = model.add(TARGET, "x", rows, replaces=True, makes=True)
    return _once("overwrite", step, run)


def _makes(scene: Scene) -> Act:
    rows = scene.rows(scene.rng.randint(1, 120))
    step = model.make(TARGET, {"x": (rows, ())})
    options = {"mode": "w", "chunks": _CHUNKS, "maxshape": (None, N_COLUMNS)}
    return _once("new file", step, lambda: _write(scene, rows, "x", **options))


def _puts(scene: Scene) -> Act:
    start, rows = scene.part()
    region = (slice(start, start + len(rows)), slice(None))
    step = model.put(TARGET, "x", start, rows, grows=True)
    return _once("region", step, lambda: _write(scene, rows, "x", region=region))


def _appends(scene: Scene) -> Act:
    rows = scene.rows(scene.rng.randint(1, 60))
    step = model.append(TARGET, "x", rows)
    return _once("append", step, lambda: _write(scene, rows, "x", append_dim=0))


def _pushes(scene: Scene, **options: Any) -> Act:
    """Append a few batches from a loop, and flush now and then."""
    batches = [scene.rows(scene.rng.randint(1, 20), nth) for nth in range(scene.rng.randint(1, 5))]
    flushed = [scene.rng.random() < 0.5 for _ in batches]

    def run(tell: Tell) -> None:
        known = 0
        with lazyio.writer(scene.path(), memory_limit="64 MiB", **options) as writer:
            x = writer.create("x", dtype="i4", item_shape=(N_COLUMNS,))
            for at, (batch, is_flushed) in enumerate(zip(batches, flushed, strict=True)):
                tell("begin", at)
                x.append(batch)
                if is_flushed:
                    writer.flush()
                    for done in range(known, at + 1):
                        tell("done", done)
                    known = at + 1
        for done in range(known, len(batches)):
            tell("done", done)

    return Act("writer", [model.append(TARGET, "x", batch, makes=True) for batch in batches], run)


def _follows(scene: Scene) -> Act:
    return _pushes(scene, swmr=True)


def _quiet(what: str, run: Callable[[Scene], Any], *, is_reading: bool) -> Callable[[Scene], Act]:
    """Return an act that changes no state."""
    return lambda scene: Act(what, [], lambda _: run(scene), is_reading=is_reading)


_HDF5, _BOTH = ("hdf5",), ("hdf5", "zarr")

OPERATIONS = (
    Operation("read", _BOTH, _reads, writes=False),
    Operation("add", _BOTH, _adds),
    Operation("add-large", _HDF5, _adds, is_large=True),
    Operation("overwrite", _BOTH, _replaces),
    Operation("overwrite-large", _HDF5, _replaces, is_large=True),
    Operation("new-file", _HDF5, _makes),
    Operation("region", _BOTH, _puts),
    Operation("region-large", _HDF5, _puts, is_large=True),
    Operation("append", _BOTH, _appends),
    Operation("append-large", _HDF5, _appends, is_large=True),
    Operation("writer", _BOTH, _pushes),
    Operation("writer-swmr", _HDF5, _follows),
    Operation("resume", _BOTH, _resumes),
    Operation("resume-large", _HDF5, _resumes, is_large=True),
    Operation(
        "verify",
        _BOTH,
        _quiet("verify", lambda scene: lazyio.verify(scene.path()), is_reading=True),
        writes=False,
    ),
    Operation(
        "info",
        _BOTH,
        _quiet("info", lambda scene: info.info_of(scene.path()), is_reading=True),
        writes=False,
    ),
    Operation(
        "recover",
        _BOTH,
        _quiet("recover", lambda scene: leftovers.recover(scene.path()), is_reading=False),
        writes=False,
    ),
    Operation(
        "clean",
        _BOTH,
        _quiet("clean", lambda scene: leftovers.clean(scene.path()), is_reading=False),
        writes=False,
    ),
)


def context_of(operation: Operation) -> AbstractContextManager[Any]:
    """Return what is entered in the process of an operation."""
    return as_if_large() if operation.is_large else contextlib.nullcontext()
