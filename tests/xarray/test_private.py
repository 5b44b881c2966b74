"""What lazyio needs of xarray that xarray does not promise: these fail where one of them goes."""

import inspect
import subprocess
import sys

import pytest
import xarray as xr

from lazyio.xarray import private
from lazyio.xarray.engine import EngineStore


def test_the_engine_is_in_the_table_of_writers() -> None:
    stores = private.writeable_stores()
    assert stores is not None
    assert stores["lazyio"] == EngineStore.open


@pytest.mark.parametrize(
    "name", ["_validate_dataset_names", "_validate_attrs", "_sanitize_unlimited_dims"]
)
def test_checks_before_a_write_are_there(name: str) -> None:
    assert private._writers(name) is not None


def test_zarr_stores_are_opened_for_writing_by_a_function() -> None:
    opened = private._writers("get_writable_zarr_store")
    wanted = {"mode", "group", "append_dim", "region", "safe_chunks", "zarr_format", "consolidated"}
    assert wanted <= set(inspect.signature(opened).parameters)
    assert hasattr(xr.backends.ZarrStore, "_validate_and_autodetect_region")


@pytest.mark.parametrize("first", ["lazyio", "xarray"])
def test_the_accessor_comes_whichever_is_imported_first(first: str) -> None:
    second = {"lazyio": "xarray", "xarray": "lazyio"}[first]
    code = f"import {first}, {second}; xarray.Dataset().lazyio, xarray.DataTree().lazyio"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
