"""The limit: the same codec on as many threads, and bare files. Nothing of lazyio.

A thread takes a block of rows, reads it into its own buffer, encodes its
chunks and appends them to one file (HDF5 rows) or to a file each (Zarr rows;
the chunks of a shard to one).
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.bare.codecs import decoder, encoder
from benchmarks.bare.files import Folder, Sink, SoleFile
from benchmarks.bare.placed import Placed, tiles
from benchmarks.bare.rows import open_rows
from benchmarks.bare.turns import Turns, run_threads
from benchmarks.cases import Job
from benchmarks.contenders.opened import open_source

_N_CHECKED = 7


def prepare(job: Job) -> Callable[[], list[Placed]]:
    """Return what writes, and then says where each chunk is.

    Parameters
    ----------
    job : Job
        What to write.
    """

    def write() -> list[Placed]:
        # Freed once, a large block stops glibc from unmapping every payload.
        np.empty(30 << 20, "u1")
        turns = Turns(_numbered(job))
        with Folder(job.output) if job.row.format == "zarr" else SoleFile(job.output) as sink:
            done = run_threads(job.threads, partial(_run, job, turns, sink))
        return [placed for one in done for placed in one]

    return write


def check(job: Job, placed: list[Placed]) -> None:
    """Decode some chunks and compare them with the source.

    Parameters
    ----------
    job : Job
        What was written.
    placed : list of Placed
        What :func:`prepare`'s function returned.

    Raises
    ------
    ValueError
        When a chunk is not what it should be.
    """
    source = open_source(job.array)
    decode = decoder(job.row, np.dtype(job.array.dtype), job.array.chunks)
    inner = sorted(placed, key=lambda one: [axis.start for axis in one.region])
    for one in [*inner[:: max(1, len(inner) // _N_CHECKED)], inner[-1]]:
        expected = source[one.region]
        chunk = decode(one.read())[tuple(map(slice, expected.shape))]
        # As bytes, so that every nan equals itself.
        if chunk.tobytes() != expected.tobytes():
            msg = f"limit {job.row.name}: the chunk at {one.region} does not decode to its data"
            raise ValueError(msg)


def _run(job: Job, turns: Turns, sink: Sink) -> list[Placed]:
    """Encode blocks until there are none left."""
    array = job.array
    read = open_rows(array, job.block_rows)
    encode = encoder(job.row, np.dtype(array.dtype), array.chunks)
    others = [slice(0, n) for n in array.shape[1:]]
    done = []
    for first, rows in turns:
        block = read(rows)
        for number, unit in enumerate(tiles((rows, *others), job.unit), first):
            regions = list(tiles(unit, array.chunks))
            chunks = (block[(_from(rows.start, region[0]), *region[1:])] for region in regions)
            # Copied where more follow: what was not compressed stands in a buffer.
            payloads = [
                encode(chunk) if len(regions) == 1 else bytes(encode(chunk)) for chunk in chunks
            ]
            path, position = sink.put(number, payloads)
            for region, payload in zip(regions, payloads, strict=True):
                nbytes = len(payload)
                done.append(Placed(region=region, path=path, position=position, nbytes=nbytes))
                position += nbytes
    return done


def _from(start: int, rows: slice) -> slice:
    """Return rows of the array as rows of a block that starts there."""
    return slice(rows.start - start, rows.stop - start)


def _numbered(job: Job) -> list[tuple[int, slice]]:
    """Return each block with the number of its first unit."""
    beside = [-(-n // step) for n, step in zip(job.array.shape[1:], job.unit[1:], strict=True)]
    return [(rows.start // job.unit[0] * math.prod(beside), rows) for rows in job.blocks()]
