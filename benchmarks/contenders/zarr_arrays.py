"""The codec of a row as zarr-python names it, and the arrays that it makes."""

from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from benchmarks.cases import Job, Row
from benchmarks.outputs import OUTPUTS

ZARRS = "zarrs.ZarrsCodecPipeline"


def zarr_settings(job: Job) -> dict[str, Any]:
    """Return chunks, shards and codecs as ``zarr.create_array`` and lazyio take them.

    Parameters
    ----------
    job : Job
        What is written.
    """
    settings = {
        "chunks": job.array.chunks,
        "compressors": zarr_compressors(job.row),
        "zarr_format": job.row.zarr_format,
    }
    return settings | ({"shards": job.array.shards} if job.row.is_sharded else {})


def zarr_compressors(row: Row) -> Any:
    """Return ``compressors`` of ``zarr.create_array``; None for none.

    Parameters
    ----------
    row : Row
        Format and codec.
    """
    if row.is_checksummed:
        return Crc32cCodec()
    if row.family == "zstd":
        return numcodecs.Zstd(row.level) if row.zarr_format == 2 else ZstdCodec(level=row.level)
    if row.family == "blosc":
        return BloscCodec(cname=row.cname, clevel=row.level, shuffle="shuffle")
    if row.family == "gzip":
        return GzipCodec(level=row.level)
    return None


def use_threads(threads: int, pipeline: str | None = None) -> None:
    """Set how many threads zarr uses, and optionally who encodes.

    Parameters
    ----------
    threads : int
        For encoding and decoding.
    pipeline : str, optional
        :data:`ZARRS`; by default zarr-python's own.
    """
    settings: dict[str, Any] = {"threading.max_workers": threads}
    if pipeline is not None:
        settings["codec_pipeline.path"] = pipeline
        settings["codec_pipeline.chunk_concurrent_maximum"] = threads
        # Falling back to zarr-python unseen would be timing the wrong one.
        settings["codec_pipeline.strict"] = True
    zarr.config.set(settings)


def create_arrays(job: Job) -> dict[str, zarr.Array]:
    """Make what is written, by name of the output; a sole array is the store itself.

    Parameters
    ----------
    job : Job
        What is written.
    """
    found = {}
    for name in job.array.outputs:
        shape = OUTPUTS[name](np.broadcast_to(np.int8(0), job.array.shape)).shape
        found[name] = zarr.create_array(
            job.output,
            name=name if job.is_grouped else None,
            shape=shape,
            dtype=job.array.dtype,
            **zarr_settings(job),
            **_names_of_axes(job),
        )
    return found


def _names_of_axes(job: Job) -> dict[str, Any]:
    """Return names for what xarray is to read, which it does not without."""
    if not job.is_grouped or job.row.zarr_format == 2:
        return {}
    return {"dimension_names": [f"axis{number}" for number in range(len(job.array.shape))]}
