"""Digests of what is there now: of a file that another program has changed, or has made."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from lazyio.atomic.digests import Table
from lazyio.atomic.hdf5_digests import ObjectNames, forget, keys_with_digests, load, store
from lazyio.atomic.recovery import tidy
from lazyio.atomic.workdir import WorkDirectory
from lazyio.errors import DamagedDataError, LazyioError, SourceError, UnknownFormatError
from lazyio.libhdf5_calls import link_at, named
from lazyio.sources.hdf5 import dataset_keys, describe_dataset
from lazyio.sources.hdf5_links import FileLink, links_in
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.sources.lookup import format_of
from lazyio.sources.path_policy import allowed_folders
from lazyio.sources.zarr_metadata import require_zarr
from lazyio.storage.disk_errors import check_writable
from lazyio.storage.hdf5.change import change_file
from lazyio.storage.hdf5.digesting import digest_dataset
from lazyio.storage.hdf5.dimension_scales import has_no_values
from lazyio.storage.hdf5.links import end_name, facts_of_virtual, table_of_link
from lazyio.verification.report import DAMAGED, VerifyReport

Look = Callable[[], VerifyReport]
"""Returns what a look at a file or store has found."""

_MOST_NAMED = 5


def renewed(target: Path, key: str | None, decode: Look, look: Look) -> VerifyReport:
    """Store digests of what is there, once all of it has been decoded.

    ``decode`` sees whether it decodes, ``look`` what there is to be said of it afterwards.
    """
    began = time.perf_counter()
    wanted = None if key is None else "/".join(filter(None, key.split("/")))
    kind = format_of(target)
    tidy(target)
    if kind == "hdf5":
        decoded, n_stored = renew_file(target, wanted, decode)
    elif kind == "zarr" and target.is_dir():
        require_zarr()
        from lazyio.verification.zarr_renewal import renew_store

        decoded, n_stored = renew_store(target, wanted, decode)
    else:
        msg = (
            f"{target} has no place for digests: they are stored in HDF5 files and in Zarr stores "
            "in folders; write it to one of these, or make a zip file of a store that has them"
        )
        raise UnknownFormatError(msg)
    found = look()
    return replace(
        found,
        n_chunks=decoded.n_chunks,
        nbytes=decoded.nbytes,
        # Why something has no digests is known from trying.
        unverifiable=tuple({**dict(found.unverifiable), **dict(decoded.unverifiable)}.items()),
        seconds=time.perf_counter() - began,
        note="; ".join(filter(None, (found.note, _told(n_stored)))),
    )


def _told(n_stored: int) -> str:
    if not n_stored:
        return "its digests were those of what is there already"
    return f"digests of {n_stored} {'key' if n_stored == 1 else 'keys'} were stored anew"


def renew_file(path: Path, key: str | None, decode: Look) -> tuple[VerifyReport, int]:
    """Store digests of the datasets and links of an HDF5 file, or of one; all of them or none.

    Returns what decoding has found, and how many were stored.
    """
    check_writable(path)
    with WorkDirectory(path) as work:
        # From here on nobody else opens it for writing.
        decoded = decode()
        left_out = refuse_undecoded(path, decoded)
        tables = dict(_changed_tables(path, key, left_out))
        if tables:
            change_file(work, path, lambda file: _store(file, tables))
    return decoded, len(tables)


def is_same(old: Table, new: Table) -> bool:
    """Return whether digests say the same of an array."""
    facts = [(one.facts, one.of, one.shape, one.place) for one in (old, new)]
    return (
        facts[0] == facts[1]
        and np.array_equal(old.rows, new.rows)
        and np.array_equal(old.rims, new.rims)
    )


def refuse_undecoded(path: Path, decoded: VerifyReport) -> set[str]:
    """Refuse what does not decode, and return the keys of what cannot be decoded here."""
    if decoded.damaged:
        told = [f"{key or 'file'}: {what}" for key, _, what in decoded.damaged[:_MOST_NAMED]]
        more = len(decoded.damaged) - len(told)
        named = "; ".join(told) + (f"; and {more} more" if more else "")
        msg = f"the digests of {path} are not renewed, for not all of it can be read: {named}"
        if decoded.status == DAMAGED:
            msg += ". Restore it from a copy, or remove what is damaged"
            raise DamagedDataError(msg)
        msg += ". Nothing was changed"
        raise SourceError(msg)
    return {key for key, _ in decoded.unverifiable}


def _changed_tables(
    path: Path, key: str | None, left_out: set[str]
) -> Iterator[tuple[str, Table | None]]:
    """Yield digests that are not those which are stored; ``None`` of what is gone."""
    with open_hdf5(str(path)) as file:
        links: dict[str, list[FileLink]] = {}
        for link in links_in(file, allowed_folders(str(path), None)):
            links.setdefault(link.key.lstrip("/"), []).append(link)
        known, names = set(keys_with_digests(file)), ObjectNames(file, many=True)
        for name in sorted({*dataset_keys(file), *known, *links}) if key is None else [key]:
            if f"/{name}" in left_out:
                continue
            try:
                table = _table(file, name, links.get(name, []), names)
            except LazyioError:
                raise
            except (OSError, RuntimeError, ValueError, TypeError) as error:
                msg = f"the digests of {path} are not renewed: {name!r} cannot be read: {error}"
                raise DamagedDataError(msg) from error
            if table is None and name not in known:
                continue
            if table is None or not _is_stored(file, name, table):
                yield name, table


def _table(file: h5py.File, name: str, links: list[FileLink], names: ObjectNames) -> Table | None:
    """Return the digests of what is at a key, ``None`` where there is nothing that has any."""
    link = link_at(file, name)
    if isinstance(link, (h5py.SoftLink, h5py.ExternalLink)):
        ends = [one.end for one in links if one.end is not None]
        return table_of_link(link, ends[0]) if ends else None
    dataset = None if link is None else file[named(name)]
    if not isinstance(dataset, h5py.Dataset) or has_no_values(dataset):
        return None
    # libhdf5 would look for raw files in the working directory.
    read = describe_dataset(dataset, file.filename).read if dataset.external else None
    table = digest_dataset(dataset, read, names)
    if not dataset.is_virtual:
        return table
    ends_of = {end_name(one.target, one.path): one.end.to_text() for one in links if one.end}
    return replace(table, facts=facts_of_virtual(dataset, names) | ends_of)


def _is_stored(file: h5py.File, name: str, table: Table) -> bool:
    """Return whether digests are those that a file has already."""
    try:
        old = load(file, name)
    except ValueError:
        return False
    return old is not None and is_same(old, table)


def _store(file: h5py.File, tables: dict[str, Table | None]) -> None:
    for name, table in tables.items():
        if table is None:
            forget(file, name)
        else:
            store(file, name, table)
