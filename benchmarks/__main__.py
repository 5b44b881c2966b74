"""``python -m benchmarks [COMMAND] [options]``; see ``_COMMANDS``."""

import sys

from benchmarks import chunks, comparison, memory, planning, reads
from benchmarks.arrivals import compare as arrivals
from benchmarks.soak import cost, faults, flips, kills, peers, states


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


_COMMANDS = {
    "arrivals": arrivals.main,
    "planning": planning.main,
    "reads": reads.main,
    "chunks": chunks.main,
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
