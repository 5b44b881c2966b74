"""Zarr behind a URL: what S3 does wrong, and what is there afterwards."""

import errno

import numpy as np
import pytest
import zarr
from fake_s3 import fake_s3
from zarr.core.sync import sync

import lazyio
from lazyio.errors import BlockError, OptionError, SourceError, TargetError, TargetExistsError

s3fs = pytest.importorskip("s3fs")

VALUES = np.arange(4000, dtype="i4").reshape(200, 20)
URL = "s3://bucket/x.zarr"


@pytest.fixture
def s3():
    with fake_s3() as store:
        yield store
        _close_clients()


def _close_clients() -> None:
    """Close what zarr-python leaves open, for which aiohttp scolds."""
    for system in list(s3fs.S3FileSystem._cache.values()):
        if system._s3 is not None:
            sync(system._s3.__aexit__(None, None, None))
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def few_retries(monkeypatch):
    """Have clients give up soon."""
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)


def write(s3, data=VALUES, path=None, **options):
    options = {"chunks": (10, 20), **options}
    return lazyio.to_zarr(data, URL, path, storage_options=s3.storage_options, **options)


def read(s3, path=None):
    return lazyio.from_zarr(URL, path, storage_options=s3.storage_options).compute()


def metadata(s3) -> list[str]:
    names = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
    return [key for key in s3.objects if key.endswith(names)]


def after(n_good: int, status: int):
    """Return a fault that answers so to every chunk but the first few."""
    n_left = [n_good]

    def fault(method: str, key: str) -> int | None:
        if method == "PUT" and "/c/" in key:
            n_left[0] -= 1
        return status if n_left[0] < 0 else None

    return fault


@pytest.mark.parametrize(
    "options",
    [{}, {"zarr_format": 2}, {"chunks": (5, 20), "shards": (10, 20)}, {"compressors": None}],
    ids=["v3", "v2", "sharded", "plain"],
)
@pytest.mark.parametrize("path", [None, "g/a"])
def test_there_and_back(s3, options, path):
    """Stock zarr-python reads it; parts and what is appended get there."""
    write(s3, VALUES, path, **options)
    assert (read(s3, path) == VALUES).all()
    stock = zarr.open(URL, mode="r", storage_options=s3.storage_options)
    found = stock if path is None else stock[path]
    assert (found[...] == VALUES).all()
    more = {"storage_options": s3.storage_options}
    lazyio.to_zarr(VALUES[:7] * 2, URL, path, region=np.s_[100:107, :], **more)
    lazyio.to_zarr(VALUES, URL, path, append_dim=0, **more)
    expected = np.concatenate([VALUES, VALUES])
    expected[100:107] = VALUES[:7] * 2
    assert (read(s3, path) == expected).all()


def test_several(s3):
    write(s3, {"a": VALUES, "g/b": VALUES * 2})
    assert (read(s3, "g/b") == VALUES * 2).all()
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        write(s3, VALUES, "a")
    write(s3, VALUES * 3, "a", overwrite=True)
    assert (read(s3, "a") == VALUES * 3).all()
    assert (read(s3, "g/b") == VALUES * 2).all()


@pytest.mark.parametrize("status", [500, 503, 0])
def test_what_passes_is_tried_again(s3, status):
    """A few errors, as S3 has them, and all is well."""
    n_faults = [0]

    def fault(method, key):
        if method == "PUT" and n_faults[0] < 2:
            n_faults[0] += 1
            return status
        return None

    s3.fault = fault
    write(s3)
    assert n_faults == [2]
    s3.fault = None
    assert (read(s3) == VALUES).all()


def test_a_reader_says_what_is_wrong(s3, few_retries):
    write(s3)
    s3.fault = lambda *_: 403
    with pytest.raises(SourceError, match=r"s3://bucket/x\.zarr cannot be opened: PermissionError"):
        read(s3)


@pytest.mark.parametrize("status", [500, 503, 403, 0])
@pytest.mark.parametrize("path", [None, "g/a"])
def test_what_lasts_is_an_error(s3, few_retries, status, path):
    """It names store and chunk; readers find no array, and the next call says what there is."""
    s3.fault = after(5, status)
    options = {**s3.storage_options, "config_kwargs": {"retries": {"max_attempts": 1}}}
    with pytest.raises(
        TargetError, match=r"writing chunk \[\d+:\d+, 0:20\] of s3://bucket/x.zarr"
    ) as caught:
        lazyio.to_zarr(VALUES, URL, path, chunks=(10, 20), storage_options=options)
    assert caught.value.errno
    assert metadata(s3) == []
    assert len(s3.objects) == 5
    s3.fault = None
    with pytest.raises(SourceError, match="has no Zarr array"):
        read(s3, path)
    with pytest.raises(TargetExistsError, match="left by a run that failed") as caught:
        write(s3, VALUES, path)
    assert caught.value.errno == errno.ENOTEMPTY
    # Half of it holds the fill value only, and is not stored: nothing old shines through.
    half = np.where(np.arange(200)[:, None] < 100, 0, VALUES)
    write(s3, half, path, overwrite=True)
    assert (read(s3, path) == half).all()


def test_a_block_that_fails_leaves_nothing(s3):
    def fails(region):
        if region[0].start >= 100:
            raise RuntimeError("no signal")
        return VALUES[region]

    x = lazyio.from_function(fails, VALUES.shape, "i4", chunks=(50, 20))
    with pytest.raises(BlockError, match="no signal"):
        write(s3, x, memory_limit="20 kB", workers=1)
    assert s3.objects == {}


def test_the_network_is_gone(few_retries):
    """The error names where it should have gone."""
    with fake_s3() as s3:
        options = {**s3.storage_options, "config_kwargs": {"retries": {"max_attempts": 1}}}
    with pytest.raises(TargetError, match=r"s3://bucket/x\.zarr.*127\.0\.0\.1"):
        lazyio.to_zarr(VALUES, URL, storage_options=options)
    _close_clients()


def test_resume_is_for_folders(s3):
    with pytest.raises(OptionError, match="no journal"):
        write(s3, resume=True)
