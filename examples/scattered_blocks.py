"""Write a matrix of 8 TB with less than a megabyte of data, as in PyNWB's tutorial.

Blocks come in any order. Each chunk that they touch is encoded once, and other
chunks are not stored. A read visits only stored chunks.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import lazyio

edge, n_blocks, step = 1_000_000, 1000, 10


def blocks() -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Yield random blocks at random positions."""
    rng = np.random.default_rng(0)
    for _ in range(n_blocks):
        top, left = (int(at) * step for at in rng.integers(0, edge // step, 2))
        yield np.s_[top : top + step, left : left + step], rng.random((step, step))


for chunks, compression in (((10, 10), None), ((100, 100), None), ((100, 100), "gzip")):
    report = lazyio.to_hdf5(
        lazyio.Blocks(blocks(), (edge, edge), "float64"),
        "sparse.h5",
        "matrix",
        mode="w",
        chunks=chunks,
        compression=compression,
    )
    megabytes = Path("sparse.h5").stat().st_size / 1e6
    print(f"chunks {chunks}, {compression}: {report.n_chunks} chunks, {megabytes:.2f} MB")

print(f"\n{report.plan}\n\n{report}\n")
x = lazyio.open("sparse.h5", "matrix")
print(f"{x.nbytes / 1e12:.0f} TB; in the first 5 000 rows: {x[:5_000].any(axis=1).sum().compute()}")
