"""Write a recording with one raw file per channel to three arrays of one HDF5 file.

The files are stacked without being read. One pass writes the raw samples, their
difference from the median over channels, and the mean of each channel, and
reads every sample once.
"""

from pathlib import Path

import dask.array as da
import numpy as np

import lazyio

n_channels, n_frames = 16, 100_000
folder = Path("channels")
folder.mkdir(exist_ok=True)
rng = np.random.default_rng(0)
for channel in range(n_channels):
    rng.normal(0, 50, n_frames).astype("int16").tofile(folder / f"channel{channel:02}.raw")

files = sorted(folder.glob("*.raw"))
channels = [lazyio.from_raw(path, (-1,), "int16") for path in files]
raw = lazyio.stack(channels, axis=1, memory_limit="16 MiB")

# Readers will ask for all channels of a short interval, and for one channel of a long one.
access = [(1000, n_channels), (30_000, 1)]
print(lazyio.plan(raw, access=access, memory_limit="16 MiB"), end="\n\n")


def referenced(block: np.ndarray) -> np.ndarray:
    """Return a block minus the median over its channels."""
    return block - np.median(block, axis=1, keepdims=True).astype(block.dtype)


report = lazyio.to_hdf5(
    {
        "raw": raw,
        "referenced": da.map_blocks(referenced, raw, dtype=raw.dtype),
        "mean": raw.mean(axis=0),
    },
    "recording.h5",
    mode="w",
    compression="gzip",
    shuffle=True,
    dims={"raw": ("time", "channel"), "referenced": ("time", "channel"), "mean": ("channel",)},
    attrs={"raw": {"units": "uV"}, "referenced": {"units": "uV"}},
    memory_limit="16 MiB",
)
print(f"\n{report}")
