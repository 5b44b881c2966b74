"""The rows of the tables, by name, and how ``--rows`` is read."""

from collections.abc import Iterable

from benchmarks.cases import READ, Row

_BLOSC_ZSTD = {"family": "blosc", "cname": "zstd", "level": 1}
_ZSTD = {"family": "zstd", "level": 1}

_HDF5 = (
    Row(format="hdf5", label="none"),
    *(
        Row(format="hdf5", label=f"gzip-{level}", family="gzip", level=level, shuffle=True)
        for level in (1, 4, 9)
    ),
    *(
        Row(format="hdf5", label=f"zstd-{level}", family="zstd", level=level, shuffle=True)
        for level in (1, 5)
    ),
    Row(format="hdf5", label="blosc-zstd-1", **_BLOSC_ZSTD),
    Row(format="hdf5", label="blosc-lz4-5", family="blosc", cname="lz4", level=5),
    Row(format="hdf5", label="lz4", family="lz4", shuffle=True),
    Row(format="hdf5", label="lzf", family="lzf", shuffle=True),
    Row(format="hdf5", label="bitshuffle-lz4", family="bitshuffle"),
    Row(format="hdf5", label="szip", family="szip"),
    Row(format="hdf5", label="blosc2-zstd-1", family="blosc2", cname="zstd", level=1),
)

_ZARR = (
    Row(format="zarr", label="none"),
    Row(format="zarr", label="zstd", **_ZSTD),
    Row(format="zarr", label="blosc", **_BLOSC_ZSTD),
    Row(format="zarr", label="gzip", family="gzip", level=4),
    Row(format="zarr", label="zstd-sharded", **_ZSTD, is_sharded=True),
    Row(format="zarr", label="crc32c", is_checksummed=True),
    Row(format="zarr", label="v2-zstd", **_ZSTD, zarr_format=2),
)

_READ = (
    Row(action=READ, format="hdf5", label="none"),
    Row(action=READ, format="hdf5", label="gzip-4", family="gzip", level=4, shuffle=True),
    Row(action=READ, format="hdf5", label="zstd-1", **_ZSTD, shuffle=True),
    Row(action=READ, format="hdf5", label="blosc-zstd-1", **_BLOSC_ZSTD),
    Row(action=READ, format="hdf5", label="lz4", family="lz4", shuffle=True),
    Row(action=READ, format="zarr", label="none"),
    Row(action=READ, format="zarr", label="zstd", **_ZSTD),
    Row(action=READ, format="zarr", label="blosc", **_BLOSC_ZSTD),
    Row(action=READ, format="zarr", label="zstd-sharded", **_ZSTD, is_sharded=True),
)

ROWS = {row.name: row for row in (*_HDF5, *_ZARR, *_READ)}


def subset(text: str, known: Iterable[str]) -> list[str]:
    """Return the names in a comma-separated list.

    Parameters
    ----------
    text : str
        Names; ``prefix*`` stands for all that begin so.
    known : iterable of str
        Names there are.

    Returns
    -------
    list of str
        Each once, in the order of the text.

    Raises
    ------
    ValueError
        When a name is not among the known.

    Examples
    --------
    >>> subset("zarr:n*,hdf5:none", ROWS)
    ['zarr:none', 'hdf5:none']
    """
    known = list(known)
    found: dict[str, None] = {}
    for one in text.split(","):
        name = one.strip()
        if name.endswith("*"):
            names = [other for other in known if other.startswith(name[:-1])]
        else:
            names = [other for other in known if other == name]
        if not names:
            msg = f"{name!r} is none of {', '.join(known)}"
            raise ValueError(msg)
        found.update(dict.fromkeys(names))
    return list(found)
