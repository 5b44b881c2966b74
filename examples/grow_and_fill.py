"""Allocate an empty dataset, fill regions of it and append, as in PyNWB's user-defined write.

The dataset takes no space until something is written. Unwritten elements read
as the fill value.
"""

import numpy as np

import lazyio

report = lazyio.allocate(
    "grid.h5",
    "grid",
    shape=(6, 10),
    dtype="float64",
    maxshape=(None, 10),
    fillvalue=np.nan,
    compression="gzip",
    overwrite=True,
)
print(report.plan, end="\n\n")
lazyio.to_hdf5(np.full((3, 10), 1.0), "grid.h5", "grid", region=(slice(0, 3), slice(None)))
lazyio.to_hdf5(np.full((2, 10), 2.0), "grid.h5", "grid", region=(slice(4, 6), slice(None)))
report = lazyio.to_hdf5(np.full((2, 10), 3.0), "grid.h5", "grid", append_dim=0)
print(f"{report}\n")
print(lazyio.open("grid.h5", "grid")[:, 0].compute())
