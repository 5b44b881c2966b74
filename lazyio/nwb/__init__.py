"""Public: NWB files, of which PyNWB makes the structure and lazyio writes the arrays."""

from lazyio.codecs.libraries import required

required("pynwb", what="lazyio.nwb", extra="nwb")

from lazyio.nwb.iterator import iterator  # noqa: E402 - PyNWB has to be there.
from lazyio.nwb.reading import lazy  # noqa: E402
from lazyio.nwb.write import plan, write  # noqa: E402

__all__ = ["iterator", "lazy", "plan", "write"]
