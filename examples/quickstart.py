"""Convert a recording that is larger than its memory limit to compressed HDF5.

The file holds the recording (3Brain, 36 channels) as one flat array of samples.
It is reshaped to frames x channels without being read.
"""

from pathlib import Path

import lazyio

recording = Path(__file__).with_name("3brain.brw")
n_channels = 36

# Blocks of whole frames, so that the reshape keeps the blocks.
samples = lazyio.open(recording, "3BData/Raw", chunks=n_channels * 1000)
frames = samples.reshape(-1, n_channels)

print(lazyio.plan(frames, memory_limit="1 MiB"), end="\n\n")

report = lazyio.to_hdf5(
    frames,
    "quickstart.h5",
    "/recording",
    memory_limit="1 MiB",
    compression="gzip",
    shuffle=True,
    overwrite=True,
    progress=True,
)
print(f"\n{report}")
