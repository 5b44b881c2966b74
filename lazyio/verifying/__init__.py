"""Whether what is stored is what was written: by digests, checksums, or at least by decoding."""
