"""xarray's own tests of Zarr stores, written by the accessor: ``tox -e xarray`` runs them.

Tests that call ``Dataset.to_zarr`` themselves go by the accessor, too.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import xarray as xr
from xarray.tests import test_backends, test_backends_datatree
from xarray.tests.conftest import (  # noqa: F401 - fixtures.
    create_test_datatree,
    simple_datatree,
    time_unit,
    use_dask,
)
from xarray.tests.test_backends import (
    create_tmp_file,
    default_zarr_format,  # noqa: F401 - a fixture.
    tmp_store,  # noqa: F401 - a fixture.
)
from xarray.tests.test_backends_datatree import (  # noqa: F401 - fixtures.
    unaligned_datatree_zarr_factory,
)
from xarray.tests.test_distributed import (  # noqa: F401 - a test, and its fixtures.
    cleanup,
    client,
    cluster_fixture,
    loop,
    loop_in_thread,
    test_dask_distributed_zarr_integration_test,
    zarr,
)

import lazyio  # noqa: F401 - registers the accessor.


def _to_zarr(given: Any, store: Any = None, **kwargs: Any) -> Any:
    """Write by the accessor; without a place, to memory, as xarray does."""
    if store is None:
        store = {}
    return given.lazyio.to_zarr(store, **kwargs)


@pytest.fixture(autouse=True)
def by_accessor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``to_zarr`` of all of xarray's objects write by the accessor."""
    for kind in (xr.Dataset, xr.DataArray, xr.DataTree):
        monkeypatch.setattr(kind, "to_zarr", _to_zarr)


class TestAccessor(test_backends.ZarrBase):
    """``ds.lazyio.to_zarr`` to a local folder."""

    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[str]:
        """Yield where a store is to be."""
        with create_tmp_file(suffix=".zarr") as path:
            yield path

    @pytest.mark.xfail(strict=True, reason="irregular blocks are gathered to chunks, not refused")
    def test_chunk_encoding_with_dask(self) -> None:
        super().test_chunk_encoding_with_dask()

    @pytest.mark.xfail(strict=True, reason="appending refuses coordinates that differ")
    def test_append_with_append_dim_no_overwrite(self) -> None:
        super().test_append_with_append_dim_no_overwrite()


class TestRegionAuto(test_backends.TestZarrRegionAuto):
    """Regions that are found by coordinates."""


class TestTree(test_backends_datatree.TestZarrDatatreeIO):
    """Trees."""
