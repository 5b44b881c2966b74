"""HDMF: a GenericDataChunkIterator written through HDF5IO."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hdmf.backends.hdf5 import HDF5IO, H5DataIO
from hdmf.common import SimpleMultiContainer, VectorData, get_manager
from hdmf.data_utils import GenericDataChunkIterator

from benchmarks.cases import Job
from benchmarks.contenders.opened import hdf5_filters, open_source
from benchmarks.outputs import KEY


class Slices(GenericDataChunkIterator):
    """An array-like, one buffer after the other.

    Parameters
    ----------
    source : array-like
        What to slice.
    **shapes
        Chunk and buffer shape.
    """

    def __init__(self, source: Any, **shapes: Any) -> None:
        self._source = source
        super().__init__(**shapes)

    def _get_data(self, selection: tuple[slice, ...]) -> np.ndarray:
        return self._source[selection]

    def _get_maxshape(self) -> tuple[int, ...]:
        return self._source.shape

    def _get_dtype(self) -> np.dtype:
        return self._source.dtype


def prepare(job: Job) -> Callable[[], None]:
    """Return what writes with HDMF; a buffer is whole rows of chunks.

    Parameters
    ----------
    job : Job
        What to write.
    """
    source = open_source(job.array)
    chunks = job.array.chunks
    buffer = (job.block_rows, *source.shape[1:])

    def write() -> None:
        slices = Slices(source, chunk_shape=chunks, buffer_shape=buffer)
        data = H5DataIO(slices, allow_plugin_filters=True, **hdf5_filters(job.row))
        column = VectorData(name=KEY, description="benchmark", data=data)
        # A DynamicTable would want a row id per sample, and write them too.
        container = SimpleMultiContainer(name="root", containers=[column])
        with HDF5IO(job.output, mode="w", manager=get_manager()) as io:
            io.write(container, cache_spec=False)

    return write
