"""Array views over a bounded window of memory, which moves with what is read."""
