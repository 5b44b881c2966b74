"""One-pass input: streams, blocks, iterators and sparse matrices."""
