"""The HDF5 target, on the direct path and through libhdf5."""

import errno
import os
import resource
import subprocess
import sys

import h5py
import numpy as np
import pytest
from target_contract import CHUNK_SHAPE, SHAPE, TargetContract

import lazyio
from lazyio.codecs.hdf5_filters import parse_filters
from lazyio.errors import TargetError
from lazyio.storage.hdf5.dataset import Hdf5Options, Hdf5Target, create_dataset


class Hdf5Contract(TargetContract):
    """A dataset with the filters of the subclass."""

    compression = None

    def make(self, folder, dtype="int32", fill=None):
        """Return a target in a new file."""
        filters = parse_filters(
            self.compression,
            shuffle=self.compression is not None,
            dtype=np.dtype(dtype),
            chunk_nbytes=30 * np.dtype(dtype).itemsize,
        )
        self.file = h5py.File(folder / "data", "w")
        dataset = create_dataset(
            self.file,
            "x",
            shape=SHAPE,
            chunk_shape=CHUNK_SHAPE,
            dtype=np.dtype(dtype),
            options=Hdf5Options(filters=filters, fillvalue=fill),
        )
        return Hdf5Target(dataset, CHUNK_SHAPE, folder=folder)

    def read(self, folder):
        """Return what h5py reads."""
        self.file.close()
        with h5py.File(folder / "data") as file:
            return file["x"][:]


class TestPlain(Hdf5Contract):
    """Unfiltered, direct."""


class TestGzip(Hdf5Contract):
    """Encoded here, direct."""

    compression = "gzip"


class TestLzf(Hdf5Contract):
    """Encoded by libhdf5."""

    compression = "lzf"


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path):
    """Past a limit on file sizes: TargetError with errno, process alive, nothing left.

    On the direct path: libhdf5's own pipeline, as lzf takes it, can end the process here.
    """
    script = """
import resource, signal, sys
import numpy as np, lazyio
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    lazyio.to_hdf5(np.random.default_rng(0).normal(size=(400, 400)), sys.argv[1],
                   compression=sys.argv[2] or None, chunks=(40, 400))
except lazyio.errors.TargetError as error:
    print(error.errno, "choose another disk" in str(error))
"""
    for compression in ("", "gzip"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "x.h5"), compression],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == f"{errno.EFBIG} True\n", done.stderr
        assert done.returncode == 0
        assert os.listdir(tmp_path) == []


def test_a_failing_write_names_the_folder(tmp_path, monkeypatch):
    """EIO from libhdf5 becomes a TargetError that keeps errno."""

    def fail(self, *arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("lazyio.codecs.hdf5_chunks.Encoder.encode", fail)
    with pytest.raises(OSError, match="Input/output error"):
        lazyio.to_hdf5(np.ones((10, 10)), tmp_path / "x.h5", compression="gzip")
    assert os.listdir(tmp_path) == []


def test_short_payloads_of_unfiltered_chunks_are_refused(tmp_path, monkeypatch):
    """HDF5 would take them in silence, and overlap the next chunk."""
    monkeypatch.setattr(
        "lazyio.codecs.hdf5_chunks.Encoder.encode", lambda self, chunk, workspace: (b"short", 0)
    )
    with pytest.raises(TargetError, match="5 bytes instead of 800"):
        lazyio.to_hdf5(np.ones((10, 10)), tmp_path / "x.h5", compression=None)


def test_the_limit_on_open_files_is_not_reached(tmp_path):
    """A write needs few descriptors, however many blocks there are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    script = (
        "import resource, sys, numpy as np, lazyio\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (32, {hard}))\n"
        "x = lazyio.from_raw(sys.argv[1], (-1, 10), 'int16')\n"
        "lazyio.to_hdf5(x, sys.argv[2], chunks=(10, 10), memory_limit='20 kB')\n"
    )
    np.ones((5000, 10), "int16").tofile(tmp_path / "x.raw")
    command = [sys.executable, "-c", script, str(tmp_path / "x.raw"), str(tmp_path / "x.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
