"""Names of axes as netCDF-4 keeps them: a dimension scale for each, attached to it.

A scale lies beside the dataset. Where an array of that name, one axis and that
length already exists it is the scale, which makes it a coordinate; else one
without values is made, as the netCDF library does.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

import h5py

from lazyio.errors import OptionError

_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable.%10d"
_SCALE_DTYPE = ">f4"
_GROWING_CHUNK = (1024,)


def check_dims(dims: object, ndim: int) -> tuple[str, ...] | None:
    """Return names of axes, ``None`` where there are none.

    Examples
    --------
    >>> check_dims(["time", "channel"], 2)
    ('time', 'channel')
    """
    if dims is None:
        return None
    names = (dims,) if isinstance(dims, str) else dims
    is_list = isinstance(names, (tuple, list))
    found = tuple(names) if isinstance(names, (tuple, list)) else ()
    is_named = all(isinstance(name, str) and name and not {"/", "\0"} & {*name} for name in found)
    if not is_list or not is_named or "." in found or len(found) != ndim:
        msg = (
            f"dims={dims!r}; give one name for each of the array's {ndim} axes, without '/', "
            'such as ("time", "channel")'
        )
        raise OptionError(msg)
    return found


def attach_dimensions(
    dataset: h5py.Dataset, dims: Sequence[str], *, grows: bool = False
) -> tuple[str, ...]:
    """Give every axis of a dataset its dimension scale, and return the names of new ones.

    Of one that ``grows`` an axis without bound may be shorter than its dimension, as in netCDF.
    """
    own_name = posixpath.basename(dataset.name)
    if dataset.ndim == 1 and tuple(dims) == (own_name,):
        if not dataset.is_scale:
            dataset.make_scale(own_name)
        return ()
    made = []
    for axis, name in enumerate(dims):
        is_there = name in dataset.parent
        scale = _scale(dataset, axis, name, grows=grows)
        dataset.dims[axis].attach_scale(scale)
        if not is_there and name in dataset.parent:
            made.append(posixpath.join(dataset.parent.name, name))
    return tuple(made)


def remove_unused(file: h5py.File, names: Sequence[str]) -> None:
    """Remove dimension scales without values that no dataset has any more."""
    for name in names:
        scale = file.get(name)
        if has_no_values(scale) and not _uses(scale):
            del file[name]


@dataclass(frozen=True, kw_only=True)
class ScaleUse:
    """An axis of a dataset that had another dataset as its scale."""

    dataset: h5py.Dataset
    """The dataset."""
    axis: int
    """The axis."""


def remove_dataset(group: h5py.Group, key: str) -> list[ScaleUse]:
    """Remove a dataset, or a link, and all that refers to it."""
    link = group.get(key, getlink=True)
    if link is None:
        return []
    uses = []
    dataset = group.get(key) if isinstance(link, h5py.HardLink) else None
    if isinstance(dataset, h5py.Dataset):
        uses = _uses(dataset)
        for use in uses:
            use.dataset.dims[use.axis].detach_scale(dataset)
        for dimension in dataset.dims:
            for scale in dimension.values():
                dimension.detach_scale(scale)
    del group[key]
    return uses


def attach_again(scale: h5py.Dataset, use: ScaleUse) -> None:
    """Give an axis the scale that has replaced the one it had."""
    dataset = use.dataset
    if dataset.name is None or len(dataset.dims[use.axis]):
        return  # Removed as well, or named anew.
    if scale.shape != dataset.shape[use.axis : use.axis + 1]:
        msg = (
            f"{scale.name!r} is the coordinate of axis {use.axis} of {dataset.name!r}, which has "
            f"{dataset.shape[use.axis]} elements, and would have shape {scale.shape}; replace "
            "both in one call, or keep the length"
        )
        raise OptionError(msg)
    if not scale.is_scale:
        scale.make_scale(posixpath.basename(scale.name))
    dataset.dims[use.axis].attach_scale(scale)


def _uses(scale: h5py.Dataset) -> list[ScaleUse]:
    listed = scale.attrs.get("REFERENCE_LIST", ()) if scale.is_scale else ()
    return [
        ScaleUse(dataset=scale.file[reference], axis=int(axis))
        for reference, axis in listed
        if reference
    ]


def datasets_along(dataset: h5py.Dataset, axis: int) -> list[h5py.Dataset]:
    """Return all datasets of a file that share a dimension with this one."""
    scales = [*dataset.dims[axis].values(), dataset]
    return [use.dataset for scale in scales for use in _uses(scale)]


def grow_dimensions(dataset: h5py.Dataset) -> None:
    """Give the scales of a dataset that has grown its length, where they have no values."""
    for axis, extent in enumerate(dataset.shape):
        for scale in dataset.dims[axis].values():
            _grow(scale, extent)


def shrink_dimensions(dataset: h5py.Dataset) -> None:
    """Make scales without values as short as the longest of the datasets that have them."""
    for axis in range(dataset.ndim):
        for scale in dataset.dims[axis].values():
            if has_no_values(scale) and scale.maxshape[0] is None:
                longest = max((use.dataset.shape[use.axis] for use in _uses(scale)), default=0)
                if longest < scale.shape[0]:
                    scale.resize((longest,))
                    _name_size(scale, longest)


def _scale(dataset: h5py.Dataset, axis: int, name: str, *, grows: bool) -> h5py.Dataset:
    group, extent = dataset.parent, dataset.shape[axis]
    is_growing = dataset.maxshape[axis] is None
    scale = group.get(name)
    if scale is None:
        scale = _scale_above(group, name, extent)
        if scale is not None:
            return scale
    if has_no_values(scale):
        _grow(scale, extent)
        if scale.shape[0] != extent and not _uses(scale):
            # Left by a dataset that was replaced: nobody else is named by it.
            del group[name]
            scale = None
    if scale is None:
        scale = group.create_dataset(
            name,
            shape=(extent,),
            dtype=_SCALE_DTYPE,
            maxshape=(None,) if is_growing else None,
            chunks=_GROWING_CHUNK if is_growing else None,
        )
        _name_size(scale, extent)
        return scale
    fits = isinstance(scale, h5py.Dataset) and scale.ndim == 1 and scale != dataset
    is_ahead = fits and grows and is_growing and scale.maxshape[0] is None
    if not fits or (scale.shape[0] != extent and not (is_ahead and scale.shape[0] > extent)):
        msg = (
            f"dims names axis {axis} of {dataset.name!r} {name!r}, but {scale.name!r} exists "
            f"and is not an array of shape ({extent},); choose another name"
        )
        raise OptionError(msg)
    if not scale.is_scale:
        scale.make_scale(name)
    return scale


def _scale_above(group: h5py.Group, name: str, extent: int) -> h5py.Dataset | None:
    """Return the dimension of that name and length of the nearest group above, if there is one.

    As in netCDF-4, where a group sees the dimensions of those that it lies in.
    """
    while group.name != "/":
        group = group.parent
        scale = group.get(name)
        if isinstance(scale, h5py.Dataset) and scale.is_scale and scale.shape == (extent,):
            return scale
    return None


def has_no_values(scale: object) -> bool:
    """Return whether a dataset only names an axis and says how long it is."""
    if not isinstance(scale, h5py.Dataset) or not scale.is_scale:
        return False
    name = scale.attrs.get("NAME", b"")
    return isinstance(name, bytes) and name.startswith(_NO_VARIABLE[:40].encode())


def _grow(scale: h5py.Dataset, extent: int) -> None:
    """Lengthen a scale without values; coordinates are for their owner to write."""
    if has_no_values(scale) and scale.shape[0] < extent and scale.maxshape[0] is None:
        scale.resize((extent,))
        _name_size(scale, extent)


def _name_size(scale: h5py.Dataset, extent: int) -> None:
    # The netCDF library knows by this text that there are no values to read.
    scale.make_scale(_NO_VARIABLE % extent)
