"""What other libraries wrap around an array: names, coordinates, settings."""

import uuid
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.errors import OptionError, SourceError
from lazyio.sources.base import listed


class VariableReader:
    """An xarray variable as an array that is read in parts.

    ``.data`` loads a whole variable that dask does not hold, and so does dask
    when it looks for a name for one.
    """

    def __init__(self, variable: Any) -> None:
        self._variable = variable
        self._token = uuid.uuid4().hex
        self.shape: tuple[int, ...] = variable.shape
        self.dtype: np.dtype[Any] = variable.dtype

    def __getitem__(self, region: Any) -> npt.NDArray[Any]:
        """Return a part, read now where it is not in memory."""
        return np.asarray(self._variable[region])

    def __dask_tokenize__(self) -> Any:
        """Return a name of its own: what xarray reads may change unseen."""
        return "lazyio.VariableReader", self._token


def unwrapped(obj: Any, key: str | None = None) -> tuple[Any, str | None]:
    """Return the array in a wrapper, and what is left of the key."""
    if is_xarray(obj, "Dataset"):
        obj, key = _variable(obj, key), None
    if is_xarray(obj, "DataArray"):
        if key is not None:
            msg = f"key={key!r} is for files and groups; a DataArray is one array"
            raise OptionError(msg)
        return (VariableReader(obj.variable) if obj.chunks is None else obj.variable.data), None
    if hasattr(obj, "io_settings") and hasattr(obj, "data"):
        return unwrapped(obj.data, key)
    return obj, key


def is_xarray(obj: Any, name: str) -> bool:
    """Return whether an object is of an xarray class, without importing xarray."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == "xarray"
        for kind in type(obj).__mro__
    )


def _variable(dataset: Any, key: str | None) -> Any:
    names = [str(name) for name in dataset.data_vars]
    if key is None and len(names) == 1:
        return dataset[names[0]]
    if key is None or key not in dataset.variables:
        what = "give the key of one" if key is None else f"there is no {key!r}"
        msg = f"the Dataset holds {len(names)} variables; {what}: {listed(names)}"
        raise SourceError(msg)
    return dataset[key]
