"""What arrives, and how each contender takes it, each by its own documentation."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Write = Callable[[str, dict[str, Any]], None]
"""Writes to a path, given the facts of a task."""

Block = tuple[tuple[slice, slice], np.ndarray]


def batches(facts: dict[str, Any]) -> Iterator[np.ndarray]:
    """Yield batches of rows, or single rows, of a recording; made beforehand, from few patterns."""
    width, n_rows, each = facts["width"], facts["n_rows"], facts["each"]
    rng = np.random.default_rng(0)
    patterns = [np.cumsum(rng.integers(-3, 4, (each, width)), axis=0, dtype="i2") for _ in range(8)]
    shown = patterns if facts["each"] > 1 else [pattern[0] for pattern in patterns]
    for at in range(n_rows // each):
        yield shown[at % 8]


def blocks(facts: dict[str, Any]) -> Iterator[Block]:
    """Yield blocks at random places of a large matrix."""
    rng = np.random.default_rng(0)
    step, edge = facts["block"], facts["edge"]
    for _ in range(facts["n_blocks"]):
        top, left = (int(at) * step for at in rng.integers(0, edge // step, 2))
        yield np.s_[top : top + step, left : left + step], rng.random((step, step))


def _codec(facts: dict[str, Any]) -> dict[str, Any]:
    if facts["codec"] == "none":
        return {}
    return {"compression": "gzip", "compression_opts": 4, "shuffle": True}


def lazyio_append(path: str, facts: dict[str, Any]) -> None:
    """Push to a writer."""
    import lazyio

    with lazyio.writer(path) as writer:
        rows = writer.create(
            "x",
            dtype="i2",
            item_shape=(facts["width"],),
            expected_length=facts["n_rows"],
            chunks=tuple(facts["chunks"]),
            **_codec(facts),
        )
        for batch in batches(facts):
            rows.append(batch)


def pytables_append(path: str, facts: dict[str, Any]) -> None:
    """Append to an EArray."""
    import tables

    complevel = 0 if facts["codec"] == "none" else 4
    filters = tables.Filters(complevel=complevel, complib="zlib", shuffle=complevel > 0)
    with tables.open_file(path, "w") as file:
        rows = file.create_earray(
            "/",
            "x",
            tables.Int16Atom(),
            (0, facts["width"]),
            filters=filters,
            expectedrows=facts["n_rows"],
            chunkshape=tuple(facts["chunks"]),
        )
        for batch in batches(facts):
            rows.append(batch.reshape(-1, facts["width"]))


def h5py_append(path: str, facts: dict[str, Any]) -> None:
    """Resize a dataset, and assign behind its end."""
    import h5py

    with h5py.File(path, "w") as file:
        rows = file.create_dataset(
            "x",
            (0, facts["width"]),
            "i2",
            maxshape=(None, facts["width"]),
            chunks=tuple(facts["chunks"]),
            **_codec(facts),
        )
        for batch in batches(facts):
            end = len(rows)
            rows.resize(end + facts["each"], axis=0)
            rows[end:] = batch


def lazyio_stream(path: str, facts: dict[str, Any]) -> None:
    """Write a stream."""
    import lazyio

    stream = lazyio.Stream(
        batches(facts), batched=facts["each"] > 1, expected_length=facts["n_rows"]
    )
    lazyio.to_hdf5(stream, path, "x", chunks=tuple(facts["chunks"]), **_codec(facts))


def hdmf_stream(path: str, facts: dict[str, Any]) -> None:
    """Write a DataChunkIterator, which gathers a chunk's rows before it writes them."""
    data = _iterator(facts)
    _by_hdmf(path, data, chunks=tuple(facts["chunks"]), **_codec(facts))


def lazyio_iterator(path: str, facts: dict[str, Any]) -> None:
    """Write the same DataChunkIterator."""
    import lazyio

    data = _iterator(facts)
    lazyio.to_hdf5(data, path, "x", chunks=tuple(facts["chunks"]), **_codec(facts))


def lazyio_blocks(path: str, facts: dict[str, Any]) -> None:
    """Write blocks."""
    import lazyio

    shape = (facts["edge"], facts["edge"])
    chunks = tuple(facts["chunks"])
    data = lazyio.Blocks(blocks(facts), shape, "f8")
    lazyio.to_hdf5(data, path, "x", chunks=chunks, **_codec(facts))


def hdmf_blocks(path: str, facts: dict[str, Any]) -> None:
    """Write the iterator of PyNWB's tutorial."""
    _by_hdmf(path, _scattered(facts), chunks=tuple(facts["chunks"]), **_codec(facts))


def h5py_blocks(path: str, facts: dict[str, Any]) -> None:
    """Assign one block after the other."""
    import h5py

    shape = (facts["edge"], facts["edge"])
    with h5py.File(path, "w") as file:
        matrix = file.create_dataset(
            "x", shape, "f8", chunks=tuple(facts["chunks"]), **_codec(facts)
        )
        for region, block in blocks(facts):
            matrix[region] = block


def _iterator(facts: dict[str, Any]) -> Any:
    """Return rows as HDMF takes them, as many at a time as a chunk has."""
    from hdmf.data_utils import DataChunkIterator

    rows = (row for batch in batches(facts) for row in batch.reshape(-1, facts["width"]))
    return DataChunkIterator(
        data=rows,
        maxshape=(None, facts["width"]),
        dtype=np.dtype("i2"),
        buffer_size=facts["chunks"][0],
    )


def _scattered(facts: dict[str, Any]) -> Any:
    from hdmf.data_utils import AbstractDataChunkIterator, DataChunk

    class Scattered(AbstractDataChunkIterator):
        def __init__(self) -> None:
            self._blocks = blocks(facts)

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            region, block = next(self._blocks)
            return DataChunk(data=block, selection=region)

        def recommended_chunk_shape(self) -> Any:
            return tuple(facts["chunks"])

        def recommended_data_shape(self) -> Any:
            return (facts["edge"], facts["edge"])

        @property
        def dtype(self) -> Any:
            return np.dtype(float)

        @property
        def maxshape(self) -> Any:
            return (facts["edge"], facts["edge"])

    return Scattered()


def _by_hdmf(path: str, data: Any, **settings: Any) -> None:
    from hdmf.backends.hdf5 import HDF5IO, H5DataIO
    from hdmf.common import SimpleMultiContainer, VectorData, get_manager

    column = VectorData(name="x", description="benchmark", data=H5DataIO(data, **settings))
    container = SimpleMultiContainer(name="root", containers=[column])
    with HDF5IO(path, mode="w", manager=get_manager()) as io:
        io.write(container, cache_spec=False)


APPEND: dict[str, Write] = {
    "lazyio": lazyio_append,
    "pytables": pytables_append,
    "h5py": h5py_append,
}
STREAM: dict[str, Write] = {
    "lazyio": lazyio_stream,
    "lazyio, HDMF's iterator": lazyio_iterator,
    "hdmf": hdmf_stream,
    "pytables": pytables_append,
}
SPARSE: dict[str, Write] = {
    "lazyio": lazyio_blocks,
    "hdmf": hdmf_blocks,
    "h5py": h5py_blocks,
}

_ROWS = {"width": 64, "n_rows": 200_000, "each": 1, "chunks": (4096, 64)}
_BATCHES = {"width": 384, "n_rows": 260_000, "each": 1000, "chunks": (2000, 192)}
_BLOCKS = {"edge": 10**6, "n_blocks": 1000, "block": 10}

TASKS: dict[str, tuple[dict[str, Write], dict[str, Any]]] = {
    "append rows": (APPEND, {**_ROWS, "codec": "none"}),
    "append rows, gzip": (APPEND, {**_ROWS, "codec": "gzip"}),
    "append batches": (APPEND, {**_BATCHES, "codec": "none"}),
    "append batches, gzip": (APPEND, {**_BATCHES, "codec": "gzip"}),
    "stream of rows": (STREAM, {**_ROWS, "codec": "none"}),
    "stream of rows, gzip": (STREAM, {**_ROWS, "codec": "gzip"}),
    "stream of batches": (STREAM, {**_BATCHES, "codec": "none"}),
    "stream of batches, gzip": (STREAM, {**_BATCHES, "codec": "gzip"}),
    "sparse": (SPARSE, {**_BLOCKS, "chunks": (10, 10), "codec": "none"}),
    "sparse, large chunks": (SPARSE, {**_BLOCKS, "chunks": (100, 100), "codec": "none"}),
    "sparse, large chunks, gzip": (SPARSE, {**_BLOCKS, "chunks": (100, 100), "codec": "gzip"}),
}
