"""A new source is one module with a ``Source``, and a line in ``FILE_FORMATS`` for its files."""

import os
from dataclasses import dataclass

import h5py
import numpy as np
import pytest
import zarr
from source_contract import SourceContract, StoredContract, TravelsContract

import lazyio
from lazyio.cli import main
from lazyio.dtypes import Shape
from lazyio.regions import Region
from lazyio.sources.base import Source
from lazyio.sources.files import describing, reading
from lazyio.sources.identity import Identity, SeenFile
from lazyio.sources.lookup import FILE_FORMATS, FileFormat

VALUES = np.arange(30 * 4, dtype="i8").reshape(30, 4)
WIDTH = 5


@dataclass(frozen=True, kw_only=True)
class ToySource:
    """A table of text, each number four digits and what parts it from the next."""

    path: str
    shape: Shape
    identity: Identity
    dtype = np.dtype("i8")
    in_rows = True

    @property
    def chunk_shape(self) -> Shape:
        return (1, self.shape[1])

    @property
    def location(self) -> tuple[str, str]:
        return self.path, ""

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def require_unchanged(self) -> None:
        SeenFile(path=self.path, identity=self.identity).check()

    def read(self, region: Region) -> np.ndarray:
        rows, columns = region
        with reading(self.path, self.identity) as file:
            file.seek(rows.start * self.shape[1] * WIDTH)
            text = file.read((rows.stop - rows.start) * self.shape[1] * WIDTH)
        table = np.array(text.split(), "S4").astype(self.dtype)
        return table.reshape(-1, self.shape[1])[:, columns].copy()


def toy_source(path):
    with describing(str(path)) as (file, identity):
        n_columns = len(file.readall().partition(b"\n")[0].split())
    shape = (identity.nbytes // (WIDTH * n_columns), n_columns)
    return ToySource(path=str(path), shape=shape, identity=identity)


class TestToy(SourceContract, TravelsContract, StoredContract):
    """It keeps every promise of a source that lies in a file."""

    @pytest.fixture
    def path(self, tmp_path):
        np.savetxt(tmp_path / "x.toy", VALUES, "%04d")
        return tmp_path / "x.toy"

    @pytest.fixture
    def expected(self):
        return VALUES

    @pytest.fixture
    def source(self, path) -> Source:
        return toy_source(path)

    def test_opened_and_written(self, source, tmp_path):
        """In its own chunks; to either format, again by its blocks or straight."""
        array = lazyio.open(source, memory_limit="1 kB")
        assert array.chunksize[1] == 4
        lazyio.to_hdf5(source, tmp_path / "x.h5", "x", chunks=(7, 3))
        lazyio.to_zarr(array + 1, tmp_path / "x.zarr", chunks=(7, 3))
        with h5py.File(tmp_path / "x.h5") as file:
            np.testing.assert_array_equal(file["x"], VALUES)
        found = zarr.open_array(tmp_path / "x.zarr", mode="r")[...]
        np.testing.assert_array_equal(found, VALUES + 1)

    def test_not_written_onto_itself(self, source, path):
        """Where it lies is known to what writes."""
        before = path.read_bytes()
        with pytest.raises(lazyio.LazyioError, match=os.path.basename(path)):
            lazyio.to_hdf5(source, path, "x", mode="w")
        assert path.read_bytes() == before

    def test_its_files_are_known_by_one_line(
        self, path, tmp_path, monkeypatch, capsys, in_this_process
    ):
        """To ``open``, ``info``, ``verify`` and the command line; nothing writes to them."""
        toy = FileFormat(name="toy", suffixes=(".toy",), open=toy_source)
        monkeypatch.setattr("lazyio.sources.lookup.FILE_FORMATS", [*FILE_FORMATS, toy])
        np.testing.assert_array_equal(lazyio.open(path).compute(), VALUES)
        assert lazyio.verify(path).status == "unverifiable"
        assert main(["info", str(path)]) == 0
        assert "(30, 4)" in capsys.readouterr().out
        assert main(["convert", str(path), str(tmp_path / "y.h5")]) == 0
        assert main(["convert", str(path), str(tmp_path / "y.toy")]) == 1
        with pytest.raises(lazyio.LazyioError, match="one array and no keys"):
            lazyio.open(path, "x")
