"""``python -m benchmarks chunks``: what a small chunk costs beyond its bytes."""

import argparse

from benchmarks.cases import OURS, Array
from benchmarks.compare import Case, Contest
from benchmarks.options import add_shared, output_folder, save
from benchmarks.recording import repeated_recording
from benchmarks.rows import ROWS

_CHUNK = 2048
_FLOOR = "pieces"


def main(arguments: list[str]) -> int:
    """Time uncompressed 4 KiB chunks; print microseconds per chunk.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks chunks", description=__doc__)
    add_shared(parser)
    parser.add_argument("--chunks", type=int, default=100_000, help="how many (default: 100000)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--threads", type=int, default=2, help="for each (default: 2)")
    given = parser.parse_args(arguments)
    n_chunks = 2_000 if given.short else given.chunks
    with output_folder(given.data) as folder:
        path = folder / "pieces.raw"
        repeated_recording(path, 2 * _CHUNK * n_chunks, n_channels=1)
        array = Array(
            name="pieces",
            path=str(path),
            shape=(n_chunks * _CHUNK,),
            dtype="<i2",
            chunks=(_CHUNK,),
        )
        contest = Contest(folder, repeats=given.repeats, threads=given.threads)
        taking_part = (_FLOOR, OURS, "h5py")
        timings = contest.run(Case(array=array, row=ROWS["hdf5:none"], contenders=taking_part))
    if contest.failed or contest.missing:
        return 1
    costs = {one.contender: 1e6 * one.median / n_chunks for one in timings}
    print(f"{n_chunks} chunks of 4 KiB, us per chunk; bare pwrite: {costs[_FLOOR]:.2f}")
    for name in (OURS, "h5py"):
        print(f"{name:<8}{costs[name]:8.2f}, {costs[name] - costs[_FLOOR]:.2f} beyond bare pwrite")
    save(
        given.json,
        chunks=n_chunks,
        microseconds_per_chunk=costs,
        timings=[timing.to_dict() for timing in timings],
    )
    return 0
