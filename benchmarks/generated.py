"""Arrays that are made here, always the same: noise, spikes, images, wide floats."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.cases import Array
from benchmarks.recording import kept

_SEED = 11

_SPIKE_EVERY = 4096
_PHOTONS = 200.0

Slab = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def noise(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 of random bytes, which no codec makes smaller.

    Parameters
    ----------
    random : Generator
        Where they come from.
    shape : tuple of int
        Of the slab.
    """
    return random.integers(0, 2**32, shape, dtype="<u4").view("<f4")


def spikes(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return int16 that is zero but for one element in 4096.

    Parameters
    ----------
    random : Generator
        Where they come from.
    shape : tuple of int
        Of the slab.
    """
    slab = np.zeros(math.prod(shape), "<i2")
    starts = np.arange(0, slab.size, _SPIKE_EVERY)
    at = np.minimum(starts + random.integers(0, _SPIKE_EVERY, starts.size), slab.size - 1)
    slab[at] = random.integers(1, 1000, starts.size)
    return slab.reshape(shape)


def images(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return uint16 frames: a smooth background, counted in photons.

    Parameters
    ----------
    random : Generator
        Where the noise comes from.
    shape : tuple of int
        Frames, and pixels of a frame.
    """
    down, across = (np.linspace(0, 2 * np.pi, n, dtype="f4") for n in shape[1:])
    background = _PHOTONS * (1.2 + np.sin(3 * down)[:, None] * np.cos(2 * across))
    # The normal distribution that counts of photons are close to, and faster to draw.
    grain = random.standard_normal(shape, dtype="f4") * np.sqrt(background)
    return np.clip(np.rint(background + grain), 0, None).astype("<u2")


def walks(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return float64 random walks in steps of 1/1024, as of a converter.

    Parameters
    ----------
    random : Generator
        Where the steps come from.
    shape : tuple of int
        Of the slab; each column is a walk.
    """
    return np.cumsum(random.integers(-8, 9, shape), axis=0).astype("<f8") / 1024


def generated(
    folder: Path, name: str, make: Slab, *, shape: tuple[int, ...], chunks: tuple[int, ...]
) -> Array:
    """Return an array, written to ``folder`` unless it is there already.

    Parameters
    ----------
    folder : Path
        Where the raw file is kept.
    name : str
        Of the array.
    make : callable
        Gives a slab of some rows; the next slab goes on with the same generator.
    shape, chunks : tuple of int
        Of all, and of a chunk.
    """
    slab_rows = max(1, (32 << 20) // (8 * math.prod(shape[1:])))

    def write(path: Path) -> None:
        random = np.random.default_rng(_SEED)
        with path.open("wb") as file:
            for start in range(0, shape[0], slab_rows):
                make(random, (min(slab_rows, shape[0] - start), *shape[1:])).tofile(file)

    path = kept(folder / f"{name}-{'x'.join(map(str, shape))}.raw", write)
    dtype = make(np.random.default_rng(), (1,) * len(shape)).dtype.str
    return Array(name=name, path=str(path), shape=shape, dtype=dtype, chunks=chunks)
