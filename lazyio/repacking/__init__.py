"""Whole HDF5 files copied: to other chunks and codecs, and with links resolved."""

from lazyio.repacking.repack import plan_repack

__all__ = ["plan_repack"]
