"""Blosc2 frames, filter 32026, written and read here; C-Blosc2 encodes the chunk inside.

By ``python -m benchmarks codecs`` as fast as imagecodecs' chunks without a frame, to a sixth.

libhdf5's filter takes one chunk after another under one lock, and from HDF5 2.2 on a
filter may not return more than its buffer. python-blosc2 holds the GIL. So the library
that the plugin is made of is called directly, one context for each thread, and the frame
around the chunk is put together here: layout by README_CFRAME_FORMAT.rst of C-Blosc2,
the chunk index by README_CHUNK_FORMAT.rst, the metalayer ``b2nd`` of chunks of several
axes by README_B2ND_METALAYER.rst.

A ``b2nd`` chunk consists of blocks, each of them in C order. Those written here are
whole rows or runs of one row, so that elements stay where they are.
"""

import ctypes
import functools
import importlib.util
import math
import struct
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lazyio.codecs import blosc
from lazyio.codecs.base import BLOSC2, Codec, Compress, Options, require_size
from lazyio.codecs.libraries import shared_functions
from lazyio.codecs.workspace import Bytes, Workspace
from lazyio.dtypes import Shape

MAX_NBYTES = 2**31 - 33
"""C-Blosc2 counts in signed 32 bits, and adds a header of 32 bytes."""

_OVERHEAD = 32
"""Of a chunk's header, which what does not shrink is stored behind."""
_MOST_TYPESIZE = 255
_BLOCK_NBYTES = 2**16
"""Of a block of rows, about: what C-Blosc2 takes by itself for fast codecs."""
_MOST_CONTEXTS = 8
"""Of a thread, for arrays that are written at the same time."""

_HEADER = struct.Struct(">BB8sBiBQB4sBqBqBiBiBiBhBhBBB16s")
_MAGIC = b"b2frame\0"
_INDEX = bytes.fromhex("05010708 08000000 08000000 28000000") + bytes(5) + b"\1" + bytes(10)
"""Of the chunk of offsets all but the offset of the only chunk: eight bytes, not compressed."""
_AT_BEGIN, _ALL_ZERO = bytes(8), bytes(7) + b"\x81"
"""Offset of a stored chunk, and what stands for one of which all bytes are zero."""
_TRAILER = bytes.fromhex("940193cd0006de0000dc0000ce00000023d800") + bytes(16)
_NO_METALAYERS = bytes.fromhex("93cd0007de0000dc0000")
_CHUNK_HEADER = struct.Struct("<BBBBiii")
_ZERO, _NAN, _UNSET = 1, 2, 4
"""Kinds of chunks of which all elements are alike, so that nothing more is stored."""


class _Parameters(ctypes.Structure):
    """``blosc2_cparams`` as far as it is set here; more room than any version has had."""

    _fields_ = (
        ("compcode", ctypes.c_uint8),
        ("compcode_meta", ctypes.c_uint8),
        ("clevel", ctypes.c_uint8),
        ("use_dict", ctypes.c_int),
        ("typesize", ctypes.c_int32),
        ("nthreads", ctypes.c_int16),
        ("blocksize", ctypes.c_int32),
        ("splitmode", ctypes.c_int32),
        ("schunk", ctypes.c_void_p),
        ("filters", ctypes.c_uint8 * 6),
        ("filters_meta", ctypes.c_uint8 * 6),
        ("others", ctypes.c_uint64 * 32),
    )


class _Decoding(ctypes.Structure):
    """``blosc2_dparams``, in the same way."""

    _fields_ = (("nthreads", ctypes.c_int16), ("others", ctypes.c_uint64 * 16))


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What a context is made for."""

    code: int
    level: int
    shuffle: int
    typesize: int
    blocksize: int
    nbytes: int
    """Of a chunk: by those a context chooses its blocks, and keeps them for all that follow."""


class _Context:
    """A context of the library, for one thread."""

    def __init__(self, library: ctypes.CDLL, settings: _Settings | None) -> None:
        if settings is None:
            self.pointer = library.blosc2_create_dctx(_Decoding(nthreads=1))
        else:
            parameters = _defaults(library)
            parameters.compcode = settings.code
            parameters.clevel = settings.level
            parameters.typesize = settings.typesize
            parameters.nthreads = 1
            parameters.blocksize = settings.blocksize
            parameters.filters[5] = settings.shuffle
            self.pointer = library.blosc2_create_cctx(parameters)
        if not self.pointer:
            raise MemoryError
        weakref.finalize(self, library.blosc2_free_ctx, self.pointer)


class _OfThread(threading.local):
    """Contexts and room of the calling thread."""

    def __init__(self) -> None:
        self.contexts: dict[_Settings | None, _Context] = {}
        self.workspace = Workspace()

    def context(self, library: ctypes.CDLL, settings: _Settings | None) -> Any:
        """Return a context that the thread has, or a new one."""
        found = self.contexts.get(settings)
        if found is None:
            if len(self.contexts) >= _MOST_CONTEXTS:
                self.contexts.clear()
            found = self.contexts[settings] = _Context(library, settings)
        return found.pointer


_OWN = _OfThread()


def is_available() -> bool:
    """Return whether the library is there, and does what is known of it."""
    return _library() is not None


def has(code: int) -> bool:
    """Return whether the library was built with a codec.

    Examples
    --------
    >>> has(1)
    True
    """
    library = _library()
    return library is not None and library.blosc2_compcode_to_compname(code, ctypes.c_char_p()) >= 0


def compressor(options: tuple[int, ...]) -> Compress:
    """Return a function from the bytes of a chunk to a frame.

    Examples
    --------
    >>> frame = compressor((1, 0, 2, 2000, 5, 1, 1))(np.zeros(2000, np.uint8))
    >>> out = np.ones(2000, np.uint8)
    >>> decompress(frame, out)
    >>> int(out.sum())
    0
    """
    _, blocksize, typesize, nbytes, level, shuffle, code = options[:7]
    typesize = typesize or 1
    shape = tuple(options[8:])
    blocks = None if not shape else _rows_of(shape, typesize, blocksize or _BLOCK_NBYTES)
    if blocks is not None:
        blocksize = math.prod(blocks) * typesize
        nbytes = typesize * math.prod(_extended(shape, blocks))
    settings = _Settings(
        code=code,
        level=level,
        shuffle=shuffle,
        typesize=typesize if typesize <= _MOST_TYPESIZE else 1,
        blocksize=blocksize,
        nbytes=nbytes,
    )
    metalayers = _NO_METALAYERS if blocks is None else _metalayers(shape, blocks, typesize)

    def compress(data: Bytes) -> Bytes:
        whole = data if blocks is None else _lengthened(data, nbytes)
        return _framed(whole, settings, typesize, metalayers)

    return compress


def decompress(frame: Bytes, out: Bytes) -> None:
    """Fill ``out`` with the content of a frame of one chunk."""
    parts = _parsed(frame)
    if parts.shape is None:
        _decode(frame, parts, out)
        return
    n_elements = math.prod(parts.shape)
    if not n_elements or out.size % n_elements:
        msg = f"its array of {parts.shape} does not have {out.size} bytes"
        raise ValueError(msg)
    itemsize = out.size // n_elements
    extended = _extended(parts.shape, parts.blocks)
    if math.prod(extended) * itemsize != parts.nbytes:
        msg = f"its blocks of {parts.blocks} do not make up {parts.nbytes} bytes"
        raise ValueError(msg)
    if extended == parts.shape and _lie_in_order(extended, parts.blocks):
        _decode(frame, parts, out)
        return
    room = _OWN.workspace.buffer("blosc2 blocks", parts.nbytes)
    _decode(frame, parts, room)
    # From one block after another to rows through all of them.
    grid = tuple(n // step for n, step in zip(extended, parts.blocks, strict=True))
    blocks = room.view(f"V{itemsize}").reshape(*grid, *parts.blocks)
    n_axes = len(grid)
    axes = [
        axis for pair in zip(range(n_axes), range(n_axes, 2 * n_axes), strict=True) for axis in pair
    ]
    whole = blocks.transpose(axes).reshape(extended)
    out.view(f"V{itemsize}").reshape(parts.shape)[...] = whole[tuple(map(slice, parts.shape))]


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """What a frame says of its chunk."""

    begin: int
    """Of the chunk, in the frame."""
    chunk_nbytes: int
    """Bytes that it takes; none where all elements are alike."""
    nbytes: int
    """Bytes that it decodes to."""
    kind: int
    """Of a chunk of elements that are alike, else 0."""
    typesize: int
    """Bytes of an element."""
    shape: Shape | None
    """Of an array of several axes."""
    blocks: Shape
    """Of its blocks."""


def _parsed(frame: Bytes) -> _Frame:
    """Return what a frame says, once it is seen to be one of one chunk."""
    head = frame[: _HEADER.size].tobytes()
    if len(head) < _HEADER.size or head[2:10] != _MAGIC:
        msg = "it is no Blosc2 frame"
        raise ValueError(msg)
    found = _HEADER.unpack(head)
    header_nbytes, frame_nbytes, nbytes, chunk_nbytes = found[4], found[6], found[10], found[12]
    typesize, chunk_size = found[14], found[18]
    end = header_nbytes + chunk_nbytes
    if not (len(head) <= header_nbytes <= end <= frame_nbytes <= len(frame)) or nbytes < 0:
        msg = f"its frame speaks of {frame_nbytes} bytes, there are {len(frame)}"
        raise ValueError(msg)
    if nbytes > MAX_NBYTES:
        msg = f"its frame speaks of {nbytes} bytes, more than a chunk has"
        raise ValueError(msg)
    if nbytes != chunk_size:
        msg = f"it holds {nbytes} bytes in chunks of {chunk_size}, and only one is read here"
        raise ValueError(msg)
    offset = np.empty(8, np.uint8)
    _decode_chunk(frame[end:frame_nbytes], offset)
    kind = int(offset[7]) & 0x7F if offset[7] & 0x80 else 0
    if (kind and kind not in (_ZERO, _NAN, _UNSET)) or (not kind and offset.any()):
        msg = "its chunk does not begin where its frame says"
        raise ValueError(msg)
    shape, blocks = _array_in(frame[len(head) : header_nbytes].tobytes())
    return _Frame(
        begin=header_nbytes,
        chunk_nbytes=chunk_nbytes,
        nbytes=nbytes,
        kind=kind,
        typesize=typesize,
        shape=shape,
        blocks=blocks,
    )


def _array_in(metalayers: bytes) -> tuple[Shape | None, Shape]:
    """Return the shape of an array of several axes, and of its blocks."""
    for name in (b"\xa4b2nd", b"\xa7caterva"):
        if name not in metalayers:
            continue
        at = metalayers.index(name) + len(name)
        begin = int.from_bytes(metalayers[at + 1 : at + 5], "big") - _HEADER.size
        content = metalayers[begin + 5 :]
        n_axes = content[2] if len(content) > 2 else 0
        # Three arrays of as many numbers: of eight, four and four bytes, each behind its type.
        sizes = struct.Struct(">" + "".join(f"B{n_axes * ('B' + one)}" for one in "qii"))
        if not 0 < n_axes <= 16 or len(content) < 3 + sizes.size:
            break
        numbers = sizes.unpack(content[3 : 3 + sizes.size])
        step = 1 + 2 * n_axes
        shape, chunk, blocks = (numbers[at + 2 : at + step : 2] for at in range(0, 3 * step, step))
        # Larger blocks would take memory that the chunk has no use for.
        fits = all(1 <= step <= n for step, n in zip(blocks, shape, strict=True))
        if chunk != shape or not fits:
            break
        return shape, blocks
    else:
        return None, ()
    msg = "its array is cut in a way that is not read here"
    raise ValueError(msg)


def _decode(frame: Bytes, parts: _Frame, out: Bytes) -> None:
    require_size(parts.nbytes, out.size)
    if not parts.kind:
        _decode_chunk(frame[parts.begin : parts.begin + parts.chunk_nbytes], out)
    elif parts.kind == _NAN and parts.typesize in (4, 8):
        out.view(f"<f{parts.typesize}")[...] = np.nan
    else:
        out[...] = 0


def _decode_chunk(chunk: Bytes, out: Bytes) -> None:
    if len(chunk) < _CHUNK_HEADER.size:
        msg = "it is too short for a Blosc2 chunk"
        raise ValueError(msg)
    *_, nbytes, _, chunk_nbytes = _CHUNK_HEADER.unpack(chunk[: _CHUNK_HEADER.size].tobytes())
    if nbytes != out.size or not _CHUNK_HEADER.size <= chunk_nbytes <= len(chunk):
        msg = (
            f"its chunk speaks of {nbytes} bytes in {chunk_nbytes}, there should be {out.size} in "
            f"{len(chunk)}"
        )
        raise ValueError(msg)
    library = _required()
    chunk = np.ascontiguousarray(chunk)
    found = library.blosc2_decompress_ctx(
        _OWN.context(library, None), chunk.ctypes.data, chunk_nbytes, out.ctypes.data, out.size
    )
    if found != out.size:
        msg = f"C-Blosc2 cannot decode it (error {found})"
        raise ValueError(msg)


def _framed(whole: Bytes, settings: _Settings, typesize: int, metalayers: bytes) -> Bytes:
    """Return a chunk in a frame; it lives in room of the thread until its next chunk."""
    library = _required()
    header_nbytes = _HEADER.size + len(metalayers)
    most = header_nbytes + whole.size + _OVERHEAD + len(_INDEX) + 8 + len(_TRAILER)
    room = _OWN.workspace.buffer("blosc2 frame", most)
    chunk_nbytes = library.blosc2_compress_ctx(
        _OWN.context(library, settings),
        whole.ctypes.data,
        whole.size,
        room.ctypes.data + header_nbytes,
        whole.size + _OVERHEAD,
    )
    if chunk_nbytes <= 0:
        msg = f"C-Blosc2 has encoded nothing (error {chunk_nbytes})"
        raise RuntimeError(msg)
    own = room[header_nbytes : header_nbytes + _OVERHEAD].tobytes()
    *_, blocksize, _ = _CHUNK_HEADER.unpack(own[: _CHUNK_HEADER.size])
    offset = _AT_BEGIN
    if chunk_nbytes == _OVERHEAD and own[31] >> 4 & 7 == _ZERO:
        offset, chunk_nbytes = _ALL_ZERO, 0
    end = header_nbytes + chunk_nbytes
    tail = _INDEX + offset + _TRAILER
    head = _HEADER.pack(
        *(0x9E, 0xA8, _MAGIC, 0xD2, header_nbytes, 0xCF, end + len(tail)),
        *(0xA4, bytes((0x12, 0, settings.code | settings.level << 4, 3))),
        *(0xD3, whole.size, 0xD3, chunk_nbytes, 0xD2, typesize, 0xD2, blocksize),
        *(0xD2, whole.size, 0xD1, 0, 0xD1, 1, 0xC2, 0xD8, 6),
        bytes((0, 0, 0, 0, 0, settings.shuffle, settings.code)) + bytes(9),
    )
    room[:header_nbytes] = np.frombuffer(head + metalayers, np.uint8)
    room[end : end + len(tail)] = np.frombuffer(tail, np.uint8)
    return room[: end + len(tail)]


def _metalayers(shape: Shape, blocks: Shape, typesize: int) -> bytes:
    """Return the metalayer of an array of one chunk."""
    n_axes = bytes((0x90 + len(shape),))
    dtype = f"|V{typesize}".encode()
    content = b"".join(
        (
            bytes((0x97, 0, len(shape))),
            n_axes + b"".join(struct.pack(">Bq", 0xD3, n) for n in shape),
            n_axes + b"".join(struct.pack(">Bi", 0xD2, n) for n in shape),
            n_axes + b"".join(struct.pack(">Bi", 0xD2, n) for n in blocks),
            struct.pack(">BBi", 0, 0xDB, len(dtype)) + dtype,
        )
    )
    index = struct.pack(">BBhBh", 0x93, 0xCD, 17, 0xDE, 1) + b"\xa4b2nd"
    begin = _HEADER.size + len(index) + 5 + 3
    return (
        index
        + struct.pack(">Bi", 0xD2, begin)
        + struct.pack(">Bh", 0xDC, 1)
        + struct.pack(">Bi", 0xC6, len(content))
        + content
    )


def _rows_of(shape: Shape, typesize: int, most_nbytes: int) -> Shape:
    """Return blocks of whole rows, or of runs of a row, of about so many bytes.

    Examples
    --------
    >>> _rows_of((1000, 100), 2, 65536), _rows_of((3, 100, 1000), 2, 65536)
    ((250, 100), (1, 25, 1000))
    """
    room = max(1, most_nbytes // typesize)
    axis = len(shape)
    while axis and math.prod(shape[axis - 1 :]) <= room:
        axis -= 1
    if not axis:
        return shape
    axis -= 1
    extent, inner = shape[axis], math.prod(shape[axis + 1 :])
    if axis == 0:
        # The last of them may reach beyond the end, by as little as it takes.
        n_blocks = -(-extent * inner // room)
        step = -(-extent // n_blocks)
    else:
        step = max(n for n in range(1, max(1, room // inner) + 1) if extent % n == 0)
        if 4 * step * inner < room:
            step = extent  # Few numbers divide it.
    return (*(1,) * axis, step, *shape[axis + 1 :])


def _lie_in_order(shape: Shape, blocks: Shape) -> bool:
    """Return whether one block after another is one element after another."""
    inside = [axis for axis, n in enumerate(blocks) if n > 1]
    return not inside or blocks[inside[0] + 1 :] == shape[inside[0] + 1 :]


def _extended(shape: Shape, blocks: Shape) -> Shape:
    """Return the extents that whole blocks make up."""
    return tuple(-(-n // step) * step for n, step in zip(shape, blocks, strict=True))


def _lengthened(data: Bytes, nbytes: int) -> Bytes:
    """Return a chunk with zeros behind it, where the last block reaches beyond its end."""
    if nbytes == data.size:
        return data
    whole = _OWN.workspace.buffer("blosc2 rows", nbytes)
    whole[: data.size] = data
    whole[data.size :] = 0
    return whole


def _required() -> ctypes.CDLL:
    library = _library()
    if library is None:
        msg = "the Blosc2 library is not available"
        raise RuntimeError(msg)
    return library


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Return C-Blosc2 as hdf5plugin has it, ``None`` where there is none or it is another."""
    found = importlib.util.find_spec("hdf5plugin")
    if found is None or found.origin is None:
        return None
    plugins = Path(found.origin).parent / "plugins"
    for path in sorted(plugins.glob("libh5blosc2.*")):
        library = shared_functions(str(path), _ARGUMENTS, returns=ctypes.c_int)
        if library is not None and _is_as_known(library):
            return library
    return None


_ARGUMENTS: dict[str, list[Any]] = {
    "blosc2_init": [],
    "blosc2_compcode_to_compname": [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)],
    "blosc2_get_blosc2_cparams_defaults": [],
    "blosc2_create_cctx": [_Parameters],
    "blosc2_create_dctx": [_Decoding],
    "blosc2_free_ctx": [ctypes.c_void_p],
    "blosc2_compress_ctx": [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32)
    ],
    "blosc2_decompress_ctx": [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32)
    ],
}


def _is_as_known(library: ctypes.CDLL) -> bool:
    """Return whether the parameters lie where they are looked for."""
    library.blosc2_get_blosc2_cparams_defaults.restype = _Parameters
    library.blosc2_create_cctx.restype = ctypes.c_void_p
    library.blosc2_create_dctx.restype = ctypes.c_void_p
    library.blosc2_free_ctx.restype = None
    library.blosc2_init.restype = None
    library.blosc2_init()
    given = _defaults(library)
    facts = given.clevel, given.typesize, given.nthreads, given.blocksize, given.schunk
    return facts == (5, 8, 1, 0, None) and list(given.filters) == [0, 0, 0, 0, 0, 1]


def _defaults(library: ctypes.CDLL) -> _Parameters:
    found: _Parameters = library.blosc2_get_blosc2_cparams_defaults()
    return found


def _compressor(options: Options, itemsize: int) -> Compress | None:
    given = (*options[:4], *(0,) * (4 - len(options)))
    level, shuffle, code = blosc.completed(options[4:7])
    is_known = code in blosc.CNAMES.values() and shuffle in blosc.SHUFFLES.values()
    if not itemsize or not is_available():
        return None
    if not is_known or not has(code) or level not in blosc.LEVELS:
        return None
    if given[3] > MAX_NBYTES or len(options[8:]) != (*options, *(0,) * 8)[7]:
        return None
    return compressor((*given, level, shuffle, code, *options[7:]))


CODEC = Codec(
    name="blosc2",
    filter_id=BLOSC2,
    encoded_by="hdf5plugin's C-Blosc2, libhdf5 with a plugin",
    without="OptionError naming lazyio[plugins]",
    read_with="hdf5plugin",
    options=lambda name, opts, _: (0, 0, 0, 0, *blosc.typed_options(name, opts)),
    compressor=_compressor,
    decompressor=lambda *_: decompress if is_available() else None,
    is_self_contained=True,
)
