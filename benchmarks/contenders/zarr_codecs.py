"""The codec of a row as zarr-python names it."""

from typing import Any

from zarr.codecs import BloscCodec, ZstdCodec

from benchmarks.cases import Row


def zarr_compressors(row: Row) -> Any:
    """Return ``compressors`` of ``zarr.create_array``; None for none.

    Parameters
    ----------
    row : Row
        Format and codec.
    """
    if row.family == "zstd":
        return ZstdCodec(level=row.level)
    if row.family == "blosc":
        return BloscCodec(cname="zstd", clevel=row.level, shuffle="shuffle")
    return None
