"""Other programs at the same file or store, and what becomes of what either side has made."""
