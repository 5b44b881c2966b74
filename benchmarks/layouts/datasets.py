"""Random HDF5 files of one small dataset: any type, layout, index, filter and format.

h5py makes them, by its low-level interface where its own has no name for a
property. What h5py reads is what is right.
"""

import contextlib
import ctypes
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_PLAIN_EDGES = 2
KEY, OTHER = "g/x", "other"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A type of elements."""

    name: str
    type_id: h5py.h5t.TypeID
    draw: Callable[[np.random.Generator, tuple[int, ...]], Array]
    """Returns values that it can hold."""
    is_refused: bool = False
    """Whether dask arrays, or numpy, have no place for it."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A file that was made."""

    path: Path
    kind: Kind
    shape: tuple[int, ...]
    maxshape: tuple[int | None, ...]
    text: str
    """What it is, in words."""
    is_chunked: bool
    is_external: bool
    """Whether its elements lie in other files."""
    is_writable: bool
    """Whether h5py can write to it again: not what other files hold."""


def make(path: Path, rng: random.Random) -> Made:
    """Make a file with a dataset at :data:`KEY` and another beside it.

    Raises
    ------
    ValueError, RuntimeError, OSError, TypeError
        When libhdf5 does not take what was drawn together.
    """
    numbers = np.random.default_rng(rng.randrange(2**32))
    kind = _kind(rng)
    n_axes = rng.choice((0, 1, 1, 2, 2, 2, 3, 4))
    shape = tuple(rng.choice((0, 1, 2, 3, 5, 7, 8, 12)) for _ in range(n_axes))
    layout = rng.choice(("chunked",) * 7 + ("contiguous", "compact", "external", "virtual"))
    if not n_axes:
        layout = rng.choice(("contiguous", "compact"))
    told = [kind.name, f"shape {shape}", layout]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    maxshape: tuple[int | None, ...] = shape
    if layout == "chunked":
        maxshape = _chunk(properties, rng, kind, shape, told)
    elif layout == "external":
        _external(properties, rng, path, kind, shape, told)
        maxshape = (None, *shape[1:]) if rng.random() < 0.3 else shape
    else:
        properties.set_layout(
            {"compact": h5py.h5d.COMPACT, "virtual": h5py.h5d.VIRTUAL}.get(
                layout, h5py.h5d.CONTIGUOUS
            )
        )
    _fill(properties, rng, kind, numbers, layout, told)
    if rng.random() < 0.3:
        properties.set_attr_creation_order(h5py.h5p.CRT_ORDER_TRACKED)
        told.append("attributes in order")
    values = kind.draw(numbers, shape)
    # libhdf5 looks for raw files of a relative name there.
    with contextlib.chdir(path.parent), _file(path, rng, told) as file:
        if layout == "virtual":
            _map(properties, file, path, rng, kind, shape, values)
        _lay(file, properties, rng, kind, shape, maxshape, values, layout, told)
    with contextlib.chdir(path.parent), h5py.File(path) as file:
        dataset = file[KEY]  # libhdf5 does not read all that it makes.
        if not kind.is_refused:
            dataset.id.read(
                h5py.h5s.ALL,
                h5py.h5s.ALL,
                np.empty(shape, dataset.dtype),
                None if dataset.dtype.hasobject else dataset.id.get_type(),
            )
        for one in dataset.virtual_sources() if layout == "virtual" else []:
            # A type that libhdf5 takes to be damaged is found here only.
            with h5py.File(path if one.file_name == "." else one.file_name) as other:
                other[one.dset_name]
    return Made(
        path=path,
        kind=kind,
        shape=shape,
        maxshape=maxshape,
        text=", ".join(told),
        is_chunked=layout == "chunked",
        is_external=layout == "external",
        is_writable=layout != "virtual",
    )


def _lay(
    file: h5py.File,
    properties: h5py.h5p.PropDCID,
    rng: random.Random,
    kind: Kind,
    shape: tuple[int, ...],
    maxshape: tuple[int | None, ...],
    values: Array,
    layout: str,
    told: list[str],
) -> None:
    """Make the dataset, write all of it or a part, and another one."""
    group = file.create_group("g", track_order=rng.random() < 0.5)
    limits = tuple(h5py.h5s.UNLIMITED if bound is None else bound for bound in maxshape)
    space = h5py.h5s.create_simple(shape, limits) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.Dataset(h5py.h5d.create(group.id, b"x", kind.type_id, space, properties))
    if layout != "virtual" and values.size:
        # libhdf5 itself cannot lengthen a dataset with plain edges of which nothing is stored.
        if rng.random() < 0.7 or not shape or "plain edges" in told:
            dataset[...] = values
        else:  # Some chunks are never stored.
            part = _part(rng, shape)
            dataset[part] = values[part]
    dataset.attrs["unit"] = "mV"
    file[OTHER] = np.arange(5, dtype="i2")


def _part(rng: random.Random, shape: Sequence[int]) -> tuple[slice, ...]:
    found = []
    for extent in shape:
        start = rng.randint(0, extent)
        found.append(slice(start, rng.randint(start, extent)))
    return tuple(found)


def _file(path: Path, rng: random.Random, told: list[str]) -> h5py.File:
    options: dict[str, Any] = {}
    low = rng.choice(("earliest", "earliest", "v108", "v110", "v112", "v114", "latest"))
    options["libver"] = (low, "latest")
    if rng.random() < 0.3:
        options["userblock_size"] = rng.choice((512, 1024, 4096))
    if rng.random() < 0.3:
        options["fs_strategy"] = rng.choice(("fsm", "page", "aggregate", "none"))
        options["fs_persist"] = rng.random() < 0.5
        if options["fs_strategy"] == "page" and rng.random() < 0.5:
            options["fs_page_size"] = rng.choice((512, 4096))
    if rng.random() < 0.2:
        options |= {"alignment_threshold": 1, "alignment_interval": rng.choice((8, 512, 4096))}
    if rng.random() < 0.2:
        options["meta_block_size"] = rng.choice((512, 8192))
    if rng.random() < 0.3:
        options["track_order"] = True
    told.append(f"file {options}")
    return h5py.File(path, "w", **options)


def _chunk(
    properties: h5py.h5p.PropDCID,
    rng: random.Random,
    kind: Kind,
    shape: tuple[int, ...],
    told: list[str],
) -> tuple[int | None, ...]:
    """Draw chunks, filters and how far it may grow."""
    maxshape = tuple(
        None if drawn < 0.3 else extent + rng.randint(0, 6) if drawn < 0.5 else extent
        for extent, drawn in ((extent, rng.random()) for extent in shape)
    )
    chunks = tuple(
        rng.randint(1, max(1, min(5, extent if bound is not None else 5)))
        for extent, bound in zip(shape, maxshape, strict=True)
    )
    properties.set_chunk(chunks)
    told.append(f"maxshape {maxshape}, chunks {chunks}")
    size = kind.type_id.get_size()
    if rng.random() < 0.4 and size > 1:
        properties.set_shuffle()
        told.append("shuffle")
    codec = rng.choice((None, None, "gzip", "gzip", "lzf", "szip", "scaleoffset", "nbit"))
    is_number = kind.type_id.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT)
    if codec == "gzip":
        properties.set_deflate(rng.randint(0, 9))
    elif codec == "lzf":
        properties.set_filter(h5py.h5z.FILTER_LZF, h5py.h5z.FLAG_OPTIONAL, (0, 0, 0))
    elif codec == "szip" and is_number and " bits at " not in kind.name:
        # Of bits that are shuffled libhdf5 has it drop those beyond the precision.
        properties.set_szip(h5py.h5z.SZIP_NN_OPTION_MASK, rng.choice((2, 8)))
    elif codec == "scaleoffset" and kind.type_id.get_class() == h5py.h5t.INTEGER:
        properties.set_scaleoffset(h5py.h5z.SO_INT, 0)
    elif codec == "nbit" and is_number:
        properties.set_nbit() if hasattr(properties, "set_nbit") else None
    told.append(str(codec))
    if rng.random() < 0.2:
        properties.set_fletcher32()
        told.append("fletcher32")
    # Of a filter that may be skipped libhdf5 forgets that it was, once an edge is none any more.
    may_skip = codec not in (None, "gzip") or kind.name.startswith("text")
    if rng.random() < 0.25 and not may_skip and _set_chunk_opts(properties):
        told.append("plain edges")
    return maxshape


def _set_chunk_opts(properties: h5py.h5p.PropDCID) -> bool:
    try:
        function = ctypes.CDLL(h5py.h5d.__file__).H5Pset_chunk_opts
    except (OSError, AttributeError):
        return False
    return int(function(ctypes.c_int64(properties.id), ctypes.c_uint(_PLAIN_EDGES))) >= 0


def _fill(
    properties: h5py.h5p.PropDCID,
    rng: random.Random,
    kind: Kind,
    numbers: np.random.Generator,
    layout: str,
    told: list[str],
) -> None:
    is_plain = kind.type_id.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.COMPOUND)
    if rng.random() < 0.3 and is_plain and not kind.is_refused:
        value = kind.draw(numbers, (1,))
        if not value.dtype.hasobject:
            properties.set_fill_value(value)
            told.append(f"fill {value[0]}")
    if layout != "virtual":
        times = [h5py.h5d.ALLOC_TIME_DEFAULT, h5py.h5d.ALLOC_TIME_EARLY, h5py.h5d.ALLOC_TIME_LATE]
        at = rng.randrange(len(times)) if layout != "compact" else 0
        if "szip" in told:
            # libhdf5 forgets that szip was skipped where a chunk was there before and is as long,
            # and decodes anything then: it may never come back.
            at = 0
        properties.set_alloc_time(times[at])
        told.append(("", "allocated early", "allocated late")[at])
    when = rng.choice((h5py.h5d.FILL_TIME_IFSET, h5py.h5d.FILL_TIME_ALLOC))
    properties.set_fill_time(when)


def _external(
    properties: h5py.h5p.PropDCID,
    rng: random.Random,
    path: Path,
    kind: Kind,
    shape: tuple[int, ...],
    told: list[str],
) -> None:
    nbytes = int(np.prod(shape)) * kind.type_id.get_size()
    first = rng.randint(0, nbytes)
    offset = rng.choice((0, 16))
    parts = [(f"{path.stem}.a.raw", offset, first), (f"{path.stem}.b.raw", 0, nbytes - first)]
    for name, at, size in parts:
        if size:
            (path.parent / name).write_bytes(bytes(at + size))
            properties.set_external(name.encode(), at, size)
    told.append(f"{parts}")


def _map(
    properties: h5py.h5p.PropDCID,
    file: h5py.File,
    path: Path,
    rng: random.Random,
    kind: Kind,
    shape: tuple[int, ...],
    values: Array,
) -> None:
    """Map the dataset to others, in this file and another; a gap may be left."""
    start = 0
    while start < shape[0]:
        stop = min(shape[0], start + rng.randint(1, 4))
        part = values[start:stop]
        name, where = f"part{start}", b"."
        if rng.random() < 0.5:
            beside = path.with_name(f"{path.stem}.{start}.h5")
            with h5py.File(beside, "w") as other:
                _store(other, name, kind, part)
            where = beside.name.encode()
        else:
            _store(file, name, kind, part)
        space, source = h5py.h5s.create_simple(shape), h5py.h5s.create_simple(part.shape)
        space.select_hyperslab((start, *[0] * (len(shape) - 1)), part.shape)
        properties.set_virtual(space, where, name.encode(), source)
        start = stop + (rng.random() < 0.2)


def _store(file: h5py.File, name: str, kind: Kind, values: Array) -> None:
    space = h5py.h5s.create_simple(values.shape)
    dataset = h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind.type_id, space))
    if values.size:
        dataset[...] = values


def _kind(rng: random.Random) -> Kind:
    """Draw a type."""
    drawn = rng.random()
    if drawn < 0.35:
        return _integer(rng)
    if drawn < 0.5:
        return _float(rng)
    if drawn < 0.65:
        return _text(rng)
    if drawn < 0.8:
        return _compound(rng)
    return rng.choice((_enum, _boolean, _opaque, _bitfield, _complex, _refused))(rng)


def _integer(rng: random.Random) -> Kind:
    nbytes, is_signed = rng.choice((1, 2, 4, 8)), rng.random() < 0.5
    order = rng.choice("<>")
    dtype = np.dtype(f"{order}{'i' if is_signed else 'u'}{nbytes}")
    type_id = h5py.h5t.py_create(dtype).copy()
    n_bits, name = 8 * nbytes, str(dtype)
    if rng.random() < 0.35:
        n_bits = rng.randint(2, 8 * nbytes)
        type_id.set_precision(n_bits)
        offset = rng.randint(0, 8 * nbytes - n_bits)
        type_id.set_offset(offset)
        type_id.set_pad(rng.choice((0, 1)), rng.choice((0, 1)))
        name += f" of {n_bits} bits at {offset}"
    low, high = (-(2 ** (n_bits - 1)), 2 ** (n_bits - 1)) if is_signed else (0, 2**n_bits)

    def draw(numbers: np.random.Generator, shape: tuple[int, ...]) -> Array:
        values = numbers.integers(low, high - 1, shape, dtype.newbyteorder("="), endpoint=True)
        return np.asarray(values).astype(dtype)

    return Kind(name=name, type_id=type_id, draw=draw)


def _float(rng: random.Random) -> Kind:
    dtype = np.dtype(f"{rng.choice('<>')}f{rng.choice((2, 4, 8))}")

    def draw(numbers: np.random.Generator, shape: tuple[int, ...]) -> Array:
        values = np.asarray(numbers.normal(size=shape)).astype(dtype)
        return np.where(numbers.random(shape) < 0.1, np.array(np.nan, dtype), values)

    return Kind(name=str(dtype), type_id=h5py.h5t.py_create(dtype), draw=draw)


def _text(rng: random.Random) -> Kind:
    words = ("", "a", "word", "Grüße", "日本", "x" * 9)
    if rng.random() < 0.4:
        type_id = h5py.h5t.C_S1.copy()
        type_id.set_size(h5py.h5t.VARIABLE)
        is_utf8 = rng.random() < 0.6
        type_id.set_cset(h5py.h5t.CSET_UTF8 if is_utf8 else h5py.h5t.CSET_ASCII)
        chosen = words if is_utf8 else words[:3]

        def draw(numbers: np.random.Generator, shape: tuple[int, ...]) -> Array:
            return np.asarray(numbers.choice(np.array(chosen, object), shape), object)

        return Kind(name=f"text, {'UTF-8' if is_utf8 else 'ASCII'}", type_id=type_id, draw=draw)
    nbytes = rng.randint(1, 9)
    type_id = h5py.h5t.C_S1.copy()
    type_id.set_size(nbytes)
    pad = rng.choice((h5py.h5t.STR_NULLTERM, h5py.h5t.STR_NULLPAD, h5py.h5t.STR_SPACEPAD))
    type_id.set_strpad(pad)
    is_utf8 = rng.random() < 0.5
    type_id.set_cset(h5py.h5t.CSET_UTF8 if is_utf8 else h5py.h5t.CSET_ASCII)
    most = nbytes - (pad == h5py.h5t.STR_NULLTERM)
    kept = [word.encode() for word in words if word.isascii() and len(word) <= most]

    def draw_fixed(numbers: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return np.asarray(numbers.choice(np.array(kept, f"S{nbytes}"), shape))

    return Kind(name=f"S{nbytes}, padding {pad}", type_id=type_id, draw=draw_fixed)


def _compound(rng: random.Random, depth: int = 0) -> Kind:
    fields = [_field(rng, depth) for _ in range(rng.randint(1, 3))]
    at, places = 0, []
    for one in fields:
        at += rng.choice((0, 0, 1, 4))
        places.append(at)
        at += one.type_id.get_size()
    type_id = h5py.h5t.create(h5py.h5t.COMPOUND, at + rng.choice((0, 0, 3)))
    for number, (one, place) in enumerate(zip(fields, places, strict=True)):
        type_id.insert(f"f{number}".encode(), place, one.type_id)

    def draw(numbers: np.random.Generator, shape: tuple[int, ...]) -> Array:
        columns = [one.draw(numbers, shape) for one in fields]
        dtype = np.dtype([(f"f{at}", column.dtype) for at, column in enumerate(columns)])
        values = np.empty(shape, dtype)
        for number, column in enumerate(columns):
            values[f"f{number}"] = column
        return values

    name = "record of " + ", ".join(one.name for one in fields)
    refused = any(one.is_refused or one.name.startswith("text") for one in fields)
    return Kind(name=name, type_id=type_id, draw=draw, is_refused=refused)


def _field(rng: random.Random, depth: int) -> Kind:
    drawn = rng.random()
    if drawn < 0.4:
        return _integer(rng)
    if drawn < 0.6:
        return _float(rng)
    if drawn < 0.7 and not depth:
        return _compound(rng, 1)
    return rng.choice((_text, _enum, _boolean, _complex))(rng)


def _enum(rng: random.Random) -> Kind:
    dtype = h5py.enum_dtype(
        {"off": 0, "on": 1, "bad": 5}, basetype=rng.choice(("i1", "<u2", ">i4"))
    )
    return Kind(
        name="enum",
        type_id=h5py.h5t.py_create(dtype, logical=True),
        draw=lambda numbers, shape: np.asarray(numbers.choice(np.array([0, 1, 5], dtype), shape)),
    )


def _boolean(_: random.Random) -> Kind:
    return Kind(
        name="bool",
        type_id=h5py.h5t.py_create(np.dtype(bool), logical=True),
        draw=lambda numbers, shape: np.asarray(numbers.random(shape) < 0.5),
    )


def _opaque(rng: random.Random) -> Kind:
    nbytes = rng.randint(1, 9)
    type_id = h5py.h5t.create(h5py.h5t.OPAQUE, nbytes)
    type_id.set_tag(rng.choice((b"", b"a tag")))

    def draw(numbers: np.random.Generator, shape: tuple[int, ...]) -> Array:
        raw = numbers.integers(0, 256, (*shape, nbytes), np.uint8)
        return np.ascontiguousarray(raw).view(f"V{nbytes}").reshape(shape)

    return Kind(name=f"opaque of {nbytes}", type_id=type_id, draw=draw)


def _bitfield(rng: random.Random) -> Kind:
    name = rng.choice(("STD_B8LE", "STD_B16LE", "STD_B32BE", "STD_B64LE"))
    type_id = getattr(h5py.h5t, name)
    dtype = type_id.dtype

    def draw(numbers: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return np.asarray(numbers.integers(0, 100, shape)).astype(dtype)

    return Kind(name=name, type_id=type_id, draw=draw)


def _complex(rng: random.Random) -> Kind:
    dtype = np.dtype(f"{rng.choice('<>')}c{rng.choice((8, 16))}")

    def draw(numbers: np.random.Generator, shape: tuple[int, ...]) -> Array:
        values = numbers.normal(size=shape) + 1j * numbers.normal(size=shape)
        return np.asarray(values).astype(dtype)

    return Kind(name=str(dtype), type_id=h5py.h5t.py_create(dtype, logical=True), draw=draw)


def _refused(rng: random.Random) -> Kind:
    """Draw a type of which no dask array is made; nothing is written to it."""
    kinds = {
        "runs": h5py.h5t.vlen_create(h5py.h5t.STD_I32LE),
        "arrays": h5py.h5t.array_create(h5py.h5t.STD_I16LE, (3,)),
        "times": h5py.h5t.UNIX_D32LE,
        "object references": h5py.h5t.STD_REF_OBJ,
        "region references": h5py.h5t.STD_REF_DSETREG,
    }
    name = rng.choice(list(kinds))
    return Kind(
        name=name,
        type_id=kinds[name],
        draw=lambda _, __: np.empty(0, "i1"),
        is_refused=True,
    )
