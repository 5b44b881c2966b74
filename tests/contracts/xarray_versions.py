"""What the oldest xarray that is claimed does not do yet."""

import numpy as np
import pytest
from xarray.backends.zarr import FillValueCoder


def _codes_complex64() -> bool:
    try:
        FillValueCoder.encode(np.complex64(1), np.dtype("c8"))
    except ValueError:
        return False
    return True


WITH_COMPLEX = pytest.mark.skipif(
    not _codes_complex64(), reason="this xarray reads no fill values of complex64"
)
