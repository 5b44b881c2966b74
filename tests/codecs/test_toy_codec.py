"""A new HDF5 codec is one module with a ``Codec``, and a line in ``CODECS``."""

import numpy as np
import pytest

from lazyio.codecs import hdf5_filters
from lazyio.codecs.base import Codec, level_option
from lazyio.codecs.hdf5_chunks import decoder_for, encoder_for
from lazyio.codecs.workspace import Workspace
from lazyio.errors import OptionError


def _undo(payload, out):
    out[...] = payload[0] if payload.size == 1 else payload


TOY = Codec(
    name="toy",
    filter_id=40001,
    encoded_by="this test",
    without="never missing",
    read_with="nothing",
    options=lambda name, opts, _: (level_option(name, opts, range(3), 1),),
    compressor=lambda options, _: lambda data: bytes(data[: 1 if options[0] else None]),
    decompressor=lambda *_: _undo,
)


@pytest.fixture
def toy(monkeypatch):
    """Do what the line in ``CODECS`` does."""
    monkeypatch.setitem(hdf5_filters.BY_NAME, TOY.name, TOY)
    monkeypatch.setitem(hdf5_filters.BY_ID, TOY.filter_id, TOY)


@pytest.mark.parametrize("how", [("toy", None), ("toy", 2), (40001, (1,))])
@pytest.mark.parametrize("fletcher32", [False, True])
def test_it_is_parsed_encoded_and_decoded(toy, how, fletcher32):
    facts = {"dtype": np.dtype("i2"), "chunk_nbytes": 2000}
    filters = hdf5_filters.parse_filters(*how, shuffle=True, fletcher32=fletcher32, **facts)
    chunk = np.full(1000, 7 * 257, "i2")
    payload, mask = encoder_for(filters, 2).encode(chunk, Workspace())
    assert (len(payload), mask) == (1 + 4 * fletcher32, 0)
    out = np.empty(2000, np.uint8)
    decoder_for(filters, 2).decode(np.frombuffer(payload, np.uint8), mask, out)
    assert (out.view("i2") == chunk).all()


def test_its_options_are_checked(toy):
    with pytest.raises(OptionError, match="toy takes a level from 0 to 2"):
        hdf5_filters.parse_filters("toy", 9, dtype=np.dtype("i2"), chunk_nbytes=2000)
