"""Mutated files: nothing of them may crash, hang or rob whoever opens them."""
