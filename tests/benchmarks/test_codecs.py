"""The codecs that are compared give the same chunk back, and every way has a line."""

import numpy as np
import pytest

pytest.importorskip("deflate")
pytest.importorskip("imagecodecs")
pytest.importorskip("isal")

from benchmarks import codecs


def test_in_short(capsys):
    assert codecs.main(["--short", "--only", "deflate 1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 * 5
    assert all(len(line.split("|")) == 2 + 8 for line in lines)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_libraries_decode_what_they_encode(dtype):
    """Where they give bytes, those are the chunk's or its planes'; ours come first."""
    chunk = codecs.chunks(2**14)[dtype]
    assert (chunk.nbytes, chunk.dtype) == (2**14, dtype)
    planes = chunk.reshape(-1).view("u1").reshape(-1, chunk.itemsize).T.tobytes()
    for _, ways in codecs.cases(chunk):
        assert ways[0].name == "lazyio"
        for way in ways:
            found = way.decode(way.encode())
            if isinstance(found, bytes):
                assert found in (chunk.tobytes(), planes)
            elif isinstance(found, np.ndarray):
                assert found.tobytes() in (chunk.tobytes(), planes)
