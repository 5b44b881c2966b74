"""What keeps a target old or complete: lock, hidden folder, log, journal, digests."""
