"""Public: containers of an NWB file whose data are dask arrays."""

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from hdmf.common import DynamicTableRegion, ElementIdentifiers, VectorIndex
from hdmf.container import AbstractContainer
from pynwb import NWBFile

from lazyio.errors import OptionError
from lazyio.nwb.datasets import is_numeric
from lazyio.nwb.structure import containers_in
from lazyio.opening.open import from_array
from lazyio.sources.zarr_metadata import is_zarr

_KEPT = (DynamicTableRegion, ElementIdentifiers, VectorIndex)
"""What PyNWB looks rows up in."""


def lazy(
    nwbfile: NWBFile, *, chunks: Any = "auto", memory_limit: Any = None, access: Any = None
) -> NWBFile:
    """Return a copy of containers that were read, whose data are dask arrays.

    Data and timestamps of series, and columns of numbers that have no index, become dask
    arrays that read the file by its path. All else stays as PyNWB reads it, and needs the
    file open.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
        What ``NWBHDF5IO.read`` has returned; it is left as it is. Any other container of
        PyNWB or HDMF is taken, too.
    chunks, memory_limit, access : optional
        Of each array, as in :func:`lazyio.open`.

    Returns
    -------
    pynwb.NWBFile
        Containers of the same types, names and object ids.

    Examples
    --------
    >>> import datetime, lazyio.nwb, numpy as np, pynwb
    >>> now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    >>> nwbfile = pynwb.NWBFile("a session", "s1", now)
    >>> nwbfile.add_acquisition(pynwb.TimeSeries(name="es", data=np.ones(9), unit="V", rate=1.0))
    >>> report = lazyio.nwb.write(nwbfile, "lazy.nwb")
    >>> with pynwb.NWBHDF5IO("lazy.nwb", "r") as io:
    ...     es = lazyio.nwb.lazy(io.read()).acquisition["es"].data
    >>> es.sum().compute()
    np.float64(9.0)
    """
    if not isinstance(nwbfile, AbstractContainer):
        msg = f"{type(nwbfile).__name__} is no container of PyNWB; give what NWBHDF5IO.read returns"
        raise OptionError(msg)
    return _Copies(nwbfile, {"chunks": chunks, "memory_limit": memory_limit, "access": access}).made


class _Copies:
    """Copies of all containers that one leads to, each made once.

    ``copy.deepcopy`` does not do: a dictionary of containers asks each for its name when it is put
    in, and those that are still being copied have none.
    """

    def __init__(self, top: AbstractContainer, options: Mapping[str, Any]) -> None:
        self._options = options
        self._copies: dict[int, Any] = {}
        self._waiting: list[AbstractContainer] = []
        root = top
        while root.parent is not None:
            root = root.parent
        self._indexed = {
            id(one.target) for one in containers_in(root) if isinstance(one, VectorIndex)
        }
        self.made = self._copy_of(top)
        while self._waiting:
            container = self._waiting.pop()
            is_looked_up = isinstance(container, _KEPT) or id(container) in self._indexed
            own = vars(self._copies[id(container)])
            for name, value in vars(container).items():
                own[name] = value if is_looked_up and _is_array(value) else self._copy_of(value)

    def _copy_of(self, value: Any) -> Any:
        """Return what stands for a value in the copies: itself, where nothing changes in it."""
        if id(value) not in self._copies:
            if isinstance(value, AbstractContainer):
                self._copies[id(value)] = object.__new__(type(value))
                self._waiting.append(value)
            elif _is_array(value):
                self._copies[id(value)] = from_array(value, **self._options)
            elif isinstance(value, np.ndarray):
                self._copies[id(value)] = value.copy()
            elif isinstance(value, dict):
                self._copies[id(value)] = self._copy_of_dict(value)
            elif type(value) in (list, tuple, set):
                self._copies[id(value)] = type(value)(self._copy_of(one) for one in value)
            else:
                return value
        return self._copies[id(value)]

    def _copy_of_dict(self, value: dict[Any, Any]) -> dict[Any, Any]:
        made = type(value).__new__(type(value))
        if hasattr(made, "__dict__"):
            vars(made).update(vars(value))
        dict.update(made, {key: self._copy_of(one) for key, one in value.items()})
        return made


def _is_array(value: Any) -> bool:
    return (isinstance(value, h5py.Dataset) or is_zarr(value, "Array")) and is_numeric(value)
