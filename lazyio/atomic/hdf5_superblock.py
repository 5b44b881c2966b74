"""The first bytes of an HDF5 file, where they say that a writer is at work that was killed.

From version 3 on a writer marks the file as open when it starts, and takes the
mark away when it closes it; HDF5 opens no file that has it. How long the file
is, which stands beside it, is told at the end as well, and by then the file is
longer. Versions 2 and 3 are, with addresses of eight bytes::

    signature 8 | version 1 | sizes 2 | marks 1 | base 8 | extension 8 | end 8 | root 8 | checksum 4
"""

import contextlib
import os
import struct
from pathlib import Path

from lazyio.atomic.descriptors import opened, write_at
from lazyio.atomic.fsync import sync_folder, write_whole
from lazyio.atomic.log import superblock_in

FOLLOWED = "followed"
"""In a hidden folder: the file is open for a writer that others follow."""

_NBYTES = 48
_WRITTEN, _FOLLOWED = 1, 4
_MARKS, _END, _CHECKSUM = 11, 28, 44
_ADDRESS_NBYTES = 8
_WORD = 0xFFFFFFFF


def version_of(path: Path) -> int:
    """Return the version of a file's superblock."""
    with opened(path) as descriptor:
        return os.pread(descriptor, _NBYTES, _place_in(descriptor))[8]


def note_followed(folder: Path, path: Path) -> None:
    """Say in a hidden folder that a file may bear a mark, before it does."""
    facts = path.stat()
    write_whole(folder / FOLLOWED, f"{facts.st_dev} {facts.st_ino}".encode())
    sync_folder(folder)


def unmark_followed(folder: Path, target: Path) -> None:
    """Take the mark of a killed writer away, where that is the file that it had marked.

    The lock of the hidden folder is held, so that the writer is no more.
    """
    try:
        marked = (folder / FOLLOWED).read_text().split()
        facts = target.stat()
    except FileNotFoundError:
        return
    if marked == [str(facts.st_dev), str(facts.st_ino)]:
        with contextlib.suppress(ValueError):
            unmark(target)


def unmark(path: Path) -> bool:
    """Take away the mark of a writer that is no more, and tell how long the file is."""
    with opened(path, os.O_RDWR) as descriptor:
        place = _place_in(descriptor)
        block = bytearray(os.pread(descriptor, _NBYTES, place))
        has_marks = len(block) == _NBYTES and block[8] in (2, 3) and block[9] == _ADDRESS_NBYTES
        if not has_marks or not block[_MARKS]:
            return False
        block[_MARKS] = 0
        struct.pack_into("<Q", block, _END, os.fstat(descriptor).st_size)
        struct.pack_into("<I", block, _CHECKSUM, checksum(bytes(block[:_CHECKSUM])))
        write_at(descriptor, memoryview(block), place)
        os.fsync(descriptor)
        return True


def marked(view: memoryview, at: int) -> memoryview:
    """Return bytes of a file in which it says that it is followed, as other programs need it.

    libhdf5 leaves the mark of a writer out where the file is an object of ours, and then followers
    do not open it.
    """
    if not 0 <= at <= len(view) - _NBYTES or view[at + _MARKS] != _FOLLOWED:
        return view
    data = bytearray(view)
    data[at + _MARKS] |= _WRITTEN
    end = at + _CHECKSUM
    struct.pack_into("<I", data, end, checksum(bytes(data[at:end])))
    return memoryview(data)


def checksum(data: bytes) -> int:
    """Return Jenkins' lookup3 of some bytes, as HDF5 has it behind its metadata.

    Examples
    --------
    >>> hex(checksum(b"Four score and seven years ago"))
    '0x17770551'
    """
    a = b = c = (0xDEADBEEF + len(data)) & _WORD
    at = 0
    while len(data) - at > 12:
        x, y, z = struct.unpack_from("<3I", data, at)
        a, b, c = _mixed((a + x) & _WORD, (b + y) & _WORD, (c + z) & _WORD)
        at += 12
    if at == len(data):
        return c
    x, y, z = struct.unpack("<3I", data[at:].ljust(12, b"\0"))
    return _last((a + x) & _WORD, (b + y) & _WORD, (c + z) & _WORD)


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for one, other in ((4, 6), (8, 16), (19, 4)):
        a = ((a - c) & _WORD) ^ _turned(c, one)
        c = (c + b) & _WORD
        b = ((b - a) & _WORD) ^ _turned(a, other)
        a = (a + c) & _WORD
        # The next two steps are the same with the three words moved round.
        a, b, c = c, a, b
    return a, b, c


def _last(a: int, b: int, c: int) -> int:
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turned(b, turn)) & _WORD
        a, b, c = b, c, a
    return b


def _turned(word: int, n_bits: int) -> int:
    return (word << n_bits | word >> (32 - n_bits)) & _WORD


def _place_in(descriptor: int) -> int:
    at = superblock_in(descriptor)
    if at is None:
        msg = "there is no superblock: it is no HDF5 file"
        raise ValueError(msg)
    return at
