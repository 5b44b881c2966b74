"""``python -m benchmarks codecs``: our filters and Zarr codecs beside those of libraries.

Every way encodes and decodes one chunk of 1 MiB in one thread. All ways of a codec take
turns, and the fastest of several rounds counts: what else runs on the machine only ever adds
time. A ratio is the time of a library over ours: above 1 ours is faster.
"""

import argparse
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import deflate as libdeflate
import hdf5plugin  # noqa: F401 - so that no other plugins are loaded
import imagecodecs
import numcodecs
import numpy as np
from isal import isal_zlib
from numcodecs import blosc as numcodecs_blosc
from zarr import codecs as zarr_codecs
from zarr.core.array_spec import ArrayConfig, ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.dtype import parse_dtype

from lazyio.codecs import bitshuffle, blosc, blosc2, deflate, lz4, lzf, shuffle, zstd
from lazyio.codecs.workspace import Fill, Workspace
from lazyio.codecs.zarr_chain import chain_of
from lazyio.codecs.zarr_codecs import as_bytes

_NBYTES = 2**20
_SHORT_NBYTES = 2**16
_COLUMNS = ("codec", "dtype", "library", "encode, ms", "ratio", "decode, ms", "ratio", "size")

Encode = Callable[[], Any]
Decode = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to encode a chunk, and to decode what it has made."""

    name: str
    """Of the library; ``lazyio`` is ours."""
    encode: Encode
    """From the chunk to a payload."""
    decode: Decode
    """From a payload to the chunk."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What one way has taken."""

    encoding: float
    """Seconds of its fastest round."""
    decoding: float
    """And back."""
    nbytes: int
    """Bytes of its payload."""


def main(arguments: list[str]) -> int:
    """Time every codec, and print one table.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks codecs", description=__doc__)
    parser.add_argument("--repeats", type=int, default=31, help="rounds (default: 31)")
    parser.add_argument("--short", action="store_true", help="chunks of 64 KiB, in three rounds")
    parser.add_argument("--only", default="", help="codecs whose names begin so")
    options = parser.parse_args(arguments)
    nbytes, n_rounds = (_SHORT_NBYTES, 3) if options.short else (_NBYTES, options.repeats)
    print(f"| {' | '.join(_COLUMNS)} |")
    print(f"|{' --- |' * len(_COLUMNS)}")
    for dtype, chunk in chunks(nbytes).items():
        for codec, ways in cases(chunk):
            if codec.startswith(options.only):
                for line in lines(codec, dtype, timed(ways, n_rounds)):
                    print(line, flush=True)
    return 0


def chunks(nbytes: int) -> dict[str, np.ndarray]:
    """Return a chunk of each dtype: recorded-like traces, and a smooth field with noise.

    Parameters
    ----------
    nbytes : int
        Of each.
    """
    random = np.random.default_rng(11)
    rows = nbytes // (64 * 2)
    drift = np.cumsum(random.normal(0, 3, (rows, 64)), 0)
    traces = (drift + random.normal(0, 12, (rows, 64))).astype("<i2")
    down, across = np.meshgrid(np.linspace(0, 6, nbytes // 1024), np.linspace(0, 6, 256))
    field = np.sin(down.T) * np.cos(across.T) + random.normal(0, 1e-3, (nbytes // 1024, 256))
    return {"int16": traces, "float32": np.ascontiguousarray(300 + 20 * field, "<f4")}


def timed(ways: Sequence[Way], n_rounds: int) -> dict[str, Timed]:
    """Return what each way takes, all of them in turns.

    Parameters
    ----------
    ways : sequence of Way
        Of one codec, and ours first.
    n_rounds : int
        Of which the fastest counts.
    """
    best = {way.name: [float("inf"), float("inf")] for way in ways}
    payloads = {way.name: way.encode() for way in ways}
    for _ in range(n_rounds):
        for way in ways:
            for at, call in enumerate((way.encode, partial(way.decode, payloads[way.name]))):
                begin = time.perf_counter()
                call()
                best[way.name][at] = min(best[way.name][at], time.perf_counter() - begin)
    return {
        name: Timed(
            encoding=encoding,
            decoding=decoding,
            nbytes=_nbytes_of(payloads[name]),
        )
        for name, (encoding, decoding) in best.items()
    }


def _nbytes_of(payload: Any) -> int:
    return payload.nbytes if isinstance(payload, np.ndarray) else len(payload)


def lines(codec: str, dtype: str, found: dict[str, Timed]) -> Iterator[str]:
    """Yield one line of the table for each library.

    Parameters
    ----------
    codec : str
        Its name.
    dtype : str
        Of the chunk.
    found : dict of str to Timed
        What each way has taken.
    """
    ours = found["lazyio"]
    for name, one in found.items():
        cells = [
            *(codec, dtype, name, f"{one.encoding * 1e3:.3f}"),
            *(f"{one.encoding / ours.encoding:.2f}", f"{one.decoding * 1e3:.3f}"),
            *(f"{one.decoding / ours.decoding:.2f}", str(one.nbytes)),
        ]
        yield f"| {' | '.join(cells)} |"


def cases(chunk: np.ndarray) -> Iterator[tuple[str, list[Way]]]:
    """Yield every codec's name and the ways to encode a chunk by it, ours first.

    Parameters
    ----------
    chunk : ndarray
        What is encoded.
    """
    yield from _filters(chunk)
    yield from _hdf5_codecs(chunk)
    yield from _zarr_codecs(chunk)


def _bytes_of(chunk: np.ndarray) -> np.ndarray:
    return chunk.reshape(-1).view(np.uint8)


def _ours(data: np.ndarray, compress: Callable[[np.ndarray], Any], fill: Callable[..., Any]) -> Way:
    """Return our way, by a function from bytes to a payload and one that fills memory."""
    out = np.empty(data.size, np.uint8)
    return Way(
        name="lazyio",
        encode=lambda: compress(data),
        decode=lambda payload: fill(np.frombuffer(payload, np.uint8), out),
    )


def _of(name: str, data: Any, encode: Callable[..., Any], decode: Decode) -> Way:
    return Way(name=name, encode=lambda: encode(data), decode=decode)


def _filters(chunk: np.ndarray) -> Iterator[tuple[str, list[Way]]]:
    """Yield what is no compression: byte shuffle and checksum."""
    size, data, workspace = chunk.itemsize, _bytes_of(chunk), Workspace()
    out = np.empty(data.size, np.uint8)
    # Where a chunk that is read is decompressed to, before it is unshuffled.
    room = shuffle.room_for_planes(data.size, workspace)
    room[:] = shuffle.shuffle(chunk, Workspace())
    library = numcodecs.Shuffle(size)
    ways = [
        Way(
            name="lazyio",
            encode=lambda: shuffle.shuffle(chunk, workspace),
            decode=lambda _: shuffle.unshuffle(room, size, out, workspace),
        ),
        _of("numcodecs", chunk, library.encode, lambda planes: library.decode(planes, out)),
        _of(
            "numpy",
            data.reshape(-1, size),
            lambda one: one.T.copy(),
            lambda planes: planes.T.copy(),
        ),
    ]
    yield "shuffle", ways
    checksum, imaged = numcodecs.Fletcher32(), imagecodecs.h5checksum_fletcher32
    ways = [
        Way(
            name="lazyio",
            encode=lambda: shuffle.fletcher32(data).to_bytes(4, "little"),
            decode=lambda _: shuffle.fletcher32(data),
        ),
        _of("numcodecs", data, checksum.encode, checksum.decode),
        _of(
            "imagecodecs",
            data,
            lambda one: imaged(one).to_bytes(4, "little"),
            lambda _: imaged(data),
        ),
    ]
    yield "fletcher32", ways


def _hdf5_codecs(chunk: np.ndarray) -> Iterator[tuple[str, list[Way]]]:
    """Yield the codecs of HDF5; those without a shuffle of their own are given byte planes."""
    size, data, n = chunk.itemsize, _bytes_of(chunk), chunk.nbytes
    planes = shuffle.shuffle(chunk, Workspace()).copy()
    for level in (1, 4, 9):
        ways = [
            _ours(planes, deflate.compressor(level), deflate.decompress),
            _of("zlib", planes, partial(zlib.compress, level=level), zlib.decompress),
            _of(
                "libdeflate",
                planes,
                partial(libdeflate.zlib_compress, compresslevel=level),
                lambda stream: libdeflate.zlib_decompress(stream, n),
            ),
            _of(
                "imagecodecs",
                planes,
                partial(imagecodecs.deflate_encode, level=level),
                lambda stream: imagecodecs.deflate_decode(stream, out=n),
            ),
        ]
        if level == 1:
            fast = partial(isal_zlib.compress, level=1)
            ways.append(_of("isal", planes, fast, isal_zlib.decompress))
        yield f"deflate {level}", ways
    ways = [
        _ours(planes, lzf.compressor(), lzf.decompress),
        _of(
            "imagecodecs",
            planes,
            partial(imagecodecs.lzf_encode, header=False),
            lambda stream: imagecodecs.lzf_decode(stream, header=False, out=n),
        ),
    ]
    yield "lzf", ways
    packed = numcodecs.LZ4()
    ways = [
        _ours(planes, lz4.compressor(), lz4.decompress),
        _of("imagecodecs", planes, imagecodecs.lz4h5_encode, imagecodecs.lz4h5_decode),
        _of("numcodecs, a block without the header", planes, packed.encode, packed.decode),
    ]
    yield "lz4", ways
    frame = numcodecs.Zstd(3)
    ways = [
        _ours(planes, zstd.compressor(3), zstd.decompress),
        _of("numcodecs", planes, frame.encode, frame.decode),
        _of(
            "imagecodecs",
            planes,
            partial(imagecodecs.zstd_encode, level=3),
            lambda one: imagecodecs.zstd_decode(one, out=n),
        ),
    ]
    yield "zstd 3", ways
    yield from _shuffling(chunk, data, size)


def _shuffling(chunk: np.ndarray, data: np.ndarray, size: int) -> Iterator[tuple[str, list[Way]]]:
    """Yield the codecs with a shuffle of their own."""
    n = data.size
    shared: dict[str, Any] = {"level": 5, "typesize": size, "numthreads": 1}
    ways = [
        _ours(data, blosc.compressor("lz4", 5, 1, typesize=size), blosc.decompress),
        _of(
            "numcodecs",
            chunk,
            lambda one: numcodecs_blosc.compress(one, b"lz4", 5, 1),
            numcodecs_blosc.decompress,
        ),
        _of(
            "imagecodecs",
            data,
            partial(imagecodecs.blosc_encode, compressor="lz4", shuffle="shuffle", **shared),
            partial(imagecodecs.blosc_decode, numthreads=1),
        ),
    ]
    yield "blosc lz4", ways
    options = (0, 0, size, n, 5, 1, blosc.CNAMES["lz4"])
    ways = [
        _ours(data, blosc2.compressor(options), blosc2.decompress),
        _of(
            "imagecodecs, a chunk without the frame",
            data,
            partial(imagecodecs.blosc2_encode, compressor="lz4", shuffle="shuffle", **shared),
            partial(imagecodecs.blosc2_decode, numthreads=1),
        ),
    ]
    yield "blosc2 lz4", ways
    for cname, code in (("none", bitshuffle.NONE), ("lz4", bitshuffle.LZ4)):
        undo = partial(bitshuffle.decompress, itemsize=size, block=0, follows=code)
        ways = [_ours(data, bitshuffle.compressor(size, 0, code, 0), undo)]
        if cname == "none":
            encode = partial(imagecodecs.bitshuffle_encode, itemsize=size)
            decode = partial(imagecodecs.bitshuffle_decode, itemsize=size)
            ways.append(_of("imagecodecs", data, encode, decode))
        else:
            by_blosc = lambda one: numcodecs_blosc.compress(one, b"lz4", 5, 2)  # noqa: E731
            ways.append(_of("blosc's bitshuffle", chunk, by_blosc, numcodecs_blosc.decompress))
        yield f"bitshuffle {cname}", ways


def _zarr_codecs(chunk: np.ndarray) -> Iterator[tuple[str, list[Way]]]:
    """Yield Zarr's codecs, each behind ``bytes`` but for the one that turns axes."""
    size, data = chunk.itemsize, _bytes_of(chunk)
    blosc_settings = {"typesize": size, "cname": "lz4", "clevel": 5, "shuffle": "shuffle"}
    known: dict[str, tuple[Any, Any]] = {
        "gzip 5": (zarr_codecs.GzipCodec(level=5), numcodecs.GZip(5)),
        "zstd 3": (zarr_codecs.ZstdCodec(level=3), numcodecs.Zstd(3)),
        "blosc lz4": (
            zarr_codecs.BloscCodec(**blosc_settings, blocksize=0),
            numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE),
        ),
        "crc32c": (zarr_codecs.Crc32cCodec(), numcodecs.CRC32C(location="end")),
        "transpose": (zarr_codecs.TransposeCodec(order=(1, 0)), None),
        "shuffle": (None, numcodecs.Shuffle(size)),
    }
    for name, (stock, library) in known.items():
        described = {"name": "numcodecs.shuffle", "configuration": {"elementsize": size}}
        own = described if stock is None else stock.to_dict()
        ways = [_our_chain(chunk, own, is_first=name == "transpose")]
        if stock is not None:
            ways.append(_by_zarr(chunk, stock, is_array=name == "transpose"))
        if library is not None:
            given = chunk if name in ("blosc lz4", "shuffle") else data
            ways.append(_of("numcodecs", given, library.encode, library.decode))
        yield f"Zarr {name}", ways


def _our_chain(chunk: np.ndarray, codec: dict[str, Any], *, is_first: bool) -> Way:
    """Return our chain of ``bytes`` and a codec."""
    elements = {"name": "bytes", "configuration": {"endian": "little"}}
    metadata = {
        "zarr_format": 3,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk.shape}},
        "codecs": [codec, elements] if is_first else [elements, codec],
    }
    chain = chain_of(metadata, chunk.dtype, Fill(0, chunk.dtype))
    assert chain is not None
    workspace, out = Workspace(), np.empty_like(chunk)
    return Way(
        name="lazyio",
        encode=lambda: as_bytes(chain.encode(chunk, workspace)),
        decode=lambda payload: chain.decode(np.frombuffer(payload, np.uint8), out, workspace),
    )


def _by_zarr(chunk: np.ndarray, codec: Any, *, is_array: bool) -> Way:
    """Return the same by what zarr-python calls in a thread for every chunk."""
    prototype = default_buffer_prototype()
    spec = ArraySpec(
        shape=chunk.shape,
        dtype=parse_dtype(chunk.dtype, zarr_format=3),
        fill_value=0,
        config=ArrayConfig(order="C", write_empty_chunks=False),
        prototype=prototype,
    )
    if is_array:
        given = prototype.nd_buffer.from_numpy_array(chunk)

        def encode() -> Any:
            return np.ascontiguousarray(codec._encode_sync(given, spec).as_numpy_array())

        def decode(turned: np.ndarray) -> Any:
            there = prototype.nd_buffer.from_numpy_array(turned)
            return np.ascontiguousarray(codec._decode_sync(there, spec).as_numpy_array())

    else:
        raw = prototype.buffer.from_array_like(_bytes_of(chunk))

        def encode() -> Any:
            return codec._encode_sync(raw, spec)

        def decode(payload: Any) -> Any:
            return codec._decode_sync(payload, spec)

    return Way(name="zarr", encode=encode, decode=decode)
