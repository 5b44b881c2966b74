"""Objects of a Zarr array in a local folder: those that count, those beyond its end."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lazyio.grid import Region, grid_shape, touched
from lazyio.os_errors import walk
from lazyio.safety.sync import sync_folder, write_whole
from lazyio.sources.zarr_objects import index_named
from lazyio.spec import Shape
from lazyio.targets.zarr import PARTIAL

_METADATA = ("zarr.json", ".zarray")

GROUP_METADATA = ("zarr.json", ".zmetadata")
"""Files of a group that may hold what its arrays are as well, consolidated."""


def tell_shape(folder: Path, shape: Shape) -> None:
    """Have readers see other extents of an array, from one moment to the next, and keep them."""
    path = next(folder / name for name in _METADATA if (folder / name).exists())
    held = json.loads(path.read_bytes())
    held["shape"] = list(shape)
    write_whole(path, json.dumps(held, indent=2).encode())
    sync_folder(folder)


def objects_in(array: Any, folder: Path, region: Region, chunk_shape: Shape) -> dict[Path, bytes]:
    """Return the objects of a part of an array as they are stored; not those that are not."""
    paths = _paths_in(array, folder, region, chunk_shape)
    return {path: path.read_bytes() for path in paths if path.exists()}


def bring_back(
    array: Any, folder: Path, region: Region, chunk_shape: Shape, old: Mapping[Path, bytes]
) -> None:
    """Put the objects of a part of an array back; those that there were not are removed."""
    for path in _paths_in(array, folder, region, chunk_shape):
        if path in old:
            write_whole(path, old[path])
        else:
            path.unlink(missing_ok=True)


def remove_beyond(array: Any, folder: Path) -> None:
    """Remove objects beyond the end of an array, and those that are not all there.

    A writer that was killed leaves them. Zarr takes no notice, until the array
    grows by other means.
    """
    grid = grid_shape(array.shape, array.shards or array.chunks)
    for parent, _, names in walk(folder):
        for name in names:
            path = Path(parent, name)
            if name.endswith(PARTIAL) or _is_beyond(array, folder, path, grid):
                path.unlink()


def _is_beyond(array: Any, folder: Path, path: Path, grid: Shape) -> bool:
    index = index_named(array.metadata, len(grid), path.relative_to(folder).as_posix())
    return index is not None and any(at >= count for at, count in zip(index, grid, strict=True))


def _paths_in(array: Any, folder: Path, region: Region, chunk_shape: Shape) -> Iterator[Path]:
    for index, _, _ in touched(region, chunk_shape):
        yield folder / array.metadata.encode_chunk_key(index)
