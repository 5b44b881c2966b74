"""``python -m benchmarks datasets``: Datasets written by xarray and by lazyio, in turns."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import lazyio
from benchmarks.in_turns import InTurns

_THREADS = 2
_LIMIT = 512 << 20


def _prepared(row: str, folder: Path, *, is_short: bool) -> dict[str, Any]:
    """Make what a row reads, and return its job."""
    size = 1 if is_short else 10
    n_steps, shape = 25 * size, (250, 400)
    job: dict[str, Any] = {
        "row": row,
        "threads": _THREADS,
        "data": {name: str(folder / f"{name}.npy") for name in ("t2m", "u10", "v10")},
        "file": str(folder / "file.nc"),
        "output": str(folder / "output"),
        "chunks": (5, *shape),
        "series": (n_steps * 30, 10, 20),
        "memory_limit": _LIMIT,
    }
    if row in ("gzip-4", "none", "zarr"):
        for at, path in enumerate(job["data"].values()):
            np.save(path, _field(n_steps, shape, seed=at))
    elif row == "rechunk":
        # 3 GB of one variable, in chunks of a step each.
        _grown(job["file"], _field(n_steps, shape), 30, {"zlib": True, "complevel": 1})
    elif row == "append":
        _grown(job["file"], _field(n_steps, shape), 10 * size, {})
    else:
        one = ("x", np.arange(1000.0))
        several = {f"v{at}": one for at in range(20 if is_short else 200)}
        xr.Dataset(several).to_netcdf(job["file"], engine="h5netcdf")
    return job


def _field(n_steps: int, shape: tuple[int, int], *, seed: int = 0) -> Any:
    """Return a field like one of the weather: smooth, with some noise in it."""
    rng = np.random.default_rng(seed)
    lat, lon = (np.linspace(0, 6, n, dtype="f4") for n in shape)
    field = 280 + 20 * np.sin(lat)[:, None] * np.cos(lon)[None, :]
    drift = np.linspace(0, 5, n_steps, dtype="f4")[:, None, None]
    noise = rng.normal(0, 0.5, (n_steps, *shape)).astype("f4")
    return np.round(field + drift + noise, 2).astype("f4")


def _grown(path: str, field: Any, n_parts: int, codec: dict[str, Any]) -> None:
    encoding = {"t2m": {"chunksizes": (1, *field.shape[1:]), **codec}}
    parts = lazyio.concatenate([field] * n_parts)
    dataset = xr.Dataset({"t2m": (("time", "lat", "lon"), parts)})
    dataset.lazyio.to_hdf5(path, encoding=encoding, unlimited_dims=["time"])


_BOTH = ("xarray", "lazyio")
main = InTurns(
    command="datasets",
    description=__doc__,
    contenders={
        **dict.fromkeys(("gzip-4", "none", "zarr", "rechunk"), _BOTH),
        "append": ("lazyio",),
        "open": _BOTH,
    },
    prepared=_prepared,
    mebibytes={"peak MiB": "growth", "written MiB": "written"},
).main
