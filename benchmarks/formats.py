"""``python -m benchmarks formats``: other formats, read by their libraries and by lazyio."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.in_turns import InTurns

_THREADS = 2
_LIMIT = 256 << 20


def _prepared(row: str, folder: Path, *, is_short: bool) -> dict[str, Any]:
    """Make what a row reads, and return its job."""
    job: dict[str, Any] = {
        "row": row,
        "threads": _THREADS,
        "file": str(folder / "file"),
        "output": str(folder / "output"),
        "memory_limit": _LIMIT,
    }
    n_pages = 20 if is_short else 300
    if row == "tiff-zarr":
        job["file"] += ".tif"
        _stack(job["file"], n_pages)
    elif row == "tiff-glob":
        job["file"] = str(folder / "pages")
        _pages(Path(job["file"]), n_pages)
    elif row == "nifti-zarr":
        job["file"] += ".nii.gz"
        _volumes(job["file"], 20 if is_short else 300)
    else:
        job["file"] += ".h5"
        _table(job["file"], 200_000 if is_short else 20_000_000)
    return job


def _page() -> Any:
    """Return an image of a camera: smooth, with noise in its last bits."""
    rng = np.random.default_rng(0)
    lines = np.linspace(0, 6, 1024)
    smooth = 2000 + 500 * np.sin(lines)[:, None] * np.cos(lines)[None, :]
    return (smooth + rng.normal(0, 5, (1024, 1024))).astype("u2")


def _stack(path: str, n_pages: int) -> None:
    import tifffile

    page, options = _page(), {"photometric": "minisblack", "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for _ in range(n_pages):
            file.write(page, tile=(256, 256), compression="zlib", **options)


def _pages(folder: Path, n_pages: int) -> None:
    import tifffile

    folder.mkdir()
    page = _page()
    for number in range(n_pages):
        tifffile.imwrite(folder / f"page{number:04}.tif", page, compression="zlib")


def _volumes(path: str, n_volumes: int) -> None:
    import nibabel

    rng = np.random.default_rng(0)
    volume = rng.normal(1000, 50, (64, 64, 32, 1)).astype("i2")
    nibabel.save(nibabel.Nifti1Image(np.repeat(volume, n_volumes, axis=3), np.eye(4)), path)


def _table(path: str, n_rows: int) -> None:
    import tables

    columns = {f"c{at}": tables.Float64Col() for at in range(8)}
    rng = np.random.default_rng(0)
    with tables.open_file(path, "w") as file:
        filters = tables.Filters(5, "blosc:lz4")
        table = file.create_table("/", "x", columns, filters=filters, expectedrows=n_rows)
        rows = np.zeros(200_000, table.dtype)
        for name in rows.dtype.names or ():
            rows[name] = np.round(rng.normal(size=len(rows)), 2)
        for _ in range(0, n_rows, len(rows)):
            table.append(rows)


main = InTurns(
    command="formats",
    description=__doc__,
    contenders={
        "tiff-zarr": ("tifffile+dask", "lazyio"),
        "tiff-glob": ("tifffile+dask", "lazyio"),
        "nifti-zarr": ("nibabel+dask", "lazyio"),
        "column": ("pytables", "lazyio"),
    },
    prepared=_prepared,
    mebibytes={"peak MiB": "growth"},
).main
