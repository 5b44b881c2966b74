"""Public: links to other HDF5 files, and virtual datasets that join datasets of many."""

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from lazyio.atomic.digests import Table
from lazyio.atomic.hdf5_digests import forget, store
from lazyio.atomic.workdir import WorkDirectory
from lazyio.errors import OptionError, TargetError
from lazyio.options import check_attributes, check_flags
from lazyio.os_errors import system_errors
from lazyio.regions import span
from lazyio.sources.concatenated import common_axis, common_dtype
from lazyio.sources.files import existing
from lazyio.storage.hdf5.change import change_file
from lazyio.storage.hdf5.dimension_scales import attach_again, check_dims, remove_dataset
from lazyio.storage.hdf5.links import PieceToMap, create_virtual, link_object, table_of_link
from lazyio.writing.link_targets import LinkTarget, link_target
from lazyio.writing.target_checks import (
    check_file,
    check_key,
    check_key_is_free,
    file_to_replace,
    refuse_bytes,
    without_slash,
)
from lazyio.writing.target_checks import target_path as resolved_target
from lazyio.writing.virtual_pieces import Gap, Piece, common_attributes, common_type, pieces_of


@system_errors(TargetError)
def link(
    path: str | os.PathLike[str],
    key: str,
    target_path: str | os.PathLike[str],
    target_key: str,
    *,
    overwrite: bool = False,
    digests: bool = True,
) -> None:
    """Make a link in an HDF5 file that leads to a dataset or group of another one.

    It is an external link by a relative path, so that both files can be moved together; within
    one file it is a soft link. The file is changed as by :func:`to_hdf5`: it is old or complete.

    Parameters
    ----------
    path : path-like
        The file that gets the link; it is made where it is not there.
    key : str
        Path of the link inside it; groups on the way are made.
    target_path : path-like
        The file that is linked to.
    target_key : str
        Path of the dataset or group in that file. It must be there.
    overwrite : bool
        Whether a dataset or a link of that key may be replaced; a group never is.
    digests : bool
        Whether to store what the link leads to, by which :func:`lazyio.verify` finds a file that
        was replaced by another one.

    Raises
    ------
    SourceError
        When the target is not there, or cannot be read.
    TargetExistsError
        When the key already exists.
    OptionError
        When the link would lead to itself.
    TargetError, TargetLockedError
        When the file cannot be changed.

    Examples
    --------
    >>> import h5py, lazyio, numpy as np
    >>> _ = lazyio.to_hdf5(np.arange(6), "raw.h5", "samples")
    >>> lazyio.link("session.h5", "raw", "raw.h5", "samples")
    >>> with h5py.File("session.h5") as file:
    ...     file["raw"][2:4]
    array([2, 3])
    """
    key = check_key(without_slash(key))
    check_flags(overwrite=overwrite, digests=digests)
    _check_target_key(target_key)
    final = resolved_target(path)
    target = link_target(str(existing(target_path)), target_key)
    _refuse_circle(target, final, key)

    def change(file: h5py.File) -> Table:
        link_object(file, key, target.path, target.key, final)
        return table_of_link(file.get(key, getlink=True), target.end)

    _change(final, key, change, overwrite=overwrite, digests=digests)


@system_errors(TargetError)
def virtual(
    path: str | os.PathLike[str],
    key: str,
    items: Iterable[Any],
    axis: int = 0,
    *,
    stack: bool = False,
    fillvalue: Any = None,
    attrs: Mapping[str, Any] | None = None,
    dims: Sequence[str] | None = None,
    overwrite: bool = False,
    digests: bool = True,
) -> None:
    """Make an HDF5 virtual dataset that joins datasets of other files, without a copy.

    Any program with HDF5 1.10 or later reads it like one dataset. The files are named by relative
    paths, so that all can be moved together.

    Parameters
    ----------
    path : path-like
        The file that gets the dataset; it is made where it is not there.
    key : str
        Path of the dataset inside it; groups on the way are made.
    items : iterable
        The datasets in their order. Each is a path as ``"day1.h5::samples"`` (or ``"day1.h5"``,
        if it holds one dataset), a tuple of path and key, an open ``h5py.Dataset``, or an array
        straight from :func:`open` or :func:`from_hdf5`. An integer is a gap of so many indices,
        which reads as the fill value.
    axis : int
        Along which they follow each other; elsewhere shapes must agree.
    stack : bool
        Whether ``axis`` is a new one, along which every item has one index.
    fillvalue : scalar, optional
        What gaps read as; by default as in the items, if they agree, else zero.
    attrs : mapping, optional
        Attributes, beside those that all items have alike. Where items differ in one that says
        what the numbers mean, such as ``units`` or ``scale_factor``, they are not joined unless
        it is given here.
    dims : sequence of str, optional
        Names of the axes, written as netCDF-4 dimension scales.
    overwrite : bool
        Whether a dataset or a link of that key may be replaced.
    digests : bool
        Whether to store what the items are, by which :func:`lazyio.verify` finds one that was
        replaced by another.

    Raises
    ------
    OptionError
        When shapes, types or the meaning of items do not go together; the item and its file are
        named. Also for what is not all of a dataset of an HDF5 file on a disk.
    SourceError
        When an item is not there, or cannot be read.
    TargetExistsError
        When the key already exists.
    TargetError, TargetLockedError
        When the file cannot be changed.

    Examples
    --------
    >>> import h5py, lazyio, numpy as np
    >>> for day in range(3):
    ...     _ = lazyio.to_hdf5(np.full((4, 2), day), f"d{day}.h5", "samples")
    >>> lazyio.virtual("week.h5", "samples", [f"d{day}.h5::samples" for day in range(3)])
    >>> with h5py.File("week.h5") as file:
    ...     file["samples"].shape, file["samples"][3:5, 0]
    ((12, 2), array([0, 1]))
    """
    key = check_key(without_slash(key))
    check_flags(stack=stack, overwrite=overwrite, digests=digests)
    check_attributes("attrs", attrs)
    final = resolved_target(path)
    parts = pieces_of(items)
    pieces = [part for part in parts if isinstance(part, Piece)]
    for piece in pieces:
        _refuse_circle(piece.target, final, key)
    along, dtype = common_axis(pieces, axis, is_new=stack), common_dtype(pieces)
    kind, fill = common_type(pieces, dtype, fillvalue)
    shape, mapped = _mapped(parts, pieces[0].shape, along, is_new=stack)
    dims = check_dims(dims, len(shape))
    kept = common_attributes(pieces, attrs or {})

    def change(file: h5py.File) -> Table:
        return create_virtual(
            file,
            key,
            shape=shape,
            kind=kind,
            fill_value=fill,
            pieces=mapped,
            final=final,
            attrs=kept,
            dims=dims,
        )

    _change(final, key, change, overwrite=overwrite, digests=digests)


def _mapped(
    parts: Sequence[Piece | Gap], first: tuple[int, ...], axis: int, *, is_new: bool
) -> tuple[tuple[int, ...], list[PieceToMap]]:
    """Return the shape of the whole, and where each piece goes."""
    extents = [
        part.extent if isinstance(part, Gap) else 1 if is_new else part.shape[axis]
        for part in parts
    ]
    shape = (*first[:axis], sum(extents), *first[axis if is_new else axis + 1 :])
    mapped, start = [], 0
    for part, extent in zip(parts, extents, strict=True):
        # libhdf5 maps nothing that has no elements.
        if isinstance(part, Piece) and 0 not in part.shape:
            region = span(shape, axis, start, start + extent)
            mapped.append(
                PieceToMap(
                    path=part.target.path,
                    key=part.target.key,
                    shape=part.shape,
                    region=region,
                    end=part.target.end,
                )
            )
        start += extent
    return shape, mapped


def _check_target_key(key: Any) -> None:
    if not isinstance(key, str) or not key or "\0" in key:
        msg = f"target_key={key!r} names nothing in a file; give the path of a dataset or group"
        raise OptionError(msg)
    refuse_bytes(key, "target_key")


def _refuse_circle(target: LinkTarget, final: Path, key: str) -> None:
    """Refuse what would be read by way of itself."""
    if target.needs(final, key):
        msg = (
            f"{target.key!r} of {target.path} is, or is read by way of, {key!r} of {final}, which "
            "would then lead to itself; choose another key"
        )
        raise OptionError(msg)


@contextmanager
def _checked(final: Path, key: str, *, overwrite: bool) -> Iterator[Path | None]:
    """Refuse what may not be changed, and yield the file that is there."""
    check_file(final, "a", is_file=True)
    if final.exists():
        with file_to_replace(final) as file:
            check_key_is_free(file, key, replace=overwrite)
    yield final if final.exists() else None


def _change(
    final: Path,
    key: str,
    make: Callable[[h5py.File], Table],
    *,
    overwrite: bool,
    digests: bool,
) -> None:
    """Have something made at a key of a file, in place of what is there."""

    def change(file: h5py.File) -> None:
        uses = remove_dataset(file, key)
        table = make(file)
        for use in uses:
            attach_again(file[key], use)
        name = posixpath.join("/", key)
        if digests:
            store(file, name, table)
        else:
            forget(file, name)

    with _checked(final, key, overwrite=overwrite):
        pass
    with WorkDirectory(final) as work, _checked(final, key, overwrite=overwrite) as old:
        change_file(work, old, change)
