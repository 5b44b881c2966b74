"""Datasets that a user has opened: in memory, behind a file object, open for writing."""

import io
import pickle
import tempfile

import h5py
import numpy as np
import pytest
from source_contract import ReadsIntoContract, SourceContract, assert_same, whole

import lazyio
from lazyio.errors import SourceError
from lazyio.sources.hdf5 import OpenDatasetSource, open_dataset_source

MATRIX = np.arange(37 * 23, dtype="<i2").reshape(37, 23)


@pytest.fixture
def path(tmp_path):
    """Where the file lies."""
    return tmp_path / "scan.h5"


def _in_memory(values):
    file = h5py.File("nowhere.h5", "w", driver="core", backing_store=False)
    file.create_dataset("raw", data=values, chunks=(8, 5), compression="gzip")
    return file


def _file_object(values):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("raw", data=values, chunks=(8, 5), compression="gzip")
    return h5py.File(content, "r")


def _for_writing(values):
    file = h5py.File(tempfile.mkdtemp() + "/scan.h5", "w")
    file.create_dataset("raw", data=values, chunks=(8, 5), compression="gzip")
    return file


class TestOpenDataset(SourceContract, ReadsIntoContract):
    """A dataset that only its handle leads to."""

    @pytest.fixture
    def expected(self):
        """Return what the dataset holds."""
        return MATRIX

    @pytest.fixture(params=[_in_memory, _file_object, _for_writing], ids=lambda make: make.__name__)
    def file(self, request, tmp_path, monkeypatch):
        """Return an open file."""
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with request.param(MATRIX) as file:
            yield file

    @pytest.fixture
    def source(self, file):
        """Return the dataset."""
        return open_dataset_source(file["raw"])

    def test_is_kept_as_a_handle(self, source, file):
        """It says where it lies, and does not travel."""
        assert isinstance(source, OpenDatasetSource)
        assert source.chunk_shape == (8, 5)
        assert source.location == (str(file.filename), "/raw")
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(source)

    def test_sole_dataset_of_an_open_file(self, file):
        """An open file with one dataset is that dataset."""
        array = lazyio.open(file)
        assert_same(np.asarray(array.compute(scheduler="threads")), MATRIX)

    def test_says_that_the_file_was_closed(self, source, file):
        """A handle that was closed is named, when it is read and when it is given."""
        dataset = file["raw"]
        file.close()
        with pytest.raises(SourceError, match="file has been closed; keep it open"):
            source.read(whole(MATRIX.shape))
        with pytest.raises(SourceError, match="file has been closed; open it again"):
            lazyio.open(dataset)


def test_nameless_dataset_is_kept_as_a_handle(path):
    """A dataset without a name in its file cannot be found again by path."""
    with h5py.File(path, "w") as file:
        made = file.create_dataset(None, data=MATRIX)
        assert_same(np.asarray(lazyio.open(made).compute(scheduler="sync")), MATRIX)


def test_reader_of_a_growing_file_is_kept_as_a_handle(path):
    """A file open for SWMR reading is open for writing elsewhere: it is not opened again."""
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("raw", data=MATRIX, chunks=(8, 5), maxshape=(None, 23))
    with h5py.File(path, "r", swmr=True) as file:
        source = open_dataset_source(file["raw"])
        assert isinstance(source, OpenDatasetSource)
        assert_same(source.read(whole(MATRIX.shape)), MATRIX)
