"""One module per reader, each with ``prepare(job)``.

``prepare`` returns a function without arguments that opens what stock h5py or
zarr-python wrote, reads all of it and returns the sum of its elements.
"""
