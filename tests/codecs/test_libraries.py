"""Codec libraries that are not installed: a fallback, or an error that names the extra."""

import ctypes
import sys
import zlib

import numpy as np
import pytest

from lazyio.codecs import bitshuffle, deflate, lzf
from lazyio.codecs.hdf5_chunks import decoder_for, encoder_for
from lazyio.codecs.hdf5_filters import Filter, parse_filters
from lazyio.codecs.libraries import optional, required, shared_functions
from lazyio.codecs.workspace import Workspace
from lazyio.errors import OptionError

DATA = (np.arange(30_000) // 7 % 251).astype("u1")


@pytest.fixture
def without():
    """Return a function that hides modules until the test is over."""
    with pytest.MonkeyPatch.context() as patch:

        def hide(*names):
            hidden = {found for found in sys.modules for name in names if is_within(found, name)}
            for name in {*hidden, *names}:
                patch.setitem(sys.modules, name, None)
            forget()

        yield hide
    forget()


def forget():
    """Look for every library anew."""
    for found in (optional, lzf.library, bitshuffle.library):
        found.cache_clear()


def is_within(module, name):
    """Return whether a module is the named one or part of it."""
    return module == name or module.startswith(f"{name}.")


def encode(compression, level=None):
    """Return an encoder's payload of the data."""
    filters = parse_filters(
        compression, level, shuffle=True, dtype=np.dtype("u2"), chunk_nbytes=DATA.nbytes
    )
    payload, mask = encoder_for(filters, 2).encode(DATA.view("u2"), Workspace())
    assert mask == 0
    return bytes(payload), filters


def decode(payload, filters):
    """Return the data that a payload decodes to."""
    out = np.empty(DATA.nbytes, np.uint8)
    decoder_for(filters, 2).decode(np.frombuffer(payload, np.uint8), 0, out)
    return out


@pytest.mark.parametrize(
    ("hidden", "level", "library"),
    [
        ((), 0, "zlib"),
        ((), 1, "ISA-L"),
        ((), 2, "libdeflate"),
        ((), 9, "libdeflate"),
        (("isal",), 1, "libdeflate"),
        (("isal",), 4, "libdeflate"),
        (("deflate",), 1, "ISA-L"),
        (("deflate",), 4, "zlib"),
        (("isal", "deflate"), 1, "zlib"),
        (("isal", "deflate"), 9, "zlib"),
    ],
    ids=str,
)
def test_gzip_falls_back(without, hidden, level, library):
    """Any library gives a right gzip stream, and the one that encodes is said."""
    without(*hidden)
    assert deflate.library(level) == library
    stream = deflate.compressor(level)(DATA)
    assert zlib.decompress(stream) == DATA.tobytes()
    out = np.empty(DATA.nbytes, np.uint8)
    deflate.decompress(np.frombuffer(stream, np.uint8), out)
    assert out.tobytes() == DATA.tobytes()


@pytest.mark.parametrize("level", [1, 4, 9])
def test_gzip_without_any_library(without, level):
    """What zlib alone encodes is decoded with the libraries, and the other way round."""
    with_libraries, filters = encode("gzip", level)
    without("isal", "deflate")
    np.testing.assert_array_equal(decode(with_libraries, filters), DATA)
    with_zlib, _ = encode("gzip", level)
    shuffled = DATA.reshape(-1, 2).T.tobytes()
    assert zlib.decompress(with_zlib) == zlib.decompress(with_libraries) == shuffled
    np.testing.assert_array_equal(decode(with_zlib, filters), DATA)


def test_damaged_gzip_without_any_library(without):
    """A damaged stream is a ``ValueError`` with zlib, too."""
    payload, filters = encode("gzip", 4)
    without("isal", "deflate")
    damaged = payload[:50] + bytes([payload[50] ^ 0x41]) + payload[51:]
    with pytest.raises(ValueError, match=r"\w"):
        decode(damaged, filters)


@pytest.mark.parametrize("keep", [0, 10, -10])
def test_truncated_gzip_without_any_library(without, keep):
    """A stream that was cut short is a ``ValueError`` with zlib, too."""
    payload, filters = encode("gzip", 4)
    without("isal", "deflate")
    with pytest.raises(ValueError, match=r"\w"):
        decode(payload[:keep], filters)


@pytest.mark.parametrize("compression", ["zstd", "blosc"])
def test_missing_numcodecs(without, compression):
    """Encoding zstd or blosc without numcodecs names the extra that brings it."""
    without("numcodecs")
    with pytest.raises(OptionError, match=r"needs numcodecs.*pip install \"lazyio\[fast\]\""):
        encode(compression)


def test_missing_numcodecs_names_what_needs_it(without):
    """The message says which compression was asked for."""
    without("numcodecs")
    with pytest.raises(OptionError, match=r'^compression="zstd" needs numcodecs'):
        encode("zstd", 3)


@pytest.mark.parametrize("number", [32015, 32001, 32004])
def test_reading_without_numcodecs_is_left_to_libhdf5(without, number):
    """Without numcodecs zstd, blosc and lz4 chunks are libhdf5's to decode."""
    assert decoder_for((Filter(filter_id=number),), 2) is not None
    without("numcodecs")
    assert decoder_for((Filter(filter_id=number),), 2) is None
    assert decoder_for((Filter(filter_id=1),), 2) is not None


def test_unshuffling_without_numcodecs(without):
    """Byte planes come back without blosc, too."""
    payload, filters = encode("gzip", 4)
    without("numcodecs")
    np.testing.assert_array_equal(decode(payload, filters), DATA)


BITSHUFFLE = Filter(filter_id=32008, options=(0, 4, 2, 0, 2))
"""As a file describes it: three numbers of the plugin's own, then what was asked for."""


@pytest.mark.parametrize(
    ("hidden", "step"),
    [
        ("h5py.h5z", Filter(filter_id=32000)),
        ("hdf5plugin", BITSHUFFLE),
        ("numcodecs", Filter(filter_id=32004)),
    ],
    ids=["lzf", "bitshuffle", "lz4"],
)
def test_missing_c_library(without, hidden, step):
    """LZF, bitshuffle and lz4 are libhdf5's where their own library is not available."""
    asked = Filter(filter_id=step.filter_id, options=step.options[3:])
    assert encoder_for((asked,), 2) is not None
    assert decoder_for((step,), 2) is not None
    without(hidden)
    assert encoder_for((asked,), 2) is None
    assert decoder_for((step,), 2) is None


def test_bitshuffle_with_threads_of_its_own(without, monkeypatch):
    """A build that starts threads for every call is left to libhdf5."""
    without()
    plugins = optional("hdf5plugin")
    config = plugins.get_config()
    threaded = config._replace(build_config=config.build_config._replace(openmp=True))
    monkeypatch.setattr(plugins, "get_config", lambda: threaded)
    assert not bitshuffle.is_available()


@pytest.mark.parametrize("names", [("no_such_function",), ("lzf_compress", "no_such_function")])
def test_c_library_without_a_function(names):
    """A library that lacks a name is as good as none."""
    path = optional("h5py.h5z").__file__
    arguments = dict.fromkeys(names, (ctypes.c_void_p,))
    assert shared_functions(path, arguments, returns=ctypes.c_int) is None


def test_optional():
    """A module that is installed is given, another one is ``None``."""
    assert optional("zlib") is zlib
    assert optional("no_such_codec") is None
    assert optional("no_such_codec.part") is None


def test_required():
    """A module that is required and missing names package, need and extra."""
    assert required("zlib", what="gzip", extra="fast") is zlib
    message = (
        r'^a Foo chunk needs foo, which is not installed; run pip install "lazyio\[plugins\]"$'
    )
    with pytest.raises(OptionError, match=message):
        required("foo.bar", what="a Foo chunk", extra="plugins")


def test_compressor_that_blosc_was_built_without(monkeypatch):
    """A compressor that the installed blosc lacks is refused, listing those it has."""
    blosc = optional("numcodecs.blosc")
    monkeypatch.setattr(blosc, "list_compressors", lambda: ["blosclz", "lz4"])
    with pytest.raises(OptionError, match=r"'snappy' is not in .* numcodecs; it has blosclz, lz4"):
        encode("blosc", ("snappy", 1, "byte"))


def test_a_library_that_cannot_be_imported(tmp_path, monkeypatch, caplog):
    """Numcodecs 0.16.6 raises a ValueError beside zfpy 1.0.1: HDF5 goes on without it."""
    (tmp_path / "broken_codecs.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(tmp_path)
    assert optional("broken_codecs") is None
    assert "cannot be imported: numpy.dtype size changed" in caplog.text
