"""Where chunks go: one adapter a format, all of one Protocol."""
