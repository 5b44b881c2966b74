"""Zarr: arrays, groups and attributes."""
