"""Files that point elsewhere: links, external storage and virtual sources stay inside.

A file from a stranger can name any other file that its reader may open. What
lies in the file's own folder, or in one that the user lists, is followed;
anything else is refused before it is opened.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py

from lazyio.errors import OptionError, UnsafeFileError

_MOST_LINKS = 16
"""A chain that is longer is followed by nobody; libhdf5 stops at 16 too."""


def allowed_folders(path: str, allow_external: object) -> tuple[Path, ...]:
    """Return the folders that a file may point into: its own, and those listed.

    Raises
    ------
    OptionError
        When ``allow_external`` is not a list of folders.
    """
    own = Path(os.path.realpath(path)).parent
    if allow_external is None:
        return (own,)
    is_list = isinstance(allow_external, Iterable) and not isinstance(allow_external, (str, bytes))
    folders = list(allow_external) if is_list else []  # type: ignore[call-overload]
    if not is_list or not all(isinstance(folder, (str, os.PathLike)) for folder in folders):
        msg = f"allow_external={allow_external!r}; give a list of folders that links may lead to"
        raise OptionError(msg)
    return (own, *(Path(os.path.realpath(folder)) for folder in folders))


def refuse_links(file: h5py.File, key: str, folders: Sequence[Path]) -> None:
    """Raise when an external link on the way to a key leads outside.

    Every part of the key is looked at, before it is followed.

    Raises
    ------
    UnsafeFileError
        Naming the link, where it leads and what would allow it.
    """
    _follow(file, [part for part in key.split("/") if part], folders, _MOST_LINKS)


def _follow(file: h5py.File, parts: list[str], folders: Sequence[Path], n_left: int) -> None:
    at = ""
    for done, part in enumerate(parts, 1):
        parent, at = at, f"{at}/{part}"
        link = file.get(at, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            _refuse(file.filename, [link.filename], f"link {at!r}", folders)
            return
        if isinstance(link, h5py.SoftLink) and n_left:
            aim = link.path if link.path.startswith("/") else f"{parent}/{link.path}"
            whole = [*(name for name in aim.split("/") if name), *parts[done:]]
            _follow(file, whole, folders, n_left - 1)
            return


def refuse_storage(dataset: h5py.Dataset, folders: Sequence[Path]) -> None:
    """Raise when the data of a dataset lies outside.

    Raises
    ------
    UnsafeFileError
        Naming the dataset, the file it wants and what would allow it.
    """
    _check_storage(dataset, folders, _MOST_LINKS)


def _check_storage(dataset: h5py.Dataset, folders: Sequence[Path], n_left: int) -> None:
    path = dataset.file.filename
    # However the dataset was reached, it lies in a file that may be read.
    _refuse(path, [path], f"dataset {dataset.name!r}", folders)
    names = [name for name, _, _ in dataset.external or ()]
    _refuse(path, names, f"external storage of dataset {dataset.name!r}", folders)
    if not dataset.is_virtual or not n_left:
        return
    for source in dataset.virtual_sources():
        name = path if source.file_name == "." else source.file_name
        _refuse(path, [name], f"virtual dataset {dataset.name!r}", folders)
        wanted = Path(path).parent / name
        if wanted.is_file():
            with h5py.File(wanted, "r") as file:
                part = file.get(source.dset_name)
                if isinstance(part, h5py.Dataset):
                    _check_storage(part, folders, n_left - 1)


def _refuse(path: str, names: Iterable[str], what: str, folders: Sequence[Path]) -> None:
    for name in names:
        wanted = Path(os.path.realpath(Path(path).parent / os.fsdecode(name)))
        if not any(wanted.is_relative_to(folder) for folder in folders):
            msg = (
                f"{path}: {what} leads to {wanted}, outside the file's folder; if you trust it, "
                f"pass allow_external=[{str(wanted.parent)!r}]"
            )
            raise UnsafeFileError(msg)
