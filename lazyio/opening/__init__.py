"""From what a user has to a lazy dask array: one file, many joined, anything."""
