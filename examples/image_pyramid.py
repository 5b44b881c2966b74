"""Write a pyramid of an image as OME-Zarr 0.5, all levels in one pass over the image.

Each level has half the width and height of the one before, of which it is the mean. All levels
are one graph: a block of the image is read once, however many levels are made of it. The arrays
and the metadata that describe them appear together, when all of them are complete.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np

import lazyio


def pyramid(image: da.Array, n_levels: int, halved: Sequence[int] = (-2, -1)) -> dict[str, Any]:
    """Return the levels of an image by their paths, the first one the image itself."""
    factors = {axis % image.ndim: 2 for axis in halved}
    levels = {"0": image}
    for number in range(1, n_levels):
        above = levels[str(number - 1)]
        mean = da.coarsen(np.mean, above, factors, trim_excess=True)
        is_integer = np.issubdtype(image.dtype, np.integer)
        levels[str(number)] = (mean.round() if is_integer else mean).astype(image.dtype)
    return levels


def multiscales(
    levels: Mapping[str, Any],
    scale: Mapping[str, float],
    *,
    name: str,
    unit: str = "micrometer",
    halved: Sequence[int] = (-2, -1),
) -> dict[str, Any]:
    """Return what OME-Zarr 0.5 says of a pyramid: the size and place of a pixel of each level."""
    kinds = {"t": {"type": "time", "unit": "second"}, "c": {"type": "channel"}}
    axes = [{"name": axis, **kinds.get(axis, {"type": "space", "unit": unit})} for axis in scale]
    first = np.array(list(scale.values()))
    datasets = []
    for number, path in enumerate(levels):
        factors = np.ones(len(first))
        factors[list(halved)] = 2**number
        # The mean of pixels lies in the middle of them.
        transforms = [
            {"type": "scale", "scale": (first * factors).tolist()},
            {"type": "translation", "translation": (first * (factors - 1) / 2).tolist()},
        ]
        datasets.append({"path": path, "coordinateTransformations": transforms})
    described = {"name": name, "type": "mean", "axes": axes, "datasets": datasets}
    return {"version": "0.5", "multiscales": [described]}


def write_image(
    image: Any,
    path: Any,
    *,
    scale: Mapping[str, float],
    n_levels: int,
    chunks: Sequence[int],
    shards: Sequence[int],
    name: str = "image",
    path_in_store: str | None = None,
    **options: Any,
) -> lazyio.WriteReport:
    """Write an image and its pyramid to an OME-Zarr store, in one pass.

    The image is read in blocks of whole rows, as high as a shard: most files hold rows one after
    another, and with even edges no pixel of a smaller level is made of two blocks, so that none
    waits for another.
    """
    levels = pyramid(lazyio.open(image, chunks=(*shards[:-1], -1)), n_levels)
    return lazyio.to_zarr(
        levels,
        path,
        path_in_store,
        chunks=tuple(chunks),
        shards=tuple(shards),
        dimension_names=tuple(scale),
        attributes={"/": {"ome": multiscales(levels, scale, name=name)}},
        **options,
    )


def blobs(region: tuple[slice, ...]) -> np.ndarray:
    """Return part of an image that is computed where it is asked for."""
    z, y, x = np.ogrid[region]
    light = np.cos(z / 7) * np.sin(y / 40) * np.sin(x / 60)
    return (1000 + 900 * light).astype("uint16")


if __name__ == "__main__":
    volume = lazyio.from_function(blobs, (24, 1200, 1500), "uint16")
    options: dict[str, Any] = {"chunks": (8, 128, 128), "shards": (8, 512, 512)}
    print(lazyio.plan(pyramid(volume, 4), format="zarr", **options), "\n")
    pixel = {"z": 1.0, "y": 0.25, "x": 0.25}
    report = write_image(
        volume, "blobs.ome.zarr", scale=pixel, n_levels=4, overwrite=True, **options
    )
    print(report)
