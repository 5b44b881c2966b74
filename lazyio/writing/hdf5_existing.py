"""What is known of a dataset that is there, before a part of it is written."""

import errno
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lazyio.codecs.dataset_filters import filters_of
from lazyio.elements import Stored, original
from lazyio.errors import TargetError
from lazyio.inputs import Input
from lazyio.sources.hdf5_layout import attributes_of
from lazyio.spec import Shape
from lazyio.targets.hdf5 import element_dtype, require_filters
from lazyio.writing.existing import Asked, Existing, refuse_differences
from lazyio.writing.places import file_to_replace, kind_at
from lazyio.writing.windows import Room


def room_in(dataset: h5py.Dataset, name: str) -> Room:
    """Return the extents of an existing dataset, and how far they go."""
    if dataset.shape is None:
        msg = f"{name} is empty (a null dataspace) and has no part; write it anew"
        raise TargetError(errno.EINVAL, msg)
    labels: list[str | None] = []
    for dimension in dataset.dims:
        scale = posixpath.basename(dimension[0].name) if len(dimension) else None
        labels.append(dimension.label or scale)
    if dataset.ndim == 1 and not any(labels) and dataset.is_scale:
        # A coordinate has the name of its only axis.
        labels = [posixpath.basename(dataset.name)]
    return Room(
        name=name,
        shape=tuple(map(int, dataset.shape)),
        max_shape=tuple(None if n is None else int(n) for n in dataset.maxshape),
        dims=tuple(labels),
    )


def form_of(dataset: h5py.Dataset) -> tuple[np.dtype[Any], Stored]:
    """Return the dtype of a dataset's elements, and what they are made of."""
    dtype = element_dtype(dataset)
    return dtype, original(dtype, dataset.attrs) or Stored(original=dtype, dtype=dtype)


def refuse_misfit(
    dataset: h5py.Dataset,
    name: str,
    form: Stored,
    asked: Asked,
    given: Input,
    item_shape: Shape | None = None,
) -> None:
    """Refuse a dataset that is not what was asked for, or that cannot be written here."""
    require_filters(filters_of(dataset))
    refuse_differences(as_existing(dataset, name, form, item_shape), asked, given)


def as_existing(
    dataset: h5py.Dataset, name: str, form: Stored, item_shape: Shape | None = None
) -> Existing:
    """Return what a dataset is, to be compared with what is asked."""
    return Existing(
        name=name,
        dtype=form.original,
        chunk_shape=dataset.chunks,
        codec=described(filters_of(dataset)),
        fill_value=np.asarray(dataset.fillvalue)[()],
        attrs=attributes_of(dataset)[0],
        item_shape=item_shape,
    )


def described(filters: Sequence[Any]) -> str:
    """Return filters as a person reads them, with those options that a user gives."""
    return " + ".join(f"{step.name}{list(step.options)}" for step in filters) or "none"


def refuse_unusable(path: Path, key: str) -> None:
    """Refuse a file that has no dataset to write a part of, or of which it is not all."""
    if not path.exists():
        msg = f"{path} does not exist; lazyio.allocate makes a dataset to be filled by region"
        raise TargetError(errno.ENOENT, msg)
    with file_to_replace(path) as file:
        kind = kind_at(file, key)
        link = file.get(key, getlink=True)
        if kind == "below a link" or isinstance(link, h5py.ExternalLink):
            msg = f"{path}: {key!r} leads out of the file; write to that file itself"
            raise TargetError(errno.EXDEV, msg)
        dataset = file.get(key) if kind == "dataset" else None
        if not isinstance(dataset, h5py.Dataset):
            msg = (
                f"{path}: {key!r} is no dataset, of which a part could be written; "
                "lazyio.allocate makes one"
            )
            raise TargetError(errno.ENOENT, msg)
        if dataset.is_virtual or dataset.external:
            msg = f"{path}: the elements of {key!r} lie in other files; write to those themselves"
            raise TargetError(errno.EXDEV, msg)
