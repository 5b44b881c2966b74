"""Arrays that come once, in pieces, and are over before their extents are known."""
