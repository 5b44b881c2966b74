"""xarray's own tests of netCDF-4 engines, trees and clusters, with lazyio: ``tox -e xarray``.

The tests of engines run twice: with Datasets as the tests make them, and with every array chunked
by dask first. ``DataTree.to_netcdf`` refuses engines but its own, so trees go by the accessor.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import xarray as xr
from xarray.tests import test_backends, test_backends_datatree, test_distributed
from xarray.tests.conftest import (  # noqa: F401 - fixtures.
    create_test_datatree,
    simple_datatree,
    time_unit,
    use_dask,
)
from xarray.tests.test_backends import create_tmp_file
from xarray.tests.test_backends_datatree import unaligned_datatree_nc  # noqa: F401 - a fixture.
from xarray.tests.test_distributed import (  # noqa: F401 - fixtures.
    cleanup,
    loop,
    loop_in_thread,
    tmp_netcdf_filename,
)

import lazyio  # noqa: F401 - registers the engine.
from lazyio.xarray.engine import EngineStore


class TestEngine(test_backends.NetCDF4Base):
    """``to_netcdf`` and ``open_dataset`` with ``engine="lazyio"``."""

    engine = "lazyio"

    @contextlib.contextmanager
    def create_store(self) -> Iterator[EngineStore]:
        """Yield a store that is written to."""
        with create_tmp_file() as path:
            yield EngineStore.open(path, mode="w")


class TestEngineWithDask(TestEngine):
    """The same, of Datasets whose arrays are all dask's."""

    @contextlib.contextmanager
    def roundtrip(self, data: xr.Dataset, *args: Any, **kwargs: Any) -> Iterator[xr.Dataset]:
        """Write what is chunked, and read it."""
        with TestEngine.roundtrip(self, data.chunk(), *args, **kwargs) as found:
            yield found


class TestTree(test_backends_datatree.NetCDFIOBase):
    """Trees by the accessor, wherever the tests write one with this engine."""

    engine = "lazyio"

    @pytest.fixture(autouse=True)
    def by_accessor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have ``to_netcdf`` of a tree write by the accessor."""
        own = xr.DataTree.to_netcdf

        def to_netcdf(tree: xr.DataTree, path: Any = None, **kwargs: Any) -> Any:
            engine = kwargs.get("engine")
            if engine != "lazyio" or path is None:
                if engine == "lazyio":
                    kwargs["engine"] = "h5netcdf"
                return own(tree, path, **kwargs)
            del kwargs["engine"]
            return tree.lazyio.to_hdf5(path, **kwargs)

        monkeypatch.setattr(xr.DataTree, "to_netcdf", to_netcdf)


@pytest.mark.parametrize("compute", [True, False])
def test_roundtrip_on_a_cluster(
    loop: Any,  # noqa: F811
    tmp_netcdf_filename: str,  # noqa: F811
    compute: bool,
) -> None:
    """Xarray's test of netCDF engines on a cluster."""
    test_distributed.test_dask_distributed_netcdf_roundtrip(
        loop, tmp_netcdf_filename, "lazyio", "NETCDF4", compute
    )


def test_reading_on_a_cluster(loop: Any, tmp_netcdf_filename: str) -> None:  # noqa: F811
    """Xarray's test of reading on a cluster."""
    test_distributed.test_dask_distributed_read_netcdf_integration_test(
        loop, tmp_netcdf_filename, "lazyio", "NETCDF4"
    )
