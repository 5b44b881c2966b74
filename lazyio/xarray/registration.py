"""Make ``.lazyio`` and ``engine="lazyio"`` known to xarray: what ``import lazyio`` does.

dask imports xarray in any case, where it is installed. The engine that reads is found by xarray
itself, through the entry point of the package.
"""

from lazyio.xarray import accessor
from lazyio.xarray.engine import NAME, EngineStore
from lazyio.xarray.private import writeable_stores


def register() -> None:
    """Add the accessor, and the engine that writes."""
    accessor.register()
    stores = writeable_stores()
    if stores is not None:
        stores[NAME] = EngineStore.open
