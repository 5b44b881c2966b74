"""xarray: Datasets to netCDF-4 and Zarr and back, encoded by xarray, moved by lazyio."""
