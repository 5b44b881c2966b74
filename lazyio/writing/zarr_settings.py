"""What a user says of a Zarr array, and what it comes down to: shapes, codecs, names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numcodecs
import numcodecs.abc
import numpy as np
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from lazyio.dtypes import Shape, Stored, as_dtype, is_integer, original, stored
from lazyio.errors import OptionError
from lazyio.inputs import Input
from lazyio.options import NONE, Default, as_fill_value, check_flags, refuse_no_chunks
from lazyio.planning import Plan
from lazyio.planning.request import user_chunks, user_shards
from lazyio.regions import Bounds
from lazyio.storage.json_attributes import is_unicode, json_attributes, xarray_fill_value
from lazyio.storage.zarr.array import ZarrOptions, codecs_of, create_array
from lazyio.writing.array_plan import (
    Made,
    PlannedArray,
    as_recommended,
    plan_array,
    with_attributes,
)
from lazyio.writing.compatibility import (
    ArrayFacts,
    GrowableShape,
    refuse_differences,
)
from lazyio.writing.request import JobFacts, WriteItem
from lazyio.writing.settings import ArraySettings

_OF_HDF5 = ("compression", "compression_opts", "shuffle", "fletcher32", "maxshape", "links")
"""Settings of an H5DataIO that say nothing of a Zarr array, all axes of which may grow."""
V2_DIMS = "_ARRAY_DIMENSIONS"
"""Attribute in which xarray keeps the names of axes in v2, which has no place for them."""


@dataclass(frozen=True, kw_only=True)
class ZarrSettings(ArraySettings):
    """Arguments of ``to_zarr`` that speak of an array, as they were given."""

    format: ClassVar[str] = "zarr"
    arguments: ClassVar[Mapping[str, str]] = {
        "fillvalue": "fill_value",
        "attrs": "attributes",
        "dims": "dimension_names",
    }

    compressors: Any = "auto"
    filters: Any = "auto"
    zarr_format: Any = 3
    chunk_key_encoding: Any = None
    write_empty_chunks: Any = None

    def check(self) -> None:
        """Refuse what no array can have."""
        if self.zarr_format not in (2, 3):
            msg = f"zarr_format={self.zarr_format!r}; give 3 or 2"
            raise OptionError(msg)
        if self.write_empty_chunks is not None:
            check_flags(write_empty_chunks=self.write_empty_chunks)
        if self.chunks is None:
            refuse_no_chunks("zarr")
        _check_chunk_keys(self.chunk_key_encoding, self.zarr_format)
        super().check()
        if isinstance(self.attrs, Mapping) and V2_DIMS in self.attrs:
            msg = (
                f"attribute {V2_DIMS!r} is where names of axes are kept in v2; leave it out, and "
                "give dimension_names= for them"
            )
            raise OptionError(msg)

    def completed(self, given: Input) -> Self:
        """Return the settings with what an array asks for itself, where nothing was given."""
        found = super().completed(given)
        attrs = found.attrs
        if self.zarr_format == 2 and found.fillvalue is None and isinstance(attrs, Mapping):
            # Where xarray keeps it in v2: JSON has no form for NaN.
            others = {name: one for name, one in attrs.items() if name != "_FillValue"}
            found = replace(found, fillvalue=attrs.get("_FillValue"), attrs=others)
        return found


@dataclass(frozen=True, kw_only=True)
class ZarrItem(WriteItem):
    """One array that is to be made."""

    options: ZarrOptions
    """How it is stored."""

    def facts(self) -> JobFacts:
        """Return what makes a job the same one."""
        return self.arranged, self.options, {}

    @property
    def to_create(self) -> dict[str, Any]:
        """What :func:`~lazyio.storage.zarr.array.create_array` takes."""
        plan = self.arranged.plan
        return {
            "shape": self.arranged.first_shape,
            "chunk_shape": plan.chunk_shape,
            "shard_shape": plan.shard_shape,
            "dtype": plan.dtype,
            "options": self.options,
        }


def array_item(path: str, given: Input, settings: ZarrSettings) -> ZarrItem:
    """Return a new array with its plan and its options."""
    return _made_by(partial(_array_item, path, given), given, settings)


def plan_for_zarr(given: Input, settings: ZarrSettings) -> Plan:
    """Return the plan that :func:`array_item` makes."""
    return _made_by(partial(_arranged, "", given), given, settings).plan


def _made_by(make: Callable[[Any], Made], given: Input, settings: ZarrSettings) -> Made:
    """Make something of settings, once what the array asks for itself has filled the gaps."""
    full = settings.completed(given)
    full.check()
    is_open = isinstance(settings.chunks, Default)
    return as_recommended(make, full, given, is_open=is_open)


def _array_item(path: str, given: Input, settings: ZarrSettings) -> ZarrItem:
    """Return a new array, of which all settings are known."""
    arranged = _arranged(path, given, settings)
    names = _dimension_names(settings.dims, len(given.shape))
    zarr_format: Literal[2, 3] = 2 if settings.zarr_format == 2 else 3
    attributes = with_attributes(
        {**arranged.form.attrs, **_gap_attribute(arranged, zarr_format)},
        attributes_as_stored(settings.attrs or {}, arranged.form.dtype, zarr_format),
        "fill_value",
    )
    if names is not None and zarr_format == 2:
        attributes[V2_DIMS] = list(names)
    options = ZarrOptions(
        compressors=compressors_of_version(settings.compressors, zarr_format),
        filters=settings.filters,
        fill_value=arranged.fill_value,
        zarr_format=zarr_format,
        chunk_key_encoding=settings.chunk_key_encoding,
        dimension_names=names if zarr_format == 3 else None,
        attributes=attributes,
        write_empty_chunks=settings.write_empty_chunks,
    )
    item = ZarrItem(arranged=arranged, options=options)
    shape = {"shape": arranged.plan.shape}
    # zarr-python judges it, before anything is made in its place.
    create_array(zarr.storage.MemoryStore(), "", **(item.to_create | shape))
    return item


def advice_on(items: Sequence[ZarrItem]) -> tuple[tuple[str, str], ...]:
    """Return hints on what arrays ask for themselves and Zarr has no use for."""
    asked = (name for item in items for name in item.arranged.given.settings)
    unused = dict.fromkeys(name for name in asked if name in _OF_HDF5)
    if not unused:
        return ()
    text = (
        f"{', '.join(unused)} of the H5DataIO {'is' if len(unused) == 1 else 'are'} for HDF5 and "
        "not used; give compressors= and filters= for Zarr"
    )
    return (("hdf5-settings", text),)


def _arranged(path: str, given: Input, settings: ZarrSettings) -> PlannedArray:
    """Return an array with its plan, of which all settings are known."""
    names = _dimension_names(settings.dims, len(given.shape))
    if names is not None:
        given = replace(given, dims=tuple(name or "" for name in names))
    return plan_array(
        path,
        given,
        settings.request(),
        dtype=_element(settings, given),
        fill_value=settings.fillvalue,
        max_shape=_max_shape(settings, given),
    )


def _gap_attribute(arranged: PlannedArray, zarr_format: int) -> dict[str, Any]:
    """Return the attribute that tells the gaps of a masked array; in v2 the fill value does."""
    if arranged.given.mask_fill is None or zarr_format == 2:
        return {}
    coded = xarray_fill_value(arranged.fill_value, arranged.form.dtype)
    return {} if coded is None else {"_FillValue": coded}


def attributes_as_stored(
    attributes: Mapping[str, Any], dtype: np.dtype[Any], zarr_format: int
) -> dict[str, Any]:
    """Return attributes as JSON, the value of gaps in v3 as xarray has it there."""
    value = attributes.get("_FillValue")
    if zarr_format == 2 or not isinstance(value, (int, float, complex, np.number)):
        return json_attributes(attributes)
    element = as_fill_value("attribute _FillValue", value, dtype)
    others = {name: value for name, value in attributes.items() if name != "_FillValue"}
    return {**json_attributes(others), "_FillValue": xarray_fill_value(element, dtype)}


def _element(settings: ZarrSettings, given: Input) -> Any:
    """Return the dtype to cast to, ``None`` for none."""
    dtype = given.dtype if settings.dtype is None else as_dtype(settings.dtype)
    if settings.zarr_format == 3 and dtype.fields is not None:
        # v3 keeps no byte order of fields: others would be read as something else.
        return dtype.newbyteorder("<")
    return settings.dtype


def _check_chunk_keys(given: Any, zarr_format: int) -> None:
    """Refuse names of objects that the format does not have."""
    if given is None:
        return
    names = {2: ("v2",), 3: ("default", "v2")}[zarr_format]
    is_known = (
        isinstance(given, Mapping)
        and given.keys() <= {"name", "separator"}
        and given.get("name") in names
        and given.get("separator", "/") in ("/", ".")
    )
    if not is_known:
        msg = (
            f"chunk_key_encoding={given!r}; give a mapping such as "
            f'{{"name": "{names[0]}", "separator": "/"}}, with "/" or "." as separator'
        )
        raise OptionError(msg)


def _dimension_names(given: Any, ndim: int) -> tuple[str | None, ...] | None:
    """Return names of axes, some of which may have none."""
    if given is None:
        return None
    names = (given,) if isinstance(given, str) else given
    is_list = isinstance(names, (tuple, list))
    if not is_list or len(names) != ndim or not all(_is_name(name) for name in names):
        msg = (
            f'dimension_names={given!r}; give one name, such as "time", or None for each of the '
            f"array's {ndim} axes"
        )
        raise OptionError(msg)
    return tuple(names)


def _is_name(name: Any) -> bool:
    return name is None or (isinstance(name, str) and name != "" and is_unicode(name))


def compressors_of_version(compressors: Any, zarr_format: int) -> Any:
    """Return compressors as zarr-python takes them: one in v2, any number in v3."""
    is_list = isinstance(compressors, (tuple, list))
    if zarr_format == 2 and is_list and len(compressors) < 2:
        return compressors[0] if compressors else None
    each = compressors if is_list else (compressors,)
    if zarr_format == 3 and any(isinstance(one, numcodecs.abc.Codec) for one in each):
        msg = (
            f"compressors={compressors!r} is a codec of numcodecs, which Zarr v2 has; give one of "
            "zarr.codecs, such as ZstdCodec or those in zarr.codecs.numcodecs, or zarr_format=2"
        )
        raise OptionError(msg)
    return compressors


def _max_shape(settings: ZarrSettings, given: Input) -> Bounds | None:
    """Return along which axes chunks may reach beyond the end, as the user gave them.

    Any axis of a Zarr array can grow; that one is meant to only shows there, or where it
    is empty by now.
    """
    chunks, ndim = settings.chunks, len(given.shape)
    shards = user_shards(settings.shards, given.shape)
    # Shards of given extents hold whole chunks, also where there are fewer elements.
    is_cut = shards == "auto" or (isinstance(shards, tuple) and -1 in shards)
    if isinstance(chunks, (bool, Plan)) or is_cut or given.bounds is not None:
        return None
    # One number is for every axis, and no wish for more than there is of each.
    is_wish = ndim == 1 or not is_integer(chunks)
    return tuple(None if is_wish or not extent else extent for extent in given.shape)


@dataclass(frozen=True, kw_only=True)
class ExistingZarrArray:
    """An existing array, of which a part is to be written."""

    handle: Any
    item_shapes: tuple[Shape | None, Shape | None] = (None, None)
    """Extents of an element as they are and as they are asked for, where it grows by elements."""
    name: str = ""
    """What to call it in an error, where not by its place in the store."""

    @property
    def _name(self) -> str:
        return self.name or f"array {self.handle.store_path}"

    @property
    def room(self) -> GrowableShape:
        """Its extents, and how far it may grow."""
        array = self.handle
        names = getattr(array.metadata, "dimension_names", None) or array.attrs.get(V2_DIMS)
        # In v2 an attribute, which may hold anything.
        is_list = isinstance(names, (tuple, list)) and len(names) == len(array.shape)
        return GrowableShape(
            name=self._name,
            shape=tuple(map(int, array.shape)),
            # Any axis of a Zarr array can grow.
            max_shape=(None,) * len(array.shape),
            dims=tuple(names) if is_list else (),
        )

    @property
    def unit(self) -> Shape:
        """Extents of what is written whole, be it a chunk or a shard."""
        return tuple(map(int, self.handle.shards or self.handle.chunks))

    @property
    def kind(self) -> str:
        """How it is cut and of which type: what else a plan depends on, beside its extents."""
        return f"{self.handle.chunks} {self.handle.shards} {self.handle.dtype}"

    def others_asked(self, settings: ZarrSettings) -> dict[str, Any]:
        """Return what else the user said, and not the data, that an array may contradict."""
        found: dict[str, Any] = {}
        if settings.zarr_format == 2:
            found["zarr_format"] = 2
        names = settings.dims
        if not isinstance(names, Default) and names is not None:
            found["dimension_names"] = tuple(names)
        shards = user_shards(settings.shards, self.handle.shape)
        if isinstance(shards, tuple) and -1 not in shards:
            found["shards"] = shards
        return found

    def fitted(self, settings: ZarrSettings, given: Input, others: Mapping[str, Any]) -> Stored:
        """Return the form of its elements, once nothing differs from what is asked."""
        array = self.handle
        dtype = np.dtype(array.dtype)
        attributes = dict(array.attrs)
        form = original(dtype, attributes) or replace(stored(dtype, "zarr"), original=dtype)
        existing = ArrayFacts(
            name=self._name,
            dtype=form.original,
            chunk_shape=tuple(map(int, array.chunks)),
            codec=str(codecs_of(array)),
            fill_value=array.fill_value,
            attrs=attributes,
            item_shape=self.item_shapes[0],
            others={
                "zarr_format": array.metadata.zarr_format,
                "dimension_names": self.room.dims,
                "shards": array.shards,
            },
        )
        asked = _asked(settings, given, array, form)
        asked = replace(asked, item_shape=self.item_shapes[1], others=others)
        refuse_differences(existing, asked, given)
        return form

    def planned(
        self, key: str, given: Input, settings: ZarrSettings, form: Stored, *, merges_chunks: bool
    ) -> PlannedArray:
        """Return the plan for data that goes into existing chunks."""
        array = self.handle
        arranged = plan_array(
            key,
            given,
            settings.request(
                chunks=tuple(map(int, array.chunks)), shards=array.shards, chunk_nbytes=None
            ),
            dtype=form.original,
            max_shape=(None,) * len(self.unit),
            is_part=True,
            merges_chunks=merges_chunks,
        )
        return replace(arranged, form=form)


def _asked(settings: ZarrSettings, given: Input, array: Any, form: Stored) -> ArrayFacts:
    """Return what the user said that an existing array may contradict."""
    chunk_shape = None
    is_open = isinstance(settings.chunks, str) and settings.chunks == "auto"
    if not is_open:
        facts = given.facts(given.dtype, own_blocks=False)
        chunk_shape = user_chunks(settings.chunks, facts, given.dims)
    return settings.asked(
        form,
        chunk_shape=chunk_shape,
        codec=_asked_codecs(settings, array),
        attrs=attributes_as_stored(settings.attrs or {}, form.dtype, array.metadata.zarr_format),
    )


def _asked_codecs(settings: ZarrSettings, array: Any) -> str | None:
    """Return the codecs that the user named, as zarr-python would keep them."""
    named = {
        name: value
        for name, value in (
            (
                "compressors",
                compressors_of_version(settings.compressors, array.metadata.zarr_format),
            ),
            ("filters", settings.filters),
        )
        if not (isinstance(value, str) and value == "auto")
    }
    if not named:
        return None
    try:
        like = zarr.create_array(
            zarr.storage.MemoryStore(),
            shape=array.shape,
            chunks=array.chunks,
            shards=array.shards,
            dtype=array.dtype,
            zarr_format=array.metadata.zarr_format,
            **named,
        )
    except (ValueError, TypeError, KeyError) as error:
        msg = f"{', '.join(named)} are no codecs of Zarr: {error}"
        raise OptionError(msg) from error
    wanted, there = codecs_of(like), codecs_of(array)
    # What was not named may be anything.
    return str({**there, **{name: wanted[name] for name in named}})


_CODECS: dict[str, tuple[int, Any, Any]] = {
    "gzip": (4, numcodecs.GZip, GzipCodec),
    "zstd": (3, numcodecs.Zstd, ZstdCodec),
    "blosc": (5, numcodecs.Blosc, BloscCodec),
}
"""Those that have a name in both formats: level by default, and what they are in v2 and v3."""


def with_compressors(
    own: Mapping[str, Any], zarr_format: int, *, default: Any = None
) -> dict[str, Any]:
    """Return settings with compressors in place of a codec that has a name of both formats.

    ``default`` are the compressors where nothing is said of them.
    """
    others = dict(own)
    names = ("compression", "compression_opts", "shuffle")
    codec, level, shuffle = (others.pop(name, None) for name in names)
    compressors = others.pop("compressors", NONE)
    if isinstance(compressors, Default):
        compressors = compressors_for(codec, level, shuffle, zarr_format, default=default)
    elif codec is not None or level is not None or shuffle is not None:
        msg = "compressors names the codecs of Zarr; leave out compression, its options and shuffle"
        raise OptionError(msg)
    return {**others, "compressors": compressors}


def compressors_for(
    codec: Any, level: Any, shuffle: Any, zarr_format: int, *, default: Any = None
) -> Any:
    """Return the compressors of an array that are named as those of both formats."""
    is_codec = not isinstance(codec, (str, bool, int))
    if is_codec or codec in ("auto", "none"):
        if level is not None or shuffle is not None:
            what = "compression_opts" if level is not None else "shuffle"
            msg = f"{what} goes with compression= gzip, zstd or blosc; give it to the codec itself"
            raise OptionError(msg)
        if codec is None:
            return default
        return None if isinstance(codec, str) and codec == "none" else codec
    if codec not in _CODECS:
        msg = (
            f"compression={codec!r} is none that Zarr has by that name; give one of "
            f"{', '.join(_CODECS)}, or a codec of zarr.codecs"
        )
        raise OptionError(msg)
    if shuffle and codec != "blosc":
        msg = f"shuffle=True: {codec} of Zarr has no shuffle; leave it out, or give 'blosc'"
        raise OptionError(msg)
    if level is not None and not is_integer(level):
        msg = f"compression_opts={level!r} is no level; give an integer"
        raise OptionError(msg)
    default_level, in_v2, in_v3 = _CODECS[codec]
    level = default_level if level is None else int(level)
    made = in_v2 if zarr_format == 2 else in_v3
    options: dict[str, Any] = {"level": level}
    if codec == "blosc":
        is_shuffled = shuffle is not False
        kind: Any = "shuffle" if is_shuffled else "noshuffle"
        if zarr_format == 2:
            kind = numcodecs.Blosc.SHUFFLE if is_shuffled else numcodecs.Blosc.NOSHUFFLE
        options = {"cname": "zstd", "clevel": level, "shuffle": kind}
    try:
        return made(**options)
    except ValueError as error:
        msg = f"compression_opts={level}: {error}"
        raise OptionError(msg) from error
