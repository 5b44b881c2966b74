"""HDF5 files with something of everything, and trees that hypothesis makes."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st

RECORD = np.dtype(
    [
        ("a", "i4"),
        ("text", h5py.string_dtype()),
        ("ref", h5py.ref_dtype),
        ("row", h5py.vlen_dtype("f4")),
        ("refs", h5py.ref_dtype, (2,)),
        ("region", h5py.regionref_dtype),
    ]
)


UNIX = h5py.h5t.UNIX_D32LE
"""A type that neither numpy nor h5py has."""


def write_something_of_everything(path: Path, **options: Any) -> None:
    """Write a file with every kind of object, layout, link, type and attribute."""
    with h5py.File(path, "w", **options) as file:
        _write_arrays(file.create_group("arrays", track_order=True))
        _write_types(file.create_group("types"))
        _write_links(file)
        _write_references(file)
        _write_attributes(file)
        _write_scales(file.create_group("scales", track_order=True))


def _write_arrays(group: h5py.Group) -> None:
    ramp = np.arange(40_000, dtype="f4").reshape(400, 100)
    group.create_dataset("zip", data=ramp, chunks=(64, 32), compression="gzip", shuffle=True)
    group.create_dataset("checked", data=ramp, chunks=(64, 32), compression="lzf", fletcher32=True)
    group.create_dataset("plain", data=ramp)
    group.create_dataset("chunked", data=ramp, chunks=(100, 100), maxshape=(None, 100))
    group.create_dataset("large", data=np.arange(300_000, dtype=">i4"), chunks=(3000,))
    group.create_dataset("run", data=np.arange(300_000.0))
    group.create_dataset("sparse", (1000, 1000), "i2", chunks=(10, 10), fillvalue=7)
    group["sparse"][55, 66] = 3
    group.create_dataset("nothing", data=h5py.Empty("f8"))
    group.create_dataset("scalar", data=3.5)
    group.create_dataset("no_elements", (0, 3), "i4", maxshape=(None, 3))
    group.create_dataset("unwritten", (10, 3), "i4", fillvalue=5)
    group.create_dataset("bool", data=np.array([True, False]))
    group.create_dataset("complex", data=np.array([1 + 2j]))
    group.create_dataset("long", data=np.arange(4, dtype="g"))
    group.create_dataset("half", data=np.arange(4, dtype="f2"))
    group.create_dataset("bytes", data=np.array([b"ab", b"c"]))
    group.create_dataset("text", data=["a", "ü", ""], dtype=h5py.string_dtype(), fillvalue="zz")
    group.create_dataset("ascii", data=[b"a", b"bc"], dtype=h5py.string_dtype("ascii"))
    group.create_dataset("many_texts", (5000,), h5py.string_dtype(), chunks=(999,), compression=4)
    group["many_texts"][:4000] = [str(n) for n in range(4000)]
    rows = group.create_dataset("rows", (5,), h5py.vlen_dtype("i4"), chunks=(2,))
    rows[1] = [1, 2, 3]
    group.create_dataset("enum", data=[0, 1], dtype=h5py.enum_dtype({"OFF": 0, "ON": 1}, "i1"))
    times = np.arange(3).astype("M8[s]")
    group.create_dataset("opaque", data=times.astype(h5py.opaque_dtype(times.dtype)))
    _write_compact(group)
    _write_virtual(group)
    _write_raw(group)


def _write_compact(group: h5py.Group) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((5,))
    made = h5py.h5d.create(group.id, b"compact", h5py.h5t.STD_I16BE, space, properties)
    h5py.Dataset(made)[...] = np.arange(5)


def _write_virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((400, 200), "f4")
    layout[:, :100] = h5py.VirtualSource(group["plain"])
    layout[:, 100:] = h5py.VirtualSource(group["zip"])
    group.create_virtual_dataset("virtual", layout, fillvalue=-1)


def _write_raw(group: h5py.Group) -> None:
    raw = Path(group.file.filename).parent / "raw.bin"
    np.arange(50, dtype="i4").tofile(raw)
    group.create_dataset("raw", (50,), "i4", external=[("raw.bin", 0, 200)])


def _write_types(group: h5py.Group) -> None:
    record = np.dtype([("x", "f8"), ("n", "i4")])
    # Used before its name comes.
    group["z"] = record
    group["z"].attrs["unit"] = "mm"
    group.create_dataset("a", data=np.ones(3, record), dtype=group["z"])
    group.attrs.create("typed", np.ones(2, record), dtype=group["z"])
    twelve = h5py.h5t.STD_I16LE.copy()
    twelve.set_precision(12)
    space = h5py.h5s.create_simple((4,))
    h5py.Dataset(h5py.h5d.create(group.id, b"twelve", twelve, space))[...] = [1, -2, 3, 2047]
    for name, kind, dtype in (("bits", h5py.h5t.STD_B16BE, "V2"), ("times", UNIX, "V4")):
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((30,))
        space = h5py.h5s.create_simple((100,))
        made = h5py.h5d.create(group.id, name.encode(), kind, space, properties)
        raw = np.arange(100, dtype=f"u{dtype[1:]}").view(dtype)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, raw, kind)
    inner = np.dtype({"names": ["x", "y"], "formats": ["i1", "f4"], "itemsize": 12})
    nested = np.dtype({"names": ["a", "b"], "formats": ["i2", inner], "itemsize": 20})
    group.create_dataset("nested", data=np.ones((4, 5), nested))
    ramp = np.arange(300.0).reshape(3, 100)
    turned = {"chunks": (1, 30), "maxshape": (3, None)}
    group.create_dataset("turned", data=ramp, compression="szip", **turned)
    group.create_dataset("lists", (5,), np.dtype(("i4", (3,))))
    group["lists"][...] = np.arange(15).reshape(5, 3)
    odd = h5py.h5t.IEEE_F64LE.copy()
    odd.set_fields(60, 50, 10, 0, 50)
    odd.set_ebias(511)
    h5py.h5d.create(group.id, b"odd_float", odd, space)
    padded = h5py.h5t.C_S1.copy()
    padded.set_size(5)
    padded.set_strpad(h5py.h5t.STR_SPACEPAD)
    made = h5py.h5d.create(group.id, b"padded", padded, h5py.h5s.create_simple((2,)))
    h5py.Dataset(made)[...] = [b"ab", b"cde"]


def _write_links(file: h5py.File) -> None:
    links = file.create_group("links", track_order=True)
    links["hard"] = file["arrays/zip"]
    links["soft"] = h5py.SoftLink("/arrays/plain")
    links["broken"] = h5py.SoftLink("/nowhere")
    links["external"] = h5py.ExternalLink("other.h5", "/x")
    links["around"] = file["/"]
    links["same"] = file["links"]
    links["ünï"] = h5py.SoftLink("../arrays")
    for name in "zyx":
        links.create_group(name)


def _write_references(file: h5py.File) -> None:
    group = file.create_group("first")
    arrays = file["arrays"]
    refs = group.create_dataset("refs", (4,), h5py.ref_dtype)
    refs[0], refs[1], refs[3] = arrays["zip"].ref, file["links"].ref, group.ref
    regions = group.create_dataset("regions", (3,), h5py.regionref_dtype, chunks=(2,))
    regions[0] = arrays["zip"].regionref[3:9, 5]
    regions[1] = arrays["plain"].regionref[[1, 4, 5], 2]
    many = group.create_dataset("rows", (2,), h5py.vlen_dtype(h5py.ref_dtype))
    many[0] = np.array([arrays.ref, arrays["run"].ref], h5py.ref_dtype)
    records = group.create_dataset("records", (3,), RECORD, chunks=(2,), compression="gzip")
    elements = records[...]
    elements["text"][1] = "hi"
    elements["ref"][1] = arrays["large"].ref
    elements["row"][2] = np.ones(3, "f4")
    elements["refs"][0] = [arrays.ref, group.ref]
    elements["region"][0] = arrays["run"].regionref[:7]
    records[...] = elements


def _write_attributes(file: h5py.File) -> None:
    group = file.create_group("attributes", track_order=True)
    group.attrs["text"] = "ü"
    group.attrs["bytes"] = np.bytes_(b"abc")
    group.attrs["texts"] = ["a", "bb"]
    group.attrs["empty"] = h5py.Empty("f4")
    group.attrs["bool"] = True
    group.attrs["ünï"] = np.arange(6).reshape(2, 3)
    group.attrs["ref"] = file["arrays"].ref
    group.attrs["region"] = file["arrays/zip"].regionref[2:4]
    rows = np.empty(2, object)
    rows[:] = [np.arange(2, dtype="i4"), np.arange(3, dtype="i4")]
    group.attrs.create("rows", rows, dtype=h5py.vlen_dtype("i4"))
    group.attrs.create("enum", 1, dtype=h5py.enum_dtype({"A": 0, "B": 1}))
    group.attrs.create("no_elements", np.empty(0, "f4"))
    for n in range(20):
        group.attrs[f"{20 - n}"] = n


def _write_scales(group: h5py.Group) -> None:
    time = group.create_dataset("time", data=np.arange(5.0))
    time.make_scale("time")
    data = group.create_dataset("data", data=np.ones((5, 2)))
    data.dims[0].attach_scale(time)
    data.dims[0].label = "t"
    other = group.create_dataset("other", data=np.ones((5, 2)))
    other.dims[0].attach_scale(time)


NAMES = st.sampled_from(["a", "b", "c", "ü", "x y"])
DTYPES = st.sampled_from(
    ["i1", ">i4", "f8", "S3", "?", "c8", "text", "rows", "ref", "region", "record", "refs record"]
)
SHAPES = st.sampled_from([(), (0,), (7,), (3, 4), None])


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Return steps that make a file, see :func:`write_tree`."""
    step = st.one_of(
        st.tuples(st.just("group"), NAMES, st.integers(0, 9), st.booleans()),
        st.tuples(
            st.just("dataset"),
            NAMES,
            st.integers(0, 9),
            DTYPES,
            SHAPES,
            st.sampled_from(["plain", "chunks", "gzip", "lzf checked", "grows"]),
            st.booleans(),
        ),
        st.tuples(st.just("hard"), NAMES, st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("soft"), NAMES, st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("type"), NAMES, st.integers(0, 9)),
        st.tuples(st.just("attr"), NAMES, st.integers(0, 9), DTYPES, SHAPES),
        st.tuples(st.just("delete"), NAMES, st.integers(0, 9)),
    )
    return draw(st.lists(step, max_size=14))


def _dtype(name: str) -> np.dtype[Any]:
    named = {
        "text": h5py.string_dtype(),
        "rows": h5py.vlen_dtype("i2"),
        "ref": h5py.ref_dtype,
        "region": h5py.regionref_dtype,
        "record": np.dtype([("x", "f8"), ("n", ">i2")]),
        "refs record": np.dtype([("x", "f8"), ("r", h5py.ref_dtype)]),
    }
    return np.dtype(named.get(name, name))


def _elements(file: h5py.File, name: str, shape: tuple[int, ...], objects: list[Any]) -> Any:
    """Return elements of a type; references to the objects that there are."""
    elements = np.zeros(shape, _dtype(name))
    datasets = [one for one in objects if isinstance(one, h5py.Dataset) and one.shape]
    for n, at in enumerate(np.ndindex(*shape)):
        one = objects[n % len(objects)]
        if name == "text":
            elements[at] = str(n) * (n % 3)
        elif name == "rows":
            elements[at] = np.arange(n % 4, dtype="i2")
        elif name == "ref":
            elements[at] = one.ref if n % 3 else h5py.Reference()
        elif name == "region":
            found = datasets and n % 2
            elements[at] = datasets[0].regionref[:2] if found else h5py.RegionReference()
        elif name == "refs record":
            elements[at] = (n, one.ref)
        elif name == "record":
            elements[at] = (n, n)
        else:
            elements[at] = n % 100
    return elements


def write_tree(path: Path, steps: list[tuple[Any, ...]], **options: Any) -> None:
    """Make a file by steps; what a step cannot do it leaves out."""
    with h5py.File(path, "w", **options) as file:
        objects: list[Any] = [file["/"]]
        for kind, name, at, *more in steps:
            objects = [one for one in objects if one]
            groups = [one for one in objects if isinstance(one, h5py.Group)]
            group, one = groups[at % len(groups)], objects[at % len(objects)]
            if kind != "attr" and (name in group) != (kind == "delete"):
                continue
            if kind == "group":
                objects.append(group.create_group(name, track_order=more[0]))
            elif kind == "dataset":
                objects.append(_make_dataset(file, group, name, more, objects))
            elif kind == "hard":
                group[name] = objects[more[0] % len(objects)]
            elif kind == "soft":
                group[name] = h5py.SoftLink(objects[more[0] % len(objects)].name or "/nothing")
            elif kind == "type":
                group[name] = np.dtype([("x", "f8"), ("n", ">i2")])
                objects.append(group[name])
            elif kind == "attr":
                _make_attribute(file, one, name, more, objects)
            elif kind == "delete" and isinstance(group.get(name, getlink=True), h5py.HardLink):
                del group[name]
                objects = [file["/"]]
                file.visititems(lambda _, found: objects.append(found))  # noqa: B023


def _make_dataset(
    file: h5py.File, group: h5py.Group, name: str, more: Any, objects: list[Any]
) -> h5py.Dataset:
    kind, shape, layout, track_order = more
    types = [one for one in objects if isinstance(one, h5py.Datatype)]
    dtype = types[0] if kind == "record" and types else _dtype(kind)
    if shape is None:
        return group.create_dataset(name, data=h5py.Empty(_dtype(kind)))
    options: dict[str, Any] = {}
    is_plain = not _dtype(kind).hasobject
    if shape and layout != "plain":
        options = {"chunks": tuple(2 for _ in shape), "maxshape": (None, *shape[1:])}
        if layout == "chunks" and 0 not in shape:
            del options["maxshape"]
        if is_plain and layout in ("gzip", "lzf checked"):
            options |= {"compression": layout.split()[0], "fletcher32": "checked" in layout}
    made = group.create_dataset(name, shape, dtype, track_order=track_order, **options)
    if made.size:
        made[...] = _elements(file, kind, shape, [*objects, made])
    return made


def _make_attribute(file: h5py.File, one: Any, name: str, more: Any, objects: list[Any]) -> None:
    kind, shape = more
    if shape is None:
        one.attrs[name] = h5py.Empty(_dtype(kind))
    else:
        one.attrs.create(name, _elements(file, kind, shape, objects), dtype=_dtype(kind))
