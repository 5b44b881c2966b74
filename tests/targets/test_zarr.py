"""The Zarr target, with chunks encoded here and by zarr-python."""

import numpy as np
import zarr
from target_contract import CHUNK_SHAPE, SHAPE, TargetContract
from zarr.codecs import TransposeCodec, ZstdCodec

from lazyio.targets.zarr import ZarrOptions, ZarrTarget


class ZarrContract(TargetContract):
    """An array with the options of the subclass."""

    options = {}
    path = ""

    def make(self, folder, dtype="int32", fill=None):
        """Return a target in a new store."""
        return ZarrTarget(
            folder / "data",
            self.path,
            shape=SHAPE,
            chunk_shape=CHUNK_SHAPE,
            dtype=np.dtype(dtype),
            options=ZarrOptions(fill_value=fill, **self.options),
        )

    def read(self, folder):
        """Return what zarr-python reads."""
        return zarr.open_array(folder / "data", path=self.path or None, mode="r")[:]


class TestPlain(ZarrContract):
    """Uncompressed."""

    options = {"compressors": None}


class TestZstd(ZarrContract):
    """Encoded here, in a group."""

    options = {"compressors": ZstdCodec(level=1)}
    path = "group/x"


class TestV2(ZarrContract):
    """v2 metadata."""

    options = {"zarr_format": 2}


class TestTranspose(ZarrContract):
    """Encoded by zarr-python."""

    options = {"filters": [TransposeCodec(order=(1, 0))]}
