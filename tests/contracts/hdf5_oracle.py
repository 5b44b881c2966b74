"""Everything that an HDF5 file says, by plain h5py: two files with the same are copies."""

import contextlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5p, h5r, h5t

Place = tuple[int, int]


class Reader:
    """One file, read whole."""

    def __init__(self, file: h5py.File, *, layouts: bool, anew: frozenset[str]) -> None:
        self.file = file
        self.layouts = layouts
        self.anew = anew
        self.first: dict[Place, str] = {}

    def read(self) -> dict[str, Any]:
        """Return all that is said of every object and link, by path."""
        found: dict[str, Any] = {}
        root = h5g.open(self.file.id, b"/")
        waiting = [("/", root)]
        self.first[self.place(root)] = "/"
        # The first path of every object comes first: references are told by it.
        for path, group in waiting:
            for name in self.names(group):
                info = group.links.get_info(name)
                below = f"{path.rstrip('/')}/{name.decode('utf-8', 'surrogateescape')}"
                if info.type != h5l.TYPE_HARD or below == "/_lazyio":
                    continue
                item = h5o.open(group, name)
                if self.first.setdefault(self.place(item), below) == below and isinstance(
                    item, h5g.GroupID
                ):
                    waiting.append((below, item))
        for path, group in waiting:
            found[path] = self.group(path, group)
            for name in self.names(group):
                below = f"{path.rstrip('/')}/{name.decode('utf-8', 'surrogateescape')}"
                if below != "/_lazyio":
                    found[f"link {below}"] = self.link(group, name)
        for place, path in self.first.items():
            item = h5o.open(self.file.id, path.encode("utf-8", "surrogateescape"))
            assert self.place(item) == place
            if isinstance(item, h5d.DatasetID):
                found[path] = self.dataset(path, h5py.Dataset(item))
            elif isinstance(item, h5t.TypeID):
                facts = self.object_facts(item, item.get_create_plist())
                found[path] = {"type": self.kind(item, is_named=True), **facts}
        return found

    @staticmethod
    def place(item: Any) -> Place:
        info = h5o.get_info(item)
        return info.fileno, info.addr

    @staticmethod
    def names(group: Any) -> list[bytes]:
        """Return names in the order of creation where that is tracked."""
        names: list[bytes] = []
        tracked = group.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_TRACKED
        by = h5py.h5.INDEX_CRT_ORDER if tracked else h5py.h5.INDEX_NAME
        group.links.iterate(names.append, idx_type=by)
        return [name for name in names if name != b"_lazyio"]

    def link(self, group: Any, name: bytes) -> Any:
        info = group.links.get_info(name)
        if info.type == h5l.TYPE_HARD:
            return "hard", self.first[self.place(h5o.open(group, name))], info.cset
        return info.type, group.links.get_val(name), info.cset

    def group(self, _: str, group: Any) -> dict[str, Any]:
        properties = group.get_create_plist()
        return {
            "names": self.names(group),
            "order": properties.get_link_creation_order(),
            **self.object_facts(group, properties),
        }

    def object_facts(self, item: Any, properties: Any) -> dict[str, Any]:
        return {
            "attrs": self.attrs(item),
            "attr order": properties.get_attr_creation_order(),
            "attr phase": properties.get_attr_phase_change(),
            "times": properties.get_obj_track_times(),
        }

    def attrs(self, item: Any) -> list[Any]:
        names: list[bytes] = []
        tracked = item.get_create_plist().get_attr_creation_order() & h5p.CRT_ORDER_TRACKED
        by = h5py.h5.INDEX_CRT_ORDER if tracked else h5py.h5.INDEX_NAME
        h5a.iterate(item, lambda name, *_: names.append(name), index_type=by)
        return [self.attr(item, name) for name in names]

    def attr(self, item: Any, name: bytes) -> Any:
        found = h5a.open(item, name)
        kind = found.get_type()
        facts = [name, h5a.get_info(item, name).cset, self.kind(kind), found.shape]
        if found.shape is None:
            return facts
        try:
            elements = np.empty(found.shape, found.dtype)
        except TypeError:
            elements = np.zeros(found.shape, f"V{kind.get_size()}")
            found.read(elements, mtype=kind)
            return [*facts, elements.tobytes()]
        found.read(elements)
        return [*facts, self.plain(elements, found.dtype)]

    def kind(self, kind: Any, *, is_named: bool = False) -> Any:
        """Return what makes a type what it is, and its name where it has one."""
        if kind.committed() and not is_named:
            return "named", self.first.get(self.place(kind)), described(kind)
        return described(kind)

    def dataset(self, path: str, dataset: h5py.Dataset) -> dict[str, Any]:
        properties = dataset.id.get_create_plist()
        kind = dataset.id.get_type()
        found = {
            "type": self.kind(kind),
            "shape": dataset.shape,
            "maxshape": None if dataset.shape is None else dataset.maxshape,
            "fill time": properties.get_fill_time(),
            "fill defined": properties.fill_value_defined(),
            **self.object_facts(dataset.id, properties),
        }
        if properties.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED:
            try:
                found["fill"] = self.plain(np.asarray(dataset.fillvalue), dataset.dtype)
            except (TypeError, RuntimeError):
                found["fill"] = "not to be read"
        if self.layouts and path.strip("/") not in self.anew:
            found |= self.layout(dataset, properties)
        if dataset.shape is not None:
            found["elements"] = self.elements(dataset)
        return found

    def layout(self, dataset: h5py.Dataset, properties: Any) -> dict[str, Any]:
        found = {
            "layout": properties.get_layout(),
            "alloc time": properties.get_alloc_time(),
            "filters": [properties.get_filter(n) for n in range(properties.get_nfilters())],
            "external": [
                properties.get_external(n) for n in range(properties.get_external_count())
            ],
        }
        if dataset.chunks is not None:
            found["chunks"] = dataset.chunks
            found["stored"] = self.stored(dataset)
        if dataset.is_virtual:
            found["virtual"] = [
                (str(one.file_name), one.dset_name, one.vspace.get_select_bounds())
                for one in dataset.virtual_sources()
            ]
        return found

    def stored(self, dataset: h5py.Dataset) -> dict[Any, Any]:
        """Return payloads of plain chunks; of others only which there are."""
        found = {}
        is_plain = not _has_objects(dataset)
        if not dataset.id.get_storage_size():
            return found
        grid = [-(-n // step) for n, step in zip(dataset.shape, dataset.chunks, strict=True)]
        # libhdf5 tells wrong positions of some, so each is asked for.
        for index in np.ndindex(*grid) if np.prod(grid) < 20_000 else ():
            corner = tuple(at * step for at, step in zip(index, dataset.chunks, strict=True))
            with contextlib.suppress(OSError, RuntimeError):
                payload = dataset.id.read_direct_chunk(corner)
                found[corner] = payload if is_plain else None
        found["count"] = dataset.id.get_num_chunks()
        return found

    def elements(self, dataset: h5py.Dataset) -> Any:
        try:
            dtype = dataset.dtype
        except TypeError:
            dtype = None
        kind = dataset.id.get_type()
        if dtype is None or kind.detect_class(h5t.BITFIELD):
            raw = np.zeros(dataset.shape, f"V{kind.get_size()}")
            dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, raw, kind)
            return raw.tobytes()
        if dataset.external:
            return "elsewhere"
        if dtype.subdtype is not None:
            return self.plain(dataset[...], dtype)
        elements = np.empty(dataset.shape, dtype)
        if dataset.size:
            try:
                kind = dataset.id.get_type() if dtype.kind == "V" and dtype.fields is None else None
                dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, elements, kind)
            except OSError as error:
                if "filter" not in str(error) and "plugin" not in str(error):
                    raise
                return "filter"
        return self.plain(elements, dtype)

    def plain(self, elements: Any, dtype: Any) -> Any:
        """Return elements as plain values; references by what they name."""
        if dtype.fields is not None:
            return {name: self.plain(elements[name], dtype.fields[name][0]) for name in dtype.names}
        if dtype.subdtype is not None:
            return self.plain(elements, dtype.subdtype[0])
        if h5py.check_ref_dtype(dtype) is not None:
            return [self.reference(one) for one in elements.ravel()]
        base = h5py.check_vlen_dtype(dtype)
        if base is not None and base not in (str, bytes):
            return [None if one is None else self.plain(one, base) for one in elements.ravel()]
        if dtype.hasobject:
            return elements.ravel().tolist()
        return elements.shape, np.ascontiguousarray(elements).tobytes()

    def reference(self, one: Any) -> Any:
        if not one:
            return None
        try:
            item = h5r.dereference(one, self.file.id)
        except (ValueError, RuntimeError):
            return None
        name = self.first.get(self.place(item))
        if name is None:
            return None
        if not isinstance(one, h5r.RegionReference):
            return name
        space = h5r.get_region(one, self.file.id)
        if space.get_select_type() == h5py.h5s.SEL_POINTS:
            return name, space.get_select_elem_pointlist().tolist()
        return name, space.get_select_bounds(), space.get_select_npoints()


def described(kind: Any) -> Any:
    """Return what makes a type what it is, in whatever version of the format it is written."""
    number, found = kind.get_class(), [kind.get_class(), kind.get_size()]
    if number in (h5t.INTEGER, h5t.FLOAT):
        found += [kind.get_order(), kind.get_precision(), kind.get_offset(), kind.get_pad()]
    if number == h5t.INTEGER:
        found += [kind.get_sign()]
    elif number == h5t.FLOAT:
        found += [kind.get_fields(), kind.get_ebias(), kind.get_norm(), kind.get_inpad()]
    elif number == h5t.STRING:
        found += [kind.is_variable_str(), kind.get_cset(), kind.get_strpad()]
    elif number == h5t.OPAQUE:
        found += [kind.get_tag()]
    elif number == h5t.ARRAY:
        found += [kind.get_array_dims(), described(kind.get_super())]
    elif number == h5t.VLEN:
        found += [described(kind.get_super())]
    elif number == h5t.ENUM:
        members = range(kind.get_nmembers())
        found += [described(kind.get_super())]
        found += [(kind.get_member_name(n), kind.get_member_value(n)) for n in members]
    elif number == h5t.COMPOUND:
        for n in range(kind.get_nmembers()):
            member = described(kind.get_member_type(n))
            found += [kind.get_member_name(n), kind.get_member_offset(n), member]
    return found


def _has_objects(dataset: h5py.Dataset) -> bool:
    try:
        return bool(dataset.dtype.hasobject)
    except TypeError:
        return False


def everything_in(
    path: Path, *, layouts: bool = True, anew: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Return all that a file says; of some datasets not how they are stored."""
    with h5py.File(path, "r") as file:
        properties = file.id.get_create_plist()
        nbytes = properties.get_userblock()
        found = Reader(file, layouts=layouts, anew=anew).read()
        found["file"] = (
            nbytes,
            path.read_bytes()[:nbytes],
            properties.get_sizes(),
            properties.get_file_space_strategy(),
        )
    return found


def assert_copied(
    one: Path,
    other: Path,
    *,
    layouts: bool = True,
    anew: frozenset[str] = frozenset(),
    except_for: tuple[str, str] | None = None,
) -> None:
    """Check that a file is a copy of another."""
    first, second = (everything_in(path, layouts=layouts, anew=anew) for path in (one, other))
    if except_for is not None:
        for found in (first, second):
            del found[except_for[0]][except_for[1]]
    assert first.keys() == second.keys()
    for name, there in first.items():
        if isinstance(there, dict):
            for fact, value in there.items():
                assert second[name][fact] == value, (name, fact)
        assert second[name] == there, name
