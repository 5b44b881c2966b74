"""Write a generator of unknown length with missing rows to HDF5, and append to it."""

from collections.abc import Iterator

import numpy as np

import lazyio


def iter_sin(n_rows: int) -> Iterator[np.ndarray | None]:
    """Yield rows of a sine, with one row in a hundred missing."""
    for row in range(n_rows):
        yield None if row % 100 == 7 else np.sin(np.linspace(0, 1, 10) + row)


stream = lazyio.Stream(iter_sin(10_000), expected_length=10_000)
print(stream.maxshape, stream.dtype)
report = lazyio.to_hdf5(stream, "sine.h5", "sine", mode="w", compression="gzip", fillvalue=np.nan)
print(report.plan, report, sep="\n\n")
report = lazyio.to_hdf5(lazyio.Stream(iter_sin(500)), "sine.h5", "sine", append_dim=0)
print(report.plan.shape)
sine = lazyio.open("sine.h5", "sine")
print(f"rows that are missing: {int(np.isnan(sine[:, 0]).sum().compute())}")
