"""``python -m benchmarks [COMMAND] [options]``; see ``_COMMANDS``."""

import sys

from benchmarks import chunks, comparison, joins, memory, planning, reads
from benchmarks.arrivals import compare as arrivals
from benchmarks.soak import cost, faults, flips, kills, peers, states


def _codecs(arguments: list[str]) -> int:
    """Import the libraries of codecs only for this."""
    from benchmarks import codecs

    return codecs.main(arguments)


def _company(arguments: list[str]) -> int:
    """Import netCDF4 only for this: it leads libhdf5 to plugins of its own."""
    from benchmarks.company import run

    return run.main(arguments)


def _fuzz(arguments: list[str]) -> int:
    """Import what makes files only for this."""
    from benchmarks.fuzz import run

    return run.main(arguments)


def _layouts(arguments: list[str]) -> int:
    """Import what makes datasets only for this."""
    from benchmarks.layouts import run

    return run.main(arguments)


def _datasets(arguments: list[str]) -> int:
    """Import xarray only for this."""
    from benchmarks import datasets

    return datasets.main(arguments)


def _nwb(arguments: list[str]) -> int:
    """Import PyNWB only for this."""
    from benchmarks import nwb

    return nwb.main(arguments)


def _formats(arguments: list[str]) -> int:
    """Import what reads other formats only for this."""
    from benchmarks import formats

    return formats.main(arguments)


def _several(arguments: list[str]) -> int:
    """Import h5py and zarr only for this."""
    from benchmarks import several

    return several.main(arguments)


def _cluster(arguments: list[str]) -> int:
    """Import distributed only for this."""
    from benchmarks import cluster

    return cluster.main(arguments)


def _windows(arguments: list[str]) -> int:
    """Import what reads minibatches only for this."""
    from benchmarks import windows

    return windows.main(arguments)


def _ranks(arguments: list[str]) -> int:
    """Import what starts ranks of MPI only for this."""
    from benchmarks import ranks

    return ranks.main(arguments)


def _ragged(arguments: list[str]) -> int:
    """Import PyTables only for this."""
    from benchmarks import ragged

    return ragged.main(arguments)


def _repack(arguments: list[str]) -> int:
    """Import what makes files only for this."""
    from benchmarks import repack

    return repack.main(arguments)


def _worker_kills(arguments: list[str]) -> int:
    """Import distributed only for this."""
    from benchmarks.soak import worker_kills

    return worker_kills.main(arguments)


_COMMANDS = {
    "worker-kills": _worker_kills,
    "several": _several,
    "windows": _windows,
    "cluster": _cluster,
    "datasets": _datasets,
    "nwb": _nwb,
    "formats": _formats,
    "repack": _repack,
    "arrivals": arrivals.main,
    "joins": joins.main,
    "planning": planning.main,
    "ragged": _ragged,
    "ranks": _ranks,
    "reads": reads.main,
    "chunks": chunks.main,
    "codecs": _codecs,
    "memory": memory.main,
    "company": _company,
    "cost": cost.main,
    "layouts": _layouts,
    "kills": kills.main,
    "peers": peers.main,
    "flips": flips.main,
    "faults": faults.main,
    "fuzz": _fuzz,
    "states": states.main,
}


def main() -> int:
    """Run the command that the first argument names; by default compare writing and reading."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in _COMMANDS:
        return _COMMANDS[arguments[0]](arguments[1:])
    return comparison.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
