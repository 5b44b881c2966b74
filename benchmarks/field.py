"""Who takes part: which contender can do which row of which array."""

from dataclasses import dataclass

from benchmarks.cases import LIMIT, OURS, READ, Array, Row

_TABLES = ("none", "gzip", "blosc", "blosc2")
_TENSORSTORE = ("none", "gzip", "zstd", "blosc")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What one can do, and no more."""

    name: str
    formats: tuple[str, ...]
    families: tuple[str, ...] | None = None
    """Codecs; None for all."""
    takes_graphs: bool = False
    """Whether blocks of a dask graph may be what is written."""
    takes_several: bool = False
    """Whether several arrays are written in one pass."""

    def can(self, array: Array, row: Row) -> bool:
        """Return whether this row of this array is for it."""
        return (
            row.format in self.formats
            and (self.families is None or row.family in self.families)
            and (array.graph_blocks is None or self.takes_graphs)
            and (len(array.outputs) == 1 or self.takes_several)
        )


_BOTH = ("hdf5", "zarr")

# The limit reads its source as it likes: it is what a graph is measured against, too.
WRITERS = (
    Contender(name=LIMIT, formats=_BOTH, takes_graphs=True),
    Contender(name=OURS, formats=_BOTH, takes_graphs=True, takes_several=True),
    Contender(name="h5py", formats=("hdf5",), takes_several=True),
    Contender(name="hdmf", formats=("hdf5",)),
    Contender(name="pytables", formats=("hdf5",), families=_TABLES),
    Contender(name="dask", formats=_BOTH, takes_graphs=True, takes_several=True),
    Contender(name="zarr", formats=("zarr",), takes_several=True),
    Contender(name="zarrs", formats=("zarr",), takes_several=True),
    Contender(name="zarrs-dask", formats=("zarr",), takes_graphs=True, takes_several=True),
    Contender(name="tensorstore", formats=("zarr",), families=_TENSORSTORE),
)

READERS = (
    Contender(name=LIMIT, formats=_BOTH),
    Contender(name=OURS, formats=_BOTH),
    Contender(name="h5py", formats=("hdf5",)),
    Contender(name="dask", formats=_BOTH),
    Contender(name="xarray", formats=_BOTH),
    Contender(name="zarrs-dask", formats=("zarr",)),
    Contender(name="tensorstore", formats=("zarr",), families=_TENSORSTORE),
)

NAMES = tuple(dict.fromkeys(one.name for one in (*WRITERS, *READERS)))


def contenders(array: Array, row: Row) -> list[str]:
    """Return the names of those who take part.

    Parameters
    ----------
    array : Array
        What is written or read.
    row : Row
        How.
    """
    field = READERS if row.action == READ else WRITERS
    return [one.name for one in field if one.can(array, row)]
