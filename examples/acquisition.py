"""Append samples of a probe and frames of a camera from an acquisition loop.

The file is visible while it grows, and flushed data survives any failure. Here
the loop is interrupted, and a second loop continues in the same file.
"""

import numpy as np

import lazyio

rng = np.random.default_rng(0)
n_channels = 64


def acquire(n_batches: int) -> None:
    """Append batches of samples, and a frame with every tenth batch."""
    with lazyio.writer("session.h5") as writer:
        samples = writer.create(
            "probe/samples",
            dtype="int16",
            item_shape=(n_channels,),
            expected_length=100_000,
            compression="gzip",
        )
        frames = writer.create("camera/frames", dtype="uint8", item_shape=(120, 160))
        times = writer.create("camera/times", dtype="float64", item_shape=())
        for at in range(n_batches):
            samples.append(rng.normal(0, 50, (300, n_channels)).astype("int16"))
            if at % 10 == 0:
                frames.append(rng.integers(0, 255, (120, 160), dtype="uint8"))
                times.append(len(samples) / 30_000)
            if at == 150:
                raise KeyboardInterrupt


try:
    acquire(1000)
except KeyboardInterrupt:
    print("interrupted;", lazyio.open("session.h5", "probe/samples").shape, "is in the file")
acquire(100)
print(lazyio.open("session.h5", "probe/samples").shape, lazyio.verify("session.h5").status)

# Write the finished recording again, with chunks for its readers.
samples = lazyio.open("session.h5", "probe/samples")
report = lazyio.to_zarr(samples, "session.zarr", "samples", mode="w", access=[(30_000, 1)])
print(f"\n{report.plan}\n\n{report}")
