"""numpy's ``.npy`` files."""

import io

import numpy as np
import pytest
from numpy.lib import format as npy_format
from source_contract import (
    ReadsIntoContract,
    SourceContract,
    StoredContract,
    TravelsContract,
)

import lazyio
from lazyio.errors import (
    LazyioError,
    OptionError,
    SourceError,
    TruncatedSourceError,
    UnsupportedDtypeError,
)
from lazyio.sources.raw import npy_source

ALIGNED = np.dtype([("flag", "?"), ("value", ">f8"), ("xy", "i2", (2, 2))], align=True)
UNICODE = np.dtype([("größe", "<f4"), ("数", "<i2")])


def _filled(shape, dtype):
    out = np.zeros(shape, dtype)
    for number, name in enumerate(out.dtype.names):
        out[name] = np.arange(out[name].size).reshape(out[name].shape) % 7 + number
    return out


CASES = {
    "int16": np.arange(210, dtype="<i2").reshape(30, 7),
    "big-endian": np.arange(60, dtype=">i4").reshape(20, 3),
    "fortran": np.asfortranarray(np.arange(210.0).reshape(30, 7)),
    "fortran-three-axes": np.asfortranarray(np.arange(210.0).reshape(5, 6, 7)),
    "fortran-big-endian": np.asfortranarray(np.arange(60, dtype=">u2").reshape(20, 3)),
    "complex": (np.arange(60) * (1 + 2j)).reshape(20, 3),
    "bool": np.arange(60).reshape(20, 3) % 3 == 0,
    "half": np.arange(60, dtype="f2").reshape(20, 3),
    "text": np.arange(60).reshape(20, 3).astype("U2"),
    "bytes": np.arange(60).reshape(20, 3).astype("S2"),
    "time": np.arange(60).reshape(20, 3).astype("M8[us]"),
    "structured": _filled((9, 4), [("time", ">f8"), ("xy", "<i2", (2,))]),
    "aligned": _filled((9, 4), ALIGNED),
    "unicode-fields": _filled((9,), UNICODE),
    "scalar": np.array(42, "<i8"),
    "one-element": np.full((1, 1), 3.5),
    "no-rows": np.empty((0, 7), "<i2"),
    "no-columns": np.empty((7, 0), "<i2"),
}


class TestNpy(SourceContract, TravelsContract, ReadsIntoContract):
    """Every dtype and order that numpy saves without pickling."""

    @pytest.fixture(params=CASES.values(), ids=CASES)
    def expected(self, request):
        """Return what was saved."""
        return request.param

    @pytest.fixture
    def source(self, expected, tmp_path):
        """Return the file, opened."""
        path = tmp_path / "image.npy"
        # numpy's own words for a header in UTF-8 are a warning.
        with path.open("wb") as file:
            version = (3, 0) if expected.dtype == UNICODE else None
            npy_format.write_array(file, expected, version=version)
        return npy_source(path)


class TestNpyFile(StoredContract):
    """The file is read where it lies."""

    @pytest.fixture
    def expected(self):
        """Return what was saved."""
        return CASES["int16"]

    @pytest.fixture
    def path(self, tmp_path):
        """Where it lies."""
        return tmp_path / "image.npy"

    @pytest.fixture
    def source(self, expected, path):
        """Return the file, opened."""
        np.save(path, expected)
        return npy_source(path)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)], ids=["1.0", "2.0", "3.0"])
def test_every_version_of_the_format(tmp_path, version):
    """All three versions of the header are read."""
    path = tmp_path / "image.npy"
    with path.open("wb") as file:
        npy_format.write_array(file, CASES["int16"], version=version)
    assert (npy_source(path).read((slice(0, 30), slice(0, 7))) == CASES["int16"]).all()


def test_bytes_behind_the_data_are_left_alone(tmp_path):
    """As numpy does it, what follows the array in the file does not matter."""
    path = tmp_path / "image.npy"
    np.save(path, np.arange(4))
    with path.open("ab") as file:
        file.write(b"more")
    assert npy_source(path).read((slice(0, 4),)).tolist() == [0, 1, 2, 3]


@pytest.fixture
def saved(tmp_path):
    """Return a file of 4 x 3 int16, and where its header ends."""
    path = tmp_path / "image.npy"
    np.save(path, np.arange(12, dtype="<i2").reshape(4, 3))
    return path, path.stat().st_size - 24


def test_truncated_at_every_byte(saved):
    """A file cut anywhere is a SourceError naming it; in the data it is a truncated one."""
    path, header = saved
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(SourceError, match=r"image\.npy") as caught:
            lazyio.open(path)
        assert isinstance(caught.value, TruncatedSourceError) == (length >= header)


def test_every_damaged_byte_of_the_header(saved):
    """A header with any byte changed is refused by name, or says another array; never a crash."""
    path, header = saved
    content = path.read_bytes()
    for at in range(header):
        for value in (0x00, 0x20, 0x28, 0x39, 0xFF):
            damaged = bytearray(content)
            damaged[at] = value
            path.write_bytes(damaged)
            try:
                source = npy_source(path)
            except LazyioError as error:
                named = str(error)
            else:
                named = source.path
                assert source.offset <= len(content)
            assert "image.npy" in named


@pytest.mark.parametrize(
    ("header", "error", "match"),
    [
        pytest.param(
            "{'descr': '<i2', 'fortran_order': False, 'shape': (-4,)}",
            SourceError,
            "negative",
            id="negative",
        ),
        pytest.param(
            "{'descr': '<i2', 'fortran_order': False, 'shape': (4611686018427387904,)}",
            TruncatedSourceError,
            "cut short",
            id="huge",
        ),
        pytest.param(
            "{'descr': '<i2', 'fortran_order': False, 'shape': (2.0,)}",
            SourceError,
            "shape",
            id="float",
        ),
        pytest.param(
            "{'descr': '<q9', 'fortran_order': False, 'shape': (2,)}",
            SourceError,
            "descr",
            id="dtype",
        ),
        pytest.param(
            "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
            UnsupportedDtypeError,
            "pickled objects.*never loaded",
            id="objects",
        ),
        pytest.param("{'descr': '<i2', 'shape': (2,)}", SourceError, "keys", id="keys"),
        pytest.param("__import__('os').getcwd()", SourceError, "header", id="code"),
        pytest.param("[" * 500, SourceError, "header", id="nested"),
    ],
)
def test_headers_that_cannot_be(tmp_path, header, error, match):
    """A header that makes no sense is refused with its reason; none is executed."""
    path = tmp_path / "image.npy"
    text = header.encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 8)
    with pytest.raises(error, match=match):
        lazyio.from_npy(path)


def test_objects_are_never_loaded(tmp_path):
    """A saved object array is refused, and its pickle is not opened."""
    path = tmp_path / "image.npy"
    np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    with pytest.raises(UnsupportedDtypeError, match=r"image\.npy holds pickled objects"):
        lazyio.from_npy(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUM", b"plain text"], ids=["empty", "magic", "text"]
)
def test_not_an_npy_file(tmp_path, content):
    """A file that is something else is a SourceError naming it."""
    path = tmp_path / "image.npy"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"image\.npy is not a readable \.npy file"):
        lazyio.from_npy(path)


def test_unknown_version(tmp_path):
    """A version of the format that is not known is named."""
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    content = bytearray(buffer.getvalue())
    content[6] = 9
    path = tmp_path / "image.npy"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"version.*9"):
        lazyio.from_npy(path)


def test_missing_file(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(SourceError, match=r"none\.npy does not exist"):
        lazyio.from_npy(tmp_path / "none.npy")


def test_key_of_an_npy_file(tmp_path):
    """An .npy file has no keys."""
    np.save(tmp_path / "image.npy", np.arange(3))
    with pytest.raises(OptionError, match="one array and no keys"):
        lazyio.open(tmp_path / "image.npy", "data")
