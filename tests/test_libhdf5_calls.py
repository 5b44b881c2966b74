"""libhdf5 is not thread-safe: whoever calls it holds h5py's lock."""

import threading

import h5py
import numpy as np
import pytest
from h5py._objects import phil

from lazyio.libhdf5_calls import (
    chunk_index_type,
    leaves_edges_plain,
    read_direct_chunk,
    write_direct_chunk,
)

CALLS = {
    "write": lambda dataset: write_direct_chunk(dataset, (0,), bytes(40), 0),
    "read": lambda dataset: read_direct_chunk(dataset, (0,)),
    "edges": lambda dataset: leaves_edges_plain(dataset.id.get_create_plist()),
    "index": chunk_index_type,
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_wait_for_the_lock(tmp_path, name):
    """Two threads in ctypes calls damaged what libhdf5 knew of an open file."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=np.zeros(100, "i4"), chunks=(10,), maxshape=(None,))
        # What h5py asks for itself before the call is locked by h5py.
        properties = dataset.id.get_create_plist()
        call = CALLS[name] if name != "edges" else lambda _: leaves_edges_plain(properties)
        call(dataset)  # The library is looked up once.
        done = threading.Event()
        thread = threading.Thread(target=lambda: (call(dataset), done.set()))
        with phil:
            thread.start()
            assert not done.wait(0.2)
        thread.join(10)
        assert done.is_set()
