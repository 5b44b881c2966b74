"""Links of an HDF5 file, sources of its virtual datasets and its raw files: which are broken."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py

from lazyio.errors import SourceError, UnsafeFileError
from lazyio.sources.hdf5 import each_name
from lazyio.sources.hdf5_layout import virtual_pieces
from lazyio.sources.path_policy import (
    LinkEnd,
    LinkLook,
    raw_segments,
    require_inside,
)

GOOD, BROKEN, OUTSIDE = "good", "broken", "not followed"
"""States of a link: it leads to something, or to nothing; or out of the file's folder."""

SOFT, EXTERNAL = "soft link", "external link"
PIECE, RAW = "virtual dataset made of", "stored in the raw file"


@dataclass(frozen=True, kw_only=True)
class FileLink:
    """One link of a file, one source of a virtual dataset, or one raw file of a dataset."""

    key: str
    """Where it is, from the root of the file."""
    kind: str
    """What it is: a soft or external link, a source or a raw file."""
    path: str
    """The file that it names, as it does; ``"."`` for its own."""
    target: str
    """What it names in that file."""
    state: str
    """``"good"``, ``"broken"`` or ``"not followed"``."""
    why: str = ""
    """Why it is not good."""
    end: LinkEnd | None = None
    """What it leads to."""

    @property
    def is_broken(self) -> bool:
        """Whether it leads to nothing."""
        return self.state == BROKEN

    def __str__(self) -> str:
        """Return one line."""
        where = "" if self.path == os.curdir else self.path
        if self.target:
            where = f"{self.target!r} in {where or 'the same file'}"
        verb = "" if self.kind in (PIECE, RAW) else "to "
        told = f"{self.state}: {self.why}" if self.why else self.state
        if self.end is not None:
            told = f"{self.state} ({self.end})"
        return f"{self.key}: {self.kind} {verb}{where}, {told}"

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON can hold it."""
        return {**vars(self), "end": None if self.end is None else self.end.to_text()}

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> "FileLink":
        """Return what :meth:`to_dict` gave, as it came back from JSON."""
        end = None if held["end"] is None else LinkEnd.of_text(held["end"])
        return cls(**{**held, "end": end})


def links_in(file: h5py.File, folders: Sequence[Path]) -> Iterator[FileLink]:
    """Yield all that leads somewhere else; only files in some folders are looked into."""
    look = LinkLook(file, folders)
    for parent, path, kind in each_name(file):
        key, name = f"/{os.fsdecode(path)}", path.rpartition(b"/")[2]
        if kind is None and parent.links.get_info(name).type == h5py.h5l.TYPE_SOFT:
            target = os.fsdecode(parent.links.get_val(name))
            yield _followed(look, key, SOFT, os.curdir, target)
        elif kind is None and parent.links.get_info(name).type == h5py.h5l.TYPE_EXTERNAL:
            where, target = map(os.fsdecode, parent.links.get_val(name))
            yield _followed(look, key, EXTERNAL, where, target)
        elif kind == h5py.h5o.TYPE_DATASET:
            dataset = file[path]
            if dataset.is_virtual:
                yield from _pieces(look, key, dataset)
            elif dataset.id.get_create_plist().get_external_count():
                yield from _raw_files(key, dataset, folders)


def _followed(look: LinkLook, key: str, kind: str, path: str, target: str) -> FileLink:
    link = FileLink(key=key, kind=kind, path=path, target=target, state=GOOD)
    return _told(link, partial(look.end_of, key))


def _pieces(look: LinkLook, key: str, dataset: h5py.Dataset) -> Iterator[FileLink]:
    for piece in virtual_pieces(dataset):
        path, target = (piece.path, piece.key) if piece.is_pattern else piece.names(0)
        link = FileLink(key=key, kind=PIECE, path=path, target=target, state=GOOD)
        yield _told(link, partial(look.end_of_piece, key, piece))


def _raw_files(key: str, dataset: h5py.Dataset, folders: Sequence[Path]) -> Iterator[FileLink]:
    for segment in raw_segments(dataset):
        link = FileLink(key=key, kind=RAW, path=segment.path, target="", state=GOOD)
        look = partial(_look_at_raw, dataset.file.filename, key, segment.path, folders)
        yield _told(link, look)


def _look_at_raw(own: str, key: str, path: str, folders: Sequence[Path]) -> None:
    require_inside(path, own, f"external storage of dataset {key!r}", folders)
    if not os.path.isfile(path):
        msg = f"{own}: the elements of {key!r} are in {path}, which is not there; put it back"
        raise SourceError(msg)


def _told(link: FileLink, look: Callable[[], LinkEnd | None]) -> FileLink:
    """Return a link with what a look at it has told."""
    try:
        return replace(link, end=look())
    except UnsafeFileError as error:
        # In a circle of virtual datasets there is nothing outside, and nothing to be read.
        return replace(link, state=OUTSIDE, why=str(error))
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        return replace(link, state=BROKEN, why=str(error))
